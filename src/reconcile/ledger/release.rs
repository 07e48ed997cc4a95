//! Giving back what nobody needs any more: leases of resources that are gone, and
//! those that another one has taken the place of.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::entry::{LeaseEntry, TokenEntry};
use crate::key::ResourceKey;
use crate::policy::{PermittedLease, permit_lease};
use crate::problem::Problem;
use crate::reconcile::engine::Engine;
use crate::reconcile::grants::Renewed;
use crate::reconcile::ownership::state_of;
use crate::reconcile::ports::{Clock, Cluster, Life};
use crate::reconcile::queue::{Urgency, WorkKey};
use crate::reconcile::secret::Work;
use crate::reconcile::time::later;
use crate::vault::{Task, Upkeep, Vault};

/// After this no request that another process sent is still on its way.
const LATE_WRITES: Duration = Duration::from_secs(30);

/// Between two tries to renew a lease that was replaced, and twice that.
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(60);

/// Between two looks at such a lease.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Gives back what a resource that is gone was given, under any uid but that of
    /// the one that is there now.
    ///
    /// # Errors
    /// Why that is not done yet.
    pub(in crate::reconcile) async fn release_as_gone(
        &self,
        key: &ResourceKey,
        there: Option<&Work>,
    ) -> Result<(), Problem> {
        let mut outcome = Ok(());
        for (name, lease) in self.ledger.leases_of(key) {
            let is_there = there.is_some_and(|work| work.me.uid == lease.uid);
            if is_there || self.is_known(&lease.uid) {
                continue;
            }
            let released = self.release_one_as_gone(key, &name, &lease).await;
            if let (Ok(()), Some(work), true) = (&released, there, lease.revoke) {
                let lease = shortened(&lease.lease);
                let message = format!(
                    "the lease {lease} is given back: it was made for a resource of the same name that is gone"
                );
                self.tell(work, "LeaseReleased", message).await;
            }
            // One that cannot be given back keeps no other.
            outcome = outcome.and(released);
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
        if self.ledger.token(&lease.token).is_none() {
            self.metrics.left_to_expire();
        } else if lease.revoke
            && let Err(problem) = self.revoke(key, lease).await
        {
            let now = self.clock.now();
            let end = self.ledger.end_if_not_renewed(name, lease, now);
            if end.is_none_or(|end| end > now) {
                return Err(problem);
            }
            self.metrics.left_to_expire();
            tracing::warn!(resource = %key, %problem, "a lease was left to its end");
        }
        self.forget_lease(name, lease).await?;
        // Where no other has its name, an event could be about nothing.
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
    ) -> Result<Option<Timestamp>, Problem> {
        self.release_as_gone(&work.key, Some(work)).await?;
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
        // What the Secret names is a forgery, or of a ledger that is lost: nothing
        // shows that another one took the place of those that are known.
        let orphaned = self.is_orphaned(work);
        let mut again: Option<Timestamp> = None;
        let mut look = |at: Timestamp| again = Some(again.map_or(at, |again| again.min(at)));
        for (name, lease) in self.ledger.leases_of(&work.key) {
            let in_hand = self.unwritten_grant(&work.key);
            let in_hand = in_hand.is_some_and(|grant| lease.is_of(&grant));
            if lease.uid != work.me.uid || lease.is_of(&current) || in_hand {
                continue;
            }
            let now = self.clock.now();
            let mut free = self.free_at(work, state.changed_at).filter(|_| !orphaned);
            if self.ledger.is_older(&name) {
                let late = later(self.term.borrow().started, LATE_WRITES);
                free = free.map(|free| free.max(late));
            }
            if free.is_none_or(|free| free > now) {
                // A rollout that ends wakes the resource.
                free.into_iter().for_each(&mut look);
                self.keep_alive(work, &lease)
                    .await
                    .into_iter()
                    .for_each(&mut look);
                continue;
            }
            let revoked = if self.ledger.token(&lease.token).is_none() {
                self.metrics.left_to_expire();
                None
            } else if lease.revoke {
                Some(self.revoke(&work.key, &lease).await?)
            } else {
                None
            };
            self.forget_lease(&name, &lease).await?;
            self.keep_in_memory(work, |memory| {
                memory.kept_alive.remove(&lease.lease);
            });
            self.tell_released(work, &lease, revoked).await;
        }
        Ok(again)
    }

    /// A lease is none any more; its token may have been the last one's.
    async fn forget_lease(&self, name: &str, lease: &LeaseEntry) -> Result<(), Problem> {
        self.write_entry(name, None).await?;
        if !self.ledger.is_in_use(&lease.token) {
            let token = WorkKey::Token(lease.token.clone());
            self.queue.wake(token, Urgency::Routine);
        }
        Ok(())
    }

    /// Renews a lease that another one took the place of, for the pods that still
    /// use it; says when to look again. Where that cannot be, it ends by itself.
    pub(in crate::reconcile) async fn keep_alive(
        &self,
        work: &Work,
        lease: &LeaseEntry,
    ) -> Option<Timestamp> {
        let lasts = Duration::from_secs(lease.seconds);
        if lasts.is_zero() || !lease.renewable {
            return None;
        }
        let known = self.remembered(&work.key).kept_alive;
        let known = known.get(&lease.lease).copied();
        let due = |renewed: Renewed| later(renewed.at, renewed.duration / 2);
        let now = self.clock.now();
        let first = Renewed {
            at: lease.since,
            duration: lasts,
        };
        let due_at = due(known.unwrap_or(first));
        if due_at > now {
            return Some(due_at);
        }
        let renewed = match self.renew_superseded(work, lease).await {
            Ok(duration) => Renewed { at: now, duration },
            Err(problem) => {
                tracing::info!(resource = %work.key, %problem, "a lease that was replaced could not be renewed");
                Renewed {
                    at: now,
                    duration: KEEP_ALIVE_PAUSE,
                }
            }
        };
        self.keep_in_memory(work, |memory| {
            memory.kept_alive.insert(lease.lease.clone(), renewed);
        });
        Some(due(renewed).max(later(now, SHORTEST_LOOK)))
    }

    async fn renew_superseded(&self, work: &Work, lease: &LeaseEntry) -> Result<Duration, Problem> {
        let token = self.token_of_lease(lease)?;
        let permitted = permit_lease(lease.request(&token), &self.policy, &self.own)?;
        let asked = Some(Duration::from_secs(lease.seconds));
        let reply = self
            .lease_request(&work.key, &permitted, Task::RenewLease, asked)
            .await?;
        Ok(reply.lease.duration)
    }

    /// Revokes a lease or a certificate, with the login that its token came from.
    async fn revoke(&self, key: &ResourceKey, lease: &LeaseEntry) -> Result<Back, Problem> {
        let token = self.token_of_lease(lease)?;
        let asked = lease.request(&token);
        // The end of a certificate's lease revokes it.
        if lease.lease.is_empty() {
            return self.revoke_certificate(key, lease, asked).await;
        }
        let permitted = permit_lease(asked, &self.policy, &self.own)?;
        match self
            .lease_request(key, &permitted, Task::RevokeLease, None)
            .await
        {
            Err(Problem::LeaseNotFound { .. }) => Ok(Back::Gone),
            answer => answer.map(|_| Back::Revoked),
        }
    }

    fn token_of_lease(&self, lease: &LeaseEntry) -> Result<TokenEntry, Problem> {
        let token = self.ledger.token(&lease.token);
        token.ok_or_else(|| Problem::Internal {
            why: format!(
                "the ledger does not say how to log in for {}",
                lease.shown()
            ),
        })
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
        let form = task.form().unwrap_or_default();
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
        let login = lease.login();
        let answer = self.sessions.upkeep_unless_denied(login, &request, now);
        let answer = self.ask(key, connection, answer);
        match self.telling_of_login(login, answer).await {
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

/// What became of what was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::reconcile) enum Back {
    /// Vault revoked it.
    Revoked,
    /// It had ended before.
    Gone,
    /// Vault does not know it, so that it lives to its end.
    Unknown,
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
