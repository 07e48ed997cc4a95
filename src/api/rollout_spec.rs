//! What a resource says itself of the restarts of its workloads: of which, and when.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::enumeration::string_enum;
use super::schema::DURATION;

/// Which workloads take a new rollout when the content changes, beside those of rolloutRestartTargets; and when all of
/// them do, beyond what the operator's configuration (`rollout`) says: stricter than it, never looser. What is left
/// out is as the configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutSpec {
    /// Whether every workload of the namespace does whose pod template uses the Secret of the destination: env,
    /// envFrom, a volume, a projected volume or imagePullSecrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto: Option<bool>,
    /// Those workloads of the namespace that have these labels themselves, whatever their pods have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Whether nothing is restarted for the time being, not even where credentials end; what is due
    /// stays due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
    /// How long after a change of content further changes are awaited, as one number and one unit:
    /// 30s, 1.5m. An hour at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub debounce: Option<String>,
    /// The least time between two restarts of one workload, as one number and one unit: 10m, 24h. 30
    /// days at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub min_interval: Option<String>,
    /// Whether a workload that is rolling, or has fewer pods available than it should, is restarted
    /// only afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_when_available: Option<bool>,
    /// Whether the first workload restarts alone with new content, and keeps those waiting that
    /// would restart with the same while it does not get on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halt_on_failure: Option<bool>,
    /// When workloads are restarted, such as Mon-Fri 22:00-04:00 Europe/Berlin, and only where the
    /// operator's configuration has a window open, too. At most 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), inner(length(max = 100)))]
    pub windows: Option<Vec<String>>,
}

/// A label selector as Kubernetes has it: all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that are there with this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

/// What a label must be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorRequirement {
    /// Name of the label.
    pub key: String,
    /// How it is compared: In, NotIn, Exists or DoesNotExist.
    pub operator: SelectorOperator,
    /// What it is compared with: at least one for In and NotIn, none for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

string_enum! {
/// How a label is compared.
SelectorOperator {
    /// It is there with one of the values.
    In = "In",
    /// It has none of the values, or is not there.
    NotIn = "NotIn",
    /// It is there.
    Exists = "Exists",
    /// It is not there.
    DoesNotExist = "DoesNotExist",
}}
