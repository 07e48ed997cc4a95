//! Finalizers that the Vault Secrets Operator left on resources that moved to
//! us: removed where the migration Role allows it, else reported. We never add
//! one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::engine::Engine;
use super::ports::{Clock, Cluster, Note};
use crate::api::GROUP;
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::rights::Right;
use crate::vault::Vault;

/// The five finalizers (compatibility.md, section 11).
pub(super) const FOREIGN: [&str; 5] = [
    "vaultauth.secrets.hashicorp.com/finalizer",
    "vaultconnection.secrets.hashicorp.com/finalizer",
    "vaultstaticsecret.secrets.hashicorp.com/finalizer",
    "vaultdynamicsecret.secrets.hashicorp.com/finalizer",
    "vaultpkisecrets.secrets.hashicorp.com/finalizer",
];

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// A finalizer that must stay is told, and stands in the way of nothing else.
    ///
    /// # Errors
    /// What trying again soon will mend.
    pub(super) async fn drop_foreign_finalizers(
        &self,
        key: &ResourceKey,
        metadata: &ObjectMeta,
    ) -> Result<(), Problem> {
        let all = metadata.finalizers.as_deref().unwrap_or_default();
        let keep: Vec<String> = all
            .iter()
            .filter(|name| !FOREIGN.contains(&name.as_str()))
            .cloned()
            .collect();
        if keep.len() == all.len() {
            return Ok(());
        }
        let namespace = &key.object.namespace;
        // Of the migration Role.
        let patch = Right {
            group: GROUP.into(),
            resource: key.kind.plural().into(),
            name: None,
            verb: "patch".into(),
        };
        let mend = if self.cluster.may(namespace, &patch, false).await? {
            let version = metadata.resource_version.clone().unwrap_or_default();
            match self.cluster.set_finalizers(key, &version, &keep).await {
                Err(
                    refused @ (Problem::KubernetesForbidden { .. }
                    | Problem::KubernetesRefused { .. }),
                ) => refused.to_string(),
                other => return other,
            }
        } else {
            "bind rbac/migration, or remove it by hand once that operator is gone".to_owned()
        };
        if !self.told_finalizer.borrow_mut().insert(key.clone()) {
            return Ok(());
        }
        self.publish(Note {
            about: key.clone(),
            uid: metadata.uid.clone().unwrap_or_default(),
            warning: true,
            reason: "FinalizerLeft",
            message: format!("a finalizer of the Vault Secrets Operator is still on this resource and would keep it from being deleted: {mend}"),
            action: "Migrate",
            at: self.clock.now(),
        })
        .await;
        Ok(())
    }
}
