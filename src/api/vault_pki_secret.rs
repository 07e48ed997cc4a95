//! VaultPKISecret: a certificate that Vault issues.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::destination::Destination;
use super::lifetime::Lifetime;
use super::rollout::{RolloutRestartTarget, Rollouts};
use super::rollout_spec::RolloutSpec;
use super::schema::{self, DURATION, DURATION_OR_DAYS};
use super::status::Condition;

/// A certificate that Vault issues, and where it goes.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "secrets.hashicorp.com",
    version = "v1beta1",
    kind = "VaultPKISecret",
    plural = "vaultpkisecrets",
    namespaced,
    status = "VaultPKISecretStatus",
    derive = "PartialEq",
    shortname = "vps",
    category = "vault",
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".spec.destination.name"
    ),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".status.rollout"),
    printcolumn(
        name = "Common name",
        type_ = "string",
        json_path = ".spec.commonName",
        priority = 1
    ),
    printcolumn(
        name = "Role",
        type_ = "string",
        json_path = ".spec.role",
        priority = 1
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        priority = 1
    ),
    printcolumn(
        name = "Expiry",
        type_ = "string",
        json_path = ".status.expiry",
        priority = 1
    ),
    doc = "VaultPKISecret keeps a Kubernetes Secret filled with a certificate that Vault issues."
)]
#[serde(rename_all = "camelCase")]
pub struct VaultPKISecretSpec {
    /// The VaultAuth to use, as name or namespace/name; the default one if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_auth_ref: Option<String>,
    /// Vault namespace of the engine; that of the login if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Mount of the PKI engine in Vault.
    pub mount: String,
    /// Role of the PKI engine to issue by.
    pub role: String,
    /// Whether the certificate is revoked when a new one takes its place and when this resource is
    /// deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoke: Option<bool>,
    /// Whether a Secret that the operator didn't make is emptied when this resource is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<bool>,
    /// How long before its end the certificate is renewed, as one number and one unit: 30s, 1.5h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub expiry_offset: Option<String>,
    /// Issuer to use, by name or id; that of the role if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<String>,
    /// Common name of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// Alternative names: DNS names or mail addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alt_names: Option<Vec<String>>,
    /// Alternative names: IP addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_sans: Option<Vec<String>>,
    /// Alternative names: URIs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_sans: Option<Vec<String>>,
    /// Alternative names of other kinds, each as oid;UTF8:value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_sans: Option<Vec<String>>,
    /// User ids in the subject of the certificate.
    #[serde(rename = "userIDs", skip_serializing_if = "Option::is_none")]
    pub user_ids: Option<Vec<String>>,
    /// How long the certificate is valid, as one number and one unit: 90m, 24h, 30d. Not together
    /// with notAfter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION_OR_DAYS))]
    pub ttl: Option<String>,
    /// Until when the certificate is valid, in UTC: 2030-12-31T23:59:59Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Encoding of the certificate: pem, der or pem_bundle; pem if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Encoding of the private key: der or pkcs8; that of format if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_format: Option<String>,
    /// Whether the common name is left out of the alternative names.
    #[serde(rename = "excludeCNFromSans", skip_serializing_if = "Option::is_none")]
    pub exclude_cn_from_sans: Option<bool>,
    /// Workloads that take a new rollout when the certificate changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_restart_targets: Option<Vec<RolloutRestartTarget>>,
    /// Further workloads that take a new rollout then, found without their names. A field of
    /// vault-tenant-operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// The Kubernetes Secret that receives the certificate.
    pub destination: Destination,
}

/// What the operator did about the certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["error", "lastGeneration", "lastRotation", "valid"]))]
pub struct VaultPKISecretStatus {
    /// Serial number of the certificate in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// End of the certificate in use, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<i64>,
    /// The metadata.generation that was last processed.
    pub last_generation: i64,
    /// When the certificate in use was issued, in seconds since 1970.
    pub last_rotation: i64,
    /// Keyed hash of the data last written.
    #[serde(rename = "secretMAC", skip_serializing_if = "Option::is_none")]
    pub secret_mac: Option<String>,
    /// Whether the last attempt succeeded.
    pub valid: bool,
    /// What is wrong, as one word; empty if nothing is.
    pub error: String,
    /// The metadata.generation that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The value of the annotation vso.hashicorp.com/resync that was last done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_resync: Option<String>,
    /// How long what the Secret holds lasts.
    #[serde(flatten)]
    pub lifetime: Lifetime,
    /// How the workloads stand that take a new rollout.
    #[serde(flatten)]
    pub rollouts: Rollouts,
    /// Names of the Secrets that may hold what was written: the present one first, then
    /// those whose clean-up is not done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// State of the certificate by aspect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
