//! Outages of Vault: one breaker for each VaultConnection. When a request fails
//! in a way that may be Vault's own trouble, one health request tells whether it
//! is. While Vault is away, one prober asks again with backoff; everybody else
//! is answered with what is known and waits. When it is back, who misses a
//! Secret goes first, and the others are spread, none beyond the end of its lease.
//!
//! What fails while Vault is well (a broken mount, a path that hangs) harms its
//! own resource alone, unless nothing else works either (a standby without an
//! active node says that it is well): then the prober also lets one of those who
//! wait try, each time another one, until one succeeds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use super::engine::{Engine, Next};
use super::ports::{Clock, Cluster};
use super::queue::{Lane, Urgency, WorkKey};
use super::resolve::lane_of;
use super::sources;
use super::time::{fraction, later};
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::policy::PermittedConnection;
use crate::problem::Problem;
use crate::vault::Vault;

/// The longest wait between two probes. With [`SPREAD`] it keeps the promise
/// that all is well again a minute after Vault is.
pub(super) const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(20);

/// Refreshes that waited are spread over as many of these as they are,
const SPREAD_EACH: Duration = Duration::from_millis(100);

/// and over this time at most.
const SPREAD: Duration = Duration::from_secs(30);

/// So many resources that fail one after the other, and none that succeeds
/// between them, are an outage although Vault says that it is well.
const FAILING_LIMIT: usize = 8;

/// A health request that takes longer has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A health request answers for those who would ask again within this time.
const WELL_FOR: SignedDuration = SignedDuration::from_secs(2);

/// What is known of one connection's Vault.
pub(super) struct Breaker {
    connection: PermittedConnection,
    /// Held by the one who asks for the health.
    gate: Mutex<()>,
    /// When it was last found well.
    well: Cell<Option<Timestamp>>,
    /// Who failed since the last success.
    failing: RefCell<BTreeSet<WorkKey>>,
    /// Who failed while others did not: no sign of an outage until it succeeds.
    excused: RefCell<BTreeSet<WorkKey>>,
    outage: RefCell<Option<Outage>>,
}

struct Outage {
    since: Timestamp,
    /// The cause, with `since` in its words.
    problem: Problem,
    /// Whether requests fail that Vault's health does not tell of.
    hidden: bool,
    /// Who waits for its end.
    waiting: BTreeSet<WorkKey>,
    /// Of a hidden one: who tries whether it is over,
    trial: Option<WorkKey>,
    /// and who has tried.
    tried: BTreeSet<WorkKey>,
}

impl Breaker {
    fn new(connection: PermittedConnection) -> Self {
        Self {
            connection,
            gate: Mutex::default(),
            well: Cell::default(),
            failing: RefCell::default(),
            excused: RefCell::default(),
            outage: RefCell::default(),
        }
    }

    /// Why Vault cannot be asked now, if it cannot.
    pub(super) fn problem(&self) -> Option<Problem> {
        let outage = self.outage.borrow();
        outage.as_ref().map(|outage| outage.problem.clone())
    }

    /// Whether nobody asks it, but to see whether it is back.
    pub(super) fn is_open(&self) -> bool {
        self.outage.borrow().is_some()
    }

    /// Notes one more resource that fails; tells whether they are too many.
    fn note_failing(&self, key: &WorkKey) -> bool {
        if self.excused.borrow().contains(key) {
            return false;
        }
        let mut failing = self.failing.borrow_mut();
        failing.insert(key.clone());
        failing.len() >= FAILING_LIMIT
    }

    /// Somebody had an answer: who failed until now fails alone.
    fn note_success(&self, key: &WorkKey) {
        let mut excused = self.excused.borrow_mut();
        excused.append(&mut self.failing.borrow_mut());
        excused.remove(key);
    }

    fn is_hidden(&self) -> bool {
        self.outage
            .borrow()
            .as_ref()
            .is_some_and(|outage| outage.hidden)
    }

    /// Whether the key is the one that tries.
    fn lets_through(&self, key: &WorkKey) -> bool {
        let outage = self.outage.borrow();
        let trial = outage.as_ref().and_then(|outage| outage.trial.as_ref());
        trial == Some(key)
    }

    /// Who waits for this Vault.
    fn lane(&self) -> Lane {
        lane_of(&self.connection)
    }

