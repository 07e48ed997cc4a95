//! Terms: when the engine works, and in which namespaces. Outside a term the
//! watches go on and keys gather; nothing is worked on, and what was in work is
//! dropped where it stands, which is a crash like any other. A new engine is in
//! a term without end, in all namespaces.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use crate::problem::Problem;
use crate::vault::Vault;

/// How a term follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Succession {
    /// This process worked last, and what it remembers is as true as before.
    Resumed,
    /// Somebody else may have worked since, certainly until this time, if anybody.
    After(Option<Timestamp>),
}

/// The present term.
#[derive(Debug)]
pub(super) struct Term {
    /// Cancelled when it ends.
    ended: CancellationToken,
    /// When it began.
    pub started: Timestamp,
    /// Until when an earlier leader certainly worked, where there was one.
    pub absent_since: Option<Timestamp>,
    /// The namespaces that may be worked in; `None`: all.
    open: Option<BTreeSet<String>>,
    /// Those that the operator is kept from, and why.
    lost: BTreeMap<String, Problem>,
}

impl Term {
    pub(super) fn without_end(started: Timestamp) -> Self {
        Self {
            ended: CancellationToken::new(),
            started,
            absent_since: None,
            open: None,
            lost: BTreeMap::new(),
        }
    }

    /// Whether it is one in which the namespace may be worked in.
    fn is_open(&self, namespace: &str) -> bool {
        self.open
            .as_ref()
            .is_none_or(|open| open.contains(namespace))
    }

    /// The same, and whether it lasts.
    pub(super) fn serves(&self, namespace: &str) -> bool {
        !self.ended.is_cancelled() && self.is_open(namespace)
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Ends the term: nothing is worked on until the next one.
    pub fn end_term(&self) {
        self.queue.hold();
        self.outbox.clear();
        self.metrics.lives().clear();
        self.term.borrow().ended.cancel();
    }

    /// Begins a term, in no namespace yet.
    pub fn begin_term(&self, succession: Succession) {
        let mut term = self.term.borrow_mut();
        term.ended.cancel();
        term.ended = CancellationToken::new();
        term.open = Some(BTreeSet::new());
        term.lost.clear();
        // Who waited is woken with all others, and a probe that was cut off is not.
        self.breakers.borrow_mut().clear();
        if let Succession::After(until) = succession {
            term.started = self.clock.now();
            term.absent_since = until;
            self.memory.borrow_mut().clear();
            self.unwritten.borrow_mut().clear();
            self.ledger.forget();
            self.suspects.borrow_mut().clear();
        }
        drop(term);
        self.tell_ledger();
        self.queue.resume();
    }

    /// Works in the namespace from now on.
    pub fn open(&self, namespace: &str) {
        let mut term = self.term.borrow_mut();
        term.lost.remove(namespace);
        let open = term.open.get_or_insert_default();
        if open.insert(namespace.to_owned()) {
            drop(term);
            self.wake_all();
        }
    }

    /// Works in the namespace no longer.
    pub fn close(&self, namespace: &str) {
        let mut term = self.term.borrow_mut();
        term.open.get_or_insert_default().remove(namespace);
        term.lost.remove(namespace);
        self.metrics.lives().leave(namespace);
    }

    /// Is kept from working in the namespace: nothing in it can be judged.
    pub fn lose(&self, namespace: &str, problem: &Problem) {
        let mut term = self.term.borrow_mut();
        let old = term.lost.insert(namespace.to_owned(), problem.clone());
        drop(term);
        if old.as_ref() != Some(problem) {
            for resource in self.ledger.resources() {
                if resource.object.namespace == namespace {
                    let key = WorkKey::Resource(resource);
                    self.queue.wake(key, Urgency::Routine);
                }
            }
        }
    }

    /// What cannot be judged is kept.
    pub(super) async fn keep_lost(&self, key: &WorkKey) {
        if let WorkKey::Resource(resource) = key {
            let namespace = &resource.object.namespace;
            let lost = self.term.borrow().lost.get(namespace).cloned();
            let watched = self.config.watched(&self.own.namespace);
            let unwatched = || Problem::KubernetesForbidden {
                what: format!("see {resource}"),
                why: format!("the namespace {namespace} is not among the watched ones"),
            };
            let problem = lost.or_else(|| (!watched.contains(namespace)).then(unwatched));
            if let Some(problem) = problem {
                self.keep_unseen(resource, &problem).await;
            }
        }
    }

    pub(super) fn is_open(&self, key: &WorkKey) -> bool {
        let namespace = match key {
            WorkKey::Resource(resource) => &resource.object.namespace,
            WorkKey::Workload(workload) => &workload.object.namespace,
            // Whose resources wait for it says whether it is asked.
            WorkKey::Vault(_) | WorkKey::Ledger | WorkKey::Token(_) => return true,
        };
        self.term.borrow().is_open(namespace)
    }

    /// Ends with the present term.
    pub(super) fn term_ended(&self) -> impl Future<Output = ()> + use<C, V, K> {
        self.term.borrow().ended.clone().cancelled_owned()
    }
}
