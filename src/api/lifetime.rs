//! How long what a Secret holds lasts: fields that the kinds share whose content
//! Vault gives for a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::enumeration::string_enum;
use super::schema;

string_enum! {
    /// How it stands, for people.
    Phase {
        /// Nothing is held yet.
        Pending = "Pending",
        /// The Secret holds what Vault gave.
        Held = "Held",
        /// It does, and what was held before is kept alive for those who still use it.
        Rotating = "Rotating",
        /// What the Secret holds is due to be renewed or replaced, and that fails.
        AtRisk = "AtRisk",
    }
}

/// How long what the Secret holds lasts. Whole seconds; what isn't known, or doesn't end, is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifetime {
    /// How the credentials stand, in a word for people: Pending, Held, Rotating or AtRisk.
    // No list in the schema: a definition that knows fewer words must not refuse the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text")]
    pub phase: Option<Phase>,
    /// When what the Secret holds is renewed or replaced next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub next_renewal: Option<Time>,
    /// When what the Secret holds ends if nobody renews it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub expiry: Option<Time>,
    /// Until when what the Secret holds works at the least if the operator or Vault stopped when
    /// this was written: until its own end or that of the Vault token that it hangs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub survives_until: Option<Time>,
}
