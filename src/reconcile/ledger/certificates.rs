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
use crate::reconcile::ports::{Clock, Cluster};
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
}
