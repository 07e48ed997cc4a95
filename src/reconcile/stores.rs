//! What is watched where, and how far the watches are: nothing may be judged
//! missing before the first list of its store in its namespace is complete.

use std::collections::{HashMap, HashSet};

use super::view::WorkloadKind;
use crate::key::Kind;
use crate::problem::Problem;

/// What a watch delivers into the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Store {
    /// One of our kinds.
    Resource(Kind),
    /// Secrets' metadata.
    Secrets,
    /// Workloads of a kind.
    Workloads(WorkloadKind),
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Store::Resource(kind) => f.write_str(kind.plural()),
            Store::Secrets => f.write_str("secrets"),
            Store::Workloads(kind) => write!(f, "{}s", kind.as_str().to_lowercase()),
        }
    }
}

/// The stores of all watched namespaces.
#[derive(Debug, Default)]
pub struct Stores {
    watched: HashSet<(Store, String)>,
    /// Those whose first list is complete.
    complete: HashSet<(Store, String)>,
    /// Those that cannot be watched now, and why.
    failing: HashMap<(Store, String), Problem>,
}

impl Stores {
    /// A store is going to be watched in a namespace.
    pub fn expect(&mut self, store: Store, namespace: &str) {
        self.watched.insert((store, namespace.to_owned()));
    }

    /// Why an object that the view lacks may nevertheless exist: its store in
    /// its namespace is watched, and cannot be seen, or not yet.
    #[must_use]
    pub fn unseen(&self, store: Store, namespace: &str) -> Option<Problem> {
        let watched = self.watched.contains(&(store, namespace.to_owned()));
        if !watched || self.has(&[store], namespace) {
            return None;
        }
        let pending = || Problem::Conflict {
            what: format!("see {store} in {namespace}"),
            why: "their first list is not here yet".to_owned(),
        };
        Some(
            self.failure(store, namespace)
                .cloned()
                .unwrap_or_else(pending),
        )
    }

    /// The first list of a store in a namespace is here, and it can be watched.
    pub fn completed(&mut self, store: Store, namespace: &str) {
        let key = (store, namespace.to_owned());
        self.failing.remove(&key);
        self.complete.insert(key);
    }

    /// A store cannot be watched in a namespace. Tells whether that is news.
    pub fn failed(&mut self, store: Store, namespace: &str, problem: &Problem) -> bool {
        let key = (store, namespace.to_owned());
        let old = self.failing.insert(key, problem.clone());
        old.as_ref() != Some(problem)
    }

    /// Why a store cannot be watched in a namespace, if it cannot.
    #[must_use]
    pub fn failure(&self, store: Store, namespace: &str) -> Option<&Problem> {
        self.failing.get(&(store, namespace.to_owned()))
    }

    /// Whether the first list of every one of `stores` in a namespace has arrived.
    #[must_use]
    pub fn has(&self, stores: &[Store], namespace: &str) -> bool {
        let complete = |store: &Store| self.complete.contains(&(*store, namespace.to_owned()));
        stores.iter().all(complete)
    }

    /// Whether every one of `stores` is complete, or known not to come.
    #[must_use]
    pub fn settled(&self, stores: &[Store], namespace: &str) -> bool {
        stores.iter().all(|store| {
            self.has(&[*store], namespace) || self.failure(*store, namespace).is_some()
        })
    }
}
