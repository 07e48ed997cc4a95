//! What is watched where, and how far the watches are: nothing may be judged
//! missing before it was looked for. A store of a namespace is followed as a
//! whole, or name by name where the Role knows only names (`wanted`).

use std::collections::{HashMap, HashSet};

use super::view::WorkloadKind;
use crate::key::{Kind, ObjectKey, is_object_name};
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
            Store::Workloads(kind) => f.write_str(kind.plural()),
        }
    }
}

/// What one watch follows: a store of a namespace, or one name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Objects of what kind.
    pub store: Store,
    /// In which namespace.
    pub namespace: String,
    /// The only name that is followed; `None`: all.
    pub name: Option<String>,
}

impl Place {
    /// Whether an object of the place's store is in it.
    #[must_use]
    pub fn covers(&self, key: &ObjectKey) -> bool {
        key.namespace == self.namespace && self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place {
            store, namespace, ..
        } = self;
        match &self.name {
            None => write!(f, "{store} in {namespace}"),
            Some(name) => write!(f, "{store} {name} in {namespace}"),
        }
    }
}

/// The stores of all watched namespaces.
#[derive(Debug, Default)]
pub struct Stores {
    /// Those that are followed, and whether name by name.
    watched: HashMap<(Store, String), bool>,
    /// Those places whose first list is complete.
    complete: HashSet<Place>,
    /// Those that cannot be watched now, and why.
    failing: HashMap<Place, Problem>,
}

impl Stores {
    /// A store is going to be watched in a namespace, as a whole or by names.
    pub fn expect(&mut self, store: Store, namespace: &str, by_name: bool) {
        self.watched.insert((store, namespace.to_owned()), by_name);
    }

    /// By what an object of a store is followed; `None`: by nothing.
    fn place(&self, store: Store, key: &ObjectKey) -> Option<Place> {
        let namespace = key.namespace.clone();
        let by_name = *self.watched.get(&(store, namespace.clone()))?;
        Some(Place {
            store,
            namespace,
            name: by_name.then(|| key.name.clone()),
        })
    }

    /// Whether it was looked for an object of a store: if the view lacks it, then
    /// it wasn't there.
    #[must_use]
    pub fn sees(&self, store: Store, key: &ObjectKey) -> bool {
        self.place(store, key)
            .is_some_and(|place| self.complete.contains(&place))
    }

    /// Why an object of a store cannot be seen, if it cannot.
    #[must_use]
    pub fn failure(&self, store: Store, key: &ObjectKey) -> Option<&Problem> {
        self.failing.get(&self.place(store, key)?)
    }

    /// Whether it was looked for an object, or it is known that it cannot be.
    #[must_use]
    pub fn settled(&self, store: Store, key: &ObjectKey) -> bool {
        self.sees(store, key) || self.failure(store, key).is_some()
    }

    /// Whether the first list of a store that is followed as a whole is still to come.
    #[must_use]
    pub fn awaits(&self, store: Store, namespace: &str) -> bool {
        let as_a_whole = self.watched.get(&(store, namespace.to_owned())) == Some(&false);
        as_a_whole && self.incomplete(&[store], namespace) == Some(None)
    }

    /// Why an object that the view lacks may nevertheless exist: its store in
    /// its namespace is watched, and it cannot be seen, or not yet. What can be
    /// nobody's name is not looked for. A name that the Role has lost is unseen
    /// again: what the view has of it only grows older.
    #[must_use]
    pub fn unseen(&self, store: Store, key: &ObjectKey) -> Option<Problem> {
        let place = self.place(store, key)?;
        let failing = self.failing.get(&place);
        let lost =
            place.name.is_some() && matches!(failing, Some(Problem::KubernetesForbidden { .. }));
        let unnameable = place.name.is_some() && !is_object_name(&key.name);
        if unnameable || (self.complete.contains(&place) && !lost) {
            return None;
        }
        let pending = || Problem::Conflict {
            what: format!("see {place}"),
            why: "their first list is not here yet".to_owned(),
        };
        Some(failing.cloned().unwrap_or_else(pending))
    }

    /// The first list of a place is here, and it can be watched. Tells whether
    /// that is news.
    pub fn completed(&mut self, place: &Place) -> bool {
        let failed = self.failing.remove(place).is_some();
        self.complete.insert(place.clone()) || failed
    }

    /// A place cannot be watched. Tells whether that is news.
    pub fn failed(&mut self, place: &Place, problem: &Problem) -> bool {
        let old = self.failing.insert(place.clone(), problem.clone());
        old.as_ref() != Some(problem)
    }

