//! Manifests as users write them: every field of the inventory arrives in the types, in both
//! versions, and nothing that a manifest says is lost.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inventory::lines;
use super::repository;
use super::schema::{Fields, fields};
use crate::api::{
    GROUP, SecretTransformation, VERSIONS, VaultAuth, VaultAuthGlobal, VaultConnection,
    VaultDynamicSecret, VaultPKISecret, VaultStaticSecret,
};

const FIXTURES: &str = "tests/fixtures/manifests";
const EXAMPLES: &str = "examples/manifests";

/// A document of a manifest that is of one of our kinds.
struct Manifest {
    file: String,
    kind: String,
    version: String,
    object: Value,
}

/// All documents of our group in the YAML files of a folder.
fn manifests(folder: &str) -> Vec<Manifest> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(repository(folder)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = Value::deserialize(document).unwrap_or_else(|e| panic!("{file}: {e}"));
            let api_version = object["apiVersion"].as_str().unwrap();
            if let Some((GROUP, version)) = api_version.split_once('/') {
                let kind = object["kind"].as_str().unwrap().to_owned();
                let (file, version) = (file.clone(), version.to_owned());
                found.push(Manifest {
                    file,
                    kind,
                    version,
                    object,
                });
            }
        }
    }
    assert!(!found.is_empty(), "no manifest in {folder}");
    found
}

/// The object as it comes out of the types again.
fn round_trip(kind: &str, object: &Value) -> Value {
    fn through<K: DeserializeOwned + Serialize>(object: &Value) -> Value {
        let typed: K = serde_json::from_value(object.clone()).unwrap();
        serde_json::to_value(typed).unwrap()
    }
    match kind {
        "VaultConnection" => through::<VaultConnection>(object),
        "VaultAuth" => through::<VaultAuth>(object),
        "VaultAuthGlobal" => through::<VaultAuthGlobal>(object),
        "VaultStaticSecret" => through::<VaultStaticSecret>(object),
        "VaultDynamicSecret" => through::<VaultDynamicSecret>(object),
        "VaultPKISecret" => through::<VaultPKISecret>(object),
        "SecretTransformation" => through::<SecretTransformation>(object),
        other => panic!("{other} is no kind of ours"),
    }
}

/// The paths and values of all nodes below `value`, in the notation of the inventory; those of maps
/// and lists carry the key or index apart, so that different elements stay different.
fn nodes(value: &Value, path: &str, at: &str, schema: &Fields) -> Vec<(String, String, Value)> {
    let mut found = vec![(path.to_owned(), at.to_owned(), value.clone())];
    match value {
        Value::Object(entries) => {
            for (key, entry) in entries {
                let of_map = format!("{path}{{}}");
                let below = if schema.contains_key(&of_map) {
                    of_map
                } else {
                    format!("{path}.{key}")
                };
                found.extend(nodes(entry, &below, &format!("{at}/{key}"), schema));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                found.extend(nodes(
                    item,
                    &format!("{path}[]"),
                    &format!("{at}/{index}"),
                    schema,
                ));
            }
        }
        _ => {}
    }
    found
}

#[test]
fn nothing_that_a_manifest_says_is_lost() {
    for manifest in manifests(FIXTURES).into_iter().chain(manifests(EXAMPLES)) {
        let schema = fields(&manifest.kind, &manifest.version);
        let leaves = |object: &Value| -> BTreeMap<String, (String, Value)> {
            nodes(&object["spec"], "spec", "spec", &schema)
                .into_iter()
                .filter(|(_, _, value)| !value.is_object() && !value.is_array())
                .map(|(path, at, value)| (at, (path, value)))
                .collect()
        };
        let before = leaves(&manifest.object);
        let after = leaves(&round_trip(&manifest.kind, &manifest.object));
        let place = format!("{} {}", manifest.file, manifest.object["metadata"]["name"]);
        for (at, said) in &before {
            assert_eq!(
                after.get(at),
                Some(said),
                "{place}: {at} is lost or changed"
            );
        }
        for (at, (path, value)) in after.iter().filter(|(at, _)| !before.contains_key(*at)) {
            let default = schema[path].default.as_ref();
            assert_eq!(default, Some(value), "{place}: {at} comes from nowhere");
        }
    }
}

#[test]
fn the_fixtures_cover_every_field_in_both_versions() {
    let mut covered = BTreeSet::new();
    for manifest in manifests(FIXTURES) {
        let schema = fields(&manifest.kind, &manifest.version);
        for (path, ..) in nodes(&manifest.object["spec"], "spec", "spec", &schema) {
            covered.insert((manifest.version.clone(), manifest.kind.clone(), path));
        }
    }
    let missing: Vec<String> = VERSIONS
        .iter()
        .flat_map(|version| lines().into_iter().map(move |line| (version, line)))
        .filter(|(_, line)| line.path.starts_with("spec"))
        .map(|(version, line)| ((*version).to_owned(), line.kind, line.path))
        .filter(|field| !covered.contains(field))
        .map(|(version, kind, path)| format!("{version} {kind} {path}"))
        .collect();
    assert!(
        missing.is_empty(),
        "no manifest in {FIXTURES} uses:\n{}",
        missing.join("\n")
    );
}

#[test]
fn the_examples_name_no_namespace() {
    for manifest in manifests(EXAMPLES) {
        let namespace = &manifest.object["metadata"]["namespace"];
        assert!(namespace.is_null(), "{} names a namespace", manifest.file);
    }
}
