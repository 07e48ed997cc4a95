//! Leases of resources that cannot be seen: the Role, the definitions in the cluster or
//! the claim of the namespace keep the operator from knowing whether they are still
//! there. Pods may live by them, so they are renewed for a time
//! (`rotation.renewUnseen`); after that they are left to their end.

use jiff::Timestamp;

use super::LeaseEntry;
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::reconcile::engine::Engine;
use crate::reconcile::ports::{Clock, Cluster, Note};
use crate::reconcile::queue::{Urgency, WorkKey};
use crate::reconcile::time::later;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Keeps the leases of a resource that cannot be seen, where `problem` says that
    /// nobody but a person will change that, and wakes it when the next is due.
    pub(in crate::reconcile) async fn keep_unseen(&self, key: &ResourceKey, problem: &Problem) {
        let lasting = matches!(
            problem,
            Problem::KubernetesForbidden { .. } | Problem::KubernetesRefused { .. }
        );
        // Without the ledger nothing is known; its own turn tells of that.
        if !lasting || self.load_ledger().await.is_err() {
            return;
        }
        let mut leases = self.ledger.leases_of(key);
        // A certificate without a lease lives to its end by itself.
        leases.retain(|(_, entry)| !entry.lease.is_empty());
        if leases.is_empty() {
            self.sees_again(key);
            return;
        }
        let now = self.clock.now();
        let known = self.remembered(key).unseen_since;
        let until = later(known.unwrap_or(now), self.config.rotation.renew_unseen);
        if known.is_none() {
            self.keep_in_memory(key, |memory| memory.unseen_since = Some(now));
            self.metrics.lives().unseen(key, true);
            self.tell_unseen(key, &leases, until, problem).await;
        }
        let mut next = None;
        for (name, lease) in leases {
            let again = if now < until {
                let due = self.keep_alive(key, &lease).await.again();
                Some(due.map_or(until, |due| due.min(until)))
            } else {
                self.leave_unseen(key, &name, &lease, now).await
            };
            next = next.into_iter().chain(again).min();
        }
        if let Some(next) = next {
            let work = WorkKey::Resource(key.clone());
            self.queue.wake_at(work, next, Urgency::Routine);
        }
    }

    /// The resource is there, or known to be gone.
    pub(in crate::reconcile) fn sees_again(&self, key: &ResourceKey) {
        let mut memory = self.memory.borrow_mut();
        let memory = memory.get_mut(&WorkKey::Resource(key.clone()));
        if memory.is_some_and(|memory| memory.unseen_since.take().is_some()) {
            self.metrics.lives().unseen(key, false);
        }
    }

    /// Forgets a lease that nobody renews any more once it has ended; says when that is.
    async fn leave_unseen(
        &self,
        key: &ResourceKey,
        name: &str,
        lease: &LeaseEntry,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let end = self.ledger.end_if_not_renewed(name, lease, now)?;
        if end > now {
            return Some(end);
        }
        match self.forget_lease(name, lease).await {
            Ok(()) => {
                self.metrics.left_to_expire();
                tracing::warn!(resource = %key, lease = lease.shown(), "a lease was left to its end: whether its resource is still there cannot be seen");
                None
            }
            Err(problem) => {
                tracing::warn!(resource = %key, %problem, "the ledger could not be told that a lease has ended");
                Some(later(now, self.config.sync.backoff.max_interval))
            }
        }
    }

    async fn tell_unseen(
        &self,
        key: &ResourceKey,
        leases: &[(String, LeaseEntry)],
        until: Timestamp,
        problem: &Problem,
    ) {
        tracing::warn!(resource = %key, leases = leases.len(), %until, %problem, "it cannot be seen; its leases are renewed until then");
        let Some((_, lease)) = leases.first() else {
            return;
        };
        let until = until.strftime("%FT%TZ");
        let message = format!(
            "whether it is still there cannot be seen: {problem}; what Vault leased to it is renewed until {until} (rotation.renewUnseen) and left to its end then"
        );
        self.publish(Note {
            about: key.clone(),
            uid: lease.uid.clone(),
            warning: true,
            reason: "ResourceUnseen",
            message,
            action: "Renew",
            at: self.clock.now(),
        })
        .await;
    }
}
