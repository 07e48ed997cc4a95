//! Where the Role knows only names: which names of a store are to be followed.
//! They come and go with the resources that name them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use super::engine::Engine;
use super::former::{former_of, is_settled, written_of};
use super::ports::{Clock, Cluster};
use super::resolve::asked;
use super::sources::{SecretResource, destination_of, key_of, named_targets};
use super::stores::Place;
use super::view::{Store, View, WorkloadKey};
use crate::key::{Kind, ObjectKey, ResourceKey, is_object_name};
use crate::policy::permit;
use crate::vault::Vault;

/// Those who are told of each change of what is named. (In order: a channel of
/// tokio's would tell them by chance, and no simulated run would repeat.)
#[derive(Debug, Default)]
pub(super) struct Naming(RefCell<Vec<Weak<Notify>>>);

impl Naming {
    /// Something is named that wasn't, or no longer.
    pub(super) fn moved(&self) {
        self.0.borrow_mut().retain(|follower| {
            let follower = follower.upgrade();
            follower.as_ref().inspect(|one| one.notify_one()).is_some()
        });
    }

    /// Whether any store is followed by names.
    fn is_followed(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    fn follow(&self) -> Rc<Notify> {
        let follower = Rc::new(Notify::new());
        self.0.borrow_mut().push(Rc::downgrade(&follower));
        follower
    }

    /// The same, where a resource became another.
    pub(super) fn compare(
        &self,
        old: Option<&dyn SecretResource>,
        new: Option<&dyn SecretResource>,
    ) {
        let named = |resource: &dyn SecretResource| {
            let targets: Vec<WorkloadKey> = named_targets(resource).collect();
            let former: Vec<ObjectKey> = former_of(resource).collect();
            (destination_of(resource), targets, former)
        };
        if self.is_followed() && old.map(named) != new.map(named) {
            self.moved();
        }
    }
}

impl View {
    /// The resources whose status says that they wrote into this Secret before
    /// they named another.
    pub(super) fn formerly_of(&self, secret: &ObjectKey) -> Vec<ResourceKey> {
        // Of the many names that are followed, hardly any is nobody's destination.
        if self.resources_of_secret(secret).next().is_some() {
            return Vec::new();
        }
        let of = |resource: &&dyn SecretResource| former_of(*resource).any(|one| one == *secret);
        self.writers().filter(of).map(key_of).collect()
    }

    /// A resource got as far as to need what it names, or does so no longer.
    pub(super) fn ask(&mut self, resource: &ResourceKey, asks: bool) {
        let moved = if asks {
            self.asking.insert(resource.clone())
        } else {
            self.asking.remove(resource)
        };
        if moved {
            self.naming.moved();
        }
    }

    /// Looks once at a Secret that nobody names.
    pub(super) fn hint(&mut self, secret: ObjectKey) {
        if self.hints.insert(secret) {
            self.naming.moved();
        }
    }

    /// A resource that is incomplete has its names followed no more: once it is gone,
    /// what it left is looked at.
    pub(super) fn look_for_what_it_left(&mut self, resource: &dyn SecretResource) {
        if self.naming.is_followed() {
            let unseen = written_of(resource).filter(|one| !self.secrets.contains_key(one));
            unseen
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|one| self.hint(one));
        }
    }

    /// It was looked at, or cannot be.
    pub(super) fn hint_taken(&mut self, secret: &ObjectKey) {
        if self.hints.remove(secret) {
            self.naming.moved();
        }
    }

    fn writers_that_ask(&self) -> impl Iterator<Item = Rc<dyn SecretResource>> {
        self.asking.iter().filter_map(|key| self.writer(key))
    }

    /// The former Secrets of a namespace that cannot be seen.
    pub(super) fn unseen_former(&self, namespace: &str) -> Vec<ObjectKey> {
        self.writers_that_ask()
            .flat_map(|resource| former_of(&*resource))
            .filter(|key| key.namespace == namespace)
            .filter(|key| self.stores.failure(Store::Secrets, key).is_some())
            .collect()
    }

