//! How credentials take the place of others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::enumeration::string_enum;
use super::schema::DURATION;

string_enum! {
    /// What becomes of the old credentials when there are new ones.
    RotationStrategy {
        /// They stay alive until every target runs the new ones.
        Overlap = "overlap",
        /// They are given back at once.
        Replace = "replace",
    }
}

/// How credentials take the place of others; the operator's configuration fills what is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RotationSpec {
    /// What becomes of the old credentials when there are new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RotationStrategy>,
    /// How long the old ones stay alive after every target has rolled, as one number and one
    /// unit: 30s, 1.5h. At least the time that the pods are given to end, where their end is not
    /// seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub drain: Option<String>,
    /// How long the old ones are kept at most while targets do not finish their rollout; without
    /// it as long as their lease can be renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub timeout: Option<String>,
}
