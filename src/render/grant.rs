//! What Vault made for one resource, beside its data.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ContentHash;

/// What is to be renewed or replaced in time and given back in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Id of the lease; empty where the answer had none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lease: String,
    /// When Vault gave it.
    pub since: Timestamp,
    /// For how long; 0: it does not end by itself.
    pub seconds: u64,
    /// Whether the lease can be renewed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renewable: bool,
    /// Keyed hash of the request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ContentHash>,
}

impl Grant {
    /// For how long it was given.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
