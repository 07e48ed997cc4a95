//! When a source is read again by itself: pure arithmetic on the wall clock, so
//! that no time needs to be stored.

use jiff::Timestamp;

/// Reads for slots that were missed are spread over this time.
const MISSED_SPREAD_MS: i64 = 60_000;

/// Fixed times on the wall clock at which a resource is read again: the same
/// after a restart of the operator, different for each resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    period_ms: i64,
    phase_ms: i64,
}

impl Slots {
    /// Slots every 0.9 of `refresh_after`, at a phase that `uid` gives.
    #[must_use]
    pub fn new(refresh_after: std::time::Duration, uid: &str) -> Self {
        let whole = i64::try_from(refresh_after.as_millis()).unwrap_or(i64::MAX);
        let period_ms = (whole / 10).saturating_mul(9).max(1000);
        let digits = crate::render::fingerprint([uid]);
        let spread = u64::from_str_radix(&digits, 16).unwrap_or_default() >> 1;
        let phase_ms = i64::try_from(spread).unwrap_or_default() % period_ms;
        Self {
            period_ms,
            phase_ms,
        }
    }

    /// The last slot at or before `now`.
    #[must_use]
    pub fn last(&self, now: Timestamp) -> Timestamp {
        let into = (now.as_millisecond() - self.phase_ms).rem_euclid(self.period_ms);
        Timestamp::from_millisecond(now.as_millisecond() - into).unwrap_or(Timestamp::MIN)
    }

    /// When a slot that passed between `absent_since` and `started` is made up
    /// for, if there was one: within a minute, and different for each resource,
    /// so that a start does not storm Vault.
    #[must_use]
    pub fn missed(&self, absent_since: Timestamp, started: Timestamp) -> Option<Timestamp> {
        let wait = self.phase_ms % self.period_ms.min(MISSED_SPREAD_MS);
        let due = started.as_millisecond().saturating_add(wait);
        (self.last(started) > absent_since)
            .then(|| Timestamp::from_millisecond(due).unwrap_or(Timestamp::MAX))
    }

    /// The first slot after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let next = self
            .last(now)
            .as_millisecond()
            .saturating_add(self.period_ms);
        Timestamp::from_millisecond(next).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn missed_slots_are_spread_over_a_minute_and_never_past_the_next_slot() {
        let slots = |seconds, uid: &str| Slots::new(std::time::Duration::from_secs(seconds), uid);
        let mut due = std::collections::BTreeSet::new();
        for number in 0..100 {
            let slots = slots(1000, &format!("uid-{number}"));
            match slots.missed(at(450), at(900)) {
                Some(time) => due.insert(time.as_second()),
                None => {
                    assert!(slots.last(at(900)) <= at(450));
                    continue;
                }
            };
        }
        assert!(due.len() > 20, "half of them, spread: {due:?}");
        assert!(due.iter().all(|time| (900..960).contains(time)), "{due:?}");
        let short = slots(10, "uid-1");
        assert!(short.missed(at(800), at(900)).unwrap() <= short.next(at(900)));
    }
}
