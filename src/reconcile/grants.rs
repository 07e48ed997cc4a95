//! What Vault gave for a time: when it is renewed, when it is replaced. Pure
//! arithmetic on what the destination's state says and what is known of the last
//! renewal; only Vault's own answer declares a lease dead.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::time::{later, whole_seconds};
use crate::render::Grant;

/// The most of a lease's time that passes before it is renewed: `renewalPercent`
/// and up to ten points more, so that many leases are not renewed at once.
const LATEST: f64 = 0.9;

/// The width of that spread.
const SPREAD: f64 = 0.1;

/// The share of its time after which a lease may be renewed for the first time: those
/// that were made in one minute would be renewed in a few of each hour else.
const FIRST: f64 = 0.3;

/// A renewal may give a little less than was asked for, in whole seconds.
pub(super) const ROUNDING: Duration = Duration::from_secs(2);

/// The share of a certificate's life after which an offset before its end begins at
/// the earliest: else one would be asked for after the other.
const EARLIEST: f64 = 0.1;

/// Certificates are replaced up to so much of their time earlier, so that many are
/// not replaced at once.
const EARLIER: f64 = 0.05;

/// How long Vault takes for a rotation of its own.
const ROTATING: Duration = Duration::from_millis(500);

/// A time that passed without a renewal is not made up for all at once.
const MISSED_SPREAD: Duration = Duration::from_secs(60);

/// What a resource says about the end of what it was given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// `spec.renewalPercent`, 0 to 90.
    pub renewal_percent: u8,
    /// `spec.expiryOffset`, how long before its end a certificate is replaced; `None`
    /// for what is no certificate.
    pub lead: Option<Duration>,
    /// `spec.refreshAfter`, for answers without a lease.
    pub refresh_after: Option<Duration>,
    /// A share between 0 and 1 that is the resource's own.
    pub share: f64,
    /// How long before a known end another one must be there.
    pub margin: Duration,
    /// Whether Vault makes another one whenever it is asked.
    pub mints: bool,
    /// Whether renewals are allowed, as far as is known.
    pub renews: bool,
    /// How often a lease is looked at that is not renewed so often; `None`: never.
    pub look_every: Option<Duration>,
}

/// An offset before the end of a certificate that lives so long: a third of its life
/// where it would leave too little of it.
#[must_use]
pub fn capped(lead: Duration, lasts: Duration) -> Duration {
    match lead > lasts.mul_f64(1.0 - EARLIEST) {
        true => lasts / 3,
        false => lead,
    }
}

/// The last renewal that is known of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// When.
    pub at: Timestamp,
    /// For how long.
    pub duration: Duration,
}

/// What is due for a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing until then; `None`: never by itself.
    Nothing(Option<Timestamp>),
    /// Its renewal.
    Renewal,
    /// Another one in its place.
    Replacement,
}

impl Terms {
    /// What is due now. `started` is when this process began to look: what should
    /// have happened before it is spread over a minute from then.
    #[must_use]
    pub fn due(
        &self,
        grant: &Grant,
        renewed: Option<Renewed>,
        started: Timestamp,
        now: Timestamp,
    ) -> Due {
        if grant.rotated.is_some() {
            let at = after_rotation(grant);
            return match now < at {
                true => Due::Nothing(Some(at)),
                false => Due::Replacement,
            };
        }
        let (from, given) = last_given(grant, renewed, now);
        let shortened = given.saturating_add(ROUNDING) < grant.duration();
        let lasts = if given.is_zero() {
            self.refresh_after.unwrap_or_default()
        } else {
            given
        };
        if lasts.is_zero() {
            return Due::Nothing(None);
        }
        let renewable = self.renews && grant.renewable && !grant.lease.is_empty() && !shortened;
        let percent = f64::from(self.renewal_percent) / 100.0;
        let mut at = match self.lead {
            None if renewable && from == grant.since => {
                let latest = (percent + SPREAD).min(LATEST);
                later(
                    from,
                    lasts.mul_f64(latest * (FIRST + (1.0 - FIRST) * self.share)),
                )
            }
            None => later(
                from,
                lasts.mul_f64((percent + SPREAD * self.share).min(LATEST)),
            ),
            Some(lead) => {
                let rest = lasts - capped(lead, lasts);
                later(from, rest.mul_f64(1.0 - EARLIER * self.share))
            }
        };
        if !renewable && !given.is_zero() {
            let rest = lasts.saturating_sub(self.margin);
            // One that never could be renewed is not asked for again and again.
            let least = if shortened { Duration::ZERO } else { lasts / 3 };
            at = at.min(later(from, rest.max(least)));
        }
        if at < started {
            let left = later(from, lasts).duration_since(started);
            let spread = left.max(SignedDuration::ZERO).unsigned_abs() / 2;
            at = later(started, spread.min(MISSED_SPREAD).mul_f64(self.share));
        }
        if now < at {
            Due::Nothing(Some(at))
        } else if renewable {
            Due::Renewal
        } else {
            Due::Replacement
        }
    }
}

impl Terms {
    /// When it is to be seen whether the lease is still there: somebody may have
    /// revoked it. `seen` is when that was known last, since `started` at the least,
    /// so that no start looks at all of them at once.
    #[must_use]
    pub fn look(
        &self,
        grant: &Grant,
        seen: Option<Timestamp>,
        started: Timestamp,
    ) -> Option<Timestamp> {
        let every = self.look_every.filter(|_| !grant.lease.is_empty())?;
        let from = seen.unwrap_or(grant.since).max(grant.since).max(started);
        Some(later(from, every.mul_f64(1.0 + SPREAD * self.share)))
    }

    /// When the next renewal or replacement is due by itself, whenever this process
    /// began to look.
    #[must_use]
    pub fn next(
        &self,
        grant: &Grant,
        renewed: Option<Renewed>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let renewed = renewed.filter(|renewed| renewed.is_plausible(grant, now));
        let from = renewed.map_or(grant.since, |renewed| renewed.at);
        // As it was seen when it was given: nothing had passed then.
        match self.due(grant, renewed, from, from) {
            Due::Nothing(at) => at,
            Due::Renewal | Due::Replacement => Some(from),
        }
    }

    /// When what was given ends if nobody renews it; `None`: not by itself.
    #[must_use]
    pub fn expiry(grant: &Grant, renewed: Option<Renewed>, now: Timestamp) -> Option<Timestamp> {
        let (from, lasts) = last_given(grant, renewed, now);
        (!lasts.is_zero()).then(|| later(from, lasts))
    }
}

/// When a grant was given or renewed last, and for how long.
fn last_given(grant: &Grant, renewed: Option<Renewed>, now: Timestamp) -> (Timestamp, Duration) {
    match renewed.filter(|renewed| renewed.is_plausible(grant, now)) {
        Some(renewed) => (renewed.at, renewed.duration),
        None => (grant.since, grant.duration()),
    }
}

/// When Vault has rotated what it rotates by itself.
#[must_use]
pub fn after_rotation(grant: &Grant) -> Timestamp {
    later(grant.since, grant.duration() + ROTATING)
}

impl Renewed {
    /// As status tells of it.
    pub(super) fn in_whole_seconds(self) -> Self {
        Self {
            at: whole_seconds(self.at),
            duration: Duration::from_secs(self.duration.as_secs()),
        }
    }

    /// Status can be written by others: it may put the next renewal off by at
    /// most one duration, and never says more than the lease was given for.
    fn is_plausible(&self, grant: &Grant, now: Timestamp) -> bool {
        self.at >= grant.since && self.at <= now && self.duration <= grant.duration() + ROUNDING
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
