//! VaultStaticSecret: a secret of a key-value engine.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::destination::Destination;
use super::enumeration::string_enum;
use super::rollout::{RolloutRestartTarget, Rollouts};
use super::rollout_spec::RolloutSpec;
use super::schema::{self, DURATION};
use super::status::{Condition, VaultClientMeta};

fn default_hmac_secret_data() -> bool {
    true
}

string_enum! {
    /// Version of the key-value engine at the mount.
    KvType {
        /// Without versions.
        V1 = "kv-v1",
        /// With versions and metadata.
        V2 = "kv-v2",
    }
}

string_enum! {
    /// What becomes of the Secret when its source is deleted in Vault.
    OnSourceDelete {
        /// It keeps what it last held.
        Keep = "keep",
        /// It goes too.
        Delete = "delete",
    }
}

/// A secret of a key-value engine, and where it goes.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "secrets.hashicorp.com",
    version = "v1beta1",
    kind = "VaultStaticSecret",
    plural = "vaultstaticsecrets",
    namespaced,
    status = "VaultStaticSecretStatus",
    derive = "PartialEq",
    shortname = "vss",
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
    doc = "VaultStaticSecret keeps a Kubernetes Secret equal to a secret of a key-value engine in Vault."
)]
#[serde(rename_all = "camelCase")]
pub struct VaultStaticSecretSpec {
    /// The VaultAuth to use, as name or namespace/name; the default one if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_auth_ref: Option<String>,
    /// Vault namespace of the secret; that of the login if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Mount of the key-value engine in Vault.
    pub mount: String,
    /// Path of the secret below the mount, without data/.
    pub path: String,
    /// Version of the engine: kv-v1 or kv-v2.
    #[serde(rename = "type")]
    pub type_: KvType,
    /// Version of the secret to stay at; 0 for the newest. Only for kv-v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer", range(min = 0))]
    pub version: Option<i64>,
    /// How often to look for a change, as one number and one unit: 30s, 1.5h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub refresh_after: Option<String>,
    /// Accepted for existing manifests. Whether content changed is always decided by a keyed hash.
    #[serde(default = "default_hmac_secret_data")]
    pub hmac_secret_data: bool,
    /// Workloads that take a new rollout when the content changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_restart_targets: Option<Vec<RolloutRestartTarget>>,
    /// Further workloads that take a new rollout then, found without their names. A field of
    /// vault-tenant-operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// The Kubernetes Secret that receives the data.
    pub destination: Destination,
    /// What becomes of the Secret when Vault says that its source was deleted or destroyed: it is
    /// kept, or deleted too. Kept if empty. A field of vault-tenant-operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_source_delete: Option<OnSourceDelete>,
    /// Further ways to notice a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_config: Option<SyncConfig>,
}

/// Further ways to notice a change in Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncConfig {
    /// Whether to listen to the event stream of Vault, so that a change arrives at once. Needs Vault
    /// Enterprise 1.16 or newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instant_updates: Option<bool>,
}

/// What the operator did about the secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["lastGeneration"]))]
pub struct VaultStaticSecretStatus {
    /// The metadata.generation that was last processed.
    pub last_generation: i64,
    /// Keyed hash of the data last written.
    #[serde(rename = "secretMAC", skip_serializing_if = "Option::is_none")]
    pub secret_mac: Option<String>,
    /// Value of the annotation vso.hashicorp.com/resync that was last done: the source was read
    /// after that value was set, and the Secret holds it. At most 256 characters of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_resync: Option<String>,
    /// Names of the Secrets that may hold what this resource wrote: the one that it names, and former
    /// ones that it has not parted from. A hint where to look; what is done with such a Secret is
    /// decided by what the Secret proves of itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Which Vault token served the last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_client_meta: Option<VaultClientMeta>,
    /// The metadata.generation that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How the workloads stand that take a new rollout.
    #[serde(flatten)]
    pub rollouts: Rollouts,
    /// State of the secret by aspect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
