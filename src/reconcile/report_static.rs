//! The report about a VaultStaticSecret: status and, where its verdict turned,
//! an event.

use std::rc::Rc;

use serde_json::json;

use super::engine::Engine;
use super::ports::{Clock, Cluster, Note};
use super::report::{self, Finding, Truth, Verdict};
use super::restart::Standing;
use super::static_secret::{Synced, source_name};
use super::view::targets_of;
use super::workload::TargetStanding;
use crate::api::{VaultStaticSecret, VaultStaticSecretStatus};
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::vault::Vault;

/// Any new value of this annotation asks for a read at once (compatibility.md,
/// "Timing and flags").
const RESYNC: &str = "vso.hashicorp.com/resync";

/// Characters of its value that are looked at and echoed.
const RESYNC_LIMIT: usize = 256;

/// Conditions that carry the verdict. `SecretSynced` is what existing tools read.
const VERDICT_TYPES: [&str; 3] = ["SecretSynced", "Healthy", "Ready"];

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    pub(super) async fn report_static(
        &self,
        key: &ResourceKey,
        resource: &Rc<VaultStaticSecret>,
        outcome: Result<&Synced, &Problem>,
    ) -> Result<(), Problem> {
        let verdict = match outcome {
            Ok(synced) => Verdict::good("Synced", good_message(resource, synced)),
            Err(problem) => Verdict::bad(problem),
        };
        let previous = resource.status.clone().unwrap_or_default();
        let mut findings = verdict.findings(&VERDICT_TYPES);
        findings.extend(self.rollout_finding(key, resource).await);
        let generation = resource.metadata.generation;
        let conditions = report::conditions(
            &previous.conditions,
            &findings,
            generation,
            self.clock.now(),
        );
        let hash = outcome.ok().and_then(|synced| synced.hash.as_ref());
        let secret_mac = hash
            .map(|h| h.as_str().to_owned())
            .or(previous.secret_mac.clone());
        let last_resync = outcome
            .ok()
            .and_then(|_| asked_resync(resource))
            .or(previous.last_resync.clone());
        let destinations = self.destinations(key, resource, outcome.is_ok());
        let status = VaultStaticSecretStatus {
            last_generation: generation.unwrap_or_default(),
            secret_mac,
            last_resync,
            destinations,
            vault_client_meta: None,
            observed_generation: generation,
            conditions,
        };
        if self.same_status(key.kind, &status, &previous) {
            return Ok(());
        }
        let turned = turned(&previous, &status);
        let mut further = json!({ "lastGeneration": status.last_generation });
        // The schema allows no null: before the first sync the field is left out.
        if let Some(mac) = &status.secret_mac {
            further["secretMAC"] = json!(mac);
        }
        if let Some(asked) = &status.last_resync {
            further["lastResync"] = json!(asked);
        }
        if !status.destinations.is_empty() {
            further["destinations"] = json!(status.destinations);
        }
        let value = report::status(&status.conditions, generation, further);
        let version = self.write_status(key, &previous, value).await?;
        let mut new = VaultStaticSecret::clone(resource);
        new.status = Some(status);
        new.metadata.resource_version = Some(version);
        self.put_unless_changed(&key.object, resource, new);
        if let (Err(problem), true) = (outcome, turned) {
            self.warn(key, resource.metadata.uid.as_deref(), problem)
                .await;
        }
        Ok(())
    }

    /// A warning event about a problem.
    pub(super) async fn warn(&self, key: &ResourceKey, uid: Option<&str>, problem: &Problem) {
        let note = Note {
            about: key.clone(),
            uid: uid.unwrap_or_default().to_owned(),
            warning: true,
            reason: problem.reason(),
            message: problem.to_string(),
            action: "Reconcile",
            at: self.clock.now(),
        };
        self.publish(note).await;
    }

    async fn rollout_finding(
        &self,
        key: &ResourceKey,
        resource: &VaultStaticSecret,
    ) -> Option<Finding> {
        let mut rows = Vec::new();
        let (mut truth, mut reason) = (Truth::True, "Current");
        for target in targets_of(resource) {
            let standing = self.target_standing(key, resource, &target);
            let (row_truth, row_reason, row) = match standing {
                TargetStanding::Known(Standing::Current) => (Truth::True, "Current", "current".to_owned()),
                TargetStanding::Known(Standing::Stripped) => (Truth::True, "AnnotationStripped", "current, but something took the operator's annotations off its pod template after the last restart: the next one will be undone like it".to_owned()),
                TargetStanding::Known(Standing::Due(at)) => {
                    (Truth::False, "Pending", format!("pending, restart due at {at:.0}"))
                }
                TargetStanding::Known(Standing::Paused) => (Truth::False, "Pending", "pending, the Deployment is paused: resume it".to_owned()),
                TargetStanding::Missing => (Truth::False, "TargetMissing", "does not exist: create it, or correct spec.rolloutRestartTargets".to_owned()),
                TargetStanding::Off => (Truth::False, "RolloutDisabled", "not restarted: the operator's configuration (rollout.enabled, rollout.kinds) says so".to_owned()),
                TargetStanding::Refused(why) => (Truth::False, "RolloutRestartFailed", format!("pending, its patch was refused: {why}")),
                TargetStanding::Unseen(why) => {
                    let why = self.explained(why).await;
                    (Truth::Unknown, "TargetsNotVisible", format!("cannot be watched: {why}"))
                }
            };
            if truth == Truth::True && row_reason != "Current" {
                (truth, reason) = (row_truth, row_reason);
            }
            rows.push(format!("{target} {row}"));
        }
        (!rows.is_empty()).then(|| Finding::new("RolloutRestart", truth, reason, rows.join("; ")))
    }
}

/// What the annotation for a resync says, as status echoes it.
pub(super) fn asked_resync(resource: &VaultStaticSecret) -> Option<String> {
    let asked = resource.metadata.annotations.as_ref()?.get(RESYNC)?;
    Some(asked.chars().take(RESYNC_LIMIT).collect())
}

fn good_message(resource: &VaultStaticSecret, synced: &Synced) -> String {
    let source = source_name(resource, &synced.version);
    let secret = &resource.spec.destination.name;
    let mut message = format!("the Secret {secret} holds {source}");
    for (former, problem) in &synced.left {
        message += &format!(
            "; the Secret {former}, which it replaced, is left as it is: {problem}; or delete it by hand"
        );
    }
    message
}

/// Whether the verdict's reason is another than before: worth an event.
fn turned(previous: &VaultStaticSecretStatus, new: &VaultStaticSecretStatus) -> bool {
    let ready = |status: &VaultStaticSecretStatus| {
        report::find(&status.conditions, "Ready")
            .map(|c| (c.status.clone(), c.reason.clone(), c.observed_generation))
    };
    ready(previous) != ready(new)
}
