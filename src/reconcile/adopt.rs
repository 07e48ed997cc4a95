//! Taking over a Secret from who wrote it for the same resource before: the Vault
//! Secrets Operator, or a resource of the same name whose Secret was kept. What
//! they own becomes our manager's, so that a key that leaves the source later
//! really goes; no value is touched.
//!
//! Source: Kubernetes documentation, "Server-Side Apply", on moving ownership
//! from update to apply; compatibility.md 8.2 for that operator's labels.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::Value;

use super::decide::Former;
use super::engine::Engine;
use super::parting::manager_of;
use super::ports::{Clock, Cluster, ManagedFields};
use super::secret::Work;
use crate::problem::Problem;
use crate::vault::Vault;

/// Value of the label `app.kubernetes.io/managed-by` on that operator's Secrets.
pub const VSO: &str = "hashicorp-vso";

/// A label that nobody else writes, as managed fields name it.
const VSO_OWNER: &str = "f:secrets.hashicorp.com/vso-ownerRefUID";

/// Whether an entry is of the Vault Secrets Operator, whatever its name there.
#[must_use]
pub fn is_of_vso(entry: &ManagedFieldsEntry) -> bool {
    let labels = entry
        .fields_v1
        .as_ref()
        .and_then(|fields| fields.0.pointer("/f:metadata/f:labels"));
    entry.operation.as_deref() == Some("Update")
        && labels.is_some_and(|labels| labels.get(VSO_OWNER).is_some())
}

/// The entries once `manager` owns, as an apply, all that those chosen by `from`
/// own; `None` when there is nothing to move.
pub fn moved(
    entries: &[ManagedFieldsEntry],
    manager: &str,
    from: impl Fn(&ManagedFieldsEntry) -> bool,
) -> Option<Vec<ManagedFieldsEntry>> {
    let ours = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply")
    };
    let last = entries.iter().rfind(|entry| from(entry))?;
    let mut fields = Value::Null;
    for entry in entries.iter().filter(|entry| from(entry) || ours(entry)) {
        if let Some(more) = &entry.fields_v1 {
            unite(&mut fields, &more.0);
        }
    }
    let one = ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some("Apply".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..last.clone()
    };
    let others = entries.iter().filter(|entry| !from(entry) && !ours(entry));
    Some(std::iter::once(one).chain(others.cloned()).collect())
}

/// Adds the members of one set of fields to another.
fn unite(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                unite(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) if into.is_null() => *into = more.clone(),
        _ => {}
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Makes what `former` owns in the destination this resource's.
    pub(super) async fn adopt(&self, work: &Work, former: &Former) -> Result<(), Problem> {
        let secret = &work.permitted.destination().secret;
        if let Former::Resource(uid) = former
            && self.is_known(uid)
        {
            return Err(Problem::Conflict {
                what: format!("take over the Secret {}", secret.name),
                why: "the resource that left it, as an annotation says, is there".to_owned(),
            });
        }
        self.still_asked(work).await?;
        let Some(live) = self.cluster.managed_fields(secret).await? else {
            return self.look_at(secret).await.map(drop);
        };
        let seen = self.view.borrow().secrets.get(secret).cloned();
        if !seen.is_some_and(|seen| seen.is_at(&live.uid, &live.resource_version)) {
            return self.look_at(secret).await.map(drop);
        }
        let entries = match former {
            Former::Vso => moved(&live.entries, &work.me.manager, is_of_vso),
            Former::Resource(uid) => moved(&live.entries, &work.me.manager, |entry| {
                entry.manager == Some(manager_of(uid))
            }),
        };
        let Some(entries) = entries else {
            return self.look_at(secret).await.map(drop);
        };
        let fields = ManagedFields { entries, ..live };
        let asked = self.view.borrow().moment();
        let meta = self.cluster.set_managed_fields(secret, &fields).await?;
        self.learn(secret, meta, asked);
        let whose = match former {
            Former::Vso => "which the Vault Secrets Operator made for this resource",
            Former::Resource(_) => "which an earlier resource of this name left",
        };
        let message = format!(
            "the Secret {}, {whose}, is now kept by this operator; its content was not changed",
            secret.name
        );
        self.tell(work, "SecretAdopted", message).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        }
    }

    fn of_vso() -> ManagedFieldsEntry {
        let fields = json!({
            "f:data": {".": {}, "f:password": {}},
            "f:metadata": {"f:labels": {".": {}, VSO_OWNER: {}}},
        });
        entry("vault-secrets-operator", "Update", fields)
    }

    #[test]
    fn all_that_it_owned_becomes_one_apply_of_ours() {
        let theirs = entry("kubectl-edit", "Update", json!({"f:data": {"f:more": {}}}));
        let earlier = entry("vto-u", "Apply", json!({"f:data": {"f:user": {}}}));
        let entries = [theirs.clone(), of_vso(), earlier];
        let now = moved(&entries, "vto-u", is_of_vso).unwrap();
        assert_eq!(now.len(), 2, "{now:?}");
        assert_eq!(now[1], theirs);
        let fields = json!({
            "f:data": {".": {}, "f:password": {}, "f:user": {}},
            "f:metadata": {"f:labels": {".": {}, VSO_OWNER: {}}},
        });
        assert_eq!(now[0], entry("vto-u", "Apply", fields));
        assert_eq!(moved(&now, "vto-u", is_of_vso), None, "once is enough");
    }

    #[test]
    fn nobody_elses_entry_is_taken_for_that_operators() {
        assert!(is_of_vso(&of_vso()));
        for other in [
            entry("kubectl-edit", "Update", json!({"f:data": {"f:more": {}}})),
            entry("vto-u", "Apply", of_vso().fields_v1.unwrap().0),
            ManagedFieldsEntry::default(),
        ] {
            assert!(!is_of_vso(&other), "{other:?}");
        }
    }
}
