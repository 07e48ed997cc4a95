//! Commands as the documents give them, and what they are run with.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::components::Components;

/// Maps the subcommands that documents and examples use to Vault's HTTP API.
const VAULT_CLI: &str = include_str!("../vault-cli.sh");

/// The text of a section of a document, up to the next of its level.
///
/// # Errors
/// There is no such section.
pub fn section<'a>(document: &'a str, title: &str) -> Result<&'a str> {
    let (_, after) = document
        .split_once(&format!("\n## {title}\n"))
        .with_context(|| format!("no section {title}"))?;
    Ok(after.split_once("\n## ").map_or(after, |(text, _)| text))
}

/// The commands of the fenced shell blocks.
pub fn blocks(text: &str) -> Vec<&str> {
    let fenced = text.split("```sh\n").skip(1);
    fenced
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .collect()
}

/// `PATH` with the ground's own kubectl before any other, and a `vault` that stands in for the CLI, made in `folder`.
///
/// # Errors
/// The folder can't be written, or its path can't stand in `PATH`.
pub fn path_with_tools(components: &Components, folder: &Path) -> Result<OsString> {
    std::fs::create_dir_all(folder)?;
    let cli = folder.join("vault");
    std::fs::write(&cli, VAULT_CLI)?;
    std::fs::set_permissions(&cli, std::fs::Permissions::from_mode(0o755))?;
    let kubectl = components.path("kubectl")?.parent();
    let kubectl = kubectl.context("kubectl lies in no folder")?;
    let others = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned(), kubectl.to_owned()].into_iter();
    Ok(std::env::join_paths(
        folders.chain(std::env::split_paths(&others)),
    )?)
}
