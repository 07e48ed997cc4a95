//! Objects of the API server, cut on entry to what the view keeps.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ApiResource, DeserializeGuard, DynamicObject, PartialObjectMeta};
use litemap::LiteMap;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::argo;
use super::pod_uses::uses;
use crate::problem::printable;
use crate::reconcile::kept::Kept;
use crate::reconcile::view::{Manager, Rollout, SecretMeta, WorkloadKind, WorkloadMeta};
use crate::reconcile::{PREFIX, RESTARTED_AT, digest_of_managed, is_of_template};
use crate::reconcile::{adopt, another};

/// Annotation with the whole manifest, which only costs memory here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Label that says who made an object (Kubernetes, "Recommended Labels").
const MADE_BY: &str = "app.kubernetes.io/managed-by";

/// A Secret's metadata, cut.
#[must_use]
pub fn secret(object: PartialObjectMeta<Secret>) -> SecretMeta {
    let meta = object.metadata;
    let made_by = meta.labels.as_ref().and_then(|labels| labels.get(MADE_BY));
    SecretMeta {
        vso_made: made_by.is_some_and(|by| by == adopt::VSO),
        vso_owns: meta.managed_fields.iter().flatten().any(adopt::is_of_vso),
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        owners: exactly(
            meta.owner_references
                .into_iter()
                .flatten()
                .map(|owner| owner.uid),
        ),
        states: LiteMap::from_sorted_store_unchecked(exactly(
            // A tree gives its keys in order.
            ours(meta.annotations.unwrap_or_default()).into_iter(),
        )),
        managers: exactly(meta.managed_fields.into_iter().flatten().map(|entry| {
            let fields = entry.fields_v1.map(|fields| fields.0).unwrap_or_default();
            Manager {
                name: entry.manager.unwrap_or_default(),
                time: entry.time.map(|time| time.0),
                fields: digest_of_managed(&fields),
                owns_type: fields.get("f:type").is_some(),
                // What was applied as `stringData` is in `data`, where nobody owns it.
                owns_data: ["f:data", "f:stringData"]
                    .iter()
                    .any(|name| fields.get(name).is_some()),
            }
        })),
    }
}

/// In no more room than they need: a vector that grows takes room for four, and
/// most Secrets have one owner and one manager.
fn exactly<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = items.collect();
    all.shrink_to_fit();
    all
}

/// So many labels of a workload are looked at; objects have a handful.
const MOST_LABELS: usize = 100;

fn labels(labels: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    Some(labels).filter(|labels| labels.len() <= MOST_LABELS)
}

fn ours(annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect()
}

/// A custom resource without what no decision needs; `None` when it is not of
/// the expected form, which is said in the log.
pub fn resource<T: Kept>(object: DeserializeGuard<T>) -> Option<T> {
    match object.0 {
        Ok(mut object) => {
            let meta = object.meta_mut();
            meta.managed_fields = meta.managed_fields.take().and_then(another::of_others);
            if let Some(annotations) = &mut meta.annotations {
                annotations.remove(LAST_APPLIED);
            }
            Some(object)
        }
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            let why = printable(&invalid.error.to_string(), 200);
            tracing::warn!(kind = %T::KIND, name, why, "an object cannot be read: the definition in the cluster is not ours; apply kustomize/crds");
            None
        }
    }
}

