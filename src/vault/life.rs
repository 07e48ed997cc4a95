//! How long things hold: a token, seen on the callers' clock, and a failure
//! that answers for those who come right after it. Pure but for tokio's clock.

use std::cell::RefCell;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::problem::{Problem, Retry};

use super::ports::Token;

/// How long a failed login or renewal answers for those who come after it.
/// Their own backoff does the rest.
const FAILURE_SHARED: Duration = Duration::from_secs(1);

/// A renewal may give a little less than was asked for, in whole seconds.
const ROUNDING: Duration = Duration::from_secs(2);

/// The end of a token that no renewal puts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertainEnd {
    /// When.
    pub at: Timestamp,
    /// Whether it could be renewed, and has come to its longest life.
    pub renewable: bool,
}

/// A token with what is known of its life.
pub(super) struct Held {
    /// The token.
    pub(super) token: Token,
    /// Counts the session's logins; a renewal keeps it.
    pub(super) login: u64,
    /// Whether a 403 was the reason of the login.
    pub(super) after_denial: bool,
    since: Timestamp,
    /// Life that the login gave; renewals are measured against it.
    full_life: Duration,
    /// `None` does not end.
    ends: Option<Timestamp>,
}

/// What a token needs before it is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// It is in the last third of its life: it works, but not for long.
    Prolonging,
    /// It has ended.
    Login,
}

impl Held {
    /// A token that a login just gave.
    pub(super) fn new(token: Token, login: u64, after_denial: bool, now: Timestamp) -> Self {
        Self {
            ends: end(&token, now),
            full_life: token.ttl,
            token,
            login,
            after_denial,
            since: now,
        }
    }

    /// The same session after a renewal; `None` when the renewal gave so little
    /// (the token comes to its maximal life) that a new login is due.
    pub(super) fn renewed(&self, token: Token, now: Timestamp) -> Option<Self> {
        let is_short = !token.ttl.is_zero() && token.ttl < self.full_life / 2;
        (!is_short).then(|| Self {
            ends: end(&token, now),
            full_life: self.full_life,
            token,
            login: self.login,
            after_denial: self.after_denial,
            since: self.since,
        })
    }

    /// Its end if nobody renews it; `None` where it does not end.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        self.ends
    }

    /// The life that is left; `None` where it does not end.
    pub(super) fn left(&self, now: Timestamp) -> Option<Duration> {
        let left = self.ends?.duration_since(now);
        Some(left.max(SignedDuration::ZERO).unsigned_abs())
    }

    /// Its end, where no renewal puts that off: it cannot be renewed, or the last
    /// renewal gave less than the login did.
    pub(super) fn certain_end(&self) -> Option<CertainEnd> {
        let renewable = self.token.renewable;
        let shortened = self.token.ttl.saturating_add(ROUNDING) < self.full_life;
        let at = self.ends.filter(|_| shortened || !renewable)?;
        Some(CertainEnd { at, renewable })
    }

    /// Whether it ends for certain, and less is left to it than has passed.
    pub(super) fn wanes(&self, now: Timestamp) -> bool {
        let left = self.left(now).unwrap_or(Duration::MAX);
        self.certain_end().is_some() && left < self.full_life / 2
    }

    /// What it needs now.
    pub(super) fn due(&self, now: Timestamp) -> Due {
        let Some(ends) = self.ends else {
            return Due::Nothing;
        };
        let left = ends.duration_since(now);
        if left <= SignedDuration::ZERO {
            Due::Login
        } else if left.unsigned_abs() <= self.token.ttl / 3 {
            Due::Prolonging
        } else {
            Due::Nothing
        }
    }

    /// Whether it logged in less than `limit` ago. A clock that was set back
    /// far makes a token old, not young for ever.
    pub(super) fn is_younger(&self, limit: SignedDuration, now: Timestamp) -> bool {
        now.duration_since(self.since).abs() < limit
    }
}

/// When a token ends; `None` if it doesn't, or beyond the calendar.
fn end(token: &Token, now: Timestamp) -> Option<Timestamp> {
    if token.ttl.is_zero() {
        return None;
    }
    let ttl = SignedDuration::try_from(token.ttl).ok()?;
    now.checked_add(ttl).ok()
}

/// A failure that still answers.
pub(super) struct Failed {
    until: Instant,
    problem: Problem,
}

impl Failed {
    /// For a second, or as long as Vault asked for.
    pub(super) fn new(problem: &Problem) -> Self {
        let wait = match problem.retry() {
            Retry::NotBefore(wait) => wait.max(FAILURE_SHARED),
            _ => FAILURE_SHARED,
        };
        Self {
            until: Instant::now() + wait,
            problem: problem.clone(),
        }
    }

    /// The failure in the cell, while it answers.
    pub(super) fn of(cell: &RefCell<Option<Self>>) -> Option<Problem> {
        let failed = cell.borrow();
        let failed = failed.as_ref().filter(|f| f.until > Instant::now())?;
        Some(failed.problem.clone())
    }
}
