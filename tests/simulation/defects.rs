//! Deliberate defects, in wrappers around the ports: each shows that the
//! invariant that it breaks is looked at.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use vault_tenant_operator::api::VaultStaticSecret;
use vault_tenant_operator::config::Rollout;
use vault_tenant_operator::key::Redacted;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::PREFIX;
use vault_tenant_operator::reconcile::ports::{Fence, Life, SecretWrite, WorkloadPatch};
use vault_tenant_operator::reconcile::view::{SecretMeta, WorkloadKey, WorkloadKind, WorkloadMeta};
use vault_tenant_operator::vault::Reply;

use crate::objects::{Object, Secret, Workload, object};
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Applies carry neither uid nor resourceVersion, and are forced.
    NoFence,
    /// Every write to an existing Secret carries no data.
    EmptyWrites,
    /// Patches of workloads lose the hashes, so each look finds a restart due.
    NoHashes,
    /// Baselines are not recorded.
    NoBaseline,
    /// The answer about a resource's life is always yes.
    AlwaysAlive,
    /// Status says what was said first.
    StatusStuck,
    /// Answers of Vault hold the first version for ever.
    StaleReads,
    /// The state annotation is dropped from every write.
    NoState,
    /// Each answer of Vault names another version.
    RisingVersion,
    /// The content hash is taken over the whole answer, version and all.
    HashOfRaw,
    /// A restart is remembered by the process that wrote the Secret, and by none
    /// that starts after it.
    FlagInMemory,
    /// The restart for a content goes out before the Secret with it is written.
    RestartFirst,
    /// What Vault cannot answer now is sent again at once, below backoff and breaker.
    RetryAtOnce,
    /// A live look is answered from what was known before.
    NoLook,
    /// A lease is given back as soon as another took its place.
    ReleaseFirst,
    /// A renewal that Vault cannot answer now counts as the lease's end.
    MintOnFailedRenewal,
    /// The ledger learns of a lease after the Secret.
    LedgerLate,
    /// A write into the ledger drops the leases that it is not about.
    LedgerReplaced,
    /// Leases are renewed in place of being given back.
    RenewGone,
    /// A lease that another took the place of is not renewed.
    NotKeptAlive,
    /// The policy about restarts is not known.
    Unpaced,
    /// A rollout that fails holds no other back.
    NeverHalts,
    /// Restarts wait, whatever ends.
    NeverUrgent,
    /// Who starts does not know what was restarted before.
    ForgetsRestarts,
    /// A write that failed makes another credential.
    MintAfterFailedWrite,
    /// A resource that may not be looked at is gone.
    GoneOnForbidden,
    /// What is given back is what the Secret holds.
    RevokeCurrent,
    /// What an operator before asked for counts as lost.
    MintAfterRestart,
    /// A certificate is revoked as soon as another took its place.
    RevokeFirst,
    /// A write that failed has another certificate issued.
    IssueAfterFailedWrite,
    /// Who starts has certificates issued, whatever the Secrets hold.
    IssueAfterRestart,
    /// The certificate that is revoked is the one that the Secret holds.
    RevokeCurrentCertificate,
    /// A field of the status is dropped, as by another vendor's definitions: no
    /// defect of the operator, and nothing may come of it.
    PrunedStatus,
}

/// Those that the random runs must catch. (`bites` has two more: a missing fence
/// harms where a stranger takes a name, which these runs have no room for, and
/// without a state each look writes, which makes a run too long to try many.)
pub const DEFECTS: [Defect; 12] = [
    Defect::EmptyWrites,
    Defect::NoHashes,
    Defect::NoBaseline,
    Defect::AlwaysAlive,
    Defect::StatusStuck,
    Defect::NoLook,
    Defect::FlagInMemory,
    Defect::RestartFirst,
    Defect::RetryAtOnce,
    Defect::StaleReads,
    Defect::RisingVersion,
    Defect::HashOfRaw,
];

pub fn in_write(world: &World, write: &mut SecretWrite) -> Option<Fence> {
    match world.defect {
        Some(Defect::NoState) => write
            .annotations
            .retain(|name, _| !name.contains("/state-")),
        Some(Defect::NoFence) => {
            write.fence = Fence::Update {
                uid: String::new(),
                resource_version: String::new(),
            };
            return None;
        }
        Some(Defect::HashOfRaw) => {
            for (name, text) in &mut write.annotations {
                if name.contains("/state-") {
                    let mut state: Value = serde_json::from_str(text).unwrap();
                    if state["raw"].is_string() {
                        state["hash"] = state["raw"].clone();
                    }
                    *text = state.to_string();
                }
            }
        }
        Some(Defect::EmptyWrites) if write.fence != Fence::Create => write.data.clear(),
        _ => {}
    }
    Some(write.fence.clone())
}

pub fn in_patch(world: &World, patch: &WorkloadPatch) -> (WorkloadPatch, bool) {
    let mut patch = patch.clone();
    match world.defect {
        Some(Defect::NoHashes) => {
            let restart = !patch.template.is_empty();
            patch.annotations.clear();
            patch.template.clear();
            if restart {
                patch
                    .template
                    .insert("restarted-at".to_owned(), world.now().to_string());
            }
        }
        Some(Defect::NoBaseline) if patch.template.is_empty() => patch.annotations.clear(),
        Some(Defect::NoFence) => return (patch, false),
        _ => {}
    }
    (patch, true)
}

