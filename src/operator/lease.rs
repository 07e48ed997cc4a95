//! One Lease of coordination.k8s.io/v1: read, made, and written only under the
//! resourceVersion that was read. Decides nothing. It is made by an apply, not
//! by a POST: only that passes a Role that names it.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::cluster::CONTROLLER;
use super::kube_errors::classify;
use crate::problem::Problem;
use crate::telemetry::Metrics;

/// How long a request may take: an answer that comes later is of no use, since
/// the next try must still fit into the time for which the Lease holds.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// resourceVersion.
    pub version: String,
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// For how long after a renewal others leave it alone.
    pub duration: Duration,
    /// When it was last renewed, by the holder's clock.
    pub renewed: Option<Timestamp>,
    /// When the holder got it.
    pub acquired: Option<Timestamp>,
    /// How often it went to another holder.
    pub transitions: i32,
}

impl Record {
    fn of(lease: Lease) -> Self {
        let spec = lease.spec.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.unwrap_or_default();
        Self {
            version: lease.metadata.resource_version.unwrap_or_default(),
            holder: spec.holder_identity.unwrap_or_default(),
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
            renewed: spec.renew_time.map(|time| time.0),
            acquired: spec.acquire_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }

    fn spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            renew_time: self.renewed.map(MicroTime),
            acquire_time: self.acquired.map(MicroTime),
            lease_transitions: Some(self.transitions),
            ..LeaseSpec::default()
        }
    }
}

/// A Lease by its place.
pub struct LeaseClient {
    api: Api<Lease>,
    place: String,
    name: &'static str,
    manager: String,
    metrics: Rc<Metrics>,
}

impl LeaseClient {
    /// The Lease `name` in `namespace`; `manager` is a field manager of this
    /// process alone, so that of two who make it at a time one gets a 409.
    pub fn new(
        client: kube::Client,
        namespace: &str,
        name: &'static str,
        manager: String,
        metrics: Rc<Metrics>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            place: format!("Lease {namespace}/{name}"),
            name,
            manager,
            metrics,
        }
    }

    /// `Lease namespace/name`, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What it says; `None` when it does not exist.
    ///
    /// # Errors
    /// Rights and transport.
    pub async fn read(&self) -> Result<Option<Record>, Problem> {
        let found = self.call("get", self.api.get_opt(self.name)).await?;
        Ok(found.map(Record::of))
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when somebody else made it meanwhile, or the
    /// namespace does not exist; rights and transport.
    pub async fn create(&self, record: &Record) -> Result<Record, Problem> {
        let body = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "labels": { "app.kubernetes.io/managed-by": CONTROLLER },
            },
            "spec": record.spec(),
        });
        let (params, body) = (PatchParams::apply(&self.manager), Patch::Apply(body));
        let request = self.api.patch(self.name, &params, &body);
        self.call("patch", request).await.map(Record::of)
    }

    /// Writes `record` over what has the version `over`.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when it has another version or is gone; rights and
    /// transport.
    pub async fn write(&self, over: &str, record: &Record) -> Result<Record, Problem> {
        let body = json!({
            "metadata": { "resourceVersion": over },
            "spec": record.spec(),
        });
        let params = PatchParams {
            field_manager: Some(CONTROLLER.to_owned()),
            ..PatchParams::default()
        };
        let body = Patch::Merge(body);
        let request = self.api.patch(self.name, &params, &body);
        self.call("patch", request).await.map(Record::of)
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Problem> {
        let what = || format!("{verb} {}", self.place);
        let began = tokio::time::Instant::now();
        let answer = match tokio::time::timeout(REQUEST_LIMIT, request).await {
            Ok(answer) => answer.map_err(|error| classify(what(), &error)),
            Err(_) => Err(Problem::KubernetesUnavailable {
                what: what(),
                why: format!("no answer within {} s", REQUEST_LIMIT.as_secs()),
            }),
        };
        let outcome = answer.as_ref().err().map_or("ok", Problem::reason);
        self.metrics
            .kubernetes_request(verb, outcome, began.elapsed());
        answer
    }
}
