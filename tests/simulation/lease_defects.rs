//! Deliberate defects about leases and certificates, in wrappers around the ports.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vault_tenant_operator::key::{Kind, Redacted};
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::ports::Life;
use vault_tenant_operator::vault::{Lease, Reply, Task, Upkeep};

use crate::certificates;
use crate::defects::Defect;
use crate::leases::form;
use crate::line::Line;
use crate::objects::Secret;
use crate::world::World;

/// Those that the random runs of leases and certificates must catch, each with a seed from which on
/// it is looked for: shortly before one that shows it, to save time. (`lease_scripted`
/// has two more, which need more than one thing to go wrong at a time.)
pub const LEASE_DEFECTS: [(Defect, u64); 12] = [
    (Defect::ReleaseFirst, 0),
    (Defect::MintOnFailedRenewal, 0),
    (Defect::LedgerLate, 0),
    (Defect::LedgerReplaced, 0),
    (Defect::RenewGone, 0),
    (Defect::MintAfterFailedWrite, 0),
    (Defect::RevokeCurrent, 0),
    (Defect::MintAfterRestart, 0),
    (Defect::RevokeFirst, 0),
    (Defect::IssueAfterFailedWrite, 0),
    (Defect::IssueAfterRestart, 0),
    (Defect::RevokeCurrentCertificate, 0),
];

type Entries = BTreeMap<String, Vec<u8>>;

/// One of the ledger's Secrets after a merge.
pub fn merged(
    world: &World,
    before: &Entries,
    changes: &BTreeMap<String, Option<Redacted<Vec<u8>>>>,
) -> Entries {
    let mut after = before.clone();
    for (entry, value) in changes {
        let Some(value) = value else {
            after.remove(entry);
            continue;
        };
        match world.defect {
            Some(Defect::LedgerReplaced) => after.retain(|name, _| name.starts_with("token.")),
            Some(Defect::LedgerLate) if entry.starts_with("lease.") => {
                let late = (entry.clone(), value.expose().clone());
                world.late_entries.borrow_mut().push(late);
                continue;
            }
            _ => {}
        }
        after.insert(entry.clone(), value.expose().clone());
    }
    after
}

/// After a Secret was written: what should have been done before, or later.
pub fn after_write(world: &World, before: Option<&Secret>, after: &Secret) {
    match world.defect {
        Some(Defect::LedgerLate) => {
            let mut api = world.api.borrow_mut();
            if let Some(ledger) = api.ledger.values_mut().next() {
                ledger.extend(world.late_entries.take());
            }
        }
        Some(defect @ (Defect::ReleaseFirst | Defect::RevokeFirst))
            if (defect == Defect::RevokeFirst) == after.is_certificate() =>
        {
            let was = before.and_then(Secret::mark);
            if let Some(was) = was.filter(|was| Some(*was) != after.mark()) {
                end_of(world, was);
            }
        }
        _ => {}
    }
}

fn end_of(world: &World, mark: &[u8]) {
    let now = world.now();
    {
        let leases = &mut world.vault.borrow_mut().leases;
        if let Some(id) = leases.of_mark(mark).cloned() {
            leases.give_back(&id, now);
        }
    }
    world.see_ends();
}

/// A write failed, after which the credentials are asked for again.
pub fn after_failed_write(world: &World, secret: &str) {
    match world.defect {
        Some(Defect::IssueAfterFailedWrite) => issue(world, secret),
        Some(Defect::MintAfterFailedWrite) => {
            let path = format!("db/creds/{secret}");
            let now = world.now();
            let made = world.vault.borrow_mut().leases.read("hvs.1", &path, now);
            if let Some(reply) = made {
                let mut leases = world.leases.borrow_mut();
                leases.minted(world, &reply.lease.id, false);
            }
        }
        _ => {}
    }
}

/// An operator starts.
pub fn at_start(world: &World) {
    if world.defect != Some(Defect::IssueAfterRestart) {
        return;
    }
    let names: Vec<String> = {
        let api = world.api.borrow();
        let all = api.resources.keys();
        let all = all.filter(|key| key.kind == Kind::VaultPkiSecret);
        all.map(|key| key.object.name.clone()).collect()
    };
    names.iter().for_each(|name| issue(world, name));
}

/// Has a certificate issued by a resource's role, if it has one.
fn issue(world: &World, name: &str) {
    let (path, now) = (format!("pki/issue/{name}"), world.now());
    let made = {
        let leases = &mut world.vault.borrow_mut().leases;
        let made = certificates::issue(leases, "hvs.1", &path, None, now);
        let newest = leases.live.iter().filter(|(_, lease)| lease.path == path);
        let newest = newest.max_by_key(|(_, lease)| lease.mark.clone());
        made.and(newest.map(|(id, _)| id.clone()))
    };
    if let Some(id) = made {
        world.leases.borrow_mut().minted(world, &id, false);
    }
}

