//! A generated schema, flattened to one entry for each path, in the notation of the inventory:
//! `a.b` for a property, `a[]` for the items of a list, `a{}` for the values of a map.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::generated::crds;

/// What the schema says about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) type_: String,
    pub(super) required: bool,
    pub(super) default: Option<Value>,
    /// All constraints, in the notation of the inventory.
    pub(super) constraints: String,
    pub(super) description: Option<String>,
}

/// All fields of one version of one kind, by path.
pub(super) type Fields = BTreeMap<String, Field>;

/// Keywords that constrain a value, in the order of the inventory.
const CONSTRAINTS: [&str; 8] = [
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "maxItems",
    "pattern",
    "format",
];

/// Keywords that don't.
const OTHERS: [&str; 7] = [
    "type",
    "description",
    "default",
    "properties",
    "required",
    "items",
    "additionalProperties",
];

/// The definition of a kind; generated once for all tests.
pub(super) fn definition(kind: &str) -> &'static CustomResourceDefinition {
    static DEFINITIONS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(crds);
    DEFINITIONS
        .iter()
        .find(|crd| crd.spec.names.kind == kind)
        .expect("a kind of ours")
}

/// The fields of `spec` and `status` of one version of a kind.
pub(super) fn fields(kind: &str, version: &str) -> Fields {
    let crd = definition(kind);
    let version = crd
        .spec
        .versions
        .iter()
        .find(|v| v.name == version)
        .expect("a version of ours");
    let schema = version
        .schema
        .as_ref()
        .and_then(|s| s.open_api_v3_schema.as_ref())
        .unwrap();
    let mut fields = Fields::new();
    flatten(
        &serde_json::to_value(schema).unwrap(),
        "",
        false,
        &mut fields,
    );
    fields.remove("").expect("the root");
    fields
}

fn flatten(schema: &Value, path: &str, required: bool, fields: &mut Fields) {
    let keywords = schema.as_object().unwrap();
    for keyword in keywords.keys() {
        let known = CONSTRAINTS.contains(&keyword.as_str()) || OTHERS.contains(&keyword.as_str());
        assert!(
            known,
            "{path}: the keyword {keyword} is in no existing definition"
        );
    }
    let constraints: Vec<String> = CONSTRAINTS
        .iter()
        .filter_map(|name| {
            keywords
                .get(*name)
                .map(|value| format!("{name}={}", notation(value)))
        })
        .collect();
    fields.insert(
        path.to_owned(),
        Field {
            type_: keywords["type"].as_str().unwrap().to_owned(),
            required,
            default: keywords.get("default").cloned(),
            constraints: constraints.join(" "),
            description: keywords
                .get("description")
                .map(|d| d.as_str().unwrap().to_owned()),
        },
    );
    let required = |name: &str| {
        keywords
            .get("required")
            .is_some_and(|r| r.as_array().unwrap().contains(&name.into()))
    };
    for (name, property) in keywords
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let separator = if path.is_empty() { "" } else { "." };
        flatten(
            property,
            &format!("{path}{separator}{name}"),
            required(name),
            fields,
        );
    }
    if let Some(items) = keywords.get("items") {
        flatten(items, &format!("{path}[]"), false, fields);
    }
    if let Some(values) = keywords.get("additionalProperties") {
        flatten(values, &format!("{path}{{}}"), false, fields);
    }
}

/// A value as the inventory writes it.
pub(super) fn notation(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => format!("{}", number.as_f64().unwrap()),
        Value::Array(values) => {
            let quoted: Vec<_> = values
                .iter()
                .map(|v| format!("'{}'", notation(v)))
                .collect();
            format!("[{}]", quoted.join(", "))
        }
        other => panic!("no notation for {other}"),
    }
}
