//! The real Kubernetes port: one method, one request, counted and classified.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::rc::Rc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use serde_json::{Value, json};

use super::bodies;
use super::kube_errors::{classify, names_the_missing, unknown_kind};
use super::meta;
use super::reviews::Answers;
use super::tenure::Tenure;
use crate::api::{GROUP, STORED_VERSION};
use crate::key::{Kind, ObjectKey, Redacted, ResourceKey};
use crate::problem::Problem;
use crate::reconcile::owns_data;
use crate::reconcile::ports::{
    Clock, Cluster, Life, ManagedFields, Note, SecretContent, SecretWrite, Stored, WorkloadPatch,
};
use crate::reconcile::view::{SecretMeta, WorkloadKey, WorkloadMeta};
use crate::render::SecretData;
use crate::rights::Right;
use crate::telemetry::Metrics;

/// Field manager of status writes, and the reporting controller of events.
pub use crate::reconcile::CONTROLLER;

/// The wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Kubernetes, through the kube client.
pub struct KubeCluster {
    pub(super) client: kube::Client,
    metrics: Rc<Metrics>,
    instance: String,
    pub(super) tenure: Rc<Tenure>,
    pub(super) reviews: RefCell<Answers>,
}

impl KubeCluster {
    /// A port over `client`; `instance` names this process in events, and
    /// `tenure` says before each effect whether it may still have one.
    #[must_use]
    pub fn new(
        client: kube::Client,
        metrics: Rc<Metrics>,
        instance: String,
        tenure: Rc<Tenure>,
    ) -> Self {
        Self {
            client,
            metrics,
            instance,
            tenure,
            reviews: RefCell::default(),
        }
    }

    /// Runs one request, counts it, and classifies its error.
    pub(super) async fn count<T>(
        &self,
        verb: &'static str,
        what: impl FnOnce() -> String,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Problem> {
        let began = tokio::time::Instant::now();
        let answer = request.await.map_err(|error| classify(what(), &error));
        let outcome = answer.as_ref().err().map_or("ok", Problem::reason);
        self.metrics
            .kubernetes_request(verb, outcome, began.elapsed());
        answer
    }

    /// The Secrets beside this one.
    pub(super) fn secrets(&self, key: &ObjectKey) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn resources(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource_of(kind))
    }

    /// A merge patch of a Secret's metadata, fenced by uid and resourceVersion.
    async fn patch_secret_metadata(
        &self,
        secret: &ObjectKey,
        (uid, version): (&str, &str),
        mut change: Value,
    ) -> Result<SecretMeta, Problem> {
        self.tenure.admit_in(&secret.namespace)?;
        change["uid"] = json!(uid);
        change["resourceVersion"] = json!(version);
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Merge(json!({ "metadata": change }));
        let api = self.secrets(secret);
        let request = api.patch_metadata(&secret.name, &params, &body);
        self.count("patch", || format!("patch Secret {secret}"), request)
            .await
            .map(meta::secret)
    }

    /// A Secret with its data; none where there is none.
    pub(super) async fn get_secret(&self, key: &ObjectKey) -> Result<Option<Secret>, Problem> {
        self.count(
            "get",
            || format!("get Secret {key}"),
            self.secrets(key).get_opt(&key.name),
        )
        .await
    }
}

/// How the API server names a kind of ours.
#[must_use]
pub fn resource_of(kind: Kind) -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: STORED_VERSION.to_owned(),
        api_version: format!("{GROUP}/{STORED_VERSION}"),
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

impl Cluster for KubeCluster {
    async fn apply_secret(&self, write: &SecretWrite) -> Result<SecretMeta, Problem> {
        let key = &write.secret;
        self.tenure.admit_in(&key.namespace)?;
        let mut params = PatchParams::apply(&write.manager);
        params.force = true;
        let body = Patch::Apply(bodies::secret(write));
        let request = self.secrets(key);
        let request = request.patch_metadata(&key.name, &params, &body);
        self.count("patch", || format!("apply Secret {key}"), request)
            .await
            .map(meta::secret)
    }

