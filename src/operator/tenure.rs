//! Whether this process may act now: as the leader, and in a namespace. Asked
//! before each effect, since a process that was frozen does not know that time
//! passed: what was granted ends by whichever clock ran further, the monotonic
//! one (it stands still while a machine sleeps) or the wall clock (somebody may
//! set it). Says no when in doubt; takes nothing back that was sent.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::problem::Problem;

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: Timestamp::now(),
        }
    }

    /// On the wall clock.
    pub fn wall(&self) -> Timestamp {
        self.wall
    }

    /// The time until `now`, by the clock that ran further.
    fn until(&self, now: &Self) -> Duration {
        let monotonic = now.monotonic.saturating_duration_since(self.monotonic);
        let wall = now.wall.duration_since(self.wall);
        monotonic.max(Duration::try_from(wall).unwrap_or_default())
    }
}

/// A grant and its end.
#[derive(Clone, Copy, Debug)]
struct Grant {
    since: Moment,
    valid: Duration,
}

impl Grant {
    fn holds(&self, now: &Moment) -> bool {
        self.since.until(now) < self.valid
    }
}

/// What this process was granted, shared by those who grant and those who act.
#[derive(Debug, Default)]
pub struct Tenure {
    /// Whether there is no election: then this process always leads.
    alone: bool,
    leader: Cell<Option<Grant>>,
    claims: RefCell<HashMap<String, Grant>>,
}

impl Tenure {
    /// Nothing granted yet. `alone`: leadership is not asked for.
    pub fn new(alone: bool) -> Self {
        Self {
            alone,
            ..Self::default()
        }
    }

    /// Leads for `valid` from `since`.
    pub fn lead(&self, since: Moment, valid: Duration) {
        self.leader.set(Some(Grant { since, valid }));
    }

    /// Leads no more, and has no claim that would outlast it.
    pub fn resign(&self) {
        self.leader.set(None);
        self.claims.borrow_mut().clear();
    }

    /// May act in the namespace for `valid` from `since`.
    pub fn claim(&self, namespace: &str, since: Moment, valid: Duration) {
        let grant = Grant { since, valid };
        self.claims.borrow_mut().insert(namespace.to_owned(), grant);
    }

    /// May no longer act in the namespace.
    pub fn yield_claim(&self, namespace: &str) {
        self.claims.borrow_mut().remove(namespace);
    }

    /// Whether this process leads now.
    pub fn leads(&self) -> bool {
        let now = Moment::now();
        self.alone || self.leader.get().is_some_and(|grant| grant.holds(&now))
    }

    /// Whether the namespace is claimed for this process now.
    pub fn has_claim(&self, namespace: &str) -> bool {
        let now = Moment::now();
        let claims = self.claims.borrow();
        claims.get(namespace).is_some_and(|grant| grant.holds(&now))
    }

    /// Lets an effect of the leader pass.
    ///
    /// # Errors
    /// [`Problem::NotLeader`].
    pub fn admit(&self) -> Result<(), Problem> {
        if self.leads() {
            return Ok(());
        }
        Err(Problem::NotLeader {
            why: "its Lease was not renewed in time".to_owned(),
        })
    }

    /// Lets an effect in a namespace pass.
    ///
    /// # Errors
    /// [`Problem::NotLeader`].
    pub fn admit_in(&self, namespace: &str) -> Result<(), Problem> {
        self.admit()?;
        if self.has_claim(namespace) {
            return Ok(());
        }
        Err(Problem::NotLeader {
            why: format!("its claim of the namespace {namespace} was not renewed in time"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VALID: Duration = Duration::from_secs(10);

    fn moment(begin: Moment, monotonic: u64, wall: i64) -> Moment {
        Moment {
            monotonic: begin.monotonic + Duration::from_secs(monotonic),
            wall: Timestamp::from_second(begin.wall.as_second() + wall).unwrap(),
        }
    }

    #[test]
    fn a_grant_ends_by_the_clock_that_ran_further() {
        let begin = Moment {
            monotonic: Instant::now(),
            wall: Timestamp::from_second(1_000_000).unwrap(),
        };
        let grant = Grant {
            since: begin,
            valid: VALID,
        };
        for (monotonic, wall, holds, what) in [
            (9, 9, true, "both within"),
            (10, 10, false, "both past"),
            (11, -3600, false, "the wall clock was set back"),
            (1, 60, false, "the machine slept"),
            (9, -3600, true, "set back, but not over"),
        ] {
            assert_eq!(
                grant.holds(&moment(begin, monotonic, wall)),
                holds,
                "{what}"
            );
        }
    }

    #[test]
    fn an_effect_needs_leadership_and_the_namespaces_claim() {
        let tenure = Tenure::new(false);
        let now = Moment::now();
        tenure.claim("a", now, VALID);
        assert!(tenure.admit_in("a").is_err(), "a claim alone is not enough");
        tenure.lead(now, VALID);
        assert!(tenure.admit().is_ok() && tenure.admit_in("a").is_ok());
        assert!(tenure.admit_in("b").is_err());
        tenure.yield_claim("a");
        assert!(tenure.admit_in("a").is_err());
        tenure.claim("a", now, VALID);
        tenure.resign();
        tenure.lead(now, VALID);
        assert!(tenure.admit_in("a").is_err(), "claims end with the term");
        let alone = Tenure::new(true);
        assert!(alone.leads() && alone.admit_in("a").is_err());
    }
}
