//! The world that the operator lives in: API server, Vault, time, chance, and
//! the faults that befall requests. Everything in it outlives the operator.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use vault_tenant_operator::config::{Grade, Rollout, Rotation};
use vault_tenant_operator::reconcile::ports::Clock;

use crate::api_server::ApiServer;
use crate::defects::Defect;
use crate::judge::Judge;
use crate::lease_judge::LeaseJudge;
use crate::load::Load;
use crate::rng::Rng;
use crate::vault::VaultModel;

/// What befalls a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operator ends before the request has an effect.
    CrashBefore,
    /// The operator ends after it had its effect.
    CrashAfter,
    /// It has its effect, and an error comes back.
    LostAnswer,
    /// It is refused for now: 5xx.
    Unavailable,
    /// A 409 without a cause; for Vault a 5xx.
    Conflict,
    /// 422 by an admission rule; for Vault a 5xx.
    Refused,
    /// 403 for want of a right; for Vault a 5xx.
    Forbidden,
    /// 429, at Vault with a time to wait.
    Throttled,
    /// No answer ever comes.
    Hang,
    /// It has its effect, and no answer ever comes.
    HangAfter,
    /// The port panics.
    Panic,
    /// The server is not to be reached.
    Away,
}

/// Whom the operator speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    Kubernetes,
    Vault,
}

/// Which requests meet a fault.
#[derive(Debug, Default)]
pub struct Faults {
    /// By number, counted from 1.
    pub at: BTreeMap<usize, Fault>,
    /// Every request whose description contains the text.
    pub of: Option<(&'static str, Fault)>,
    /// One in so many, by chance; 0 for none.
    pub one_in: u64,
}

pub struct World {
    pub api: RefCell<ApiServer>,
    pub vault: RefCell<VaultModel>,
    pub judge: RefCell<Judge>,
    pub leases: RefCell<LeaseJudge>,
    pub rng: RefCell<Rng>,
    pub faults: RefCell<Faults>,
    /// Until when the operator reaches a server no more; others still do.
    pub outages: RefCell<BTreeMap<Server, Instant>>,
    /// What it sends to Vault.
    pub load: RefCell<Load>,
    pub defect: Option<Defect>,
    /// The grade of rights that the next operator starts with.
    pub grade: Cell<Grade>,
    /// Whether the next operator looks at leases between their renewals.
    pub looks: Cell<bool>,
    /// Requests so far, as said in the trace.
    pub requests: RefCell<Vec<String>>,
    /// How the last login of the operator that runs now ended, if there was one.
    pub logged_in: Cell<Option<bool>>,
    /// Told when the operator is to end.
    pub crash: Notify,
    /// Told when another instance is to lead from now on.
    pub handover: Notify,
    /// Which HMAC key the next operator starts with.
    pub hash_key: Cell<u8>,
    /// The longest that a watch lags, and whether it drops and repeats.
    pub lag: Cell<Duration>,
    pub flaky_watches: Cell<bool>,
    /// Whether the watch of our resources stands still.
    pub stale: Cell<bool>,
    /// Entries of the ledger that a defect holds back.
    pub late_entries: RefCell<Vec<(String, Vec<u8>)>>,
    /// How long a rollout takes.
    pub rollout: Cell<Duration>,
    /// Within how many seconds one that gets on must have done so.
    pub deadline: Cell<u32>,
    /// Workloads whose pods don't come up with this password.
    pub unfit: RefCell<BTreeSet<(String, String)>>,
    /// Which of the operators, one after the other, is the last.
    pub term: Cell<u64>,
    /// The policy about restarts that the next operator starts with.
    pub policy: RefCell<Rollout>,
    /// How credentials take the place of others, for the next operator.
    pub rotation: RefCell<Rotation>,
    /// What resources say of them themselves, by name.
    pub stricter: RefCell<BTreeMap<String, Rollout>>,
    /// The longest way of a request or of an answer.
    pub latency: Cell<Duration>,
    /// Told when the API server's log has grown.
    pub grown: Notify,
    trace: RefCell<Vec<String>>,
    began: Instant,
}

/// The wall clock of a run.
#[derive(Clone)]
pub struct SimClock(Instant);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        /// 2026-01-01T00:00:00Z
        const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);
        EPOCH + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }
}

