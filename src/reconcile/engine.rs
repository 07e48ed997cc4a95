//! The engine: what a reconcile works with, and the way from a key to its
//! pipeline. One engine serves all kinds; it holds ports, view and queue, and
//! nothing that could not be rebuilt from the cluster.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use super::drift::Repairs;
use super::grants::Renewed;
use super::lacking::Lacking;
use super::ledger::{KeptAlive, Ledger};
use super::minting::InHand;
use super::outbox::{LONGEST_WAIT, Outbox};
use super::pace::Wait;
use super::pacing::Turns;
use super::ports::{Clock, Cluster};
use super::queue::{Lane, Queue, WorkKey};
use super::resolve::{self, Scope};
use super::sources;
use super::term::Term;
use super::view::{View, WorkloadKind};
use crate::config::{Config, Grade};
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::policy::{OwnIdentity, Policy};
use crate::problem::Problem;
use crate::render::{ContentHash, HashKey};
use crate::telemetry::Metrics;
use crate::vault::{Sessions, Vault};

/// What the engine remembers of a resource or workload. All of it may be lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Why the last patch of a workload was refused; told once.
    pub refused: Option<Box<Problem>>,
    /// When the source was last read by a reconcile that ended well, and what it
    /// said of itself. (A read that led to no write is as good as none.)
    pub last_read: Option<Timestamp>,
    /// Which value of the annotation for a resync was done, should status lack
    /// the field for it.
    pub resynced: Option<String>,
    /// Version of the source that was last read.
    pub version: String,
    /// Whether a creating apply was sent.
    pub creating: bool,
    /// Another controller that was told of, on the object with this uid, and up to which
    /// write of it.
    pub told_another: Option<(String, (String, Timestamp))>,
    /// When what others did to the destination was repaired.
    pub repairs: Repairs,
    /// The last renewal of the lease that was given then.
    pub renewed: Option<(Timestamp, Renewed)>,
    /// The lease that Vault said it does not know.
    pub lost: Option<String>,
    /// When Vault last said that it knows the lease, or that it does not say.
    pub looked: Option<Timestamp>,
    /// The last lease whose renewal Vault's policy denied, while none succeeds.
    pub denied: Option<String>,
    /// Until when which request is not made again, since its answer was of no use.
    pub futile: Option<(Timestamp, ContentHash, Box<Problem>)>,
    /// Since when every target runs the content of this change, rollouts finished.
    pub rolled: Option<(Timestamp, Timestamp)>,
    /// Renewals of leases that others took the place of.
    pub kept_alive: BTreeMap<String, KeptAlive>,
    /// Since when it cannot be seen whether it is still there.
    pub unseen_since: Option<Timestamp>,
    /// The hash of the content that a target was restarted with and is through.
    pub proven: Option<String>,
    /// Since when a workload is seen to roll.
    pub rolls: Option<Timestamp>,
    /// How long a workload's last rollout took.
    pub took: Option<Duration>,
    /// Why a restart of a workload that is due has not happened.
    pub waits: Option<&'static str>,
    /// The same in full, where the policy has it wait.
    pub waits_by: Option<Box<Wait>>,
    /// How often this process restarted a workload.
    pub restarts: u64,
}

/// How a reconcile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Well; look again at this time, or when something changes.
    Settled(Option<Timestamp>),
    /// Not well; the problem says when to try again.
    Failed(Problem),
}

/// What ended among the tasks of [`Engine::run`].
enum Ended {
    /// Work that had a place in this lane.
    Work(Lane),
    /// Telling the events that waited.
    Telling,
}

/// Everything that a reconcile works with.
pub struct Engine<C, V, K> {
    pub(super) cluster: Rc<C>,
    pub(super) sessions: Sessions<Rc<C>, V>,
    pub(super) clock: K,
    pub(super) config: Config,
    pub(super) policy: Arc<Policy>,
    pub(super) own: OwnIdentity,
    pub(super) key: HashKey,
    pub(super) metrics: Rc<Metrics>,
    pub(super) term: RefCell<Term>,
    pub(super) memory: RefCell<BTreeMap<WorkKey, Box<Memory>>>,
    /// Resources whose left-over finalizer was reported by this process.
    pub(super) told_finalizer: RefCell<HashSet<ResourceKey>>,
    /// What the Role is known to lack.
    pub(super) lacking: Lacking,
    /// Connections to be asked again although they are known to be well.
    pub(super) suspects: RefCell<HashMap<ObjectKey, u64>>,
    /// Status fields that the definitions in the cluster lack, by kind.
    pub(super) pruned: RefCell<BTreeMap<Kind, BTreeSet<String>>>,
    /// What is known of each Vault that was asked.
    pub(super) breakers: RefCell<BTreeMap<Lane, Rc<Breaker>>>,
    /// Events that wait.
    pub(super) outbox: Outbox,
    /// What Vault made and must be given back.
    pub(super) ledger: Ledger,
    /// One at a time looks at a CA that no watch has shown yet.
    pub(super) authority_gate: tokio::sync::Mutex<()>,
    /// What was made and not written yet.
    pub(super) unwritten: RefCell<BTreeMap<ResourceKey, Rc<InHand>>>,
    /// Restarts among each other.
    pub(super) turns: Turns,
    /// What the watches have shown.
    pub view: RefCell<View>,
    /// What is to be done.
    pub queue: Queue,
}

