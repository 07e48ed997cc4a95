//! Giving back what nobody needs any more: leases of resources that are gone, and
//! those that another one has taken the place of.

use std::time::Duration;

use serde_json::json;

use super::entry::LeaseEntry;
use crate::key::ResourceKey;
use crate::policy::{PermittedLease, permit_lease};
use crate::problem::Problem;
use crate::reconcile::engine::Engine;
use crate::reconcile::ownership::state_of;
use crate::reconcile::ports::{Clock, Cluster, Life};
use crate::reconcile::restart::Standing;
use crate::reconcile::secret::Work;
use crate::reconcile::time::later;
use crate::reconcile::workload::TargetStanding;
use crate::vault::{Task, Upkeep, Vault};

/// After this no request that another process sent is still on its way.
const LATE_WRITES: Duration = Duration::from_secs(30);

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Gives back what a resource that is gone was given, under any uid but that of
    /// the one that is there now.
    ///
    /// # Errors
    /// Why that is not done yet.
    pub(in crate::reconcile) async fn release_as_gone(
        &self,
        key: &ResourceKey,
        there: Option<&str>,
    ) -> Result<(), Problem> {
        let mut outcome = Ok(());
        for (name, lease) in self.ledger.leases_of(key) {
            if Some(lease.uid.as_str()) == there || self.is_known(&lease.uid) {
                continue;
            }
            // One that cannot be given back keeps no other.
            outcome = outcome.and(self.release_one_as_gone(key, &name, &lease).await);
        }
        outcome
    }

    async fn release_one_as_gone(
        &self,
        key: &ResourceKey,
        name: &str,
        lease: &LeaseEntry,
    ) -> Result<(), Problem> {
        if self.cluster.life(key, &lease.uid).await? != Life::Gone {
            return Err(Problem::Conflict {
                what: format!("give back what {key} was given"),
                why: "the resource is still there".to_owned(),
            });
        }
        if lease.revoke
            && let Err(problem) = self.revoke(key, lease).await
        {
            if lease.ends().is_none_or(|end| end > self.clock.now()) {
                return Err(problem);
            }
            self.metrics.left_to_expire();
            tracing::warn!(resource = %key, %problem, "a lease was left to its end");
        }
        self.write_entry(name, None).await?;
        // There is no resource any more that an event could be about.
        tracing::info!(resource = %key, revoked = lease.revoke, "the lease of a resource that is gone is given back");
        Ok(())
    }

    /// Gives back what a living resource was given before what its Secret holds
    /// now, once no pod needs it; or says when to look again.
    ///
    /// # Errors
    /// Why that is not done yet.
    pub(in crate::reconcile) async fn release_superseded(
        &self,
        work: &Work,
    ) -> Result<Option<jiff::Timestamp>, Problem> {
        self.release_as_gone(&work.key, Some(&work.me.uid)).await?;
        let state = {
            let view = self.view.borrow();
            let meta = view.secrets.get(&work.permitted.destination().secret);
            meta.and_then(|meta| state_of(&work.me, meta))
        };
        let Some((state, current)) = state.and_then(|state| {
            let grant = state.grant.clone()?;
            Some((state, grant))
        }) else {
            return Ok(None);
        };
        let mut again = None;
        for (name, lease) in self.ledger.leases_of(&work.key) {
            let in_hand = self.unwritten_lease(&work.key).as_deref() == Some(&lease.lease);
            if lease.uid != work.me.uid || lease.lease == current.lease || in_hand {
                continue;
            }
            let now = self.clock.now();
            let quiet = later(state.changed_at, self.config.rotation.drain);
            let mut free = quiet;
            if self.ledger.is_older(&name) {
                free = free.max(later(self.term.borrow().started, LATE_WRITES));
            }
            if !self.all_rolled(work) || free > now {
                let look = free.max(later(now, Duration::from_secs(5)));
                again = Some(again.map_or(look, |again: jiff::Timestamp| again.min(look)));
                continue;
            }
            if lease.revoke {
                self.revoke(&work.key, &lease).await?;
            }
            self.write_entry(&name, None).await?;
            let message = format!(
                "the lease {} is given back: {} holds a newer one and every target runs it",
                shortened(&lease.lease),
                work.me.secret
            );
            self.tell(work, "LeaseReleased", message).await;
        }
        Ok(again)
    }

    /// Whether every target that is there runs what the Secret holds.
    fn all_rolled(&self, work: &Work) -> bool {
        self.targets(&*work.resource).iter().all(|target| {
            let standing = self.target_standing(&work.key, &*work.resource, target);
            matches!(
                standing,
                TargetStanding::Known(Standing::Current | Standing::Stripped)
                    | TargetStanding::Missing
                    | TargetStanding::Off
            )
        })
    }

    /// Revokes a lease, with the login that its token came from.
    async fn revoke(&self, key: &ResourceKey, lease: &LeaseEntry) -> Result<(), Problem> {
        let Some(token) = self.ledger.token(&lease.token) else {
            return Err(Problem::Internal {
                why: format!(
                    "the ledger does not say how to log in for the lease {}",
                    shortened(&lease.lease)
                ),
            });
        };
        let permitted = permit_lease(lease.request(&token), &self.policy, &self.own)?;
        match self
            .lease_request(key, &permitted, Task::RevokeLease, None)
            .await
        {
            Err(Problem::LeaseNotFound { .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Renews or revokes a lease: by its id in the path, so that a policy can name
    /// whose leases it is about; where that is denied, by its id in the body.
    pub(in crate::reconcile) async fn lease_request(
        &self,
        key: &ResourceKey,
        lease: &PermittedLease,
        task: Task,
        increment: Option<Duration>,
    ) -> Result<crate::vault::Reply, Problem> {
        let form = match task {
            Task::RenewLease => "sys/leases/renew",
            _ => "sys/leases/revoke",
        };
        let mut body = serde_json::Map::new();
        match increment {
            Some(increment) => body.insert("increment".to_owned(), json!(increment.as_secs())),
            // Without it Vault would only put the revocation into a queue.
            None => body.insert("sync".to_owned(), json!(true)),
        };
        let mut request = Upkeep {
            task,
            vault_namespace: lease.vault_namespace().map(str::to_owned),
            path: format!("{form}/{}", lease.id()),
            body,
        };
        let connection = lease.login().connection();
        let now = self.clock.now();
        let answer = self
            .sessions
            .upkeep_unless_denied(lease.login(), &request, now);
        match self.ask(key, connection, answer).await {
            Err(Problem::VaultDenied { .. }) => {}
            answer => return answer,
        }
        form.clone_into(&mut request.path);
        request
            .body
            .insert("lease_id".to_owned(), json!(lease.id()));
        let answer = self
            .sessions
            .upkeep(lease.login(), &request, self.clock.now());
        self.ask(key, connection, answer).await
    }
}

/// A lease's id as people may see it: enough to find it at Vault, too little to
/// use it.
pub fn shortened(lease: &str) -> String {
    match lease.rsplit_once('/') {
        Some((path, name)) => {
            let begin: String = name.chars().take(6).collect();
            format!("{path}/{begin}…")
        }
        None => "without a path".to_owned(),
    }
}