/// The restarts that a write makes due, for those who send them before it.
pub fn restarts_first(world: &World, write: &SecretWrite) -> Vec<(WorkloadKey, WorkloadPatch)> {
    if world.defect != Some(Defect::RestartFirst) {
        return Vec::new();
    }
    let state = write.annotations.iter().find_map(|(name, text)| {
        let tag = name.split_once("/state-")?.1;
        let state: Value = serde_json::from_str(text).ok()?;
        Some((tag, state["hash"].as_str()?.to_owned()))
    });
    let Some((tag, hash)) = state else {
        return Vec::new();
    };
    let (base, template) = (format!("{PREFIX}base-{tag}"), format!("{PREFIX}c-{tag}"));
    let api = world.api.borrow();
    let behind = api.workloads.iter().filter(|(_, workload)| {
        let recorded = workload.annotations.get(&base);
        recorded.is_some_and(|recorded| *recorded != hash) && !workload.paused
    });
    let restart = behind.map(|(name, workload)| {
        let key = WorkloadKey {
            kind: WorkloadKind::Deployment,
            object: object(name),
        };
        let patch = WorkloadPatch {
            uid: workload.uid.clone(),
            resource_version: workload.version.to_string(),
            annotations: [(base.clone(), hash.clone())].into(),
            template: [(template.clone(), hash.clone())].into(),
        };
        (key, patch)
    });
    restart.collect()
}

/// The policy about restarts, as an operator has it.
pub fn in_policy(defect: Option<Defect>, policy: &Rollout) -> Rollout {
    let mut policy = policy.clone();
    match defect {
        Some(Defect::Unpaced) => {
            policy = Rollout {
                max_concurrent: 0,
                halt_on_failure: false,
                ..Rollout::default()
            };
        }
        Some(Defect::NeverHalts) => policy.halt_on_failure = false,
        Some(Defect::NeverUrgent) => policy.hold = true,
        _ => {}
    }
    policy
}

/// A resource as a watch shows it.
pub fn in_static(defect: Option<Defect>, found: &VaultStaticSecret) -> VaultStaticSecret {
    let mut found = found.clone();
    match defect {
        Some(Defect::Unpaced) => found.spec.rollout = None,
        Some(Defect::NeverHalts) => {
            if let Some(rollout) = &mut found.spec.rollout {
                rollout.halt_on_failure = None;
            }
        }
        _ => {}
    }
    found
}

/// A workload as a watch shows it.
pub fn in_workload(defect: Option<Defect>, found: &Workload, kind: WorkloadKind) -> WorkloadMeta {
    let mut meta = found.meta(kind);
    if defect == Some(Defect::ForgetsRestarts) {
        meta.annotations.remove(&format!("{PREFIX}restarted-at"));
    }
    meta
}

/// Sends a request to Vault.
pub async fn sent<T>(
    world: &World,
    request: impl AsyncFn() -> Result<T, Problem>,
) -> Result<T, Problem> {
    loop {
        match request().await {
            Err(Problem::VaultUnavailable { .. } | Problem::VaultUnreachable { .. })
                if world.defect == Some(Defect::RetryAtOnce) => {}
            answer => return answer,
        }
    }
}

/// Whether a restart is forgotten: this operator has changed no content.
pub fn forgets(world: &World, wrote: bool, patch: &WorkloadPatch) -> bool {
    world.defect == Some(Defect::FlagInMemory) && !wrote && !patch.template.is_empty()
}

/// A Secret as a live look shows it.
pub fn look(world: &World, name: &str) -> Option<SecretMeta> {
    let api = world.api.borrow();
    let now = api.secrets.get(name).map(Secret::meta);
    if world.defect != Some(Defect::NoLook) {
        return now;
    }
    let versions = api.log.iter().rev().filter_map(|change| match &change.now {
        Ok(Object::Secret(found)) if change.key.name == name => Some(found.meta()),
        _ => None,
    });
    versions.take(2).last().or(now)
}

pub fn life(world: &World, uid: &str) -> Life {
    let found = world.api.borrow().generation(uid);
    match found {
        Some(generation) => Life::Alive(generation),
        None if world.defect == Some(Defect::AlwaysAlive) => Life::Alive(1),
        None => Life::Gone,
    }
}

pub fn in_status(world: &World, status: &Value) -> Value {
    let mut status = status.clone();
    if world.defect == Some(Defect::StatusStuck) {
        for one in status["conditions"].as_array_mut().into_iter().flatten() {
            one["status"] = json!("True");
        }
    }
    if let (Some(Defect::PrunedStatus), Some(fields)) = (world.defect, status.as_object_mut()) {
        fields.remove("secretMAC");
    }
    status
}

pub fn in_reply(world: &World, reply: Reply) -> Reply {
    let text = |reply: &Reply| -> Value {
        let data = reply
            .data
            .as_ref()
            .map(|data| data.expose().get().to_owned());
        serde_json::from_str(&data.unwrap_or_else(|| "null".to_owned())).unwrap()
    };
    let mut data = text(&reply);
    match world.defect {
        Some(Defect::RisingVersion) if data["metadata"]["version"].is_number() => {
            data["metadata"]["version"] = json!(world.requests.borrow().len());
            let raw = RawValue::from_string(data.to_string()).unwrap();
            Reply {
                data: Some(Redacted::new(raw)),
                ..reply
            }
        }
        Some(Defect::StaleReads) if data["metadata"]["version"].is_number() => {
            let vault = world.vault.borrow();
            let first = vault
                .versions
                .values()
                .next()
                .and_then(|versions| versions.first());
            data["data"] = json!(first.map(|version| &version.fields));
            let raw = RawValue::from_string(data.to_string()).unwrap();
            Reply {
                status: 200,
                data: Some(Redacted::new(raw)),
                ..reply
            }
        }
        _ => reply,
    }
}