    async fn secret_meta(&self, secret: &ObjectKey) -> Result<Option<SecretMeta>, Problem> {
        let what = || format!("get metadata of Secret {secret}");
        let found = self
            .count(
                "get",
                what,
                self.secrets(secret).get_metadata_opt(&secret.name),
            )
            .await?;
        Ok(found.map(meta::secret))
    }

    async fn secret_content(
        &self,
        secret: &ObjectKey,
        manager: &str,
    ) -> Result<Option<SecretContent>, Problem> {
        let found = self.get_secret(secret).await?;
        Ok(found.map(|secret| {
            let entries = secret.metadata.managed_fields.unwrap_or_default();
            let owned = |key: &str| {
                entries
                    .iter()
                    .filter(|entry| entry.manager.as_deref() == Some(manager))
                    .filter_map(|entry| entry.fields_v1.as_ref())
                    .any(|fields| owns_data(&fields.0, key))
            };
            let data = secret.data.unwrap_or_default().into_iter();
            SecretContent {
                uid: secret.metadata.uid.unwrap_or_default(),
                resource_version: secret.metadata.resource_version.unwrap_or_default(),
                type_: secret.type_.unwrap_or_default(),
                data: data
                    .filter(|(key, _)| owned(key))
                    .map(|(key, value)| (key, Redacted::new(value.0)))
                    .collect(),
            }
        }))
    }