    /// The Secrets to follow, of all namespaces.
    fn named_secrets(&self) -> impl Iterator<Item = ObjectKey> {
        let asking = self.asking.iter();
        let authorities = asking.filter_map(|key| {
            let connection = self.connections.get(&key.object);
            let connection = connection.filter(|_| key.kind == Kind::VaultConnection)?;
            let name = connection.spec.ca_cert_secret_ref.as_deref()?;
            Some(ObjectKey::new(&key.object.namespace, name))
        });
        let of_resources = self.writers_that_ask().flat_map(|resource| {
            let destination = destination_of(&*resource);
            former_of(&*resource).chain([destination])
        });
        let strays = self.strays.iter().filter(|key| {
            let meta = self.secrets.get(*key);
            meta.is_some_and(|meta| !is_settled(meta))
        });
        let hints = self.hints.iter().cloned();
        of_resources
            .chain(authorities)
            .chain(strays.cloned())
            .chain(hints)
    }

    /// The workloads to follow, of all namespaces.
    fn named_workloads(&self) -> impl Iterator<Item = WorkloadKey> {
        self.writers_that_ask()
            .flat_map(|resource| named_targets(&*resource).collect::<Vec<_>>())
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// A store of a namespace is going to be followed by names; who does is told
    /// when others are wanted than before ([`Engine::wanted`]).
    pub fn follow_names(&self, store: Store, namespace: &str) -> Rc<Notify> {
        let mut view = self.view.borrow_mut();
        view.stores.expect(store, namespace, true);
        view.naming.follow()
    }

    /// The names to follow: those of resources that are complete and that the
    /// guardrails allow, since others need no rights (`rights::needed`).
    pub fn wanted(&self, store: Store, namespace: &str) -> BTreeSet<String> {
        let view = self.view.borrow();
        let fits = |key: &ObjectKey| key.namespace == namespace && is_object_name(&key.name);
        match store {
            // Followed as wholes in every grade.
            Store::Resource(_) => BTreeSet::new(),
            Store::Secrets => view
                .named_secrets()
                .filter(|key| fits(key) && !self.is_own(key))
                .map(|key| key.name)
                .collect(),
            Store::Workloads(kind) => view
                .named_workloads()
                .filter(|target| target.kind == kind && fits(&target.object))
                .map(|target| target.object.name)
                .collect(),
        }
    }

    /// Whether a resource gets as far as to need what it names, which is followed
    /// from then on.
    pub(super) fn asks(&self, key: &ResourceKey, resource: &dyn SecretResource) -> bool {
        let asked = asked(self.scope(&self.view.borrow()), resource);
        let permitted = asked.and_then(|asked| permit(asked, &self.policy, &self.own));
        self.view.borrow_mut().ask(key, permitted.is_ok());
        permitted.is_ok()
    }

    /// A name is not followed any more: what is known of it would grow old.
    pub fn forget_place(&self, place: &Place) {
        let mut view = self.view.borrow_mut();
        view.stores.forget(place);
        if let Some(name) = &place.name {
            let object = ObjectKey::new(&place.namespace, name);
            match place.store {
                Store::Resource(_) => {}
                Store::Secrets => {
                    view.forget_secret(&object);
                }
                Store::Workloads(kind) => {
                    view.forget_workload(&WorkloadKey { kind, object });
                }
            }
        }
        drop(view);
        self.count_failures(place.store, &place.namespace);
    }

    /// Counts what cannot be watched.
    pub(super) fn count_failures(&self, store: Store, namespace: &str) {
        let failures = self.view.borrow().stores.failures(store, namespace);
        self.metrics
            .watches_failing(&store.to_string(), namespace, failures);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::VaultStaticSecret;
    use crate::reconcile::kept::Kept as _;
    use serde_json::json;

    #[test]
    fn what_an_incomplete_resource_left_is_looked_at_once_it_is_gone() {
        let key = ObjectKey::new("team", "app");
        let resource = json!({
            "metadata": { "name": "app", "namespace": "team" },
            "spec": {
                "mount": "kv", "path": "app", "type": "kv-v2", "destination": { "name": "new" },
            },
            "status": { "lastGeneration": 1, "destinations": ["new", "old"] },
        });
        let resource: Rc<VaultStaticSecret> = Rc::new(serde_json::from_value(resource).unwrap());
        let left = |followed: bool| {
            let mut view = View::default();
            let _follower = followed.then(|| view.naming.follow());
            VaultStaticSecret::put(&mut view, &key, Some(Rc::clone(&resource)));
            assert_eq!(
                view.named_secrets().count(),
                0,
                "it never got as far as to ask"
            );
            VaultStaticSecret::put(&mut view, &key, None);
            view.named_secrets().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(left(true), ["new", "old"]);
        assert!(left(false).is_empty(), "all Secrets are watched");
    }
}
