//! The workloads that resources find by themselves (`spec.rollout`), kept in step
//! with both: what a workload becomes is held against those resources alone that
//! look for such in its namespace, and a resource against the workloads there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::engine::Engine;
use super::index::Index;
use super::ports::{Clock, Cluster};
use super::selection::{Query, discovers, query_of};
use super::sources::{SecretResource, key_of, named_targets};
use super::view::{Store, View, WorkloadKey, WorkloadKind, WorkloadMeta};
use crate::key::{ObjectKey, ResourceKey};
use crate::problem::Problem;
use crate::vault::Vault;

/// What a resource looks for, and what it found.
#[derive(Debug)]
struct Finder {
    query: Query,
    found: BTreeSet<Rc<WorkloadKey>>,
}

/// Who finds what. Keys are shared: there may be as many pairs as resources times workloads.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    /// Where workloads are watched by name alone, none is found.
    names_only: bool,
    finders: BTreeMap<Rc<ResourceKey>, Finder>,
    /// Those that find what uses a Secret.
    by_use: Index<ObjectKey>,
    /// Those that find by labels, by their namespace.
    by_labels: BTreeMap<String, BTreeSet<Rc<ResourceKey>>>,
    found_by: BTreeMap<Rc<WorkloadKey>, Vec<Rc<ResourceKey>>>,
}

impl Discovery {
    /// A resource became another, came or went.
    fn ask(
        &mut self,
        key: &ResourceKey,
        query: Option<Query>,
        workloads: &BTreeMap<WorkloadKey, WorkloadMeta>,
    ) {
        let query = query.filter(|_| !self.names_only);
        let known = self.finders.get(key).map(|known| &known.query);
        if known == query.as_ref() {
            return;
        }
        self.forget(key);
        let Some(query) = query else { return };
        let key = Rc::new(key.clone());
        let namespace = &key.object.namespace;
        if let Some(secret) = &query.uses {
            self.by_use.link(ObjectKey::new(namespace, secret), &key);
        }
        if query.labels.is_some() {
            let there = self.by_labels.entry(namespace.clone()).or_default();
            there.insert(Rc::clone(&key));
        }
        let mut found = BTreeSet::new();
        for kind in WorkloadKind::ALL {
            let object = ObjectKey::new(namespace, "");
            let there = workloads.range(WorkloadKey { kind, object }..);
            let there =
                there.take_while(|(one, _)| one.kind == kind && one.object.namespace == *namespace);
            for (workload, _) in there.filter(|(_, meta)| query.finds(meta)) {
                let known = self.found_by.get_key_value(workload);
                let workload =
                    known.map_or_else(|| Rc::new(workload.clone()), |(known, _)| Rc::clone(known));
                let by = self.found_by.entry(Rc::clone(&workload)).or_default();
                if let Err(place) = by.binary_search(&key) {
                    by.insert(place, Rc::clone(&key));
                }
                found.insert(workload);
            }
        }
        self.finders.insert(key, Finder { query, found });
    }

    fn forget(&mut self, key: &ResourceKey) {
        let Some(gone) = self.finders.remove(key) else {
            return;
        };
        let namespace = &key.object.namespace;
        if let Some(secret) = &gone.query.uses {
            self.by_use.unlink(&ObjectKey::new(namespace, secret), key);
        }
        if let Some(there) = self.by_labels.get_mut(namespace) {
            there.remove(key);
            if there.is_empty() {
                self.by_labels.remove(namespace);
            }
        }
        for workload in gone.found {
            self.lose(&workload, key);
        }
    }

    fn lose(&mut self, workload: &WorkloadKey, key: &ResourceKey) {
        let Some(by) = self.found_by.get_mut(workload) else {
            return;
        };
        by.retain(|one| **one != *key);
        if by.is_empty() {
            self.found_by.remove(workload);
        }
    }

    /// Those that find a workload that is like this.
    fn finders_of(&self, key: &WorkloadKey, meta: &WorkloadMeta) -> BTreeSet<Rc<ResourceKey>> {
        let namespace = &key.object.namespace;
        let shared = |key: &ResourceKey| {
            let known = self.finders.get_key_value(key);
            known.map(|(key, _)| Rc::clone(key))
        };
        let mut all = BTreeSet::new();
        for one in &meta.uses {
            let secret = ObjectKey::new(namespace, &one.secret);
            all.extend(self.by_use.of(&secret).filter_map(shared));
        }
        let selecting = self.by_labels.get(namespace).into_iter().flatten();
        let selects = |key: &&Rc<ResourceKey>| {
            let finder = self.finders.get(&***key);
            finder.is_some_and(|finder| finder.query.selects(meta))
        };
        all.extend(selecting.filter(selects).cloned());
        all
    }

    /// A workload came, became another or went. Tells the resources that find it now
    /// and did not before, or the other way round.
    fn place(&mut self, key: &WorkloadKey, meta: Option<&WorkloadMeta>) -> Vec<ResourceKey> {
        if self.finders.is_empty() {
            return Vec::new();
        }
        let now = meta.map_or_else(BTreeSet::new, |meta| self.finders_of(key, meta));
        let (workload, before) = self
            .found_by
            .remove_entry(key)
            .unwrap_or_else(|| (Rc::new(key.clone()), Vec::new()));
        let mut moved = Vec::new();
        for one in before.iter().filter(|one| !now.contains(*one)) {
            if let Some(finder) = self.finders.get_mut(one) {
                finder.found.remove(key);
            }
            moved.push((**one).clone());
        }
        for one in now.iter().filter(|one| before.binary_search(one).is_err()) {
            if let Some(finder) = self.finders.get_mut(one) {
                finder.found.insert(Rc::clone(&workload));
            }
            moved.push((**one).clone());
        }
        if !now.is_empty() {
            self.found_by.insert(workload, now.into_iter().collect());
        }
        moved
    }
}