    fn is_well(&self, now: Timestamp) -> bool {
        // A clock that was set back far proves nothing.
        let recent = |well| now.duration_since(well).abs() < WELL_FOR;
        self.well.get().is_some_and(recent)
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Sends a request to Vault, unless it is away. A failure that may be an
    /// outage is looked into before it is passed on.
    ///
    /// # Errors
    /// The outage, or else the request's own problem.
    pub(super) async fn ask<T>(
        &self,
        key: &ResourceKey,
        connection: &PermittedConnection,
        request: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let key = WorkKey::Resource(key.clone());
        let breaker = self.breaker(connection);
        let outage = breaker.problem();
        if let Some(outage) = outage.filter(|_| !breaker.lets_through(&key)) {
            return Err(outage);
        }
        let problem = match request.await {
            Err(problem) if problem.may_be_an_outage() => problem,
            answered => {
                if answered.as_ref().err().is_none_or(Problem::is_vaults_no) {
                    breaker.note_success(&key);
                    if breaker.is_hidden() {
                        self.end_outage(&breaker);
                    }
                }
                return answered;
            }
        };
        let well = self.vet(&breaker).await.is_ok();
        if well && breaker.note_failing(&key) {
            return Err(self.begin_outage(&breaker, problem, true));
        }
        Err(breaker.problem().unwrap_or(problem))
    }

    /// Whether Vault serves: one health request for all who want to know.
    ///
    /// # Errors
    /// Why not. An outage is open then, unless the problem lies on this side.
    pub(super) async fn vet(&self, breaker: &Breaker) -> Result<(), Problem> {
        let _gate = breaker.gate.lock().await;
        if let Some(outage) = breaker.problem() {
            return Err(outage);
        }
        if breaker.is_well(self.clock.now()) {
            return Ok(());
        }
        let asked = self.probe(breaker).await;
        match asked {
            Err(problem) if problem.may_be_an_outage() => {
                Err(self.begin_outage(breaker, problem, false))
            }
            asked => asked,
        }
    }

    /// The connection's breaker: a new one if the connection is another than
    /// before.
    pub(super) fn breaker(&self, connection: &PermittedConnection) -> Rc<Breaker> {
        let lane = lane_of(connection);
        let mut breakers = self.breakers.borrow_mut();
        if let Some(found) = breakers.get(&lane)
            && found.connection == *connection
        {
            return Rc::clone(found);
        }
        let new = Rc::new(Breaker::new(connection.clone()));
        let old = breakers.insert(lane, Rc::clone(&new));
        if let Some(outage) = old.and_then(|old| old.outage.take()) {
            self.wake_waiting(outage.waiting);
        }
        new
    }

    /// A VaultConnection is gone, and what was known of its Vault with it.
    pub(super) fn drop_breaker(&self, connection: &ObjectKey) {
        let lane = Some(connection.clone());
        self.breakers.borrow_mut().remove(&lane);
        self.memory.borrow_mut().remove(&WorkKey::Vault(lane));
    }

    /// A resource is gone, and nobody waits or counts in its name.
    pub(super) fn drop_from_breakers(&self, key: &WorkKey) {
        for breaker in self.breakers.borrow().values() {
            breaker.failing.borrow_mut().remove(key);
            breaker.excused.borrow_mut().remove(key);
            if let Some(outage) = breaker.outage.borrow_mut().as_mut() {
                outage.waiting.remove(key);
                outage.tried.remove(key);
            }
        }
    }

    /// Something took so long that the Vault behind it may be away.
    pub(super) fn doubt(&self, lane: Lane) {
        if self.breakers.borrow().contains_key(&lane) {
            self.queue.wake(WorkKey::Vault(lane), Urgency::Now);
        }
    }

    /// Lets a key wait for the end of the outage that its work ran into; tells
    /// whether there is one.
    pub(super) fn waits_for_vault(&self, key: &WorkKey, problem: &Problem) -> bool {
        let breakers = self.breakers.borrow();
        // The prober waits for nobody.
        let breaker = breakers.get(&self.lane(key));
        let Some(breaker) = breaker.filter(|_| !matches!(key, WorkKey::Vault(_))) else {
            return false;
        };
        let mut outage = breaker.outage.borrow_mut();
        let outage = outage.as_mut().filter(|outage| outage.problem == *problem);
        outage
            .map(|outage| outage.waiting.insert(key.clone()))
            .is_some()
    }

    /// The prober's turn.
    pub(super) async fn reconcile_vault(&self, lane: &Lane) -> Next {
        let Some(breaker) = self.breakers.borrow().get(lane).cloned() else {
            return Next::Settled(None);
        };
        if let Some(origin) = &breaker.connection.get().origin
            && !self.view.borrow().connections.contains_key(origin)
        {
            // Asked for by a reconcile that knew it before it went.
            self.drop_breaker(origin);
            return Next::Settled(None);
        }
        if breaker.problem().is_none() {
            // Doubted. An outage that this finds has asked for the next turn.
            let _ = self.vet(&breaker).await;
            return Next::Settled(None);
        }
        match self.probe(&breaker).await {
            Err(problem) if problem.may_be_an_outage() => {
                self.go_on_with_outage(&breaker, &problem);
                Next::Failed(problem)
            }
            // What else there may be is told to each resource by its own request.
            Ok(()) | Err(_) => match self.next_trial(&breaker) {
                Some(outage) => Next::Failed(outage),
                None => {
                    self.end_outage(&breaker);
                    Next::Settled(None)
                }
            },
        }
    }

    /// In a hidden outage, lets the next one try, and gives the outage.
    fn next_trial(&self, breaker: &Breaker) -> Option<Problem> {
        let mut outage = breaker.outage.borrow_mut();
        let outage = outage.as_mut().filter(|outage| outage.hidden)?;
        outage.tried.extend(outage.trial.take());
        let reads = |key: &&WorkKey| matches!(key, WorkKey::Resource(one) if sources::KINDS.contains(&one.kind));
        let untried = outage.waiting.difference(&outage.tried).filter(reads);
        // Those first that have not failed yet.
        let failing = breaker.failing.borrow();
        let next = untried.min_by_key(|key| failing.contains(*key)).cloned();
        if next.is_none() {
            outage.tried.clear();
        }
        if let Some(key) = &next {
            outage.waiting.remove(key);
            self.queue.wake(key.clone(), Urgency::Now);
        }
        outage.trial = next;
        Some(outage.problem.clone())
    }

    async fn probe(&self, breaker: &Breaker) -> Result<(), Problem> {
        let health = self.sessions.health(&breaker.connection);
        let asked = tokio::time::timeout(PROBE_TIMEOUT, health).await;
        let asked = asked.unwrap_or_else(|_elapsed| {
            let problem = Problem::VaultUnreachable {
                address: breaker.connection.get().address.clone(),
                why: format!("no answer within {} s", PROBE_TIMEOUT.as_secs()),
            };
            // Who was cut off couldn't count itself.
            (self.metrics).vault_request("health", problem.reason(), PROBE_TIMEOUT);
            Err(problem)
        });
        if asked.is_ok() {
            breaker.well.set(Some(self.clock.now()));
        }
        asked
    }

    fn begin_outage(&self, breaker: &Breaker, problem: Problem, hidden: bool) -> Problem {
        let since = self.clock.now();
        let problem = problem.since(since);
        breaker.outage.replace(Some(Outage {
            since,
            problem: problem.clone(),
            hidden,
            waiting: BTreeSet::new(),
            trial: None,
            tried: BTreeSet::new(),
        }));
        tracing::warn!(connection = shown(breaker), %problem, "an outage: one probe at a time until it ends");
        let prober = WorkKey::Vault(breaker.lane());
        let first = later(since, self.backoff(&prober, 1));
        self.queue.wake_at(prober, first, Urgency::Now);
        self.wake_connection(breaker);
        problem
    }

    /// A probe failed. Who waits is told once the cause is another.
    fn go_on_with_outage(&self, breaker: &Breaker, problem: &Problem) {
        let mut outage = breaker.outage.borrow_mut();
        let Some(outage) = outage.as_mut() else {
            return;
        };
        (outage.hidden, outage.trial) = (false, None);
        if outage.problem.reason() != problem.reason() {
            outage.problem = problem.clone().since(outage.since);
            for key in std::mem::take(&mut outage.waiting) {
                self.queue.wake(key, Urgency::Routine);
            }
        }
    }

    fn end_outage(&self, breaker: &Breaker) {
        let Some(outage) = breaker.outage.take() else {
            return;
        };
        let waiting = outage.waiting.len();
        tracing::info!(connection = shown(breaker), since = %outage.since, waiting, "the outage is over");
        self.wake_waiting(outage.waiting);
        self.wake_connection(breaker);
    }

    fn wake_waiting(&self, waiting: BTreeSet<WorkKey>) {
        let (view, now) = (self.view.borrow(), self.clock.now());
        let spread = u32::try_from(waiting.len()).map_or(SPREAD, |n| SPREAD.min(SPREAD_EACH * n));
        for key in waiting {
            let wait = match &key {
                WorkKey::Resource(one) if view.urgency(one) == Urgency::Routine => {
                    self.patience(one, spread)
                }
                _ => {
                    self.queue.wake(key, Urgency::Now);
                    continue;
                }
            };
            let wait = wait.mul_f64(fraction(&format!("{key:?}")));
            self.queue.wake_at(key, later(now, wait), Urgency::Routine);
        }
    }

    /// Its own status tells of the outage, and of its end.
    fn wake_connection(&self, breaker: &Breaker) {
        if let Some(origin) = &breaker.connection.get().origin {
            self.wake_resource(Kind::VaultConnection, origin);
        }
    }
}

/// A connection, for the log.
fn shown(breaker: &Breaker) -> String {
    let origin = breaker.connection.get().origin.as_ref();
    origin.map_or_else(|| "of the configuration".to_owned(), ToString::to_string)
}
