//! The Kubernetes Secret that a resource fills, and how its data is formed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Kubernetes Secret that receives the data, always in the namespace of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Name of the Secret.
    pub name: String,
    /// Whether the operator makes the Secret and owns it. If false, the Secret must exist and only
    /// its data is written.
    #[serde(default)]
    pub create: bool,
    /// Whether a Secret that exists and belongs to nobody else may be taken over. Only with create.
    #[serde(default)]
    pub overwrite: bool,
    /// Labels to put on the Secret. Only with create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations to put on the Secret. Only with create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Type of the Secret, Opaque if empty. Only with create.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Whether other resources that say the same may own further keys of the Secret. No two of them
    /// may have a key in common. A field of vault-tenant-operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<bool>,
    /// Whether the Secret stays when the resource is deleted: it then has no owner, and an
    /// annotation says since when. The configuration of the operator decides if unset. Only with
    /// create. A field of vault-tenant-operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_on_delete: Option<bool>,
    /// Whether a key may go from the Secret although the pod template of a workload names it as one
    /// that its pods need; such a write is refused otherwise. Only in a VaultStaticSecret. A field
    /// of vault-tenant-operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_key_removal: Option<bool>,
    /// How the answer of Vault becomes the keys of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transformation: Option<Transformation>,
}

/// Filters and templates between the answer of Vault and the keys of the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transformation {
    /// Templates by the key of the Secret that each one renders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<BTreeMap<String, Template>>,
    /// SecretTransformations whose templates and filters are used as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transformation_refs: Option<Vec<TransformationRef>>,
    /// Regular expressions, unanchored: only source keys that match one are kept. Applied after
    /// excludes; rendered keys are not filtered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub includes: Option<Vec<String>>,
    /// Regular expressions, unanchored: source keys that match one are dropped. Rendered keys are
    /// not filtered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Vec<String>>,
    /// Whether the key _raw, the whole answer as JSON, is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_raw: Option<bool>,
}

/// A template that renders one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Name by which other templates of the resource can call this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Text of the template, in the language of Go's text/template.
    pub text: String,
}

/// A reference to a SecretTransformation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransformationRef {
    /// Name of the SecretTransformation.
    pub name: String,
    /// Its namespace, that of the resource if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which of its templates to use; all if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_refs: Option<Vec<TemplateRef>>,
    /// Whether its includes are left aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_includes: Option<bool>,
    /// Whether its excludes are left aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_excludes: Option<bool>,
}

/// A reference to one template of a SecretTransformation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// Key of the template in the SecretTransformation.
    pub name: String,
    /// Key of the Secret to render into, instead of the template's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_override: Option<String>,
}
