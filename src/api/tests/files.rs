//! The definitions on disk are those that the types generate.

use std::collections::BTreeSet;

use super::{read, repository};
use crate::api::crd_files;

const MEND: &str = "run `cargo run -- crds --out kustomize/crds`";

#[test]
fn files_on_disk_equal_the_generated_ones() {
    for file in crd_files().unwrap() {
        let path = format!("kustomize/crds/{}", file.name);
        let on_disk = std::fs::read_to_string(repository(&path)).unwrap_or_default();
        assert!(
            on_disk == file.content,
            "{path} is not what the types generate: {MEND}"
        );
    }
}

#[test]
fn no_other_file_lies_beside_them() {
    let generated: BTreeSet<String> = crd_files().unwrap().into_iter().map(|f| f.name).collect();
    let on_disk: BTreeSet<String> = std::fs::read_dir(repository("kustomize/crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        on_disk, generated,
        "kustomize/crds holds other files than are generated: {MEND}"
    );
}

#[test]
fn one_stream_holds_all_definitions() {
    let stream = crate::api::crds_yaml().unwrap();
    assert_eq!(
        stream.matches("kind: CustomResourceDefinition\n").count(),
        7
    );
    assert_eq!(
        read("kustomize/crds/kustomization.yaml")
            .matches("\n- ")
            .count(),
        7
    );
}
