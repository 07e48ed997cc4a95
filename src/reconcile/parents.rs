//! Leases by the token that they hang on: Vault ends them with it. Pure. What the
//! ledger does not know is neither renewed nor given back, since a tenant can write
//! what names it; it is used on to its end, and replaced before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::decide::{Situation, Step, Why};
use super::grants::{Renewed, Terms, last_given};
use super::time::later;
use crate::render::Grant;

/// What the ledger knows of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The token that it hangs on.
    Known,
    /// Nothing: nobody keeps its token alive.
    Unknown,
}

/// The step for a lease whose token is not known; `None` where it is.
pub(super) fn without_a_parent(
    situation: &Situation<'_>,
    terms: Terms,
    grant: &Grant,
) -> Option<Step> {
    if grant.lease.is_empty() {
        return None;
    }
    match situation.parent {
        // Who reads the ledger asks again.
        None => Some(Step::Wait(None)),
        Some(Parent::Unknown) => {
            let ends = ends(grant, situation.renewed, situation.now);
            let at = terms.handed_over(ends, situation.spread, situation.started);
            Some(match at <= situation.now {
                true => Step::Fetch(Why::Due),
                false => Step::Wait(Some(at)),
            })
        }
        Some(Parent::Known) => None,
    }
}

/// Until when what another operator was given is used on; `None`: no longer.
pub(super) fn inherited_until(situation: &Situation<'_>) -> Option<Timestamp> {
    let terms = situation.terms.filter(|terms| terms.mints)?;
    let lease = situation.inherited?;
    let ends = Some(later(lease.at, lease.duration));
    let at = terms.handed_over(ends, situation.spread, situation.started);
    (at > situation.now).then_some(at)
}

/// The end of a lease as far as is known; `None`: not by itself.
pub(super) fn ends(grant: &Grant, renewed: Option<Renewed>, now: Timestamp) -> Option<Timestamp> {
    let (from, given) = last_given(grant, renewed, now);
    (!given.is_zero()).then(|| later(from, given))
}

impl Terms {
    /// When one is replaced whose token nobody keeps alive: at the resource's own
    /// moment within `spread` of `started`, and by the margin before it ends.
    #[must_use]
    pub fn handed_over(
        &self,
        ends: Option<Timestamp>,
        spread: Duration,
        started: Timestamp,
    ) -> Timestamp {
        let left = ends.map_or(Duration::MAX, |ends| until(started, ends));
        let within = spread.min(left.saturating_sub(self.margin));
        later(started, within.mul_f64(self.share))
    }
}

/// The time from one moment to another; none where that has passed.
fn until(from: Timestamp, to: Timestamp) -> Duration {
    let left = to.duration_since(from).max(SignedDuration::ZERO);
    left.unsigned_abs()
}

#[cfg(test)]
#[path = "parents_tests.rs"]
mod tests;
