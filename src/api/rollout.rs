//! Workloads that take a new rollout when the content of their Secret changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::enumeration::string_enum;

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