    /// A place is not followed any more.
    pub fn forget(&mut self, place: &Place) {
        self.complete.remove(place);
        self.failing.remove(place);
    }

    /// How many places of a store in a namespace cannot be watched.
    #[must_use]
    pub fn failures(&self, store: Store, namespace: &str) -> usize {
        let of = |place: &&Place| place.store == store && place.namespace == namespace;
        self.failing.keys().filter(of).count()
    }

    /// The first of `stores` whose list in a namespace is not complete, and why it
    /// is known not to come, where it is. Those that are followed by names have
    /// none.
    #[must_use]
    pub fn incomplete(&self, stores: &[Store], namespace: &str) -> Option<Option<&Problem>> {
        let place = |store: &Store| Place {
            store: *store,
            namespace: namespace.to_owned(),
            name: None,
        };
        let by_name = |store: &Store| self.watched.get(&(*store, namespace.to_owned()));
        let mut lacking = stores
            .iter()
            .filter(|store| by_name(store) != Some(&true))
            .map(place)
            .filter(|place| !self.complete.contains(place))
            .peekable();
        lacking.peek()?;
        Some(lacking.find_map(|place| self.failing.get(&place)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: Option<&str>) -> Place {
        Place {
            store: Store::Secrets,
            namespace: "team".to_owned(),
            name: name.map(str::to_owned),
        }
    }

    fn reason(stores: &Stores, name: &str) -> Option<&'static str> {
        let unseen = stores.unseen(Store::Secrets, &ObjectKey::new("team", name));
        unseen.map(|problem| problem.reason())
    }

    fn forbidden() -> Problem {
        Problem::KubernetesForbidden {
            what: "watch".to_owned(),
            why: "no".to_owned(),
        }
    }

    #[test]
    fn by_names_each_is_seen_or_not_by_itself() {
        let mut stores = Stores::default();
        assert_eq!(reason(&stores, "app"), None, "not watched at all");
        stores.expect(Store::Secrets, "team", true);
        assert_eq!(stores.incomplete(&[Store::Secrets], "team"), None);
        assert_eq!(reason(&stores, "app"), Some("Conflict"));
        assert_eq!(reason(&stores, "No_name"), None);
        assert!(!stores.awaits(Store::Secrets, "team"), "of no name");
        assert!(stores.completed(&place(Some("app"))), "news");
        assert!(!stores.completed(&place(Some("app"))), "none");
        assert!(stores.failed(&place(Some("other")), &forbidden()));
        assert!(!stores.failed(&place(Some("other")), &forbidden()));
        assert_eq!(reason(&stores, "app"), None);
        assert_eq!(reason(&stores, "other"), Some("KubernetesForbidden"));
        assert_eq!(stores.failures(Store::Secrets, "team"), 1);
        let other = ObjectKey::new("team", "other");
        assert!(stores.settled(Store::Secrets, &other) && !stores.sees(Store::Secrets, &other));
        // A name that the Role has lost is told of, and is well again with it.
        assert!(stores.failed(&place(Some("app")), &forbidden()));
        assert_eq!(reason(&stores, "app"), Some("KubernetesForbidden"));
        assert!(stores.completed(&place(Some("app"))));
        assert_eq!(reason(&stores, "app"), None);
        stores.forget(&place(Some("app")));
        assert_eq!(reason(&stores, "app"), Some("Conflict"));
    }

    #[test]
    fn as_a_whole_one_list_is_for_all() {
        let mut stores = Stores::default();
        stores.expect(Store::Secrets, "team", false);
        assert!(!stores.awaits(Store::Secrets, "other"), "not watched");
        assert!(stores.awaits(Store::Secrets, "team"));
        assert_eq!(stores.incomplete(&[Store::Secrets], "team"), Some(None));
        stores.failed(&place(None), &forbidden());
        let failing = stores.incomplete(&[Store::Secrets], "team");
        assert_eq!(failing, Some(Some(&forbidden())));
        assert!(!stores.awaits(Store::Secrets, "team"), "it may never come");
        stores.completed(&place(None));
        assert_eq!(stores.incomplete(&[Store::Secrets], "team"), None);
        assert_eq!(reason(&stores, "app"), None);
        // What was seen is served on while the watch fails for a time.
        stores.failed(&place(None), &forbidden());
        assert_eq!(reason(&stores, "app"), None);
    }
}
