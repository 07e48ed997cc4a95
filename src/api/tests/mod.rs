//! Tests of the types: against the inventory of fields, the files on disk, and manifests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod generated;
mod inventory;
mod leniency;
mod manifests;
mod schema;

use std::path::{Path, PathBuf};

/// A path below the root of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let file = repository(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
