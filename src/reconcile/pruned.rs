//! Definitions in the cluster that lack fields of ours: another vendor's, or
//! older ones. What they prune is noticed in the answer to a status write, said
//! once, and no longer counts as a difference, so that nothing is written again
//! and again. Nothing that decides is in a status (architecture: State).

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use crate::key::{Kind, ResourceKey};
use crate::problem::Problem;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Writes a status, and gives the resource's new resourceVersion.
    ///
    /// # Errors
    /// Those of [`Cluster::apply_status`].
    pub(super) async fn write_status(
        &self,
        key: &ResourceKey,
        status: &Value,
    ) -> Result<String, Problem> {
        let stored = self.cluster.apply_status(key, status).await?;
        let missing: BTreeSet<String> = names(status)
            .filter(|name| stored.status.get(name).is_none())
            .map(str::to_owned)
            .collect();
        let known = self.pruned.borrow().get(&key.kind).cloned();
        if !missing.is_empty() && known.as_ref() != Some(&missing) {
            let fields = missing.iter().map(String::as_str).collect::<Vec<_>>();
            tracing::warn!(kind = %key.kind, fields = fields.join(", "), "the definition of this kind in the cluster is not ours and drops fields of its status, and maybe of its spec; apply kustomize/crds");
            self.metrics.pruned(key.kind.as_str(), missing.len());
            self.pruned.borrow_mut().insert(key.kind, missing);
        }
        Ok(stored.version)
    }

    /// Whether two statuses are the same, as far as the cluster can hold them.
    pub(super) fn same_status<T: Serialize + PartialEq>(
        &self,
        kind: Kind,
        one: &T,
        other: &T,
    ) -> bool {
        let pruned = self.pruned.borrow();
        let Some(missing) = pruned.get(&kind) else {
            return one == other;
        };
        let kept = |status: &T| {
            let mut value = serde_json::to_value(status).unwrap_or_default();
            if let Value::Object(fields) = &mut value {
                fields.retain(|name, _| !missing.contains(name));
            }
            value
        };
        kept(one) == kept(other)
    }
}

fn names(status: &Value) -> impl Iterator<Item = &str> {
    let fields = status.as_object();
    fields
        .into_iter()
        .flat_map(|fields| fields.keys().map(String::as_str))
}