impl View {
    /// A view where workloads are watched by name alone, or not.
    pub(super) fn of_names_only(names_only: bool) -> Self {
        let mut view = Self::default();
        view.discovery.names_only = names_only;
        view
    }

    /// Whether workloads are watched by name alone, so that none can be found.
    pub(super) fn names_only(&self) -> bool {
        self.discovery.names_only
    }

    /// A resource became another, came or went.
    pub(super) fn look_for_workloads(
        &mut self,
        key: &ResourceKey,
        resource: Option<&dyn SecretResource>,
    ) {
        // One that is wrong is told so and changes nothing.
        let query = resource.and_then(|resource| query_of(resource).ok().flatten());
        self.discovery.ask(key, query, &self.workloads);
    }

    /// A workload is about to become another, or to go. Tells for which resources it
    /// becomes a target, or ceases to be one.
    pub(super) fn place_workload(
        &mut self,
        key: &WorkloadKey,
        new: Option<&WorkloadMeta>,
    ) -> Vec<ResourceKey> {
        let old = self.workloads.get(key);
        match old.zip(new) {
            Some((old, new)) if old.labels == new.labels && old.uses == new.uses => Vec::new(),
            _ => self.discovery.place(key, new),
        }
    }

    /// The workloads that a resource restarts, as far as their kinds are served: first
    /// those that it names, as it does, then those that it finds by kind and name; each once.
    #[must_use]
    pub fn targets_of(&self, resource: &dyn SecretResource) -> Vec<WorkloadKey> {
        let mut seen = BTreeSet::new();
        let mut targets: Vec<WorkloadKey> = named_targets(resource).collect();
        targets.retain(|target| seen.insert(target.clone()));
        let key = key_of(resource);
        let found = self.found_by(&key);
        targets.extend(found.filter(|target| !seen.contains(target)).cloned());
        targets
    }

    /// The workloads that a resource finds, also those that it names, too.
    pub(super) fn found_by(&self, key: &ResourceKey) -> impl Iterator<Item = &WorkloadKey> {
        let finder = self.discovery.finders.get(key).into_iter();
        finder.flat_map(|finder| finder.found.iter().map(|found| &**found))
    }

    /// The resources that restart this workload.
    pub fn resources_of_workload(
        &self,
        workload: &WorkloadKey,
    ) -> impl Iterator<Item = &ResourceKey> {
        let found = self.discovery.found_by.get(workload).into_iter().flatten();
        let found = found.map(|key| &**key);
        let named = self.by_workload.of(workload);
        named.chain(found.filter(|key| !self.by_workload.has(workload, key)))
    }
}

/// What keeps a resource from finding workloads.
pub(super) enum Unfound {
    /// They are watched by name alone.
    NotListed,
    /// No kind is restarted.
    Off,
    /// Those of a kind cannot be watched.
    Unseen(WorkloadKind, Problem),
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// The stores in which a resource finds workloads, as a whole.
    fn searched(&self) -> impl Iterator<Item = WorkloadKind> {
        let kinds = WorkloadKind::ALL.into_iter();
        kinds.filter(|kind| self.restarts(*kind))
    }

    /// Whether the first list of workloads is still to come that shows which of its
    /// targets there are: until then nothing is told of them. Where workloads are followed
    /// by their names, the resource must have asked for them ([`Engine::asks`]).
    pub(super) fn awaits_workloads(&self, resource: &dyn SecretResource) -> bool {
        let view = self.view.borrow();
        let awaited = |kind, object: &ObjectKey| {
            let unseen = view.stores.unseen(Store::Workloads(kind), object);
            unseen.is_some_and(|why| !why.is_finding())
        };
        let all = ObjectKey::new(key_of(resource).object.namespace, "");
        let finds = discovers(resource) && !view.names_only();
        finds && self.searched().any(|kind| awaited(kind, &all))
            || named_targets(resource)
                .any(|one| self.restarts(one.kind) && awaited(one.kind, &one.object))
    }

    /// What keeps a resource from finding all workloads that it looks for.
    pub(super) fn unfound(&self, resource: &dyn SecretResource) -> Vec<Unfound> {
        let view = self.view.borrow();
        if !discovers(resource) {
            return Vec::new();
        }
        if self.searched().next().is_none() {
            return vec![Unfound::Off];
        }
        if view.names_only() {
            return vec![Unfound::NotListed];
        }
        let all = ObjectKey::new(key_of(resource).object.namespace, "");
        let unseen = |kind| {
            let why = view.stores.failure(Store::Workloads(kind), &all)?;
            Some(Unfound::Unseen(kind, why.clone()))
        };
        self.searched().filter_map(unseen).collect()
    }

    /// Whether every workload is known that a resource looks for; where none is
    /// restarted there is nothing to know.
    pub(super) fn finds_all(&self, resource: &dyn SecretResource) -> bool {
        let unfound = self.unfound(resource);
        !self.awaits_workloads(resource) && unfound.iter().all(|one| matches!(one, Unfound::Off))
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
