//! VaultDynamicSecret: credentials that Vault makes on request and leases.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::destination::Destination;
use super::enumeration::string_enum;
use super::lifetime::Lifetime;
use super::rollout::{RolloutRestartTarget, Rollouts};
use super::rollout_spec::RolloutSpec;
use super::rotation::RotationSpec;
use super::schema::{self, DURATION};
use super::status::{Condition, VaultClientMeta};

/// Share of a lease's duration after which it is renewed when the manifest says nothing, in percent.
pub const DEFAULT_RENEWAL_PERCENT: i64 = 67;

fn default_renewal_percent() -> i64 {
    DEFAULT_RENEWAL_PERCENT
}

string_enum! {
    /// HTTP method of the request for credentials.
    HttpMethod {
        /// Read.
        Get = "GET",
        /// Write.
        Post = "POST",
        /// Write.
        Put = "PUT",
    }
}

/// Credentials that Vault makes on request, and where they go.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "secrets.hashicorp.com",
    version = "v1beta1",
    kind = "VaultDynamicSecret",
    plural = "vaultdynamicsecrets",
    namespaced,
    status = "VaultDynamicSecretStatus",
    derive = "PartialEq",
    shortname = "vds",
    category = "vault",
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".spec.destination.name"
    ),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".status.rollout"),
    printcolumn(
        name = "Mount",
        type_ = "string",
        json_path = ".spec.mount",
        priority = 1
    ),
    printcolumn(
        name = "Path",
        type_ = "string",
        json_path = ".spec.path",
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
    doc = "VaultDynamicSecret keeps a Kubernetes Secret filled with leased credentials of Vault."
)]
#[serde(rename_all = "camelCase")]
pub struct VaultDynamicSecretSpec {
    /// The VaultAuth to use, as name or namespace/name; the default one if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_auth_ref: Option<String>,
    /// Vault namespace of the secret; that of the login if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Mount of the secrets engine in Vault.
    pub mount: String,
    /// Path of the credentials below the mount, for example creds/app.
    pub path: String,
    /// HTTP method of the request, GET if left out. With params it is always a write.
    #[serde(rename = "requestHTTPMethod", skip_serializing_if = "Option::is_none")]
    pub request_http_method: Option<HttpMethod>,
    /// Fields of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<BTreeMap<String, String>>,
    /// Share of the lease's duration after which it is renewed, in percent.
    #[serde(default = "default_renewal_percent")]
    #[schemars(schema_with = "schema::integer", range(min = 0, max = 90))]
    pub renewal_percent: i64,
    /// Whether the lease is revoked when this resource is deleted; true if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoke: Option<bool>,
    /// Whether the path holds credentials that Vault rotates by itself, such as static roles of
    /// the database engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_static_creds: Option<bool>,
    /// Workloads that take a new rollout when the credentials change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_restart_targets: Option<Vec<RolloutRestartTarget>>,
    /// Further workloads that take a new rollout then, found without their names. A field of
    /// vault-tenant-operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// The Kubernetes Secret that receives the data.
    pub destination: Destination,
    /// How credentials take the place of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationSpec>,
    /// When to ask again if the answer carries no lease, as one number and one unit: 30s, 1.5h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub refresh_after: Option<String>,
}

/// A lease as Vault gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["duration", "id", "renewable", "requestID"]))]
pub struct SecretLease {
    /// Id of the lease.
    pub id: String,
    /// Duration of the lease in seconds.
    #[schemars(schema_with = "schema::integer")]
    pub duration: i64,
    /// Whether the lease can be renewed.
    pub renewable: bool,
    /// Id of the request at Vault that made the lease.
    #[serde(rename = "requestID")]
    pub request_id: String,
}

/// What Vault says about credentials that it rotates by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["lastVaultRotation", "rotationPeriod", "ttl"]))]
pub struct StaticCredsMetaData {
    /// When Vault last rotated the credentials, in seconds since 1970.
    pub last_vault_rotation: i64,
    /// Time between two rotations in seconds; 0 when a schedule is used.
    pub rotation_period: i64,
    /// Schedule of the rotations in cron form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_schedule: Option<String>,
    /// Time until the next rotation, as of the last read, in seconds.
    pub ttl: i64,
}

/// What the operator did about the credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["lastGeneration", "lastRenewalTime", "secretLease"]))]
pub struct VaultDynamicSecretStatus {
    /// The metadata.generation that was last processed.
    pub last_generation: i64,
    /// When the credentials were last read or their lease renewed, in seconds since 1970.
    pub last_renewal_time: i64,
    /// The lease of the credentials in use.
    pub secret_lease: SecretLease,
    /// What Vault says about credentials that it rotates by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_creds_meta_data: Option<StaticCredsMetaData>,
    /// Uid of the operator's pod that last wrote this status.
    #[serde(rename = "lastRuntimePodUID", skip_serializing_if = "Option::is_none")]
    pub last_runtime_pod_uid: Option<String>,
    /// Keyed hash of the data last written; only for credentials that Vault rotates by itself.
    #[serde(rename = "secretMAC", skip_serializing_if = "Option::is_none")]
    pub secret_mac: Option<String>,
    /// Which Vault token served the last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_client_meta: Option<VaultClientMeta>,
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
    /// State of the credentials by aspect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
