//! The CustomResourceDefinitions from the types: what the API server is told about them.
//!
//! Generated and then tidied, so that the schemas say what the existing
//! definitions say and no more: nothing is stricter, nothing raises a warning at apply.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceConversion, CustomResourceDefinition,
    CustomResourceDefinitionVersion, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::api::{
    STORED_VERSION, SecretTransformation, VERSIONS, VaultAuth, VaultAuthGlobal, VaultConnection,
    VaultDynamicSecret, VaultPKISecret, VaultStaticSecret,
};

/// The generation that a status speaks about before the operator has written one.
const UNOBSERVED: i64 = -1;

const HEADER: &str = "# generated from the types in src/api: see CONTRIBUTING.md\n";

/// The definitions of all seven kinds, each with every version of [`VERSIONS`].
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        definition::<VaultConnection>(&CONFIGURATION),
        definition::<VaultAuth>(&CONFIGURATION),
        definition::<VaultAuthGlobal>(&CONFIGURATION),
        definition::<VaultStaticSecret>(&SECRET),
        definition::<VaultDynamicSecret>(&SECRET),
        definition::<VaultPKISecret>(&SECRET),
        definition::<SecretTransformation>(&CONFIGURATION),
    ]
}

/// The files of `kustomize/crds`, name and content: one definition each, and the kustomization that lists them.
pub fn files() -> Vec<(String, String)> {
    let file = |crd: CustomResourceDefinition| {
        let yaml = serde_yaml::to_string(&crd).unwrap();
        let name = format!("{}.yaml", crd.spec.names.plural);
        (name, format!("{HEADER}{yaml}"))
    };
    let mut files: Vec<_> = crds().into_iter().map(file).collect();
    let names = files.iter().map(|(name, _)| format!("- {name}\n"));
    let kustomization = format!(
        "{HEADER}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{}",
        names.collect::<String>()
    );
    files.push(("kustomization.yaml".to_owned(), kustomization));
    files
}

/// Conditions shown as columns, before those of the kind itself: column name and condition type.
type ConditionColumns = [(&'static str, &'static str)];

const CONFIGURATION: [(&str, &str); 2] = [("Healthy", "Healthy"), ("Ready", "Ready")];
const SECRET: [(&str, &str); 3] = [
    ("Synced", "SecretSynced"),
    ("Healthy", "Healthy"),
    ("Ready", "Ready"),
];

/// The derived definition with all versions, tidied, its columns in the order that people know
/// from the existing definitions and ours after them.
fn definition<K: CustomResourceExt>(conditions: &ConditionColumns) -> CustomResourceDefinition {
    let mut crd = K::crd();
    crd.spec.conversion = Some(CustomResourceConversion {
        strategy: "None".to_owned(),
        webhook: None,
    });
    for version in &mut crd.spec.versions {
        let own = version
            .additional_printer_columns
            .take()
            .unwrap_or_default();
        version.additional_printer_columns = Some(columns(conditions, own));
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        {
            tidy_root(schema);
        }
    }
    let derived = std::mem::take(&mut crd.spec.versions);
    crd.spec.versions = derived
        .iter()
        .flat_map(|version| VERSIONS.iter().map(|name| named(version, name)))
        .collect();
    crd
}

fn named(version: &CustomResourceDefinitionVersion, name: &str) -> CustomResourceDefinitionVersion {
    CustomResourceDefinitionVersion {
        name: name.to_owned(),
        served: true,
        storage: name == STORED_VERSION,
        ..version.clone()
    }
}

fn columns(
    conditions: &ConditionColumns,
    own: Vec<CustomResourceColumnDefinition>,
) -> Vec<CustomResourceColumnDefinition> {
    let column = |name: &str, type_: &str, json_path: String| CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path,
        ..Default::default()
    };
    let of_condition = |condition: &str, field: &str| {
        format!(".status.conditions[?(@.type == \"{condition}\")].{field}")
    };
    let mut all: Vec<_> = conditions
        .iter()
        .map(|(name, condition)| column(name, "string", of_condition(condition, "status")))
        .collect();
    all.push(column(
        "Age",
        "date",
        ".metadata.creationTimestamp".to_owned(),
    ));
    all.extend(own);
    for (name, field) in [("Reason", "reason"), ("Message", "message")] {
        let mut wide = column(name, "string", of_condition("Ready", field));
        wide.priority = Some(1);
        all.push(wide);
    }
    all
}

/// Tidies the schema of a whole object. An object without `spec` is taken, as ever. No field has a
/// default in `status`, which is the operator's to write; `status` as a whole has one:
/// without it kstatus, and so Flux, would take a resource that nobody has looked at for done.
fn tidy_root(root: &mut JSONSchemaProps) {
    root.required = None;
    tidy(root);
    if let Some(properties) = root.properties.as_mut() {
        if let Some(spec) = properties.get_mut("spec") {
            spec.description = Some("What is wanted.".to_owned());
        }
        if let Some(status) = properties.get_mut("status") {
            status.description = Some("What the operator found and did.".to_owned());
            walk(status, &mut |schema| schema.default = None);
            let mut default = zeros(status);
            default["observedGeneration"] = UNOBSERVED.into();
            status.default = Some(JSON(default));
        }
    }
}

/// The least object that a schema takes: its required fields, each empty.
fn zeros(schema: &JSONSchemaProps) -> Value {
    match schema.type_.as_deref() {
        Some("object") => {
            let properties = schema.properties.iter().flatten();
            let required = schema.required.iter().flatten();
            let fields = required.filter_map(|name| {
                let (_, field) = properties.clone().find(|(known, _)| *known == name)?;
                Some((name.clone(), zeros(field)))
            });
            Value::Object(fields.collect())
        }
        Some("integer") => json!(0),
        Some("boolean") => json!(false),
        _ => json!(""),
    }
}

/// Removes what the generators add beyond the types: `null` as a value of optional fields (the API
/// server drops nulls by itself, and then sets the defaults), titles, and the line breaks of doc
/// comments.
fn tidy(root: &mut JSONSchemaProps) {
    walk(root, &mut |schema| {
        schema.nullable = None;
        schema.title = None;
        if let Some(values) = schema.enum_.as_mut() {
            values.retain(|value| !value.0.is_null());
        }
        if let Some(text) = schema.description.as_mut() {
            *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    });
}

/// Calls `visit` for a schema and all schemas of properties, items and map values below it.
fn walk(schema: &mut JSONSchemaProps, visit: &mut impl FnMut(&mut JSONSchemaProps)) {
    visit(schema);
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        walk(property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        walk(items, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        walk(values, visit);
    }
}
