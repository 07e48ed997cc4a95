//! Certificates that are of no use any more are revoked at their engine, by serial
//! number (Vault API docs, "PKI secrets engine", "Revoke certificate").

use std::time::Duration;

use serde_json::json;

use super::entry::LeaseEntry;
use super::release::Back;
use crate::key::ResourceKey;
use crate::policy::{LeaseRequest, permit_certificate};
use crate::problem::Problem;
use crate::reconcile::engine::Engine;
use crate::reconcile::ports::{Clock, Cluster, Note};
use crate::reconcile::secret::Work;
use crate::reconcile::time::later;
use crate::vault::{Task, Upkeep, Vault};

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Revokes a certificate; one that has ended needs it no more.
    pub(super) async fn revoke_certificate(
        &self,
        key: &ResourceKey,
        entry: &LeaseEntry,
        asked: LeaseRequest,
    ) -> Result<Back, Problem> {
        let end = later(entry.since, Duration::from_secs(entry.seconds));
        if end <= self.clock.now() {
            return Ok(Back::Gone);
        }
        let permitted = permit_certificate(asked, &self.policy, &self.own)?;
        let request = Upkeep {
            task: Task::RevokeCertificate,
            vault_namespace: permitted.vault_namespace().map(str::to_owned),
            path: permitted.path().to_owned(),
            body: serde_json::Map::from_iter([("serial_number".to_owned(), json!(permitted.id()))]),
        };
        let login = permitted.login();
        let answer = self.sessions.upkeep(login, &request, self.clock.now());
        match self.ask(key, login.connection(), answer).await {
            Err(Problem::LeaseNotFound { .. }) => {
                self.metrics.left_to_expire();
                Ok(Back::Unknown)
            }
            answer => answer.map(|_| Back::Revoked),
        }
    }

    /// An event about what a newer one has taken the place of.
    pub(super) async fn tell_released(&self, work: &Work, entry: &LeaseEntry, back: Option<Back>) {
        let certificate = entry.lease.is_empty();
        let shown = entry.shown();
        if back == Some(Back::Unknown) {
            let message = format!(
                "{shown} is replaced, and cannot be revoked: Vault does not know it, as with a role that has no_store; it lives to its end: take no_store off the role, or spec.revoke off this resource"
            );
            let note = Note {
                about: work.key.clone(),
                uid: work.me.uid.clone(),
                warning: true,
                reason: "CertificateRevocationError",
                message,
                action: "Revoke",
                at: self.clock.now(),
            };
            self.publish(note).await;
            return;
        }
        let (reason, what) = match (certificate, back) {
            (true, Some(Back::Revoked)) => ("CertificateRevoked", "is revoked"),
            // Nothing happened to it.
            (true, _) => return,
            (false, Some(_)) => ("LeaseReleased", "is given back"),
            (false, None) => ("LeaseReleased", "is left to its end"),
        };
        let why = match work.rotation.overlap {
            true => "and every target runs it",
            false => "and the rotation's strategy is replace",
        };
        let secret = &work.me.secret;
        let message = format!("{shown} {what}: {secret} holds a newer one {why}");
        self.tell(work, reason, message).await;
    }
}
