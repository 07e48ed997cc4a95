//! The definitions on disk, which are shipped, are those that the types generate.

use std::collections::BTreeSet;

use super::generated::files;
use super::repository;
use crate::api::{DEFINITIONS, KUSTOMIZATION};

/// Set to anything, it has the files written anew.
const WRITE: &str = "VTO_WRITE_CRDS";

#[test]
fn files_on_disk_equal_the_generated_ones() {
    for (name, content) in files() {
        let path = repository(&format!("kustomize/crds/{name}"));
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, &content).unwrap();
        }
        let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            on_disk == content,
            "kustomize/crds/{name} is not what the types generate: run `{WRITE}=1 cargo test --lib files_on_disk`"
        );
    }
}

#[test]
fn no_other_file_lies_beside_them_and_each_is_shipped() {
    let generated: BTreeSet<String> = files().into_iter().map(|(name, _)| name).collect();
    let on_disk: BTreeSet<String> = std::fs::read_dir(repository("kustomize/crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(on_disk, generated, "kustomize/crds holds other files");
    let shipped = DEFINITIONS.into_iter().chain([KUSTOMIZATION]);
    let shipped: BTreeSet<String> = shipped.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(shipped, generated, "the operator has other files");
}
