//! Who is to be looked at again when something that several depend on changed.
//! Only asks: what is due is decided when the key's turn comes.

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::sources::key_of;
use super::view::{Moment, SecretMeta, Store, View, WorkloadKey};
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::problem::Problem;
use crate::vault::Vault;

/// The connections whose CA certificates are in this Secret.
pub(super) fn connections_of_authority(
    view: &View,
    secret: &ObjectKey,
) -> impl Iterator<Item = ResourceKey> {
    let connections = view.connections.iter().filter(|(at, connection)| {
        at.namespace == secret.namespace
            && connection.spec.ca_cert_secret_ref.as_deref() == Some(secret.name.as_str())
    });
    connections.map(|(at, _)| ResourceKey {
        kind: Kind::VaultConnection,
        object: at.clone(),
    })
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// What the API server holds now; the view learns it.
    pub(super) async fn look_at(&self, secret: &ObjectKey) -> Result<Option<SecretMeta>, Problem> {
        let asked = self.view.borrow().moment();
        let live = self.cluster.secret_meta(secret).await?;
        match &live {
            Some(meta) => self.learn(secret, meta.clone(), asked),
            None => {
                self.view.borrow_mut().forget_secret(secret);
            }
        }
        Ok(live)
    }

    /// Stores what a request that was sent at `asked` answered about a Secret, and
    /// wakes whom that concerns, since the watch will show nothing new: workloads
    /// where a state is another now, further resources where the writers are.
    pub(super) fn learn(&self, secret: &ObjectKey, meta: SecretMeta, asked: Moment) {
        let mut view = self.view.borrow_mut();
        let known = view.secrets.get(secret).cloned();
        view.put_secret_answer(secret, meta, asked);
        let (Some(now), users) = (view.secrets.get(secret), view.resources_of_secret(secret))
        else {
            return;
        };
        let writers = |meta: &SecretMeta| {
            let names = meta.managers.iter().map(|manager| manager.name.clone());
            (meta.owners.clone(), names.collect::<Vec<_>>())
        };
        let users: Vec<&ResourceKey> = users.collect();
        if users.len() > 1 && known.as_ref().map(writers) != Some(writers(now)) {
            for user in users {
                self.queue
                    .wake(WorkKey::Resource(user.clone()), Urgency::Now);
            }
        }
        if known.is_none_or(|known| known.states != now.states) {
            self.wake_workloads_of(&view, secret);
        }
    }

    /// The workloads that changes of a Secret restart.
    pub(super) fn wake_workloads_of(&self, view: &View, secret: &ObjectKey) {
        let users = view
            .resources_of_secret(secret)
            .filter_map(|user| view.writer(user));
        for user in users {
            for target in view.targets_of(&*user) {
                self.queue.wake(WorkKey::Workload(target), Urgency::Now);
            }
        }
    }

    /// Everything that refers to a VaultAuth or VaultConnection, directly or not.
    pub fn wake_dependents(&self, kind: Kind, urgency: Urgency) {
        let view = self.view.borrow();
        let wake = |kind, object: &ObjectKey| {
            let key = ResourceKey {
                kind,
                object: object.clone(),
            };
            self.queue.wake(WorkKey::Resource(key), urgency);
        };
        if kind == Kind::VaultConnection {
            view.auths
                .keys()
                .for_each(|object| wake(Kind::VaultAuth, object));
        }
        for writer in view.writers() {
            let key = WorkKey::Resource(key_of(writer));
            self.queue.wake(key, urgency);
        }
    }

    /// Those that asked to see one object, where its store is followed by names.
    pub(super) fn wake_users(&self, store: Store, object: &ObjectKey) {
        if store == Store::Secrets {
            self.view.borrow_mut().hint_taken(object);
        }
        let view = self.view.borrow();
        let (users, workloads) = match store {
            Store::Resource(_) => (Vec::new(), Vec::new()),
            Store::Secrets => {
                let mut users: Vec<ResourceKey> =
                    view.resources_of_secret(object).cloned().collect();
                users.extend(view.formerly_of(object));
                users.extend(view.writers_of_stray(object));
                users.extend(connections_of_authority(&view, object));
                let found = users.iter().filter_map(|user| view.writer(user));
                let targets = found.flat_map(|user| view.targets_of(&*user));
                let targets = targets.collect();
                (users, targets)
            }
            Store::Workloads(kind) => {
                let object = object.clone();
                let target = WorkloadKey { kind, object };
                (
                    view.resources_of_workload(&target).cloned().collect(),
                    vec![target],
                )
            }
        };
        for user in users {
            let urgency = view.urgency(&user);
            self.queue.wake(WorkKey::Resource(user), urgency);
        }
        for workload in workloads {
            self.queue
                .wake(WorkKey::Workload(workload), Urgency::Routine);
        }
    }

    /// All resources: when a store became complete.
    pub fn wake_all(&self) {
        let view = self.view.borrow();
        let resources = [
            (
                Kind::VaultConnection,
                view.connections.keys().collect::<Vec<_>>(),
            ),
            (Kind::VaultAuthGlobal, view.globals.keys().collect()),
            (Kind::VaultAuth, view.auths.keys().collect()),
            (
                Kind::SecretTransformation,
                view.transformations.keys().collect(),
            ),
            (Kind::VaultStaticSecret, view.statics.keys().collect()),
            (Kind::VaultDynamicSecret, view.dynamics.keys().collect()),
            (Kind::VaultPkiSecret, view.pkis.keys().collect()),
        ];
        for (kind, objects) in resources {
            for object in objects {
                let key = ResourceKey {
                    kind,
                    object: object.clone(),
                };
                let urgency = view.urgency(&key);
                self.queue.wake(WorkKey::Resource(key), urgency);
            }
        }
        // Those that are gone and left something behind, here or at Vault.
        self.queue.wake(WorkKey::Ledger, Urgency::Routine);
        for resource in self.ledger.resources() {
            self.queue
                .wake(WorkKey::Resource(resource), Urgency::Routine);
        }
        for writer in view
            .strays
            .iter()
            .flat_map(|key| view.writers_of_stray(key))
        {
            self.queue.wake(WorkKey::Resource(writer), Urgency::Routine);
        }
        // In their order.
        for writer in view.writers() {
            for target in view.targets_of(writer) {
                self.queue.wake(WorkKey::Workload(target), Urgency::Routine);
            }
        }
    }
}
