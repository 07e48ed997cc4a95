//! What the view shows of resources, counted for the metrics whenever somebody asks.
//! Of a namespace that this instance does not work in nothing is told, nor of what
//! has not been looked for yet. References are followed as for a reconcile.

use std::collections::BTreeSet;

use super::claims::{claims_on, holds, is_contested};
use super::engine::Engine;
use super::ports::{Clock, Cluster};
use super::queue::WorkKey;
use super::resolve;
use super::series::verdicts;
use super::sources::{self, SecretResource, destination_of, key_of, uid_of};
use super::view::{Store, View, WorkloadKey};
use crate::api::{AuthMethod, VaultAuth};
use crate::key::Kind;
use crate::problem::Problem;
use crate::telemetry::{Counts, Target, World};
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// What there is of resources now.
    pub fn world(&self) -> World {
        let (view, term) = (self.view.borrow(), self.term.borrow());
        let mut world = World::default();
        for namespace in self.config.watched(&self.own.namespace) {
            let serves = term.serves(&namespace);
            if serves {
                tell_of(&mut world, &view, &namespace);
            }
            world.served.insert(namespace, serves);
        }
        let works = world.served.values().any(|serves| *serves);
        self.tell_lanes(&view, works);
        if works {
            self.count_resources(&view, &mut world);
        }
        self.tell_targets(&view, &mut world);
        self.count_orphaned_auths(&view, &mut world);
        self.count_writers(&view, &mut world);
        world
    }

    fn count_resources(&self, view: &View, world: &mut World) {
        let look = self.begin_series(world);
        for kind in Kind::ALL {
            for (object, ready) in verdicts(view, kind) {
                let namespace = &object.namespace;
                if !one_more(&mut world.resources, namespace, kind.as_str()) {
                    continue;
                }
                if !ready {
                    one_more(&mut world.not_ready, namespace, kind.as_str());
                }
                self.tell_series(world, &look, kind, object, ready);
            }
        }
    }

    /// Tells of the workloads that take a new rollout, in the namespaces that this
    /// instance works in.
    fn tell_targets(&self, view: &View, world: &mut World) {
        let limit = self.config.telemetry.max_resource_series;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let now = self.clock.now();
        let served = |key: &&WorkloadKey| world.served.get(&key.object.namespace) == Some(&true);
        let restarted = |key: &&WorkloadKey| {
            self.restarts(key.kind) && view.resources_of_workload(key).next().is_some()
        };
        let keys = view.workloads.keys().filter(served).filter(restarted);
        for (number, key) in keys.enumerate() {
            let memory = self.memory.borrow();
            let known = memory.get(&WorkKey::Workload(key.clone()));
            let waits = known.and_then(|known| known.waits);
            let told = Target {
                restarts: known.map_or(0, |known| known.restarts),
                pending: waits.map(|why| (why, 1)).into_iter().collect(),
                failed: usize::from(self.has_failed(key, view, now)),
            };
            let mut name = key.object.name.as_str();
            if number >= limit {
                name = "";
                world.left_out = world.left_out.map(|count| count + 1);
            }
            let place = (key.kind.as_str(), key.object.namespace.clone(), name.into());
            world.targets.entry(place).or_default().add(told);
        }
    }

    fn count_orphaned_auths(&self, view: &View, world: &mut World) {
        for (object, auth) in &view.auths {
            let found = resolve::has_connection(self.scope(view), auth);
            if auth.metadata.deletion_timestamp.is_none()
                && found.is_err_and(|why| leads_nowhere(&why))
            {
                let kind = Kind::VaultAuth.as_str();
                one_more(&mut world.orphaned, &object.namespace, kind);
            }
        }
    }

    fn count_writers(&self, view: &View, world: &mut World) {
        let mut used = BTreeSet::new();
        for resource in view.writers() {
            let key = key_of(resource);
            let namespace = &key.object.namespace;
            if resource.metadata().deletion_timestamp.is_none() {
                match resolve::find_auth(self.scope(view), resource.vault_auth_ref(), namespace) {
                    Ok(auth) => used.extend(method_of(auth).map(|method| {
                        let metadata = &auth.metadata;
                        (
                            namespace.clone(),
                            &metadata.namespace,
                            &metadata.name,
                            method,
                        )
                    })),
                    Err(why) if leads_nowhere(&why) => {
                        one_more(&mut world.orphaned, namespace, key.kind.as_str());
                    }
                    Err(_) => {}
                }
            }
            let secret = destination_of(resource);
            if holds(view.secrets.get(&secret), uid_of(resource))
                && let Some(type_) = type_of(resource)
            {
                one_more(&mut world.held, namespace, type_);
            }
            // The first of those that name a Secret counts it, for all of them.
            if view.resources_of_secret(&secret).next() == Some(&key) {
                let claims = claims_on(view, &secret);
                if claims.iter().any(|claim| claim.holds)
                    && let Some(count) = world.managed.get_mut(namespace)
                {
                    *count += 1;
                }
                if is_contested(&claims)
                    && let Some(count) = world.contested.get_mut(namespace)
                {
                    *count += 1;
                }
            }
        }
        for (namespace, _, _, method) in used {
            one_more(&mut world.auths, &namespace, method);
        }
    }
}

/// Begins at zero with all that has been looked for in a namespace: only that is counted.
fn tell_of(world: &mut World, view: &View, namespace: &str) {
    let seen = |store| view.stores.incomplete(&[store], namespace).is_none();
    let zero = |counts: &mut Counts, label| counts.insert((namespace.to_owned(), label), 0);
    for kind in Kind::ALL {
        if seen(Store::Resource(kind)) {
            zero(&mut world.resources, kind.as_str());
            zero(&mut world.not_ready, kind.as_str());
        }
    }
    if seen(Store::Resource(Kind::VaultAuth)) {
        zero(&mut world.orphaned, Kind::VaultAuth.as_str());
    }
    for kind in sources::KINDS {
        if seen(Store::Resource(kind)) {
            zero(&mut world.orphaned, kind.as_str());
        }
    }
    if !sources::KINDS
        .into_iter()
        .all(|kind| seen(Store::Resource(kind)))
    {
        return;
    }
    for method in AuthMethod::ALLOWED {
        zero(&mut world.auths, method);
    }
    world.contested.insert(namespace.to_owned(), 0);
    if seen(Store::Secrets) {
        world.managed.insert(namespace.to_owned(), 0);
        for type_ in sources::TYPES {
            zero(&mut world.held, type_);
        }
    }
}

/// Counts one more where it is told of, and whether it is.
fn one_more(counts: &mut Counts, namespace: &str, label: &'static str) -> bool {
    let count = counts.get_mut(&(namespace.to_owned(), label));
    count.map(|count| *count += 1).is_some()
}

/// Whether a reference is known to lead to nothing that could be used: not that it
/// cannot be seen what is there.
const fn leads_nowhere(problem: &Problem) -> bool {
    matches!(
        problem,
        Problem::ReferenceMissing { .. }
            | Problem::ReferenceDenied { .. }
            | Problem::InvalidSpec { .. }
    )
}

/// The login method of a VaultAuth, if it is one of those that there are.
fn method_of(auth: &VaultAuth) -> Option<&'static str> {
    let named = auth.spec.method.as_ref()?.as_str();
    let mut methods = AuthMethod::ALLOWED.iter().copied();
    methods.find(|method| *method == named)
}

/// The type of a resource's source, if it is one of those that there are.
fn type_of(resource: &dyn SecretResource) -> Option<&'static str> {
    let named = resource.source_type();
    sources::TYPES.into_iter().find(|type_| *type_ == named)
}