/// What an engine is made of.
pub struct Parts<C, V, K> {
    /// Kubernetes.
    pub cluster: Rc<C>,
    /// Vault, by sessions.
    pub sessions: Sessions<Rc<C>, V>,
    /// The time.
    pub clock: K,
    /// The operator's configuration.
    pub config: Config,
    /// Its guardrails.
    pub policy: Arc<Policy>,
    /// Who the operator is.
    pub own: OwnIdentity,
    /// Key of the content hashes.
    pub key: HashKey,
    /// Where outcomes are counted.
    pub metrics: Rc<Metrics>,
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// An engine with an empty view.
    pub fn new(parts: Parts<C, V, K>) -> Self {
        let started = parts.clock.now();
        let names_only = parts.config.secret_access == Grade::Named;
        Self {
            cluster: parts.cluster,
            sessions: parts.sessions,
            clock: parts.clock,
            config: parts.config,
            policy: parts.policy,
            own: parts.own,
            key: parts.key,
            metrics: parts.metrics,
            term: RefCell::new(Term::without_end(started)),
            memory: RefCell::default(),
            told_finalizer: RefCell::default(),
            lacking: Lacking::default(),
            suspects: RefCell::default(),
            pruned: RefCell::default(),
            breakers: RefCell::default(),
            outbox: Outbox::default(),
            ledger: Ledger::default(),
            authority_gate: tokio::sync::Mutex::default(),
            unwritten: RefCell::default(),
            turns: Turns::default(),
            view: RefCell::new(View::of_names_only(names_only)),
            queue: Queue::default(),
        }
    }

    /// Works on keys until `stop`, several of each lane at a time, then lets those
    /// in work end. A panic in one of them is that resource's problem alone.
    pub async fn run(self: Rc<Self>, stop: CancellationToken)
    where
        C: 'static,
        V: 'static,
        K: 'static,
    {
        let places = usize::from(self.config.sync.max_concurrent_reconciles);
        let mut taken: HashMap<Lane, usize> = HashMap::new();
        let mut telling = false;
        let mut tasks = JoinSet::new();
        loop {
            if let Some(key) = self.queue.take(self.clock.now()) {
                let lane = self.lane(&key);
                let taken = taken.entry(lane.clone()).or_default();
                if *taken < places {
                    *taken += 1;
                    let engine = Rc::clone(&self);
                    tasks.spawn_local(async move {
                        // A panic while a panic is reported must not keep key and place.
                        let work = AssertUnwindSafe(engine.work(key.clone(), &lane));
                        if work.catch_unwind().await.is_err() {
                            engine.queue.done(&key);
                        }
                        Ended::Work(lane)
                    });
                } else {
                    self.queue.park(key, lane);
                }
                continue;
            }
            if !telling && self.has_to_tell() {
                telling = true;
                let engine = Rc::clone(&self);
                tasks.spawn_local(async move {
                    let told = AssertUnwindSafe(engine.publish_waiting()).catch_unwind();
                    let _ = told.await;
                    Ended::Telling
                });
            }
            let wait = self.until_next();
            // Biased: no chance in here, so that a simulated run repeats exactly.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(Ok(ended)) = tasks.join_next() => match ended {
                    Ended::Telling => telling = false,
                    Ended::Work(lane) => {
                        self.queue.unpark(&lane);
                        if let Entry::Occupied(mut entry) = taken.entry(lane) {
                            *entry.get_mut() -= 1;
                            if *entry.get() == 0 {
                                entry.remove();
                            }
                        }
                    }
                },
                () = self.queue.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
        self.give_back_all().await;
        self.publish_rest().await;
    }

    fn until_next(&self) -> Duration {
        let longest = if self.outbox.is_empty() {
            Duration::from_secs(60)
        } else {
            LONGEST_WAIT.unsigned_abs()
        };
        let Some(time) = self.queue.next_time() else {
            return longest;
        };
        let wait = time
            .as_millisecond()
            .saturating_sub(self.clock.now().as_millisecond());
        Duration::from_millis(u64::try_from(wait).unwrap_or(0)).min(longest)
    }

    /// Works on one key within term and deadline, and puts it back for its next time.
    async fn work(&self, key: WorkKey, lane: &Lane) {
        let ended = self.term_ended();
        let next = tokio::select! {
            biased;
            () = ended => None,
            next = self.work_within_deadline(&key, lane) => Some(next),
        };
        self.queue.done(&key);
        if let Some(next) = next {
            self.schedule(key, next);
            self.give_back_retired().await;
        }
    }

