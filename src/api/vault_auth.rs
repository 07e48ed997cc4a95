//! VaultAuth: as whom to log in.
//!
//! The blocks of the methods are shared with VaultAuthGlobal, which adds its defaults to each.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::enumeration::string_enum;
use super::schema::{self, NAMESPACE_NAME, OBJECT_NAME};
use super::status::Condition;

/// Lifetime of a ServiceAccount token asked for a login when the manifest says nothing, in seconds.
/// The API server grants no shorter one.
pub const DEFAULT_TOKEN_EXPIRATION_SECONDS: i64 = 600;

fn default_token_expiration_seconds() -> i64 {
    DEFAULT_TOKEN_EXPIRATION_SECONDS
}

string_enum! {
    /// A way to log in to Vault.
    AuthMethod {
        /// A ServiceAccount token, checked by Vault at the API server.
        Kubernetes = "kubernetes",
        /// A JSON web token, checked by Vault itself.
        Jwt = "jwt",
        /// A role id with a secret id.
        AppRole = "appRole",
        /// A signed request of an AWS identity.
        Aws = "aws",
        /// An identity token of a Google service account.
        Gcp = "gcp",
    }
}

string_enum! {
    /// How a map of the VaultAuth and those of its VaultAuthGlobal become one.
    MergeStrategyKind {
        /// All of them, the VaultAuth's entries winning.
        Union = "union",
        /// The first one that isn't empty.
        Replace = "replace",
        /// The VaultAuth's alone.
        None = "none",
    }
}

/// As whom to log in to Vault.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "secrets.hashicorp.com",
    version = "v1beta1",
    kind = "VaultAuth",
    plural = "vaultauths",
    namespaced,
    status = "VaultAuthStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "va",
    category = "vault",
    printcolumn(name = "Method", type_ = "string", json_path = ".spec.method"),
    printcolumn(
        name = "Mount",
        type_ = "string",
        json_path = ".spec.mount",
        priority = 1
    ),
    printcolumn(
        name = "Connection",
        type_ = "string",
        json_path = ".spec.vaultConnectionRef",
        priority = 1
    ),
    doc = "VaultAuth says as whom to log in to Vault."
)]
#[serde(rename_all = "camelCase")]
pub struct VaultAuthSpec {
    /// The VaultConnection to use, as name or namespace/name; the default one if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_connection_ref: Option<String>,
    /// A VaultAuthGlobal that gives what this resource leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_auth_global_ref: Option<VaultAuthGlobalRef>,
    /// Vault namespace of the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Other Kubernetes namespaces whose resources may use this one; the single entry * allows all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<Vec<String>>,
    /// How to log in. May be left to the VaultAuthGlobal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<AuthMethod>,
    /// Mount of the auth method in Vault, without auth/.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Further fields of the login request. Those of the method itself win.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<BTreeMap<String, String>>,
    /// Headers of the login request only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// Settings of the method kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAuth>,
    /// Settings of the method jwt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
    /// Settings of the method appRole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRoleAuth>,
    /// Settings of the method aws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsAuth>,
    /// Settings of the method gcp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpAuth>,
    /// Accepted for existing manifests. This operator stores no token, so nothing is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_encryption: Option<StorageEncryption>,
}

/// Which VaultAuthGlobal to use, and how to merge with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultAuthGlobalRef {
    /// Name of the VaultAuthGlobal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = OBJECT_NAME))]
    pub name: Option<String>,
    /// Its namespace, that of this resource if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAMESPACE_NAME))]
    pub namespace: Option<String>,
    /// How maps are merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_strategy: Option<MergeStrategy>,
    /// Whether the VaultAuthGlobal named default is used when no name is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_default: Option<bool>,
}

/// How the maps of a VaultAuth and its VaultAuthGlobal are merged; `none` where left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MergeStrategy {
    /// For headers: union (all, this resource wins), replace (the first that isn't empty), or none
    /// (only those of this resource, also when left out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<MergeStrategyKind>,
    /// For params: union (all, this resource wins), replace (the first that isn't empty), or none
    /// (only those of this resource, also when left out).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<MergeStrategyKind>,
}

/// Login with a ServiceAccount token that Vault checks at the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Role of the auth mount in Vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// ServiceAccount to log in as, in the namespace of the secret resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Audiences of the ServiceAccount token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
    /// Lifetime of the ServiceAccount token in seconds.
    #[serde(default = "default_token_expiration_seconds")]
    #[schemars(range(min = 600))]
    pub token_expiration_seconds: i64,
}

impl Default for KubernetesAuth {
    fn default() -> Self {
        Self {
            role: None,
            service_account: None,
            audiences: None,
            token_expiration_seconds: DEFAULT_TOKEN_EXPIRATION_SECONDS,
        }
    }
}

/// Login with a JSON web token: one of a ServiceAccount, or one from a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuth {
    /// Role of the auth mount in Vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Secret whose key jwt holds the token, in the namespace of the secret resource. Only read
    /// when there is no serviceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// ServiceAccount to log in as, in the namespace of the secret resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Audiences of the ServiceAccount token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
    /// Lifetime of the ServiceAccount token in seconds.
    #[serde(default = "default_token_expiration_seconds")]
    #[schemars(range(min = 600))]
    pub token_expiration_seconds: i64,
}

impl Default for JwtAuth {
    fn default() -> Self {
        Self {
            role: None,
            secret_ref: None,
            service_account: None,
            audiences: None,
            token_expiration_seconds: DEFAULT_TOKEN_EXPIRATION_SECONDS,
        }
    }
}

/// Login with a role id and a secret id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppRoleAuth {
    /// Role id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_id: Option<String>,
    /// Secret whose key id holds the secret id, in the namespace of the secret resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// Absolute path of a file in the operator's container that holds the secret id. Not together
    /// with secretRef.
    #[serde(rename = "secretIDPath", skip_serializing_if = "Option::is_none")]
    pub secret_id_path: Option<String>,
}

/// Login with an AWS identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsAuth {
    /// Role of the auth mount in Vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// AWS region whose STS endpoint signs the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Value of the header X-Vault-AWS-IAM-Server-ID that the mount in Vault asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_value: Option<String>,
    /// Session name of the assumed role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// STS endpoint instead of the region's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// IAM endpoint instead of the region's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iam_endpoint: Option<String>,
    /// Secret with the keys access_key_id, secret_access_key and perhaps session_token, in the
    /// namespace of the secret resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// ServiceAccount that is bound to an AWS role by its annotations, in the namespace of the
    /// secret resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irsa_service_account: Option<String>,
}

/// Login with a Google service account through workload identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpAuth {
    /// Role of the auth mount in Vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// ServiceAccount that is bound to a Google service account by its annotation, in the
    /// namespace of the secret resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity_service_account: Option<String>,
    /// Region of the cluster; asked from the metadata server if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Name of the cluster; asked from the metadata server if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Project of the cluster; asked from the metadata server if empty.
    #[serde(rename = "projectID", skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// A transit key of Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageEncryption {
    /// Mount of the transit engine.
    pub mount: String,
    /// Name of the transit key.
    pub key_name: String,
}

/// What the operator found out about the login.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VaultAuthStatus {
    /// Whether the references resolve and the settings are complete and allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<bool>,
    /// What is wrong, empty if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Hash of the settings in force, after the merge with the VaultAuthGlobal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec_hash: Option<String>,
    /// The metadata.generation that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State of the login by aspect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
