//! What a resource says itself of the restarts of its workloads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::DURATION;

/// When the workloads of a resource take their new rollout, beyond what the operator's configuration
/// (`rollout`) says: stricter than it, never looser. What is left out is as the configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutSpec {
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
    /// Whether a workload that does not get on after its restart keeps those waiting that would
    /// restart with the same content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halt_on_failure: Option<bool>,
    /// When workloads are restarted, such as Mon-Fri 22:00-04:00 Europe/Berlin, and only where the
    /// operator's configuration has a window open, too. At most 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), inner(length(max = 100)))]
    pub windows: Option<Vec<String>>,
}