    async fn work_within_deadline(&self, key: &WorkKey, lane: &Lane) -> Next {
        let began = tokio::time::Instant::now();
        let deadline = self.config.sync.reconcile_deadline;
        let reconcile = AssertUnwindSafe(self.reconcile(key)).catch_unwind();
        let next = match tokio::time::timeout(deadline, reconcile).await {
            Ok(Ok(next)) => next,
            Ok(Err(_panic)) => {
                let why = "a panic; the operator's log names the place".to_owned();
                self.give_up(key, Problem::Internal { why }).await
            }
            Err(_elapsed) => {
                self.doubt(self.lane(key));
                self.give_up(key, Problem::DeadlineExceeded { after: deadline })
                    .await
            }
        };
        self.metrics
            .reconciled(kind_label(key), lane, &next, began.elapsed());
        next
    }

    /// Reports a problem that ended a reconcile from outside.
    async fn give_up(&self, key: &WorkKey, problem: Problem) -> Next {
        if let WorkKey::Resource(resource) = key {
            if sources::KINDS.contains(&resource.kind) {
                self.count_sync(resource, Err(&problem));
            }
            // The same API server that was slow may be slow again.
            let report = self.report_problem(resource, &problem);
            let _ = tokio::time::timeout(self.config.sync.reconcile_deadline, report).await;
        }
        Next::Failed(problem)
    }

    async fn reconcile(&self, key: &WorkKey) -> Next {
        if !self.is_open(key) {
            self.keep_lost(key).await;
            return Next::Settled(None);
        }
        if let WorkKey::Resource(resource) = key
            && let Some(next) = self.leave_to_another(resource).await
        {
            return next;
        }
        match key {
            WorkKey::Workload(workload) => self.reconcile_workload(workload).await,
            WorkKey::Vault(lane) => self.reconcile_vault(lane).await,
            WorkKey::Token(name) => self.reconcile_token(name).await,
            WorkKey::Ledger => self.reconcile_ledger().await,
            WorkKey::Resource(resource) => match resource.kind {
                Kind::VaultStaticSecret | Kind::VaultDynamicSecret | Kind::VaultPkiSecret => {
                    self.reconcile_secret(resource).await
                }
                Kind::VaultConnection => self.reconcile_connection(resource).await,
                Kind::VaultAuth => self.reconcile_auth(resource).await,
                Kind::VaultAuthGlobal | Kind::SecretTransformation => {
                    self.reconcile_not_served(resource).await
                }
            },
        }
    }

    /// The operator's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The operator's own namespace.
    pub fn own_namespace(&self) -> &str {
        &self.own.namespace
    }

    /// Whether the configuration lets the operator restart workloads of a kind.
    pub fn restarts(&self, kind: WorkloadKind) -> bool {
        self.config.rollout.restarts(kind.as_str())
    }

    pub(super) fn scope<'a>(&'a self, view: &'a View) -> Scope<'a> {
        Scope {
            view,
            defaults: &self.config.connection,
            operator_namespace: &self.own.namespace,
        }
    }

    /// Which Vault a key's work may wait for, as far as the view tells.
    pub(super) fn lane(&self, key: &WorkKey) -> Lane {
        let key = match key {
            WorkKey::Resource(key) => key,
            WorkKey::Vault(lane) => return lane.clone(),
            WorkKey::Token(name) => return self.ledger.token(name)?.connection.origin,
            WorkKey::Workload(_) | WorkKey::Ledger => return None,
        };
        let view = self.view.borrow();
        match key.kind {
            Kind::VaultConnection => Some(key.object.clone()),
            _ => resolve::connection_key(self.scope(&view), &*view.writer(key)?),
        }
    }

    pub(super) fn remembered(&self, resource: &ResourceKey) -> Memory {
        let key = WorkKey::Resource(resource.clone());
        let memory = self.memory.borrow();
        memory
            .get(&key)
            .map(|one| Memory::clone(one))
            .unwrap_or_default()
    }

    pub(super) fn forget(&self, resource: &ResourceKey) {
        self.sees_again(resource);
        self.told_finalizer.borrow_mut().remove(resource);
        let key = WorkKey::Resource(resource.clone());
        self.drop_from_breakers(&key);
        self.written_out(resource);
        self.memory.borrow_mut().remove(&key);
    }
}

const fn kind_label(key: &WorkKey) -> &'static str {
    match key {
        WorkKey::Resource(resource) => resource.kind.as_str(),
        WorkKey::Workload(workload) => workload.kind.as_str(),
        WorkKey::Vault(_) => "Vault",
        WorkKey::Ledger => "Ledger",
        WorkKey::Token(_) => "Token",
    }
}
