//! When a key is tried again after its reconcile ended: as its problem says, at
//! a pace that grows while that does not help.

use std::time::Duration;

use super::breaker::LONGEST_PROBE_WAIT;
use super::engine::{Engine, Next};
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::time::{fraction, later};
use crate::problem::Retry;
use crate::vault::Vault;

/// Tries after which the backoff no longer grows.
const ATTEMPTS_LIMIT: u32 = 32;

/// Waiting after a write that was refused because the view was old; and the least
/// before work that ended well is done again by itself.
const SOON: Duration = Duration::from_millis(200);

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    pub(super) fn schedule(&self, key: WorkKey, next: Next) {
        let now = self.clock.now();
        let attempts = self.count_attempt(&key, &next);
        match next {
            Next::Settled(None) => {}
            Next::Settled(Some(time)) => {
                let time = time.max(later(now, SOON));
                self.queue.wake_at(key, time, Urgency::Routine);
            }
            Next::Failed(problem) if self.waits_for_vault(&key, &problem) => {}
            Next::Failed(problem) => {
                let wait = match problem.retry() {
                    Retry::WhenChanged => return,
                    Retry::Soon => self.soon(attempts),
                    Retry::Backoff => self.backoff(&key, attempts),
                    Retry::NotBefore(after) => after.max(self.backoff(&key, attempts)),
                };
                let urgency = match &key {
                    WorkKey::Resource(resource) => self.view.borrow().urgency(resource),
                    _ => Urgency::Now,
                };
                self.queue.wake_at(key, later(now, wait), urgency);
            }
        }
    }

    fn count_attempt(&self, key: &WorkKey, next: &Next) -> u32 {
        let mut memory = self.memory.borrow_mut();
        match next {
            Next::Settled(_) => {
                if let Some(entry) = memory.get_mut(key) {
                    (entry.attempts, entry.refused) = (0, None);
                }
                0
            }
            Next::Failed(_) => {
                let entry = memory.entry(key.clone()).or_default();
                entry.attempts = entry.attempts.saturating_add(1).min(ATTEMPTS_LIMIT);
                entry.attempts
            }
        }
    }

    /// Soon, but ever less so while it does not help.
    fn soon(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(16);
        (SOON * (1 << doublings)).min(self.config.sync.backoff.max_interval)
    }

    /// Exponential, half of it jitter. The jitter comes from key and attempt, so
    /// that a simulated run repeats exactly while real resources stay apart.
    pub(super) fn backoff(&self, key: &WorkKey, attempts: u32) -> Duration {
        let policy = &self.config.sync.backoff;
        let longest = match key {
            WorkKey::Vault(_) => policy.max_interval.min(LONGEST_PROBE_WAIT),
            _ => policy.max_interval,
        };
        let factor = 1.5_f64.powi(i32::try_from(attempts.saturating_sub(1)).unwrap_or(0));
        let full = policy.initial_interval.mul_f64(factor).min(longest);
        full.mul_f64(0.5 + 0.5 * fraction(&format!("{key:?}/{attempts}")))
    }
}
