//! The report about a resource whose kind does not matter: a kind that is not
//! served yet, a panic, a deadline, a store that cannot be watched.

use std::rc::Rc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::object::HasStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::engine::Engine;
use super::kept::{Kept, of_kind};
use super::ports::{Clock, Cluster};
use super::references::reason_of;
use super::report::{self, Verdict};
use super::view::View;
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::problem::Problem;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Metadata and status of a resource whose kind does not matter.
    pub(super) fn plain(&self, key: &ResourceKey) -> Option<(ObjectMeta, Value)> {
        of_kind!(key.kind, look(&self.view.borrow(), &key.object))
    }

    /// Stores a status that was written, unless the watch has brought a newer
    /// resource than the one that was looked at.
    pub(super) fn put_status(
        &self,
        key: &ResourceKey,
        looked_at: &ObjectMeta,
        status: Value,
        version: String,
    ) {
        let view = &mut self.view.borrow_mut();
        of_kind!(
            key.kind,
            put_status(view, &key.object, looked_at, status, version)
        );
    }

    /// Reports a problem of a resource of any kind.
    pub(super) async fn report_problem(
        &self,
        key: &ResourceKey,
        problem: &Problem,
    ) -> Result<(), Problem> {
        let Some((metadata, status)) = self.plain(key) else {
            return Ok(());
        };
        self.report_plain(key, &metadata, &status, problem).await
    }

    pub(super) async fn report_plain(
        &self,
        key: &ResourceKey,
        metadata: &ObjectMeta,
        status: &Value,
        problem: &Problem,
    ) -> Result<(), Problem> {
        let previous: Vec<Condition> =
            serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
        let verdict = Verdict::bad(problem);
        let mut types = vec!["Healthy", "Ready"];
        let secret = [
            Kind::VaultStaticSecret,
            Kind::VaultDynamicSecret,
            Kind::VaultPkiSecret,
        ];
        if secret.contains(&key.kind) {
            types.insert(0, "SecretSynced");
        }
        let mut conditions = self.conditions(&previous, &verdict.findings(&types), metadata);
        // What else was found about the resource stands.
        let others = previous.iter().filter(|condition| {
            condition.type_ != report::STALLED
                && report::find(&conditions, &condition.type_).is_none()
        });
        conditions.extend(others.cloned().collect::<Vec<_>>());
        if conditions == previous {
            return Ok(());
        }
        let value = report::status(
            &conditions,
            metadata.generation,
            further(key.kind, status, problem),
        );
        let version = self.write_status(key, status, value.clone()).await?;
        // The view holds it at once: its echo is no news.
        self.put_status(key, metadata, value, version);
        if reason_of(&previous) != reason_of(&conditions) {
            self.warn(key, metadata.uid.as_deref(), problem).await;
        }
        Ok(())
    }
}

fn look<T>(view: &View, object: &ObjectKey) -> Option<(ObjectMeta, Value)>
where
    T: Kept + HasStatus<Status: Serialize>,
{
    let found = T::get(view, object)?;
    let status = found.status().map(serde_json::to_value);
    let status = status.and_then(Result::ok).unwrap_or_default();
    Some((found.meta().clone(), status))
}

fn put_status<T>(
    view: &mut View,
    object: &ObjectKey,
    looked_at: &ObjectMeta,
    status: Value,
    version: String,
) where
    T: Kept + HasStatus<Status: DeserializeOwned>,
{
    let Some(found) = T::get(view, object) else {
        return;
    };
    if found.meta().resource_version != looked_at.resource_version {
        return;
    }
    if let Ok(status) = serde_json::from_value(status) {
        let mut new = T::clone(&found);
        *new.status_mut() = Some(status);
        new.meta_mut().resource_version = Some(version);
        T::put(view, object, Some(Rc::new(new)));
    }
}

/// Status fields beside the conditions, for a resource with a problem: what was
/// known before, and what the kinds' schemas require.
fn further(kind: Kind, previous: &Value, problem: &Problem) -> Value {
    let mut fields = required(kind, problem);
    if let (Value::Object(fields), Value::Object(previous)) = (&mut fields, previous) {
        for (name, value) in previous {
            let ours = ["conditions", "observedGeneration", "valid", "error"];
            if !ours.contains(&name.as_str()) && !value.is_null() {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    fields
}

/// Status fields that the kinds' schemas require.
fn required(kind: Kind, problem: &Problem) -> Value {
    match kind {
        Kind::VaultConnection => json!({ "valid": false }),
        Kind::VaultAuth | Kind::VaultAuthGlobal | Kind::SecretTransformation => {
            json!({ "valid": false, "error": problem.to_string() })
        }
        Kind::VaultStaticSecret => json!({ "lastGeneration": 0 }),
        Kind::VaultDynamicSecret => json!({
            "lastGeneration": 0, "lastRenewalTime": 0,
            "secretLease": { "id": "", "duration": 0, "renewable": false, "requestID": "" },
        }),
        Kind::VaultPkiSecret => json!({
            "lastGeneration": 0, "lastRotation": 0, "valid": false, "error": problem.reason(),
        }),
    }
}
