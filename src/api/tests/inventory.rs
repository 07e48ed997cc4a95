//! The schemas say what the inventory of existing fields says: every field, nothing stricter.

use std::collections::{BTreeMap, BTreeSet};

use super::generated::crds;
use super::read;
use super::schema::{Field, definition, fields, notation};
use crate::api::VERSIONS;

/// Fields of ours, beyond the inventory.
fn is_ours(kind: &str, path: &str) -> bool {
    let ours = [
        "status.observedGeneration",
        "status.lastResync",
        "spec.onSourceDelete",
        "status.destinations",
        "status.destinations[]",
        "spec.destination.share",
        "spec.destination.retainOnDelete",
        "spec.destination.allowKeyRemoval",
        "spec.rollout",
        "spec.rollout.auto",
        "spec.rollout.selector",
        "spec.rollout.hold",
        "spec.rollout.debounce",
        "spec.rollout.minInterval",
        "spec.rollout.onlyWhenAvailable",
        "spec.rollout.haltOnFailure",
        "spec.rollout.windows",
        "spec.rollout.windows[]",
        "spec.rotation",
        "spec.rotation.strategy",
        "spec.rotation.drain",
        "spec.rotation.timeout",
        "status.phase",
        "status.nextRenewal",
        "status.expiry",
        "status.survivesUntil",
        "status.rollout",
        "status.rolloutTargets",
        "status.rolloutTargets[]",
        "status.rolloutTargets[].kind",
        "status.rolloutTargets[].name",
        "status.rolloutTargets[].state",
        "status.rolloutTargets[].reason",
        "status.rolloutTargets[].until",
        "status.rolloutTargets[].restartedAt",
    ];
    let in_selector = path.starts_with("spec.rollout.selector.");
    ours.contains(&path)
        || in_selector
        || (kind == "VaultAuthGlobal" && path.starts_with("status.conditions"))
}

/// One line of the inventory.
pub(super) struct Line {
    pub(super) kind: String,
    pub(super) path: String,
    type_: String,
    required: bool,
    default: String,
    constraints: String,
}

/// All lines of the inventory but its head.
pub(super) fn lines() -> Vec<Line> {
    read("tests/fixtures/crd-fields.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut columns = line
                .split('\t')
                .chain(std::iter::repeat(""))
                .map(str::to_owned);
            let mut next = || columns.next().unwrap_or_default();
            Line {
                kind: next(),
                path: next(),
                type_: next(),
                required: next() == "required",
                default: next(),
                constraints: next(),
            }
        })
        .collect()
}

/// `kind: plural and columns` of the inventory's head.
fn heads() -> BTreeMap<String, (String, Vec<String>)> {
    read("tests/fixtures/crd-fields.tsv")
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter_map(|line| {
            let parts: Vec<&str> = line.split('|').map(str::trim).collect();
            let [kind, plural, _, _, columns] = parts.as_slice() else {
                return None;
            };
            let columns = columns
                .split("; ")
                .filter(|c| !c.is_empty())
                .map(str::to_owned)
                .collect();
            Some(((*kind).to_owned(), ((*plural).to_owned(), columns)))
        })
        .collect()
}

