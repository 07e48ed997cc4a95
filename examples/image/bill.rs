//! The bill of materials: every crate in the binary, with its version and licence (CycloneDX), by a tool that others keep.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use ground::paths;
use ground::shipped::{self, Sources};

/// The tool (<https://github.com/CycloneDX/cyclonedx-rust-cargo>), at a version that was tried.
const TOOL: &str = "cargo-cyclonedx@0.5.9";

/// Writes the bill of materials of what is built from these sources for a target.
///
/// # Errors
/// Where the tool can't be had, or fails.
pub fn write(sources: &Sources, target: &str, created: &str, bill: &Path) -> Result<()> {
    let tools = paths::target().join("tools");
    // Does nothing where that version is there.
    let installed = shipped::cargo()
        .args(["install", "--locked", "--quiet", "--debug", TOOL])
        .arg("--root")
        .arg(&tools)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .status()?;
    ensure!(installed.success(), "{TOOL} can't be installed");
    let seconds = created.parse::<jiff::Timestamp>()?.as_second();
    let tool = tools.join("bin").join("cargo-cyclonedx");
    // The tool writes beside Cargo.toml, and so it does for each member.
    let name = "bill-of-materials";
    let described = Command::new(&tool)
        .current_dir(&sources.folder)
        .args([
            "cyclonedx",
            "--quiet",
            "--format",
            "json",
            "--spec-version",
            "1.5",
        ])
        .args(["--target", target, "--no-build-deps"])
        .args(["--override-filename", name])
        // In place of the present time.
        .env("SOURCE_DATE_EPOCH", seconds.to_string())
        .status()
        .with_context(|| format!("{} can't be started", tool.display()))?;
    ensure!(described.success(), "{TOOL} failed");
    let written = |folder: &str| {
        let folder = sources.folder.join(folder);
        folder.join(format!("{name}.json"))
    };
    // Where the sources lie on this machine is nobody's business.
    let here = reqwest::Url::from_file_path(&sources.folder);
    let here = here.map_err(|()| anyhow!("the repository has no absolute path"))?;
    let text = std::fs::read_to_string(written("."))?.replace(here.as_str(), "file:///source");
    std::fs::write(bill, text).with_context(|| format!("{} can't be written", bill.display()))?;
    std::fs::remove_file(written("."))?;
    std::fs::remove_file(written("tests/ground"))?;
    Ok(())
}
