//! Workloads that take a new rollout when the content of their Secret changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::enumeration::string_enum;
use super::schema;

string_enum! {
    /// The kind of a workload.
    WorkloadKind {
        /// `apps/v1` Deployment.
        Deployment = "Deployment",
        /// `apps/v1` DaemonSet.
        DaemonSet = "DaemonSet",
        /// `apps/v1` StatefulSet.
        StatefulSet = "StatefulSet",
        /// Rollout of Argo Rollouts.
        ArgoRollout = "argo.Rollout",
    }
}

/// A workload in the namespace of the resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRestartTarget {
    /// Kind of the workload.
    pub kind: WorkloadKind,
    /// Name of the workload.
    pub name: String,
}

string_enum! {
    /// How a workload stands towards the content of the Secret, for people.
    RolloutState {
        /// Its pods have run the content since they were there: nothing had to be restarted.
        Current = "Current",
        /// It was restarted, and all its pods run the content.
        Rolled = "Rolled",
        /// Nobody can tell.
        NotKnown = "NotKnown",
        /// It was restarted, and its pods are being replaced.
        Rolling = "Rolling",
        /// A restart is due.
        Pending = "Pending",
        /// It was restarted, and its new pods don't come up.
        Failed = "Failed",
    }
}

/// How one workload stands that the resource names in `rolloutRestartTargets` or finds by `rollout`. Whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTargetStatus {
    /// Kind of the workload.
    pub kind: String,
    /// Name of the workload.
    pub name: String,
    /// How it stands, in a word for people: Current, Rolled, NotKnown, Rolling, Pending or Failed.
    // No list in the schema: a definition that knows fewer words must not refuse the status.
    #[schemars(schema_with = "schema::text")]
    pub state: RolloutState,
    /// What a restart that is due waits for, what holds a rollout up, or why nobody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Before when a restart that is due does not happen, where that is a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub until: Option<Time>,
    /// When the operator last restarted it, where its pods run the content since, or are about to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub restarted_at: Option<Time>,
}

/// How the workloads stand that a resource has restarted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollouts {
    /// The worst state of all workloads that take a new rollout, in a word for people; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text")]
    pub rollout: Option<RolloutState>,
    /// How each of them stands, the first 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rollout_targets: Vec<RolloutTargetStatus>,
}
