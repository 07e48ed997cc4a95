//! Giving back what nobody needs any more: leases of resources that are gone, and
//! those that another one has taken the place of.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::alive::Kept;
use super::entry::{LeaseEntry, TokenEntry};
use crate::key::ResourceKey;
use crate::policy::{PermittedLease, permit_lease};
use crate::problem::Problem;
use crate::reconcile::engine::Engine;
use crate::reconcile::ownership::state_of;
use crate::reconcile::ports::{Clock, Cluster, Life};
use crate::reconcile::queue::{Urgency, WorkKey};
use crate::reconcile::secret::Work;
use crate::reconcile::time::later;
use crate::vault::{Task, Upkeep, Vault};

/// After this no request that another process sent is still on its way.
pub(super) const LATE_WRITES: Duration = Duration::from_secs(30);

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Gives back what a resource that is gone was given, under any uid but that of
    /// the one that is there now.
    pub(in crate::reconcile) async fn release_as_gone(
        &self,
        key: &ResourceKey,
        there: Option<&Work>,
    ) -> Release {
        let mut release = Release::default();
        for (name, lease) in self.ledger.leases_of(key) {
            let is_there = there.is_some_and(|work| work.me.uid == lease.uid);
            if is_there || self.is_known(&lease.uid) {
                continue;
            }
            match self.release_one_as_gone(key, &name, &lease).await {
                Ok(Back::Left(until)) => release.again_at(until),
                Ok(back) => {
                    tracing::info!(resource = %key, what = lease.shown(), became = ?back, "what Vault gave a resource that is gone");
                    // Where no other has its name, an event would be about nothing.
                    if let Some(work) = there {
                        self.tell_gone(work, &lease, back).await;
                    }
                }
                // One that cannot be given back keeps no other.
                Err(problem) => release.fails(problem),
            }
        }
        release
    }

    async fn release_one_as_gone(
        &self,
        key: &ResourceKey,
        name: &str,
        lease: &LeaseEntry,
    ) -> Result<Back, Problem> {
        // A Role that goes with its namespace hides nothing that a watch has told.
        let life = match self.cluster.life(key, &lease.uid).await {
            Err(Problem::KubernetesForbidden { .. })
                if self.view.borrow().is_told_gone(&lease.uid) =>
            {
                Life::Gone
            }
            life => life?,
        };
        if life != Life::Gone {
            return Err(Problem::Conflict {
                what: format!("give back what {key} was given"),
                why: "the resource is still there".to_owned(),
            });
        }
        self.give_back_one(key, name, lease).await
    }

    /// Gives back what nobody needs any more; its entry goes with it, or at its end.
    async fn give_back_one(
        &self,
        key: &ResourceKey,
        name: &str,
        lease: &LeaseEntry,
    ) -> Result<Back, Problem> {
        let back = if self.ledger.token(&lease.token).is_none() {
            self.metrics.left_to_expire();
            Back::Left(None)
        } else if lease.revoke {
            self.revoke_or_leave(key, name, lease).await?
        } else {
            let now = self.clock.now();
            let end = self.ledger.end_if_not_renewed(name, lease, now);
            Back::Left(end.filter(|end| !lease.lease.is_empty() && *end > now))
        };
        // Its token would take it along: as long as the entry is there, that lives.
        if !matches!(back, Back::Left(Some(_))) {
            self.forget_lease(name, lease).await?;
        }
        Ok(back)
    }

    /// Revokes what nobody needs any more. What cannot be, is a problem until it has
    /// ended by itself.
    async fn revoke_or_leave(
        &self,
        key: &ResourceKey,
        name: &str,
        lease: &LeaseEntry,
    ) -> Result<Back, Problem> {
        let problem = match self.revoke(key, lease).await {
            Err(problem) => problem,
            back => return back,
        };
        let now = self.clock.now();
        let end = self.ledger.end_if_not_renewed(name, lease, now);
        if end.is_none_or(|end| end > now) {
            let first = problem.is_finding() && self.ledger.warns_first_of(name);
            self.wait_for_end(key, lease, end, first, &problem);
            return Err(problem);
        }
        self.metrics.left_to_expire();
        tracing::warn!(resource = %key, what = lease.shown(), %problem, "what Vault gave could not be given back and is left to its end");
        Ok(Back::Gone)
    }

    /// What cannot be given back is tried again until it has ended by itself, and told
    /// of at once: nobody looks at a resource that is gone.
    fn wait_for_end(
        &self,
        key: &ResourceKey,
        lease: &LeaseEntry,
        end: Option<Timestamp>,
        first: bool,
        problem: &Problem,
    ) {
        if let Some(end) = end {
            // Whatever the problem is, and however often that is tried again.
            let work = WorkKey::Resource(key.clone());
            self.queue.wake_at(work, end, Urgency::Routine);
        }
        if first {
            let until = end.map_or_else(|| "its token's end".to_owned(), |end| format!("{end:.0}"));
            tracing::warn!(resource = %key, what = lease.shown(), %until, %problem, "what Vault gave cannot be given back; it is tried again, and ends by itself then");
        }
    }

    /// Gives back what a living resource was given before what its Secret holds
    /// now, once no pod needs it.
    pub(in crate::reconcile) async fn release_superseded(&self, work: &Work) -> Release {
        let mut release = Release::default();
        let state = {
            let view = self.view.borrow();
            let meta = view.secrets.get(&work.permitted.destination().secret);
            meta.and_then(|meta| state_of(&work.me, meta))
        };
        let Some((state, current)) = state.and_then(|state| {
            let grant = state.grant.clone()?;
            Some((state, grant))
        }) else {
            return release;
        };
        // What the Secret names is a forgery, or of a ledger that is lost: nothing
        // shows that another one took the place of those that are known.
        let orphaned = self.names_a_stranger(work);
        for (name, lease) in self.ledger.leases_of(&work.key) {
            let in_hand = self.unwritten_grant(&work.key);
            let in_hand = in_hand.is_some_and(|grant| lease.is_of(&grant));
            if lease.uid != work.me.uid || lease.is_of(&current) || in_hand {
                continue;
            }
            let now = self.clock.now();
            let free_at = self.free_at(work, state.changed_at);
            // What was free once stays so, whatever rolls since.
            let left = self.ledger.is_left(&name) && !orphaned;
            let in_use = free_at.is_none() && !orphaned && !left;
            // What has ended waits for nobody.
            let mut free = match lease.ended(now) || left {
                true => Some(now),
                false => free_at.filter(|_| !orphaned),
            };
            if self.ledger.is_older(&name) {
                let late = later(self.term.borrow().started, LATE_WRITES);
                free = free.map(|free| free.max(late));
            }
            if free.is_none_or(|free| free > now) {
                // A rollout that ends wakes the resource.
                release.again_at(free);
                match self.keep_alive(&work.key, &lease).await {
                    Kept::Until(again) => release.again_at(again),
                    Kept::Gone => match self.forget_lease(&name, &lease).await {
                        Ok(()) => {
                            self.keep_no_more(&work.key, &lease);
                            // Else it may have been this operator that gave it back.
                            if in_use {
                                self.tell_ended(work, &lease).await;
                            }
                        }
                        Err(problem) => release.fails(problem),
                    },
                }
                continue;
            }
            let told = !lease.revoke && self.ledger.is_left(&name);
            let back = match self.give_back_one(&work.key, &name, &lease).await {
                Ok(back) => back,
                Err(problem) => {
                    release.fails(problem);
                    continue;
                }
            };
            if let Back::Left(until) = back {
                release.again_at(until);
            }
            self.keep_no_more(&work.key, &lease);
            if in_use {
                self.tell_ended(work, &lease).await;
            } else if !told {
                self.tell_released(work, &lease, back, state.changed_at)
                    .await;
            }
        }
        release
    }

    /// A lease is none any more; its token may have been the last one's.
    pub(super) async fn forget_lease(&self, name: &str, lease: &LeaseEntry) -> Result<(), Problem> {
        self.write_entry(name, None).await?;
        if !self.ledger.is_in_use(&lease.token) {
            let token = WorkKey::Token(lease.token.clone());
            self.queue.wake(token, Urgency::Routine);
        }
        if let Some(resource) = lease.resource() {
            self.wake_targets(&resource);
        }
        Ok(())
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

    pub(super) fn token_of_lease(&self, lease: &LeaseEntry) -> Result<TokenEntry, Problem> {
        let token = self.token_entry(&lease.token);
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
    /// It is left to its end, and its entry stays until then; `None`: it is gone.
    Left(Option<Timestamp>),
}

/// How giving back went.
#[derive(Debug, Default)]
pub(in crate::reconcile) struct Release {
    /// When to look again.
    pub again: Option<Timestamp>,
    /// Why something could not be given back yet.
    pub problem: Option<Problem>,
}

impl Release {
    fn again_at(&mut self, at: Option<Timestamp>) {
        self.again = self.again.into_iter().chain(at).min();
    }

    /// With what became of others.
    pub(in crate::reconcile) fn joins(&mut self, other: Self) {
        self.again_at(other.again);
        self.problem = self.problem.take().or(other.problem);
    }

    fn fails(&mut self, problem: Problem) {
        self.problem.get_or_insert(problem);
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
