//! Tests of the types: against the inventory of fields, the files on disk, and manifests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[test]
fn show() {
    println!("{}", super::crds_yaml().unwrap());
}
