//! Definitions in the cluster that lack fields of ours: another vendor's, or
//! older ones. What they prune is noticed in the answer to a status write, said
//! once, and no longer counts as a difference, so that nothing is written again
//! and again. Nothing that decides is in a status (architecture: State).

use serde::Serialize;
use serde_json::Value;

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use crate::key::{Kind, ResourceKey};
use crate::problem::Problem;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Writes a status, and gives the resource's new resourceVersion. Fields that
    /// the status before it had and this one lacks are taken away.
    ///
    /// # Errors
    /// Those of [`Cluster::apply_status`].
    pub(super) async fn write_status(
        &self,
        key: &ResourceKey,
        previous: &impl Serialize,
        mut status: Value,
    ) -> Result<String, Problem> {
        let previous = serde_json::to_value(previous).unwrap_or_default();
        for name in names(&previous) {
            if status.get(name).is_none() {
                status[name] = Value::Null;
            }
        }
        let stored = self.cluster.apply_status(key, &status).await?;
        self.note_pruned(key.kind, &status, &stored.status);
        Ok(stored.version)
    }

    fn note_pruned(&self, kind: Kind, sent: &Value, stored: &Value) {
        let mut pruned = self.pruned.borrow_mut();
        let known = pruned.entry(kind).or_default();
        let before = known.clone();
        for name in names(sent).filter(|name| !sent[*name].is_null()) {
            if stored.get(name).is_some() {
                known.remove(name);
            } else {
                known.insert(name.to_owned());
            }
        }
        if *known != before {
            self.metrics.pruned(kind.as_str(), known.len());
        }
        if !known.is_subset(&before) {
            let fields = known.iter().map(String::as_str).collect::<Vec<_>>();
            tracing::warn!(%kind, fields = fields.join(", "), "the definition of this kind in the cluster is not ours and drops fields of its status, and maybe of its spec; apply kustomize/crds");
        }
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
