//! SecretTransformation: templates and filters that several resources share.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::destination::Template;
use super::schema;
use super::status::Condition;

/// Templates and filters for resources that refer to this one.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "secrets.hashicorp.com",
    version = "v1beta1",
    kind = "SecretTransformation",
    plural = "secrettransformations",
    namespaced,
    status = "SecretTransformationStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "vst",
    category = "vault",
    doc = "SecretTransformation holds templates and filters that secret resources share."
)]
#[serde(rename_all = "camelCase")]
pub struct SecretTransformationSpec {
    /// Templates by the key of the Secret that each one renders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<BTreeMap<String, Template>>,
    /// Templates that others call by name and that render no key themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_templates: Option<Vec<SourceTemplate>>,
    /// Regular expressions, unanchored: only source keys that match one are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub includes: Option<Vec<String>>,
    /// Regular expressions, unanchored: source keys that match one are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Vec<String>>,
}

/// A template for other templates to call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceTemplate {
    /// Name by which it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Text of the template, in the language of Go's text/template.
    pub text: String,
}

/// What the operator found out about the templates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["error", "valid"]))]
pub struct SecretTransformationStatus {
    /// Whether templates and filters can be used.
    pub valid: bool,
    /// What is wrong, empty if nothing is.
    pub error: String,
    /// The metadata.generation that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State of the templates by aspect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
