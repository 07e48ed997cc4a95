//! The operator as it is shipped, and its image: alone, so that no test's features come in; with the profile `dist`; and static, so that
//! it runs in an empty root.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::image::architecture;
use crate::paths;

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS` (The Cargo Book, "Environment Variables").
const BETWEEN_FLAGS: &str = "\u{1f}";

/// Builds it, and answers with the program.
///
/// # Errors
/// What the compiler says is on standard error.
pub fn build() -> Result<PathBuf> {
    let target = host()?;
    let built = cargo()
        .env("CARGO_ENCODED_RUSTFLAGS", flags()?)
        .args(["build", "--locked", "--profile", "dist"])
        .arg("--message-format=json")
        // Named, so that the flags are not those of macros and build scripts too.
        .args(["--target", &target])
        .args(["--package", "vault-tenant-operator"])
        .args(["--bin", "vault-tenant-operator"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can't be started")?;
    ensure!(built.status.success(), "the operator does not compile");
    String::from_utf8(built.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo names no program that it built")
}

/// The name that the overlays ask for.
const IMAGE: &str = concat!(
    "registry.example.com/vault-tenant-operator:",
    env!("CARGO_PKG_VERSION")
);

/// Makes the image, as somebody would who has read how.
///
/// # Errors
/// What went wrong is on standard error.
pub fn build_image() -> Result<()> {
    let made = cargo()
        .args(["run", "--quiet", "--example", "image", "--"])
        .args(["--name", IMAGE])
        .arg("--out")
        .arg(images())
        .status()
        .context("cargo can't be started")?;
    ensure!(made.success(), "the image can't be made");
    Ok(())
}

/// The archive that [`build_image`] made.
///
/// # Errors
/// This machine is none that an image runs on.
pub fn image() -> Result<PathBuf> {
    let architecture = architecture(std::env::consts::ARCH)?;
    Ok(images().join(format!(
        "vault-tenant-operator-{}-{architecture}.tar",
        env!("CARGO_PKG_VERSION")
    )))
}

fn images() -> PathBuf {
    paths::ground().join("image")
}

/// Cargo, in the repository.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::repository());
    cargo
}

/// The compiler's own target, such as `x86_64-unknown-linux-gnu`.
///
/// # Errors
/// Where the compiler doesn't say it.
pub fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc)
        .arg("-vV")
        .output()
        .context("rustc can't be started")?;
    let said = String::from_utf8(said.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Static, and without the paths of the machine that built it: those would make other bytes on each.
fn flags() -> Result<OsString> {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.unwrap_or_else(|| PathBuf::from(home).join(".cargo"));
    let renamed = |from: PathBuf, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flag
    };
    let repository = paths::repository().canonicalize()?;
    let flags = [
        OsString::from("-Ctarget-feature=+crt-static"),
        renamed(cargo_home, "/cargo"),
        renamed(repository, "/source"),
        // It may be in the repository: the last that fits is taken.
        renamed(paths::target(), "/target"),
    ];
    Ok(flags.join(OsStr::new(BETWEEN_FLAGS)))
}
