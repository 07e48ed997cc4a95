//! VaultAuthGlobal: login settings that several VaultAuths share.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;
use super::status::Condition;
use super::vault_auth::{AppRoleAuth, AuthMethod, AwsAuth, GcpAuth, JwtAuth, KubernetesAuth};

/// Login settings for VaultAuths that refer to this resource.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "secrets.hashicorp.com",
    version = "v1beta1",
    kind = "VaultAuthGlobal",
    plural = "vaultauthglobals",
    namespaced,
    status = "VaultAuthGlobalStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "vag",
    category = "vault",
    printcolumn(
        name = "Method",
        type_ = "string",
        json_path = ".spec.defaultAuthMethod"
    ),
    printcolumn(
        name = "Connection",
        type_ = "string",
        json_path = ".spec.vaultConnectionRef",
        priority = 1
    ),
    doc = "VaultAuthGlobal holds login settings that VaultAuths share."
)]
#[serde(rename_all = "camelCase")]
pub struct VaultAuthGlobalSpec {
    /// Other Kubernetes namespaces whose VaultAuths may use this one; the single entry * allows all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<Vec<String>>,
    /// The VaultConnection to use where a VaultAuth names none, as name or namespace/name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vault_connection_ref: Option<String>,
    /// Vault namespace of the login where neither the VaultAuth nor the method gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_vault_namespace: Option<String>,
    /// Auth mount in Vault where neither the VaultAuth nor the method gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_mount: Option<String>,
    /// How to log in where a VaultAuth doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_auth_method: Option<AuthMethod>,
    /// Further fields of the login request, for all methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<BTreeMap<String, String>>,
    /// Headers of the login request, for all methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// Settings of the method kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<GlobalMethod<KubernetesAuth>>,
    /// Settings of the method jwt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<GlobalMethod<JwtAuth>>,
    /// Settings of the method appRole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_role: Option<GlobalMethod<AppRoleAuth>>,
    /// Settings of the method aws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws: Option<GlobalMethod<AwsAuth>>,
    /// Settings of the method gcp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GlobalMethod<GcpAuth>>,
}

/// One method's settings in a VaultAuthGlobal: the block of the VaultAuth (`M`) and the defaults
/// that stand beside its fields in the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GlobalMethod<M> {
    /// The fields that a VaultAuth has in its block of this method.
    #[serde(flatten)]
    pub method: M,
    /// What a VaultAuth says outside the block.
    #[serde(flatten)]
    pub defaults: MethodDefaults,
}

/// What a VaultAuthGlobal gives for one method, and a VaultAuth says for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MethodDefaults {
    /// Vault namespace of the login with this method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Mount of this auth method in Vault, without auth/.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Further fields of the login request with this method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<BTreeMap<String, String>>,
    /// Headers of the login request with this method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
}

/// What the operator found out about the shared settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["error", "valid"]))]
pub struct VaultAuthGlobalStatus {
    /// Whether the settings are sound by themselves.
    pub valid: bool,
    /// What is wrong, empty if nothing is.
    pub error: String,
    /// The metadata.generation that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State of the settings by aspect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
