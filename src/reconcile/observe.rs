//! From what a watch saw to the view and the queue: which changes make work,
//! and for whom. Echoes of our own writes make none. Objects arrive here cut to
//! what the view keeps, so that real and simulated watches drive the same code.

use std::rc::Rc;

use tokio::sync::Notify;

use super::engine::Engine;
use super::kept::Kept;
pub use super::observer::{Base, Observer};
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::view::{SecretMeta, Store, View, WorkloadKey, WorkloadKind, WorkloadMeta, is_older};
use super::wake::connections_of_authority;
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::problem::Problem;
use crate::vault::Vault;

/// Observes one of our kinds.
pub struct Resources<E>(pub Base<E>);

impl<C: Cluster, V: Vault, K: Clock> Resources<Engine<C, V, K>> {
    /// `moved`: something that others depend on changed, not just its status.
    fn changed<T: Kept>(&self, key: &ObjectKey, moved: bool) {
        let engine = &self.0.engine;
        let resource = ResourceKey {
            kind: T::KIND,
            object: key.clone(),
        };
        if moved && matches!(T::KIND, Kind::VaultConnection | Kind::VaultAuth) {
            // A token of before says nothing about what is there now.
            match T::KIND {
                Kind::VaultConnection => engine.sessions.forget(key),
                _ => engine.sessions.forget_login(key),
            }
            engine.wake_dependents(T::KIND, Urgency::Now);
        }
        engine.wake_targets(&resource);
        engine.queue.wake(WorkKey::Resource(resource), Urgency::Now);
    }

    /// Stores it, or takes it out. What it restarted until now may have waited on its
    /// behalf, and does so no longer.
    fn put<T: Kept>(&self, key: &ObjectKey, new: Option<T>) {
        let engine = &self.0.engine;
        engine.wake_targets(&ResourceKey {
            kind: T::KIND,
            object: key.clone(),
        });
        engine.put_resource::<T>(key, new.map(Rc::new));
    }
}

impl<C, V, K, T> Observer<T> for Resources<Engine<C, V, K>>
where
    C: Cluster,
    V: Vault,
    K: Clock,
    T: Kept,
{
    fn seen(&self, key: ObjectKey, object: Option<T>) {
        self.0.note(&key);
        let Some(object) = object else { return };
        let view = self.0.engine.view.borrow();
        let old = T::get(&view, &key);
        if old.as_deref().is_some_and(|old| older(&object, old)) {
            return;
        }
        let news = old.as_ref().is_none_or(|old| !alike(old.as_ref(), &object));
        let moved = old.is_none_or(|old| !same_for_others(old.as_ref(), &object));
        drop(view);
        match moved {
            true => self.put::<T>(&key, Some(object)),
            false => (self.0.engine).put_resource::<T>(&key, Some(Rc::new(object))),
        }
        if news {
            self.changed::<T>(&key, moved);
        }
    }

    fn gone(&self, key: &ObjectKey, uid: Option<&str>) {
        let view = self.0.engine.view.borrow();
        let same = T::get(&view, key).is_some_and(|known| known.meta().uid.as_deref() == uid);
        drop(view);
        if !same {
            return;
        }
        self.put::<T>(key, None);
        self.0
            .engine
            .view
            .borrow_mut()
            .bury_as(uid.map(str::to_owned), true);
        self.changed::<T>(key, true);
    }

    fn listing(&self) {
        self.0.begin();
    }

    fn listed(&self) {
        let known = self
            .0
            .known(T::keys, |view, key| T::get(view, key).is_some());
        self.0.end(known, |key| {
            let uid = T::get(&self.0.engine.view.borrow(), &key)
                .and_then(|known| known.meta().uid.clone());
            self.put::<T>(&key, None);
            self.0.engine.view.borrow_mut().bury_as(uid, false);
            self.changed::<T>(&key, true);
        });
    }

    fn failing(&self, problem: &Problem) {
        self.0.fail(problem);
    }
}

fn older<T: Kept>(new: &T, old: &T) -> bool {
    let version = |object: &T| object.meta().resource_version.clone().unwrap_or_default();
    is_older(&version(new), &version(old))
}

/// Whether what others depend on stands still: a status may change. (The API
/// server counts up the generation with the spec, and when a deletion begins.)
fn same_for_others<T: Kept>(one: &T, other: &T) -> bool {
    let (one, other) = (one.meta(), other.meta());
    (&one.uid, one.generation) == (&other.uid, other.generation)
}

/// Equal but for the resourceVersion.
fn alike<T: Kept>(one: &T, other: &T) -> bool {
    let bare = |object: &T| {
        let mut object = object.clone();
        object.meta_mut().resource_version = None;
        object
    };
    bare(one) == bare(other)
}

/// Observes the metadata of Secrets.
pub struct Secrets<E> {
    /// What all observers share.
    pub base: Base<E>,
    /// The Secret with the operator's own key.
    pub own_key: ObjectKey,
    /// Told when that one was deleted, or a list lacks it.
    pub own_key_gone: Rc<Notify>,
}

impl<C: Cluster, V: Vault, K: Clock> Secrets<Engine<C, V, K>> {
    /// `moved`: something that decisions look at changed, not just a version.
    fn changed(&self, key: &ObjectKey, moved: bool) {
        let engine = &self.base.engine;
        let view = engine.view.borrow();
        if moved {
            for writer in view.writers_of_stray(key) {
                engine.queue.wake(WorkKey::Resource(writer), Urgency::Now);
            }
            for resource in view.resources_of_secret(key) {
                engine
                    .queue
                    .wake(WorkKey::Resource(resource.clone()), Urgency::Now);
            }
            // Its hash may be news: of a write whose answer was lost, say.
            engine.wake_workloads_of(&view, key);
        }
        let connections: Vec<_> = connections_of_authority(&view, key).collect();
        drop(view);
        for connection in connections {
            // Its certificates may have been read before the watch told of them.
            engine.sessions.forget(&connection.object);
            engine.recheck(&connection.object);
        }
    }
}

