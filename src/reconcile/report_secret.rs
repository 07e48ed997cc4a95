//! The report about a resource that has a Secret written: status and, where its
//! verdict turned, an event.

use std::rc::Rc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;
use serde_json::{Value, json};

use super::engine::Engine;
use super::ports::{Clock, Cluster, Note};
use super::report::{self, Finding, Truth, Verdict};
use super::secret::Synced;
use super::sources::{SecretResource, Told};
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::render::ContentHash;
use crate::vault::Vault;

/// Any new value of this annotation asks for a read at once (compatibility.md,
/// "Timing and flags").
const RESYNC: &str = "vso.hashicorp.com/resync";

/// Characters of its value that are looked at and echoed.
const RESYNC_LIMIT: usize = 256;

/// Conditions that carry the verdict. `SecretSynced` is what existing tools read.
const VERDICT_TYPES: [&str; 3] = ["SecretSynced", "Healthy", "Ready"];

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    pub(super) async fn report_secret(
        &self,
        key: &ResourceKey,
        resource: &Rc<dyn SecretResource>,
        outcome: Result<&Synced, &Problem>,
    ) -> Result<(), Problem> {
        let resource = &**resource;
        let verdict = match outcome {
            Ok(synced) => Verdict::good("Synced", good_message(resource, synced)),
            Err(problem) => Verdict::bad(problem),
        };
        let Some((metadata, previous)) = self.plain(key) else {
            return Ok(());
        };
        let told = resource.told();
        let mut findings = verdict.findings(&VERDICT_TYPES);
        let (rollouts, rollout) = self.rollouts(key, resource).await;
        findings.extend(rollout);
        let overlap = self.overlap_finding(resource);
        findings.extend(overlap.or_else(|| self.window_finding(key, resource)));
        let lease = self.lease_finding(key, resource, outcome.err());
        findings.extend(lease.clone());
        let certificate = self.certificate_finding(key, resource, outcome.err());
        findings.extend(certificate.clone());
        let release = outcome.ok().and_then(release_finding);
        findings.extend(release.clone());
        let conditions = self.conditions(told.conditions, &findings, resource.metadata());
        let hash = outcome.ok().and_then(|synced| synced.hash.as_ref());
        let resync = outcome.ok().and_then(|_| asked_resync(resource));
        let destinations = self.destinations(key, resource, outcome.is_ok());
        let generation = resource.metadata().generation;
        let held = outcome.ok().and_then(|synced| synced.held.as_ref());
        let mut further = resource.status_fields(held, outcome.err());
        further["lastGeneration"] = json!(generation.unwrap_or_default());
        further["secretMAC"] = json!(hash.map(ContentHash::as_str).or(told.secret_mac));
        further["lastResync"] = json!(resync.as_deref().or(told.last_resync));
        further["destinations"] = json!((!destinations.is_empty()).then_some(destinations));
        merge(&mut further, &rollouts);
        if let Some(lifetime) = self.lifetime(key, resource, outcome.err()) {
            merge(&mut further, &lifetime);
        }
        let status = report::status(&conditions, generation, further);
        if self.same_status(key.kind, &status, &previous) {
            return Ok(());
        }
        let turned = turned(&told, &conditions);
        let version = self.write_status(key, &previous, status.clone()).await?;
        self.put_status(key, &metadata, status, version);
        for finding in lease.iter().chain(&certificate).chain(&release) {
            self.warn_of(key, resource, finding, "Renew").await;
        }
        self.warn_of_failed(key, resource, &rollouts.rollout_targets)
            .await;
        if let (Err(problem), true) = (outcome, turned) {
            self.warn(key, resource.metadata().uid.as_deref(), problem)
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
}

/// Adds the fields of a struct to an object.
fn merge(fields: &mut Value, more: &impl Serialize) {
    if let (Value::Object(fields), Ok(Value::Object(more))) = (fields, serde_json::to_value(more)) {
        fields.extend(more);
    }
}

/// What the annotation for a resync says, as status echoes it.
pub(super) fn asked_resync(resource: &dyn SecretResource) -> Option<String> {
    let asked = resource.metadata().annotations.as_ref()?.get(RESYNC)?;
    Some(asked.chars().take(RESYNC_LIMIT).collect())
}

/// What was held before and could not be given back; nobody uses it any more, so
/// that all is well but for that.
fn release_finding(synced: &Synced) -> Option<Finding> {
    let problem = synced.unreleased.as_ref()?;
    let problem = Some(problem).filter(|problem| problem.is_finding())?;
    let message = format!(
        "what it was given before is of no use any more and could not be given back: {problem}"
    );
    Some(Finding::new(
        "Release",
        Truth::False,
        problem.reason(),
        message,
    ))
}

fn good_message(resource: &dyn SecretResource, synced: &Synced) -> String {
    let source = resource.source_name(&synced.version);
    let secret = &resource.destination().name;
    let mut message = format!("the Secret {secret} holds {source}");
    for (former, problem) in &synced.left {
        message += &format!(
            "; the Secret {former}, which it replaced, is left as it is: {problem}; or delete it by hand"
        );
    }
    message
}

/// Whether the verdict's reason is another than before: worth an event.
fn turned(told: &Told<'_>, new: &[Condition]) -> bool {
    let ready = |conditions| {
        report::find(conditions, "Ready")
            .map(|c| (c.status.clone(), c.reason.clone(), c.observed_generation))
    };
    ready(told.conditions) != ready(new)
}
