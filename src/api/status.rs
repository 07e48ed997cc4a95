//! Parts of the status that several kinds share.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which Vault token served the last read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VaultClientMeta {
    /// Key under which the login is shared among resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_key: Option<String>,
    /// Hash of the token's accessor; empty for tokens without one. Never the token itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}