impl<C: Cluster, V: Vault, K: Clock> Observer<SecretMeta> for Secrets<Engine<C, V, K>> {
    fn seen(&self, key: ObjectKey, object: Option<SecretMeta>) {
        self.base.note(&key);
        let Some(new) = object else { return };
        let mut view = self.base.engine.view.borrow_mut();
        let old = view.secrets.get(&key).cloned();
        let first_list = !view.stores.sees(Store::Secrets, &key);
        let same_version = old
            .as_ref()
            .is_some_and(|old| old.resource_version == new.resource_version);
        view.put_secret(&key, new);
        // What is older than the view, such as the echo of a write that another
        // one followed, moves nothing.
        let now = view.secrets.get(&key);
        let moved = old.is_none_or(|old| now.is_none_or(|now| old.differs(now)));
        drop(view);
        // The first list is news to nobody: all resources are looked at when it ends.
        if !first_list && !same_version {
            self.changed(&key, moved);
        }
    }

    fn gone(&self, key: &ObjectKey, uid: Option<&str>) {
        let mut view = self.base.engine.view.borrow_mut();
        if view
            .secrets
            .get(key)
            .is_some_and(|known| Some(known.uid.as_str()) == uid)
        {
            view.remove_secret(key);
            drop(view);
            self.changed(key, true);
            if *key == self.own_key {
                self.own_key_gone.notify_one();
            }
        }
    }

    fn listing(&self) {
        self.base.begin();
    }

    fn listed(&self) {
        if self.base.misses(&self.own_key) {
            self.own_key_gone.notify_one();
        }
        let known = self.base.known(
            |view| view.secrets.keys().cloned().collect(),
            |view, key| view.secrets.contains_key(key),
        );
        self.base.end(known, |key| {
            self.base.engine.view.borrow_mut().remove_secret(&key);
            self.changed(&key, true);
        });
    }

    fn failing(&self, problem: &Problem) {
        self.base.fail(problem);
    }
}

/// Observes one kind of workload.
pub struct Workloads<E>(pub Base<E>, pub WorkloadKind);

impl<C: Cluster, V: Vault, K: Clock> Workloads<Engine<C, V, K>> {
    /// `moved`: the resources for which it is a target now, or was one.
    fn changed(&self, key: WorkloadKey, moved: Vec<ResourceKey>) {
        let engine = &self.0.engine;
        engine.wake_reports(&key);
        let view = engine.view.borrow();
        // One that waits for nobody any more forgets that it does.
        if !moved.is_empty() || view.resources_of_workload(&key).next().is_some() {
            engine.queue.wake(WorkKey::Workload(key), Urgency::Now);
        } else {
            engine.forget_workload(&key);
        }
        for resource in moved {
            let key = WorkKey::Resource(resource);
            engine.queue.wake(key, Urgency::Routine);
        }
    }

    fn key(&self, object: &ObjectKey) -> WorkloadKey {
        WorkloadKey {
            kind: self.1,
            object: object.clone(),
        }
    }
}

impl<C: Cluster, V: Vault, K: Clock> Observer<WorkloadMeta> for Workloads<Engine<C, V, K>> {
    fn seen(&self, object: ObjectKey, workload: Option<WorkloadMeta>) {
        self.0.note(&object);
        let Some(mut new) = workload else { return };
        let key = self.key(&object);
        let mut view = self.0.engine.view.borrow_mut();
        let first_list = !view.stores.sees(Store::Workloads(self.1), &object);
        let old = view.workloads.get(&key).cloned();
        new.note_progress(old.as_ref(), self.0.engine.clock.now());
        let targets = view.put_workload(&key, new);
        let now = view.workloads.get(&key).cloned();
        drop(view);
        let moved = match (&old, &now) {
            (Some(old), Some(now)) => old.differs(now),
            _ => true,
        };
        if moved {
            (self.0.engine).workload_moved(&key, old.as_ref(), now.as_ref());
            // All are looked at when the first list ends, in their order.
            if !first_list {
                self.changed(key, targets);
            }
        }
    }

    fn gone(&self, object: &ObjectKey, uid: Option<&str>) {
        let key = self.key(object);
        let mut view = self.0.engine.view.borrow_mut();
        if view
            .workloads
            .get(&key)
            .is_some_and(|known| Some(known.uid.as_str()) == uid)
        {
            let old = view.workloads.get(&key).cloned();
            let targets = view.remove_workload(&key);
            drop(view);
            (self.0.engine).workload_moved(&key, old.as_ref(), None);
            self.changed(key, targets);
        }
    }

    fn listing(&self) {
        self.0.begin();
    }

    fn listed(&self) {
        let all = |view: &View| {
            let of_kind = view.workloads.keys().filter(|key| key.kind == self.1);
            of_kind.map(|key| key.object.clone()).collect()
        };
        let has = |view: &View, key: &ObjectKey| view.workloads.contains_key(&self.key(key));
        self.0.end(self.0.known(all, has), |object| {
            let key = self.key(&object);
            let mut view = self.0.engine.view.borrow_mut();
            let old = view.workloads.get(&key).cloned();
            let targets = view.remove_workload(&key);
            drop(view);
            (self.0.engine).workload_moved(&key, old.as_ref(), None);
            self.changed(key, targets);
        });
    }

    fn failing(&self, problem: &Problem) {
        self.0.fail(problem);
    }
}
