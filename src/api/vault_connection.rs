//! VaultConnection: which Vault, and how to reach it.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{self, DURATION};
use super::status::Condition;

/// Which Vault to talk to.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "secrets.hashicorp.com",
    version = "v1beta1",
    kind = "VaultConnection",
    plural = "vaultconnections",
    namespaced,
    status = "VaultConnectionStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "vc",
    category = "vault",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    doc = "VaultConnection says how to reach a Vault server."
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["address", "skipTLSVerify"]))]
pub struct VaultConnectionSpec {
    /// Base URL of the Vault server, for example `https://vault.example.com:8200`.
    pub address: String,
    /// Headers sent with every request. Those that carry identity or routing are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// Name that the server's certificate must carry, if it isn't the host of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
    /// Name of a Secret in the namespace of this resource whose key ca.crt holds the PEM
    /// certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert_secret_ref: Option<String>,
    /// Path of a PEM file in the operator's container with the certificates to trust. Not together
    /// with caCertSecretRef.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert_path: Option<String>,
    /// Whether the server's certificate is left unchecked. Not for production.
    #[serde(rename = "skipTLSVerify", default)]
    pub skip_tls_verify: bool,
    /// How long one request may take, as one number and one unit: 30s, 1.5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub timeout: Option<String>,
}

/// What the operator found out about the connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["valid"]))]
pub struct VaultConnectionStatus {
    /// Whether Vault answered through this connection.
    pub valid: bool,
    /// The metadata.generation that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State of the connection by aspect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
