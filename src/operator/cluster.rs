//! The real Kubernetes port: one method, one request, counted and classified.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use super::bodies;
use super::kube_errors::classify;
use super::meta;
use crate::api::{GROUP, STORED_VERSION};
use crate::key::{Kind, ObjectKey, Redacted, ResourceKey};
use crate::problem::Problem;
use crate::reconcile::owns_data;
use crate::reconcile::ports::{
    Clock, Cluster, Fence, Note, SecretContent, SecretWrite, WorkloadPatch,
};
use crate::reconcile::view::{SecretMeta, WorkloadKey, WorkloadMeta};
use crate::telemetry::Metrics;
use crate::vault::Credentials;

/// Field manager of status writes, and the reporting controller of events.
pub const CONTROLLER: &str = "vault-tenant-operator";

/// How long an answer about a right is believed.
const REVIEW_LIFE: Duration = Duration::from_secs(300);

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
    client: kube::Client,
    metrics: Rc<Metrics>,
    instance: String,
    reviews: RefCell<HashMap<(Kind, String), (tokio::time::Instant, bool)>>,
}

impl KubeCluster {
    /// A port over `client`; `instance` names this process in events.
    #[must_use]
    pub fn new(client: kube::Client, metrics: Rc<Metrics>, instance: String) -> Self {
        Self {
            client,
            metrics,
            instance,
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

impl Credentials for KubeCluster {
    async fn service_account_token(
        &self,
        account: &ObjectKey,
        audiences: &[String],
        expiration_seconds: i64,
    ) -> Result<Redacted<String>, Problem> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &account.namespace);
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: TokenRequestSpec {
                audiences: audiences.to_vec(),
                expiration_seconds: Some(expiration_seconds),
                bound_object_ref: None,
            },
            status: None,
        };
        let what = || format!("request a token of the ServiceAccount {account}");
        let params = PostParams::default();
        let answer = self
            .count("create", what, api.create_token_request(&account.name, &params, &request))
            .await
            .map_err(|problem| match problem {
                Problem::Conflict { why, .. } => Problem::CredentialUnusable {
                    why: format!("no token of the ServiceAccount {account}: {why}; create it, or correct the VaultAuth's serviceAccount"),
                },
                other => other,
            })?;
        let token = answer
            .status
            .map(|status| status.token)
            .filter(|token| !token.is_empty());
        token
            .map(Redacted::new)
            .ok_or_else(|| Problem::CredentialUnusable {
                why: format!("the API server gave an empty token for the ServiceAccount {account}"),
            })
    }

    async fn secret_value(
        &self,
        secret: &ObjectKey,
        key: &str,
    ) -> Result<Redacted<Vec<u8>>, Problem> {
        let unusable = |why: String| Problem::CredentialUnusable { why };
        let found = self.get_secret(secret).await?.ok_or_else(|| {
            unusable(format!(
                "the Secret {secret} does not exist; create it with the key {key}"
            ))
        })?;
        let value = found.data.and_then(|mut data| data.remove(key));
        value
            .map(|bytes| Redacted::new(bytes.0))
            .ok_or_else(|| unusable(format!("the Secret {secret} has no key {key}; add it")))
    }
}

impl Cluster for KubeCluster {
    async fn apply_secret(&self, write: &SecretWrite) -> Result<SecretMeta, Problem> {
        let key = &write.secret;
        let mut params = PatchParams::apply(&write.manager);
        params.force = matches!(write.fence, Fence::Update { .. });
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
                type_: secret.type_.unwrap_or_default(),
                data: data
                    .filter(|(key, _)| owned(key))
                    .map(|(key, value)| (key, Redacted::new(value.0)))
                    .collect(),
            }
        }))
    }

    async fn resource_lives(&self, key: &ResourceKey, uid: &str) -> Result<bool, Problem> {
        let api = self.resources(key.kind, &key.object.namespace);
        let found = self
            .count(
                "get",
                || format!("get {key}"),
                api.get_metadata_opt(&key.object.name),
            )
            .await?;
        Ok(found.is_some_and(|found| {
            found.metadata.uid.as_deref() == Some(uid)
                && found.metadata.deletion_timestamp.is_none()
        }))
    }

    async fn patch_workload(
        &self,
        workload: &WorkloadKey,
        patch: &WorkloadPatch,
    ) -> Result<WorkloadMeta, Problem> {
        let resource = meta::workload_resource(workload.kind);
        let api: Api<meta::Workload> =
            Api::namespaced_with(self.client.clone(), &workload.object.namespace, &resource);
        let mut body = json!({ "metadata": {
            "uid": patch.uid,
            "resourceVersion": patch.resource_version,
            "annotations": patch.annotations,
        }});
        if !patch.template.is_empty() {
            body["spec"] = json!({ "template": { "metadata": { "annotations": patch.template } } });
        }
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Merge(body);
        let request = api.patch(&workload.object.name, &params, &body);
        self.count("patch", || format!("patch {workload}"), request)
            .await
            .map(meta::workload)
    }

    async fn apply_status(&self, key: &ResourceKey, status: &Value) -> Result<String, Problem> {
        let api = self.resources(key.kind, &key.object.namespace);
        let resource = resource_of(key.kind);
        let body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": key.object.name },
            "status": status,
        });
        let params = PatchParams::apply(CONTROLLER).force();
        let body = Patch::Apply(body);
        let request = api.patch_status(&key.object.name, &params, &body);
        let written = self
            .count("patch", || format!("write the status of {key}"), request)
            .await;
        // What cannot be told in the status is told in the log, or nowhere.
        if let Err(problem) = &written {
            tracing::warn!(resource = %key, %problem, "status not written");
        }
        let written = written?;
        Ok(written.metadata.resource_version.unwrap_or_default())
    }

    async fn publish(&self, note: &Note) -> Result<(), Problem> {
        let about = &note.about;
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

    async fn may_patch(&self, kind: Kind, namespace: &str) -> Result<bool, Problem> {
        let key = (kind, namespace.to_owned());
        let known = self.reviews.borrow().get(&key).copied();
        if let Some((asked, allowed)) = known
            && asked.elapsed() < REVIEW_LIFE
        {
            return Ok(allowed);
        }
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some(kind.plural().to_owned()),
                    verb: Some("patch".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let request = api.create(&params, &review);
        let answer = self
            .count(
                "create",
                || format!("ask whether {kind} may be patched"),
                request,
            )
            .await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.reviews
            .borrow_mut()
            .insert(key, (tokio::time::Instant::now(), allowed));
        Ok(allowed)
    }

    async fn set_finalizers(
        &self,
        key: &ResourceKey,
        resource_version: &str,
        finalizers: &[String],
    ) -> Result<(), Problem> {
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
