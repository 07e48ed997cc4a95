//! The operator's image, made as the README says.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use ground::image::architecture;
use ground::{paths, shipped};

/// The name that the overlays ask for.
const NAME: &str = concat!(
    "registry.example.com/vault-tenant-operator:",
    env!("CARGO_PKG_VERSION")
);

fn folder() -> PathBuf {
    paths::target().join("ground").join("image")
}

/// Builds it, as somebody would who has read how.
pub fn build() -> Result<()> {
    let made = shipped::cargo()
        .args(["run", "--quiet", "--example", "image", "--"])
        .args(["--name", NAME])
        .arg("--out")
        .arg(folder())
        .status()?;
    ensure!(made.success(), "the image can't be made");
    Ok(())
}

/// The archive that [`build`] made.
pub fn archive() -> Result<PathBuf> {
    let architecture = architecture(std::env::consts::ARCH)?;
    Ok(folder().join(format!(
        "vault-tenant-operator-{}-{architecture}.tar",
        env!("CARGO_PKG_VERSION")
    )))
}
