//! One session: the token of one login with what is known of it, and what was
//! denied to it. Cells alone; `sessions` decides what is sent.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::authority::Authority;
use super::life::{Due, Failed, Held};
use crate::policy::PermittedLogin;
use crate::problem::{Problem, Retry};

/// A session whose token has ended is dropped this long after its last use,
const ENDED_IDLE: SignedDuration = SignedDuration::from_mins(10);
/// and any other after this.
const IDLE: SignedDuration = SignedDuration::from_hours(24);
/// The most denied paths that a session remembers.
const DENIED: usize = 4096;

/// What a request asks for, in 64 bits. A collision costs at most a late login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asking(u64);

impl Asking {
    pub(super) fn of(vault_namespace: Option<&str>, path: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (vault_namespace, path).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// One login's state.
pub(super) struct Session {
    pub(super) login: PermittedLogin,
    pub(super) authority: Rc<Authority>,
    /// Held by the one who logs in or renews.
    pub(super) gate: Mutex<()>,
    pub(super) held: RefCell<Option<Rc<Held>>>,
    pub(super) logins: Cell<u64>,
    pub(super) failed_login: RefCell<Option<Failed>>,
    pub(super) failed_renewal: RefCell<Option<Failed>>,
    /// A `Retry-After` of Vault's: until it has passed, nothing is read, and then
    /// by one alone until that one was answered.
    pub(super) limited: RefCell<Option<Failed>>,
    /// When Vault's limit began, a login's too.
    pub(super) limited_since: Cell<Option<Timestamp>>,
    /// Held by that one.
    pub(super) trial: Mutex<()>,
    /// What stayed denied after a new login and hasn't been read since.
    pub(super) denied: RefCell<HashSet<Asking>>,
    /// What the present token was denied and is asked in another way since.
    pub(super) refused: RefCell<HashSet<Asking>>,
    pub(super) used: Cell<Timestamp>,
}

impl Session {
    pub(super) fn new(login: PermittedLogin, authority: Rc<Authority>, now: Timestamp) -> Self {
        Self {
            login,
            authority,
            gate: Mutex::default(),
            held: RefCell::default(),
            logins: Cell::default(),
            failed_login: RefCell::default(),
            failed_renewal: RefCell::default(),
            limited: RefCell::default(),
            limited_since: Cell::default(),
            trial: Mutex::default(),
            denied: RefCell::default(),
            refused: RefCell::default(),
            used: Cell::new(now),
        }
    }

    pub(super) fn held(&self) -> Option<Rc<Held>> {
        self.held.borrow().clone()
    }

    /// Whether it holds a token that works as far as is known.
    pub(super) fn works(&self, now: Timestamp) -> bool {
        self.held().is_some_and(|held| held.due(now) != Due::Login)
    }

    pub(super) fn hold(&self, held: Held) -> Rc<Held> {
        let held = Rc::new(held);
        self.held.replace(Some(Rc::clone(&held)));
        held
    }

    /// The answer; a limit of Vault's says since when it holds.
    pub(super) fn timed<T>(
        &self,
        answer: Result<T, Problem>,
        now: Timestamp,
    ) -> Result<T, Problem> {
        match answer {
            Err(problem) if matches!(problem.retry(), Retry::NotBefore(_)) => {
                let since = self.limited_since.get().unwrap_or(now);
                self.limited_since.set(Some(since));
                Err(problem.since(since))
            }
            Err(problem) if self.limited.borrow().is_none() => {
                self.limited_since.set(None);
                Err(problem)
            }
            answer => answer,
        }
    }

    /// Remembers a request that a new login did not help.
    pub(super) fn deny(&self, asking: Asking) {
        remember(&self.denied, asking);
    }

    /// Remembers a request that the present token was denied: another token may not be.
    pub(super) fn refuse(&self, asking: Asking) {
        remember(&self.refused, asking);
    }

    pub(super) fn is_refused(&self, asking: Asking) -> bool {
        self.refused.borrow().contains(&asking)
    }

    pub(super) fn stays_denied(&self, asking: Asking) -> bool {
        self.denied.borrow().contains(&asking)
    }

    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        let ended = self.held().is_none_or(|h| h.due(now) == Due::Login);
        let limit = if ended { ENDED_IDLE } else { IDLE };
        now.duration_since(self.used.get()) > limit
    }
}

fn remember(known: &RefCell<HashSet<Asking>>, asking: Asking) {
    let mut known = known.borrow_mut();
    if known.len() >= DENIED {
        known.clear();
    }
    known.insert(asking);
}
