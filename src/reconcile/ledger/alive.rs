//! Keeping a lease alive that another one took the place of, while pods may use it.

use std::time::Duration;

use jiff::Timestamp;

use super::entry::LeaseEntry;
use crate::key::ResourceKey;
use crate::policy::permit_lease;
use crate::problem::Problem;
use crate::reconcile::engine::Engine;
use crate::reconcile::grants::ROUNDING;
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

/// What is known of a lease that pods may still use.
#[derive(Clone, Copy, Debug)]
pub(in crate::reconcile) struct KeptAlive {
    /// When it is to be renewed, or that is to be tried again.
    due: Timestamp,
    /// When it ends unless it is renewed, as far as is known.
    ends: Option<Timestamp>,
    /// Whether the last renewal gave less than the lease had first, or was denied.
    short: bool,
}

impl KeptAlive {
    /// When it ends, if that can hardly be put off any more.
    pub(in crate::reconcile) fn last_end(self) -> Option<Timestamp> {
        self.ends.filter(|_| self.short)
    }
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
        let lasts = lease.lasts();
        if lasts.is_zero() || !lease.renewable {
            return Kept::Until(None);
        }
        let known = self.remembered(key).kept_alive;
        let known = known.get(&lease.lease).copied();
        let now = self.clock.now();
        let first = later(lease.since, lasts);
        let known = known.unwrap_or(KeptAlive {
            due: later(lease.since, lasts / 2),
            // If that has passed, somebody renewed it.
            ends: (first > now).then_some(first),
            short: false,
        });
        if known.due > now {
            return Kept::Until(Some(known.due));
        }
        let answer = self.renew_superseded(key, lease).await;
        let gone = matches!(answer, Err(Problem::LeaseNotFound { .. }));
        let kept = match answer {
            Ok(duration) => KeptAlive {
                due: later(now, (duration / 2).max(SHORTEST_LOOK)),
                ends: Some(later(now, duration)),
                short: duration.saturating_add(ROUNDING) < lasts,
            },
            Err(problem) => {
                tracing::info!(resource = %key, %problem, "a lease that was replaced could not be renewed");
                KeptAlive {
                    due: later(now, KEEP_ALIVE_PAUSE / 2),
                    short: known.short || matches!(problem, Problem::VaultDenied { .. }),
                    ..known
                }
            }
        };
        self.keep_in_memory(key, |memory| {
            memory.kept_alive.insert(lease.lease.clone(), kept);
        });
        if gone {
            return Kept::Gone;
        }
        if kept.last_end() != known.last_end() {
            self.wake_targets(key);
        }
        Kept::Until(Some(kept.due))
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
        let asked = Some(lease.lasts());
        let reply = self
            .lease_request(key, &permitted, Task::RenewLease, asked)
            .await?;
        Ok(reply.lease.duration)
    }
}
