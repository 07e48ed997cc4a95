//! What is sent to the API server, built from what the ports ask for.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use super::argo;
use super::cluster::CONTROLLER;
use crate::api::{GROUP, STORED_VERSION};
use crate::key::Redacted;
use crate::problem::printable;
use crate::reconcile::RESTARTED_AT;
use crate::reconcile::ports::{Fence, Note, SecretWrite, WorkloadPatch};
use crate::reconcile::view::WorkloadKind;

/// Longest note of an event (Kubernetes, events.k8s.io/v1).
const NOTE_LIMIT: usize = 1000;

/// A resourceVersion that no object has: the store counts from 1, and the first
/// object makes it 2. Of an apply with it, what is missing is created and what
/// exists is a conflict. (Shown by the script that the tests run against the
/// real API server and its model; the documentation does not say it.)
const NO_VERSION: &str = "1";

/// The body of a Secret's apply. Its `Debug` is never used: the values are in it.
pub fn secret(write: &SecretWrite) -> Value {
    let mut metadata = json!({ "name": write.secret.name });
    match &write.fence {
        Fence::Create => metadata["resourceVersion"] = json!(NO_VERSION),
        Fence::Update {
            uid,
            resource_version,
        } => {
            metadata["uid"] = json!(uid);
            metadata["resourceVersion"] = json!(resource_version);
        }
    }
    if !write.labels.is_empty() {
        metadata["labels"] = json!(write.labels);
    }
    if !write.annotations.is_empty() {
        metadata["annotations"] = json!(write.annotations);
    }
    if let Some(owner) = &write.owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": format!("{GROUP}/{STORED_VERSION}"),
            "kind": owner.kind.as_str(),
            "name": owner.name,
            "uid": owner.uid,
        }]);
    }
    let mut body = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata });
    // Also an empty one: an apply that leaves out `data` and owned all that is
    // owned of it takes the whole map away, with what nobody owns in it. (Nobody
    // owns what was applied as `stringData`.)
    let encoded = write
        .data
        .iter()
        .map(|(key, value)| (key.clone(), json!(STANDARD.encode(value.expose()))));
    body["data"] = Value::Object(encoded.collect());
    if let Some(type_) = &write.type_ {
        body["type"] = json!(type_);
    }
    body
}

/// The merge patch of a workload, with the restart if it is one. Of a Rollout all stands on itself: another template
/// would be a new revision.
pub fn workload(kind: WorkloadKind, patch: &WorkloadPatch) -> Value {
    let mut body = json!({ "metadata": {
        "uid": patch.uid,
        "resourceVersion": patch.resource_version,
        "annotations": patch.annotations,
    }});
    if patch.template.is_empty() {
        return body;
    }
    if kind == WorkloadKind::ArgoRollout {
        for (name, hash) in &patch.template {
            body["metadata"]["annotations"][name] = json!(hash);
        }
        let at = patch.annotations.get(RESTARTED_AT);
        let at = at.and_then(|text| text.parse().ok()).map(argo::restart_at);
        body["spec"] = json!({ "restartAt": at.map(|at| at.to_string()) });
    } else {
        body["spec"] = json!({ "template": { "metadata": { "annotations": patch.template } } });
    }
    body
}

/// The merge patch that sets or removes entries of the ledger. As above, its
/// `Debug` is never used.
pub fn ledger(changes: &BTreeMap<String, Option<Redacted<Vec<u8>>>>) -> Value {
    let encoded = changes.iter().map(|(name, value)| {
        let value = value.as_ref().map(|value| STANDARD.encode(value.expose()));
        (name.clone(), json!(value))
    });
    json!({ "data": Value::Object(encoded.collect()) })
}

/// A Secret of the ledger without an entry.
pub fn empty_ledger(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": { "app.kubernetes.io/managed-by": CONTROLLER },
        },
    })
}

/// An event; `instance` names the process that reports it.
pub fn event(note: &Note, instance: &str) -> Event {
    let about = &note.about;
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", about.object.name)),
            namespace: Some(about.object.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(note.action.to_owned()),
        reason: Some(note.reason.to_owned()),
        note: Some(printable(&note.message, NOTE_LIMIT)),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        event_time: Some(MicroTime(note.at)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{GROUP}/{STORED_VERSION}")),
            kind: Some(about.kind.as_str().to_owned()),
            namespace: Some(about.object.namespace.clone()),
            name: Some(about.object.name.clone()),
            uid: Some(note.uid.clone()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}
