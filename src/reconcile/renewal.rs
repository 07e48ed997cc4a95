//! Leases as they are kept: renewed, and looked at in between, since somebody may
//! have revoked them.

use std::time::Duration;

use serde_json::json;

use super::engine::Engine;
use super::grants::Renewed;
use super::ports::{Clock, Cluster};
use super::secret::Work;
use super::sources::SecretResource;
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::render::Grant;
use crate::vault::{Task, Upkeep, Vault};

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Renews the lease; what came of it is remembered, or that it is lost.
    pub(super) async fn renew(&self, work: &Work, grant: &Grant) -> Result<(), Problem> {
        let lease = work.permitted.lease(&grant.lease)?;
        let asked = Some(grant.duration());
        let answer = self
            .lease_request(&work.key, &lease, Task::RenewLease, asked)
            .await;
        let now = self.clock.now();
        match answer {
            Ok(reply) => {
                let duration = match reply.lease.renewable {
                    true => reply.lease.duration,
                    // It says so where its longest life is reached.
                    false => reply.lease.duration.min(grant.duration() / 2),
                };
                self.keep_in_memory(work, |memory| {
                    memory.renewed = Some(Renewed { at: now, duration });
                    memory.denied = None;
                });
                Ok(())
            }
            Err(Problem::LeaseNotFound { .. }) => {
                let lost = grant.lease.clone();
                self.keep_in_memory(work, |memory| memory.lost = Some(lost));
                Ok(())
            }
            Err(Problem::VaultDenied { .. }) => {
                let denied = grant.lease.clone();
                self.keep_in_memory(work, |memory| memory.denied = Some(denied));
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }

    /// Sees whether Vault still knows the lease, where the policy lets it be asked.
    pub(super) async fn look_for_lease(&self, work: &Work, grant: &Grant) -> Result<(), Problem> {
        let lease = work.permitted.lease(&grant.lease)?;
        let request = Upkeep {
            task: Task::LookUpLease,
            vault_namespace: lease.vault_namespace().map(str::to_owned),
            path: Task::LookUpLease.form().unwrap_or_default().to_owned(),
            body: serde_json::Map::from_iter([("lease_id".to_owned(), json!(lease.id()))]),
        };
        let now = self.clock.now();
        let answer = self
            .sessions
            .upkeep_unless_denied(lease.login(), &request, now);
        let connection = lease.login().connection();
        match self.ask(&work.key, connection, answer).await {
            Err(Problem::LeaseNotFound { .. }) => {
                let lost = grant.lease.clone();
                self.keep_in_memory(work, |memory| memory.lost = Some(lost));
            }
            Ok(_) | Err(Problem::VaultDenied { .. }) => {
                let now = self.clock.now();
                self.keep_in_memory(work, |memory| memory.looked = Some(now));
            }
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    /// How often leases are looked at.
    pub(super) fn looks_every(&self) -> Option<Duration> {
        let every = self.config.rotation.lookup_interval;
        (!every.is_zero()).then_some(every)
    }

    /// The last renewal of a lease: as this process remembers, or status tells.
    pub(super) fn last_renewal(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        grant: &Grant,
    ) -> Option<Renewed> {
        let remembered = self.remembered(key).renewed;
        let told = resource.told().renewed;
        let of_this = |one: &Renewed| one.at >= grant.since;
        remembered.filter(of_this).or(told.filter(of_this))
    }
}
