//! Leases as they are kept: renewed, and looked at in between, since somebody may
//! have revoked them.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::engine::Engine;
use super::grants::{Due, ROUNDING, Renewed, Terms};
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::secret::Work;
use super::sources::SecretResource;
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::render::Grant;
use crate::vault::{Task, Upkeep, Vault};

/// What Vault says where a lease has lived longer than its role allows by now
/// (framework/lease.go in its source).
const PAST_LONGEST: &str = "past the max TTL, cannot renew";

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
            // Less than a second is left to it.
            Ok(reply) if reply.lease.duration.is_zero() && grant.seconds > 0 => {
                let lost = grant.lease.clone();
                self.keep_in_memory(&work.key, |memory| memory.lost = Some(lost));
                Ok(())
            }
            // The role's longest life was shortened since: it ends as it was to end.
            Err(Problem::VaultAnswerUnusable { why, .. }) if why.contains(PAST_LONGEST) => {
                let renewed = self.last_renewal(&work.key, &*work.resource, grant);
                let end = Terms::expiry(grant, renewed, now).unwrap_or(now);
                let left = end.duration_since(now).max(SignedDuration::from_secs(1));
                let duration = left.unsigned_abs().min(grant.duration() / 2);
                let renewed = Renewed { at: now, duration };
                let renewed = Some((grant.since, renewed));
                self.keep_in_memory(&work.key, |memory| memory.renewed = renewed);
                Ok(())
            }
            Ok(reply) => {
                let duration = match reply.lease.renewable {
                    true => reply.lease.duration,
                    // It says so where its longest life is reached.
                    false => reply.lease.duration.min(grant.duration() / 2),
                };
                self.keep_in_memory(&work.key, |memory| {
                    memory.renewed = Some((grant.since, Renewed { at: now, duration }));
                    memory.denied = None;
                });
                Ok(())
            }
            Err(Problem::LeaseNotFound { .. }) => {
                let lost = grant.lease.clone();
                self.keep_in_memory(&work.key, |memory| memory.lost = Some(lost));
                Ok(())
            }
            Err(Problem::VaultDenied { .. }) => {
                let denied = grant.lease.clone();
                self.keep_in_memory(&work.key, |memory| memory.denied = Some(denied));
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
                self.keep_in_memory(&work.key, |memory| memory.lost = Some(lost));
            }
            Ok(_) | Err(Problem::VaultDenied { .. }) => {
                let now = self.clock.now();
                self.keep_in_memory(&work.key, |memory| memory.looked = Some(now));
            }
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    /// Wakes a resource whose reconcile failed when its lease is due: tries for another
    /// reason come ever more rarely, and a short lease would end in between.
    pub(super) fn wake_when_due(&self, key: &ResourceKey, resource: &dyn SecretResource) {
        let grant = self.grant_of(key, resource);
        let Some((terms, grant)) = self.terms_of(resource).zip(grant) else {
            return;
        };
        let renewed = self.last_renewal(key, resource, &grant);
        let started = self.term.borrow().started;
        if let Due::Nothing(Some(at)) = terms.due(&grant, renewed, started, self.clock.now()) {
            let work = WorkKey::Resource(key.clone());
            self.queue.wake_at(work, at, Urgency::Routine);
        }
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
        // A list of an older state may have shown the lease of before, as that was renewed.
        let remembered = self.remembered(key).renewed;
        let remembered = remembered.filter(|(since, _)| *since == grant.since);
        let remembered = remembered.map(|(_, renewed)| renewed);
        let of_this = |one: &Renewed| one.at >= grant.since;
        // That Vault gave less than before is believed of Vault alone: who is asked again
        // says it again.
        let full = |one: &Renewed| one.duration.saturating_add(ROUNDING) >= grant.duration();
        let told = resource.told();
        let of_other = told.lease.is_some_and(|lease| lease != grant.lease);
        let told = told.renewed.filter(|one| full(one) && !of_other);
        remembered.filter(of_this).or(told.filter(of_this))
    }
}
