//! Leases by the token that they hang on: Vault ends them with it. Pure. What the
//! ledger does not know is neither renewed nor given back, since a tenant can write
//! what names it; it is used on to its end, and replaced before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::decide::{Situation, Step, Why};
use super::grants::{Renewed, Terms};
use super::time::later;
use crate::render::Grant;

/// What the ledger knows of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The token that it hangs on, and when that ends for certain.
    Known(Option<TokenEnd>),
    /// Nothing: nobody keeps its token alive.
    Unknown,
}

/// The end of a token that nothing puts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenEnd {
    /// When.
    pub at: Timestamp,
    /// Since when that is known.
    pub known: Timestamp,
    /// Why.
    pub why: Limit,
}

/// Why a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// It is of a kind that cannot be renewed.
    NotRenewable,
    /// Its renewals have come to its longest life.
    Longest,
    /// An earlier process used it, and Vault's policy denies asking by its accessor.
    Denied,
    /// It acts for another entity than the login does now.
    Foreign,
    /// Vault does not know it any more.
    Gone,
}

impl Limit {
    /// Why, and what would keep such leases.
    pub(super) const fn mend(self) -> &'static str {
        match self {
            Self::NotRenewable => {
                "the auth role gives tokens that cannot be renewed: with token_type=service and a token_period, or a longer token_ttl, they stay"
            }
            Self::Longest => {
                "the token has come to its longest life: with a token_period on the auth role, or a longer token_max_ttl, they stay"
            }
            Self::Denied => {
                "an earlier process of the operator logged in with it, and Vault's policy denies keeping it alive: with path \"auth/token/lookup-accessor\" { capabilities = [\"update\"] } and path \"auth/token/renew-accessor\" { capabilities = [\"update\"] } in the policy of the login's role they stay"
            }
            Self::Foreign => {
                "it acts for another entity of Vault than the login does now, and is not kept alive"
            }
            Self::Gone => {
                "Vault does not know the token any more: somebody revoked it, or it ended while no operator ran; a longer token_period on the auth role bridges that"
            }
        }
    }
}

/// The step for a lease whose token is not known, or comes to its end; with it, or
/// without any, when it is replaced at the latest.
pub(super) fn hangs(
    situation: &Situation<'_>,
    terms: Terms,
    grant: &Grant,
) -> (Option<Step>, Option<Timestamp>) {
    let now = situation.now;
    let at = match situation.parent {
        _ if grant.lease.is_empty() => return (None, None),
        // Who reads the ledger asks again.
        None => return (Some(Step::Wait(None)), None),
        Some(Parent::Unknown) => {
            let ends = Terms::expiry(grant, situation.renewed, now);
            let at = terms.handed_over(ends, situation.spread, situation.started);
            if at > now {
                return (Some(Step::Wait(Some(at))), None);
            }
            at
        }
        Some(Parent::Known(end)) => {
            let end = end.filter(|end| terms.is_outlived(grant, situation.renewed, *end, now));
            let Some(end) = end else {
                return (None, None);
            };
            terms.before_token_ends(grant, end, situation.started)
        }
    };
    ((at <= now).then_some(Step::Fetch(Why::Due)), Some(at))
}

/// Until when what another operator was given is used on; `None`: no longer.
pub(super) fn inherited_until(situation: &Situation<'_>) -> Option<Timestamp> {
    let terms = situation.terms.filter(|terms| terms.mints)?;
    let lease = situation.inherited?;
    let ends = Some(later(lease.at, lease.duration));
    let at = terms.handed_over(ends, situation.spread, situation.started);
    (at > situation.now).then_some(at)
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

    /// Whether a token ends before a lease that hangs on it would.
    #[must_use]
    pub fn is_outlived(
        &self,
        grant: &Grant,
        renewed: Option<Renewed>,
        token: TokenEnd,
        now: Timestamp,
    ) -> bool {
        let renewable = grant.renewable && self.renews;
        renewable || Self::expiry(grant, renewed, now).is_none_or(|ends| ends > token.at)
    }

    /// When a lease is replaced that would outlive its token: at the resource's own
    /// moment in the latter half of what is left, and by the margin before that end;
    /// but never so soon that credentials replace each other without a pause.
    #[must_use]
    pub fn before_token_ends(
        &self,
        grant: &Grant,
        token: TokenEnd,
        started: Timestamp,
    ) -> Timestamp {
        let from = grant.since.max(token.known).max(started);
        let left = until(from, token.at).saturating_sub(self.margin);
        let at = later(from, left.mul_f64(0.5 + self.share / 2.0));
        let least = until(grant.since, token.at) / 3;
        at.max(later(grant.since, least))
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