impl World {
    pub fn new(seed: u64, defect: Option<Defect>) -> Rc<Self> {
        Rc::new(Self {
            api: RefCell::default(),
            vault: RefCell::default(),
            judge: RefCell::default(),
            leases: RefCell::default(),
            rng: RefCell::new(Rng::new(seed)),
            faults: RefCell::default(),
            outages: RefCell::default(),
            load: RefCell::default(),
            defect,
            grade: Cell::new(Grade::Namespace),
            looks: Cell::new(true),
            requests: RefCell::default(),
            logged_in: Cell::new(None),
            crash: Notify::new(),
            handover: Notify::new(),
            hash_key: Cell::new(1),
            lag: Cell::new(Duration::from_millis(30)),
            flaky_watches: Cell::new(false),
            stale: Cell::new(false),
            late_entries: RefCell::default(),
            rollout: Cell::new(Duration::ZERO),
            deadline: Cell::new(180),
            unfit: RefCell::default(),
            term: Cell::new(0),
            policy: RefCell::default(),
            rotation: RefCell::default(),
            stricter: RefCell::default(),
            latency: Cell::new(Duration::from_millis(10)),
            grown: Notify::new(),
            trace: RefCell::default(),
            began: Instant::now(),
        })
    }

    pub fn clock(&self) -> SimClock {
        SimClock(self.began)
    }

    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    pub fn note(&self, what: impl Into<String>) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.trace
            .borrow_mut()
            .push(format!("{seconds:9.3}  {}", what.into()));
    }

    /// The end of the trace, for a failure.
    pub fn last_of_trace(&self) -> String {
        let trace = self.trace.borrow();
        trace[trace.len().saturating_sub(120)..].join("\n")
    }

    /// All of it: what two runs of one seed must have in common.
    pub fn whole_trace(&self) -> String {
        self.trace.borrow().join("\n")
    }

    /// Changes the API server and lets the watches know.
    pub fn at_api<T>(&self, change: impl FnOnce(&mut ApiServer) -> T) -> T {
        let mut api = self.api.borrow_mut();
        let length = api.log.len();
        let answer = change(&mut api);
        if api.log.len() > length {
            self.grown.notify_waiters();
        }
        answer
    }

    /// Something goes wrong, for so many seconds.
    pub fn trouble(&self, seconds: u64) {
        let until = self.now() + SignedDuration::from_secs(seconds.try_into().unwrap());
        self.leases.borrow_mut().trouble(until);
    }

    /// Looks at the leases that have ended by now.
    pub fn see_ends(&self) {
        let now = self.now();
        let ended = {
            let leases = &mut self.vault.borrow_mut().leases;
            leases.sweep(now);
            std::mem::take(&mut leases.ended)
        };
        for one in ended {
            self.leases.borrow_mut().ended(self, &one);
        }
    }

    /// A duration of up to `most`, by chance.
    pub fn up_to(&self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap();
        Duration::from_millis(1 + self.rng.borrow_mut().below(millis))
    }

    pub async fn pause(&self, most: Duration) {
        tokio::time::sleep(self.up_to(most)).await;
    }

    /// Whether the operator cannot reach a server now.
    pub fn is_away(&self, server: Server) -> bool {
        let outages = self.outages.borrow();
        outages
            .get(&server)
            .is_some_and(|end| *end > Instant::now())
    }

    /// Counts a request and says what befalls it.
    pub fn count(&self, what: &str) -> Option<Fault> {
        let number = {
            let mut requests = self.requests.borrow_mut();
            requests.push(what.to_owned());
            requests.len()
        };
        let faults = self.faults.borrow();
        let chosen = faults.at.get(&number).copied();
        let of = faults
            .of
            .filter(|(text, _)| what.contains(text))
            .map(|(_, fault)| fault);
        let by_chance = || {
            let mut rng = self.rng.borrow_mut();
            (faults.one_in > 0 && rng.chance(1, faults.one_in)).then(|| {
                rng.pick(&[
                    Fault::CrashBefore,
                    Fault::CrashAfter,
                    Fault::CrashAfter,
                    Fault::LostAnswer,
                    Fault::LostAnswer,
                    Fault::Unavailable,
                    Fault::Conflict,
                    Fault::Refused,
                    Fault::Forbidden,
                    Fault::Throttled,
                    Fault::Hang,
                ])
            })
        };
        let fault = chosen.or(of).or_else(by_chance);
        if fault.is_some() {
            self.trouble(0);
        }
        let told = fault
            .map(|fault| format!("   <- {fault:?}"))
            .unwrap_or_default();
        self.note(format!("{number:4} {what}{told}"));
        fault
    }
}