    async fn delete_secret(&self, secret: &ObjectKey, seen: &SecretMeta) -> Result<(), Problem> {
        self.tenure.admit_in(&secret.namespace)?;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(seen.uid.clone()),
                resource_version: Some(seen.resource_version.clone()),
            }),
            ..DeleteParams::default()
        };
        let api = self.secrets(secret);
        let request = api.delete(&secret.name, &params);
        self.count("delete", || format!("delete Secret {secret}"), request)
            .await
            .map(drop)
    }

    async fn annotate_secret(
        &self,
        secret: &ObjectKey,
        seen: &SecretMeta,
        (name, value): (&str, Option<&str>),
    ) -> Result<SecretMeta, Problem> {
        let change = json!({ "annotations": { name: value } });
        self.patch_secret_metadata(secret, (&seen.uid, &seen.resource_version), change)
            .await
    }

    async fn managed_fields(&self, secret: &ObjectKey) -> Result<Option<ManagedFields>, Problem> {
        let api = self.secrets(secret);
        let request = api.get_metadata_opt(&secret.name);
        let what = || format!("get metadata of Secret {secret}");
        let found = self.count("get", what, request).await?;
        Ok(found.map(|found| ManagedFields {
            uid: found.metadata.uid.unwrap_or_default(),
            resource_version: found.metadata.resource_version.unwrap_or_default(),
            entries: found.metadata.managed_fields.unwrap_or_default(),
        }))
    }

    async fn set_managed_fields(
        &self,
        secret: &ObjectKey,
        fields: &ManagedFields,
    ) -> Result<SecretMeta, Problem> {
        let change = json!({ "managedFields": fields.entries });
        self.patch_secret_metadata(secret, (&fields.uid, &fields.resource_version), change)
            .await
    }

    async fn ledger(&self, secret: &ObjectKey) -> Result<Option<SecretData>, Problem> {
        let found = self.get_secret(secret).await?;
        Ok(found.map(|found| {
            let data = found.data.unwrap_or_default().into_iter();
            data.map(|(name, value)| (name, Redacted::new(value.0)))
                .collect()
        }))
    }

    async fn merge_ledger(
        &self,
        secret: &ObjectKey,
        changes: &BTreeMap<String, Option<Redacted<Vec<u8>>>>,
    ) -> Result<bool, Problem> {
        self.tenure.admit()?;
        let body = Patch::Merge(bodies::ledger(changes));
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.secrets(secret);
        let request = async {
            match api.patch_metadata(&secret.name, &params, &body).await {
                Err(kube::Error::Api(status)) if names_the_missing(&status, &secret.name) => {
                    Ok(false)
                }
                other => other.map(|_| true),
            }
        };
        self.count("patch", || format!("write into Secret {secret}"), request)
            .await
    }

    async fn make_ledger(&self, secret: &ObjectKey) -> Result<(), Problem> {
        self.tenure.admit()?;
        let body = Patch::Apply(bodies::empty_ledger(&secret.name));
        let params = PatchParams::apply(CONTROLLER);
        let api = self.secrets(secret);
        let request = api.patch_metadata(&secret.name, &params, &body);
        self.count("patch", || format!("create Secret {secret}"), request)
            .await
            .map(drop)
    }

    async fn life(&self, key: &ResourceKey, uid: &str) -> Result<Life, Problem> {
        let api = self.resources(key.kind, &key.object.namespace);
        let name = &key.object.name;
        let request = async {
            match api.get_metadata(name).await {
                Err(kube::Error::Api(status)) if names_the_missing(&status, name) => Ok(None),
                other => other.map(Some),
            }
        };
        let found = self.count("get", || format!("get {key}"), request).await;
        let found = found.map_err(|problem| match problem {
            Problem::Conflict { what, .. } => unknown_kind(what),
            other => other,
        })?;
        let found = found.filter(|found| found.metadata.uid.as_deref() == Some(uid));
        Ok(found.map_or(Life::Gone, |found| {
            match found.metadata.deletion_timestamp {
                Some(_) => Life::Leaving,
                None => Life::Alive(found.metadata.generation.unwrap_or_default()),
            }
        }))
    }

    async fn patch_workload(
        &self,
        workload: &WorkloadKey,
        patch: &WorkloadPatch,
    ) -> Result<WorkloadMeta, Problem> {
        self.tenure.admit_in(&workload.object.namespace)?;
        let resource = meta::workload_resource(workload.kind);
        let api: Api<meta::Workload> =
            Api::namespaced_with(self.client.clone(), &workload.object.namespace, &resource);
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Merge(bodies::workload(workload.kind, patch));
        let request = api.patch(&workload.object.name, &params, &body);
        self.count("patch", || format!("patch {workload}"), request)
            .await
            .map(|found| meta::workload(found, workload.kind))
    }

    async fn apply_status(&self, key: &ResourceKey, status: &Value) -> Result<Stored, Problem> {
        self.tenure.admit_in(&key.object.namespace)?;
        let api = self.resources(key.kind, &key.object.namespace);
        // No apply: one with fields that the definition in the cluster lacks is
        // refused as a whole, where a merge loses just those.
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Merge(json!({ "status": status }));
        let request = api.patch_status(&key.object.name, &params, &body);
        let written = self
            .count("patch", || format!("write the status of {key}"), request)
            .await;
        // What cannot be told in the status is told in the log, or nowhere.
        if let Err(problem) = &written {
            tracing::warn!(resource = %key, %problem, "status not written");
        }
        let mut written = written?;
        Ok(Stored {
            version: written.metadata.resource_version.unwrap_or_default(),
            status: written.data["status"].take(),
        })
    }

    async fn publish(&self, note: &Note) -> Result<(), Problem> {
        let about = &note.about;
        self.tenure.admit_in(&about.object.namespace)?;
        let api: Api<Event> = Api::namespaced(self.client.clone(), &about.object.namespace);
        let event = bodies::event(note, &self.instance);
        let params = PostParams::default();
        let request = api.create(&params, &event);
        self.count(
            "create",
            || format!("publish an event about {about}"),
            request,
        )
        .await
        .map(drop)
    }

    async fn may(&self, namespace: &str, right: &Right, anew: bool) -> Result<bool, Problem> {
        self.ask(namespace, right, anew).await
    }

    async fn set_finalizers(
        &self,
        key: &ResourceKey,
        resource_version: &str,
        finalizers: &[String],
    ) -> Result<(), Problem> {
        self.tenure.admit_in(&key.object.namespace)?;
        let api = self.resources(key.kind, &key.object.namespace);
        let body = json!({ "metadata": {
            "resourceVersion": resource_version,
            "finalizers": finalizers,
        }});
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Merge(body);
        let request = api.patch_metadata(&key.object.name, &params, &body);
        self.count("patch", || format!("remove a finalizer of {key}"), request)
            .await
            .map(drop)
    }
}

impl Debug for KubeCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeCluster")
    }
}