/// What is known of a resource's life.
pub fn in_life(world: &World, answer: Result<Life, Problem>) -> Result<Life, Problem> {
    match answer {
        Err(Problem::KubernetesForbidden { .. })
            if world.defect == Some(Defect::GoneOnForbidden) =>
        {
            Ok(Life::Gone)
        }
        answer => answer,
    }
}

/// The request that is sent in place of one, or the answer without any.
pub fn in_request(
    line: &Line,
    id: &str,
    request: &Upkeep,
) -> (Upkeep, Option<Result<Reply, Problem>>) {
    let world = &line.world;
    let mut request = request.clone();
    let lost = || {
        Err(Problem::LeaseNotFound {
            what: form(Task::RenewLease).to_owned(),
            why: "HTTP 400: lease not found".to_owned(),
        })
    };
    let answer = match (world.defect, request.task) {
        (Some(Defect::NotKeptAlive), Task::RenewLease) if !is_held(world, id) => {
            let increment = request.body.get("increment").and_then(Value::as_u64);
            Some(Ok(Reply {
                status: 200,
                lease: Lease {
                    id: id.to_owned(),
                    duration: Duration::from_secs(increment.unwrap_or_default()),
                    renewable: true,
                },
                ..Reply::default()
            }))
        }
        (Some(Defect::MintAfterRestart), Task::RenewLease)
            if issued(world, id).is_some_and(|at| at < line.born) =>
        {
            Some(lost())
        }
        (Some(Defect::RenewGone), Task::RevokeLease) => {
            request.task = Task::RenewLease;
            request.path = request.path.replace("revoke", "renew");
            None
        }
        (Some(Defect::RevokeCurrent), Task::RevokeLease) => {
            if let Some(current) = held_beside(world, id) {
                request.path = format!("{}/{current}", form(Task::RevokeLease));
            }
            None
        }
        (Some(Defect::RevokeCurrentCertificate), Task::RevokeCertificate) => {
            let current = held_beside(world, id);
            let current = current.and_then(|id| {
                let vault = world.vault.borrow();
                Some(vault.leases.live.get(&id)?.mark.clone())
            });
            if let Some(serial) = current {
                request
                    .body
                    .insert("serial_number".to_owned(), serial.into());
            }
            None
        }
        _ => None,
    };
    (request, answer)
}

/// The answer as the operator sees it.
pub fn in_answer(
    world: &World,
    request: &Upkeep,
    answer: Result<Reply, Problem>,
) -> Result<Reply, Problem> {
    match (world.defect, request.task, answer) {
        (
            Some(Defect::MintOnFailedRenewal),
            Task::RenewLease,
            Err(Problem::VaultUnavailable { why, .. } | Problem::VaultUnreachable { why, .. }),
        ) => Err(Problem::LeaseNotFound {
            what: form(Task::RenewLease).to_owned(),
            why,
        }),
        (Some(Defect::RenewGone), Task::RenewLease, answer) => {
            renew_all(world);
            answer
        }
        (.., answer) => answer,
    }
}

/// Renews all that there is.
fn renew_all(world: &World) {
    let now = world.now();
    let ids: Vec<String> = {
        let leases = &mut world.vault.borrow_mut().leases;
        leases.renew_all(now);
        leases.live.keys().cloned().collect()
    };
    for id in ids {
        world.leases.borrow_mut().renewed(world, &id, false);
    }
}

fn issued(world: &World, id: &str) -> Option<jiff::Timestamp> {
    let vault = world.vault.borrow();
    Some(vault.leases.live.get(id)?.issued)
}

fn marks(world: &World) -> Vec<Vec<u8>> {
    let api = world.api.borrow();
    let held = api.secrets.values();
    held.filter_map(|secret| secret.mark().cloned()).collect()
}

/// Whether a Secret holds what the lease is of.
fn is_held(world: &World, id: &str) -> bool {
    let held = marks(world);
    let vault = world.vault.borrow();
    let lease = vault.leases.live.get(id);
    lease.is_none_or(|lease| held.contains(&lease.mark.clone().into_bytes()))
}

/// The lease that the Secret holds for whose resource another was made.
fn held_beside(world: &World, id: &str) -> Option<String> {
    let held = marks(world);
    let vault = world.vault.borrow();
    let of = |path: &str| path.trim_end_matches("-2").to_owned();
    let path = of(&vault.leases.live.get(id)?.path);
    let mut live = vault.leases.live.iter();
    let found = live.find(|(_, lease)| {
        of(&lease.path) == path && held.contains(&lease.mark.clone().into_bytes())
    });
    found.map(|(id, _)| id.clone())
}
