//! Keeping a lease alive that another one took the place of, while pods may use it.

use std::time::Duration;

use jiff::Timestamp;

use super::entry::LeaseEntry;
use crate::key::ResourceKey;
use crate::policy::permit_lease;
use crate::problem::Problem;
use crate::reconcile::engine::Engine;
use crate::reconcile::grants::Renewed;
use crate::reconcile::ports::{Clock, Cluster};
use crate::reconcile::time::later;
use crate::vault::{Task, Vault};

/// Between two tries to renew a lease that was replaced, and twice that.
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(60);

/// Between two looks at such a lease.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// How it went on with a lease that pods may still use.
#[derive(Clone, Copy, Debug)]
pub(in crate::reconcile) enum Kept {
    /// It lives, or ends by itself: to be looked at again then.
    Until(Option<Timestamp>),
    /// Vault does not know it.
    Gone,
}

impl Kept {
    /// When to look again, where its end changes nothing.
    pub(in crate::reconcile) const fn again(self) -> Option<Timestamp> {
        match self {
            Kept::Until(again) => again,
            Kept::Gone => None,
        }
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Renews a lease that another one took the place of, for the pods that still
    /// use it. Where that cannot be, it ends by itself.
    pub(in crate::reconcile) async fn keep_alive(
        &self,
        key: &ResourceKey,
        lease: &LeaseEntry,
    ) -> Kept {
        let lasts = Duration::from_secs(lease.seconds);
        if lasts.is_zero() || !lease.renewable {
            return Kept::Until(None);
        }
        let known = self.remembered(key).kept_alive;
        let known = known.get(&lease.lease).copied();
        let due = |renewed: Renewed| later(renewed.at, renewed.duration / 2);
        let now = self.clock.now();
        let first = Renewed {
            at: lease.since,
            duration: lasts,
        };
        let due_at = due(known.unwrap_or(first));
        if due_at > now {
            return Kept::Until(Some(due_at));
        }
        let answer = self.renew_superseded(key, lease).await;
        let gone = matches!(answer, Err(Problem::LeaseNotFound { .. }));
        let renewed = match answer {
            Ok(duration) => Renewed { at: now, duration },
            Err(problem) => {
                tracing::info!(resource = %key, %problem, "a lease that was replaced could not be renewed");
                Renewed {
                    at: now,
                    duration: KEEP_ALIVE_PAUSE,
                }
            }
        };
        self.keep_in_memory(key, |memory| {
            memory.kept_alive.insert(lease.lease.clone(), renewed);
        });
        if gone {
            return Kept::Gone;
        }
        Kept::Until(Some(due(renewed).max(later(now, SHORTEST_LOOK))))
    }

    /// It is gone: nothing is to be remembered of it.
    pub(super) fn keep_no_more(&self, key: &ResourceKey, lease: &LeaseEntry) {
        self.keep_in_memory(key, |memory| {
            memory.kept_alive.remove(&lease.lease);
        });
    }

    async fn renew_superseded(
        &self,
        key: &ResourceKey,
        lease: &LeaseEntry,
    ) -> Result<Duration, Problem> {
        let token = self.token_of_lease(lease)?;
        let permitted = permit_lease(lease.request(&token), &self.policy, &self.own)?;
        let asked = Some(Duration::from_secs(lease.seconds));
        let reply = self
            .lease_request(key, &permitted, Task::RenewLease, asked)
            .await?;
        Ok(reply.lease.duration)
    }
}
