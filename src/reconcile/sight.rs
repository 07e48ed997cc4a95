//! What a reconcile must have seen before it may judge, and how it ends where
//! that is not here yet, or cannot be seen.

use super::engine::{Engine, Next};
use super::ports::{Clock, Cluster};
use super::resolve;
use super::sources::SecretResource;
use super::view::Store;
use crate::key::{ObjectKey, ResourceKey};
use crate::problem::Problem;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Whether the stores that a reconcile needs are complete; if not, how it
    /// ends: quietly while their first list is on its way, with a report where
    /// one of them cannot be watched.
    pub(super) async fn blind(&self, key: &ResourceKey, stores: &[Store]) -> Option<Next> {
        let failing = {
            let view = self.view.borrow();
            let namespace = &key.object.namespace;
            view.stores.incomplete(stores, namespace)?.cloned()
        };
        Some(self.wait_to_see(key, failing).await)
    }

    /// As [`Engine::blind`], for one object where its store is followed by names.
    pub(super) async fn blind_to(
        &self,
        key: &ResourceKey,
        store: Store,
        object: &ObjectKey,
    ) -> Option<Next> {
        let unseen = self.view.borrow().stores.unseen(store, object)?;
        let failing = Some(unseen).filter(Problem::is_finding);
        Some(self.wait_to_see(key, failing).await)
    }

    /// Looks at the CA of a resource's connection, where its name is followed and
    /// no watch has shown it yet: with that sight every login would be made again.
    pub(super) async fn see_authority(&self, resource: &dyn SecretResource) {
        let _gate = self.authority_gate.lock().await;
        let unseen = {
            let view = self.view.borrow();
            let connection = resolve::connection_key(self.scope(&view), resource);
            let secret = connection.and_then(|key| {
                let spec = &view.connections.get(&key)?.spec;
                let name = spec.ca_cert_secret_ref.as_deref()?;
                Some(ObjectKey::new(key.namespace, name))
            });
            secret.filter(|secret| {
                let shown = view.secrets.contains_key(secret);
                !shown && !view.stores.settled(Store::Secrets, secret)
            })
        };
        if let Some(secret) = unseen {
            // Whoever reads the certificates tells why that cannot be.
            let _ = self.look_at(&secret).await;
        }
    }

    /// Complete or failing for another reason: both wake whoever waits.
    async fn wait_to_see(&self, key: &ResourceKey, failing: Option<Problem>) -> Next {
        if let Some(problem) = failing {
            self.keep_unseen(key, &problem).await;
            let problem = self.explained(problem).await;
            if let Err(problem) = self.report_problem(key, &problem).await {
                return Next::Failed(problem);
            }
        }
        Next::Settled(None)
    }
}