/// The part of a Deployment, StatefulSet, DaemonSet or Rollout that restarts look at;
/// the rest is skipped while it is read.
#[derive(Clone, Debug, Deserialize)]
pub struct Workload {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WorkloadSpec,
    #[serde(default)]
    status: WorkloadStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadSpec {
    paused: bool,
    template: Template,
    replicas: Option<i64>,
    // A Rollout's may be below zero: nobody but its controller judges it.
    progress_deadline_seconds: Option<i64>,
    update_strategy: UpdateStrategy,
    restart_at: Option<String>,
}

/// Of a StatefulSet or DaemonSet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UpdateStrategy {
    #[serde(rename = "type")]
    type_: String,
    rolling_update: RollingUpdate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RollingUpdate {
    partition: i64,
}

/// What the kinds count, each under names of its own; and what a Rollout says beside.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadStatus {
    observed_generation: Value,
    replicas: i64,
    updated_replicas: i64,
    ready_replicas: i64,
    available_replicas: i64,
    terminating_replicas: Option<i64>,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
    conditions: Vec<WorkloadCondition>,
    restarted_at: Option<String>,
    phase: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WorkloadCondition {
    reason: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMeta,
    // Whole for a moment: types for what is looked at would be a hundredth of the binary.
    spec: Value,
}

impl Template {
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.metadata.labels.hash(&mut hasher);
        self.metadata.annotations.hash(&mut hasher);
        self.spec.hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
struct TemplateMeta {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Resource for Workload {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(kind)
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(kind)
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(kind)
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// How the API server names a kind of workload.
#[must_use]
pub fn workload_resource(kind: WorkloadKind) -> ApiResource {
    let (version, name) = match kind {
        WorkloadKind::ArgoRollout => ("v1alpha1", "Rollout"),
        _ => ("v1", kind.as_str()),
    };
    ApiResource {
        group: kind.group().to_owned(),
        version: version.to_owned(),
        api_version: format!("{}/{version}", kind.group()),
        kind: name.to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// How long a rollout may take where its kind has no such field, and what the API
/// server fills in for a Deployment (Kubernetes, "Deployments").
const DEADLINE: u32 = 600;

/// What the API server fills in for pods (Kubernetes, "Pod Lifecycle").
const GRACE: u32 = 30;

/// Seconds as a spec has them, or what holds without.
fn whole(seconds: Option<i64>, otherwise: u32) -> u32 {
    let seconds = seconds.map(|seconds| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX));
    seconds.unwrap_or(otherwise)
}

impl Workload {
    /// As `kubectl rollout status` judges it; and no pod of before may be ending
    /// where that is counted.
    fn rollout(&self, kind: WorkloadKind) -> Rollout {
        let (spec, status) = (&self.spec, &self.status);
        let wanted = match kind {
            WorkloadKind::DaemonSet => status.desired_number_scheduled,
            _ => spec.replicas.unwrap_or(1),
        };
        let (leaves_old, lacks_pods) = match kind {
            WorkloadKind::Deployment => (
                status.updated_replicas < wanted || status.replicas > status.updated_replicas,
                status.available_replicas < status.updated_replicas
                    || status.terminating_replicas.is_some_and(|ending| ending > 0),
            ),
            WorkloadKind::StatefulSet => (
                status.updated_replicas < wanted,
                status.ready_replicas < wanted,
            ),
            WorkloadKind::DaemonSet => (
                status.updated_number_scheduled < wanted,
                status.number_available < wanted,
            ),
            // Its restarts replace pods by others of the same template.
            WorkloadKind::ArgoRollout => (false, status.available_replicas < wanted),
        };
        let argo = match kind {
            WorkloadKind::ArgoRollout => self.seen().standing(),
            _ => argo::Standing::default(),
        };
        let strategy = &spec.update_strategy;
        let partition = strategy.rolling_update.partition;
        let above = wanted.saturating_sub(partition).max(0);
        let generation = self.metadata.generation.unwrap_or_default();
        let failed = |one: &WorkloadCondition| one.reason == "ProgressDeadlineExceeded";
        let grace = spec.template.spec["terminationGracePeriodSeconds"].as_i64();
        let is_seen = argo::has_seen(&status.observed_generation, generation);
        let updated = status.updated_replicas.max(status.updated_number_scheduled);
        // Of an older template it says nothing about this one.
        let failing = is_seen && status.conditions.iter().any(failed);
        let under_way = leaves_old
            || lacks_pods
            || !is_seen
            || argo.under_way
            || (failing && kind == WorkloadKind::ArgoRollout);
        Rollout {
            under_way,
            pods: wanted,
            // Until it is seen, these are pods of the template before.
            updated: if under_way && is_seen { updated } else { 0 },
            got_on: None,
            seen: None,
            leaves_old: leaves_old && under_way,
            failing,
            undone: argo.undone,
            by_hand: strategy.type_ == "OnDelete" || partition > 0,
            has_part: strategy.type_ != "OnDelete"
                && (!is_seen || status.updated_replicas < above || status.ready_replicas < wanted),
            sees_ends: status.terminating_replicas.is_some() || kind == WorkloadKind::StatefulSet,
            deadline: whole(spec.progress_deadline_seconds, DEADLINE),
            grace: whole(grace, GRACE),
        }
    }

    /// What a Rollout says of its restart.
    fn seen(&self) -> argo::Seen<'_> {
        let annotations = self.metadata.annotations.as_ref();
        let restarted = annotations.and_then(|all| all.get(RESTARTED_AT));
        let created = self.metadata.creation_timestamp.as_ref();
        argo::Seen {
            created: created.map(|time| time.0),
            restarted: restarted.and_then(|text| text.parse().ok()),
            asked: self.spec.restart_at.as_deref(),
            done: self.status.restarted_at.as_deref(),
            phase: &self.status.phase,
        }
    }
}

#[cfg(test)]
#[path = "meta_tests.rs"]
mod tests;

/// A workload, cut.
#[must_use]
pub fn workload(object: Workload, kind: WorkloadKind) -> WorkloadMeta {
    let rollout = object.rollout(kind);
    let pod_template = object.spec.template.digest();
    let meta = object.metadata;
    let annotations = ours(meta.annotations.unwrap_or_default());
    let mut template = ours(object.spec.template.metadata.annotations);
    if kind == WorkloadKind::ArgoRollout {
        let marks = annotations.iter().filter(|(name, _)| is_of_template(name));
        template = marks
            .filter(|_| !rollout.undone)
            .map(|(name, hash)| (name.clone(), hash.clone()))
            .collect();
    }
    WorkloadMeta {
        rollout,
        pod_template,
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.unwrap_or_default(),
        created: meta.creation_timestamp.map(|time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        paused: object.spec.paused,
        annotations,
        template,
        labels: labels(meta.labels.unwrap_or_default()),
        uses: uses(&object.spec.template.spec),
    }
}