#[test]
fn every_line_is_in_both_versions_as_it_stands() {
    let lines = lines();
    assert_eq!(lines.len(), 387, "lines of the inventory");
    let mut wrong = Vec::new();
    let mut schemas = BTreeMap::new();
    for version in VERSIONS {
        for line in &lines {
            let schema = schemas
                .entry((version, &line.kind))
                .or_insert_with(|| fields(&line.kind, version));
            let wanted = (
                line.type_.clone(),
                line.required,
                line.default.clone(),
                line.constraints.clone(),
            );
            let found = schema.get(&line.path).map(|field: &Field| {
                // That of `status` is ours: see the test below.
                let default = field.default.as_ref().filter(|_| line.path != "status");
                let default = default.map(notation).unwrap_or_default();
                (
                    field.type_.clone(),
                    field.required,
                    default,
                    field.constraints.clone(),
                )
            });
            if found.as_ref() != Some(&wanted) {
                wrong.push(format!(
                    "{version} {} {}: wanted {wanted:?}, found {found:?}",
                    line.kind, line.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_nobody_looked_at_says_so() {
    for crd in crds() {
        let kind = crd.spec.names.kind;
        let fields = fields(&kind, VERSIONS[0]);
        let default = fields["status"].default.as_ref().expect("a default");
        assert_eq!(default["observedGeneration"], -1, "{kind}");
        // The API server refuses a default that its own schema would refuse.
        let missing: Vec<_> = fields
            .iter()
            .filter(|(path, field)| field.required && !path.contains("[]"))
            .filter_map(|(path, _)| path.strip_prefix("status."))
            .filter(|path| {
                let pointer = format!("/{}", path.replace('.', "/"));
                let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
                default.pointer(parent).is_some() && default.pointer(&pointer).is_none()
            })
            .collect();
        assert!(missing.is_empty(), "{kind}: {missing:?}");
    }
}

#[test]
fn what_we_add_is_listed_and_optional() {
    let known: BTreeSet<_> = lines()
        .into_iter()
        .map(|line| (line.kind, line.path))
        .collect();
    for crd in crds() {
        let kind = crd.spec.names.kind;
        for version in VERSIONS {
            for (path, field) in fields(&kind, version) {
                if known.contains(&(kind.clone(), path.clone())) {
                    continue;
                }
                assert!(is_ours(&kind, &path), "{kind} {path} is in no inventory");
                let inside_ours = path.contains("[]");
                assert!(
                    !field.required || inside_ours,
                    "{kind} {path} is ours and required"
                );
            }
        }
    }
}

#[test]
fn every_field_has_a_description() {
    for crd in crds() {
        let kind = crd.spec.names.kind;
        for (path, field) in fields(&kind, VERSIONS[0]) {
            let described = field.description.is_some_and(|text| text.ends_with('.'));
            let scalar_element = path.ends_with("[]") || path.ends_with("{}");
            assert!(
                described || scalar_element,
                "{kind} {path} needs a sentence of description"
            );
        }
    }
}

#[test]
fn an_object_without_spec_is_taken_as_before() {
    for crd in crds() {
        for version in crd.spec.versions {
            let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
            assert_eq!(
                schema.required, None,
                "{} {}",
                crd.spec.names.kind, version.name
            );
        }
    }
}

#[test]
fn columns_begin_with_the_known_ones() {
    for (kind, (plural, known)) in heads() {
        let crd = definition(&kind);
        assert_eq!(crd.spec.names.plural, plural);
        for version in &crd.spec.versions {
            let columns: Vec<String> = version
                .additional_printer_columns
                .iter()
                .flatten()
                .map(|c| format!("{}={}({})", c.name, c.json_path, c.type_))
                .collect();
            assert!(
                columns.starts_with(&known),
                "{kind}: {columns:?} against {known:?}"
            );
            assert!(
                columns.iter().any(|c| c.starts_with("Ready=")),
                "{kind} shows Ready"
            );
            assert!(
                columns.iter().any(|c| c.starts_with("Age=")),
                "{kind} shows its age"
            );
        }
    }
}

#[test]
fn names_are_easy_and_nobody_elses() {
    // Short names of Kubernetes itself that begin like ours could.
    let taken = ["sa", "sc", "sts", "svc", "vac", "vap", "vapb"];
    let mut seen = BTreeSet::new();
    for crd in crds() {
        assert_eq!(crd.spec.names.categories, Some(vec!["vault".to_owned()]));
        assert_eq!(crd.spec.scope, "Namespaced");
        for name in crd.spec.names.short_names.expect("a short name") {
            assert!(!taken.contains(&name.as_str()), "{name} is taken");
            assert!(seen.insert(name.clone()), "{name} is used twice");
        }
    }
}

#[test]
fn the_newer_version_is_stored_and_both_are_served() {
    for crd in crds() {
        let versions: Vec<_> = crd
            .spec
            .versions
            .iter()
            .map(|v| (v.name.as_str(), v.served, v.storage))
            .collect();
        assert_eq!(
            versions,
            [("v1beta1", true, true), ("v1alpha1", true, false)]
        );
        assert_eq!(crd.spec.versions[0].schema, crd.spec.versions[1].schema);
        assert!(crd.spec.versions.iter().all(|v| v.deprecated.is_none()));
        assert_eq!(crd.spec.conversion.unwrap().strategy, "None");
    }
}
