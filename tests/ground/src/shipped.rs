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

/// What the operator is built from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The repository's folder, or a copy of it as it was.
    pub folder: PathBuf,
    /// The commit that they are of, with `-dirty` where they differ from it; `unknown` where git can't say it. The
    /// operator tells it.
    pub revision: String,
    /// Cargo's target folder for them.
    target: PathBuf,
}

impl Sources {
    /// As they are now.
    #[must_use]
    pub fn present() -> Self {
        Self {
            folder: paths::repository(),
            revision: revision().unwrap_or_else(|_| "unknown".to_owned()),
            target: paths::target(),
        }
    }

    /// As they were at a commit, by its full id; they lie below the target folder then.
    ///
    /// # Errors
    /// The repository's history hasn't got the commit, or the folder can't be written.
    pub fn of(commit: &str) -> Result<Self> {
        let history = paths::target().join("history");
        let sources = Self {
            folder: history.join(commit),
            revision: commit.to_owned(),
            target: history.join("target"),
        };
        if sources.folder.exists() {
            return Ok(sources);
        }
        let archive = git(&["archive", "--format=tar", commit])?;
        let unfinished = history.join(format!("{commit}.new"));
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished)?;
        }
        std::fs::create_dir_all(&unfinished)
            .with_context(|| format!("{} can't be made", unfinished.display()))?;
        tar::Archive::new(&archive[..]).unpack(&unfinished)?;
        std::fs::rename(&unfinished, &sources.folder)?;
        Ok(sources)
    }

    /// The operator's version, as its `Cargo.toml` says.
    ///
    /// # Errors
    /// Cargo can't read them.
    pub fn version(&self) -> Result<String> {
        let said = self
            .cargo()
            .args(["pkgid", "--package", "vault-tenant-operator"])
            .output()
            .context("cargo can't be started")?;
        let said = String::from_utf8(said.stdout)?;
        let version = said.trim().rsplit(['#', '@']).next().map(str::to_owned);
        version
            .filter(|version| !version.is_empty())
            .with_context(|| format!("{} has no version", self.folder.display()))
    }

    /// Builds the operator, and answers with the program.
    ///
    /// # Errors
    /// What the compiler says is on standard error.
    pub fn build(&self) -> Result<PathBuf> {
        let target = host()?;
        let built = self
            .cargo()
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags()?)
            .env("VTO_REVISION", &self.revision)
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

    fn cargo(&self) -> Command {
        let mut cargo = cargo();
        cargo
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    /// Static, and without the paths of the machine that built it: those would make other bytes on each.
    fn flags(&self) -> Result<OsString> {
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
        let flags = [
            OsString::from("-Ctarget-feature=+crt-static"),
            // Half a megabyte of relocations in a few kilobytes (glibc 2.36, DT_RELR).
            OsString::from("-Clink-arg=-Wl,-z,pack-relative-relocs"),
            // Functions of the same code are one: nothing here compares their addresses (LLD).
            OsString::from("-Clink-arg=-Wl,--icf=all"),
            renamed(cargo_home, "/cargo"),
            renamed(self.folder.canonicalize()?, "/source"),
            // It may be in the repository: the last that fits is taken.
            renamed(self.target.clone(), "/target"),
        ];
        Ok(flags.join(OsStr::new(BETWEEN_FLAGS)))
    }
}

/// The commit of the sources as they are. One with changes is another source.
fn revision() -> Result<String> {
    let said = |arguments: &[&str]| -> Result<String> {
        Ok(String::from_utf8(git(arguments)?)?.trim().to_owned())
    };
    let commit = said(&["rev-parse", "HEAD"])?;
    match said(&["status", "--porcelain"])?.is_empty() {
        true => Ok(commit),
        false => Ok(commit + "-dirty"),
    }
}

/// What git says in the repository.
///
/// # Errors
/// There is no git, or no such thing in the history; its own words are kept.
pub fn git(arguments: &[&str]) -> Result<Vec<u8>> {
    let said = Command::new("git")
        .current_dir(paths::repository())
        .args(arguments)
        .output()
        .context("git can't be started")?;
    ensure!(
        said.status.success(),
        "git {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&said.stderr).trim()
    );
    Ok(said.stdout)
}

/// The tag of the operator's image in the overlays: the present version.
pub const TAG: &str = env!("CARGO_PKG_VERSION");

/// The repository of that image.
pub const REPOSITORY: &str = "registry.example.com/vault-tenant-operator";

/// Makes the image that the overlays ask for, as somebody would who has read how; with more arguments another one, and
/// with variables of Cargo in another way.
///
/// # Errors
/// What went wrong is on standard error.
pub fn build_image(tag: &str, more: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let made = cargo()
        .args(["run", "--quiet", "--example", "image", "--"])
        .args(["--name", &format!("{REPOSITORY}:{tag}")])
        .arg("--out")
        .arg(images(tag))
        .args(more)
        .envs(variables.iter().copied())
        .status()
        .context("cargo can't be started")?;
    ensure!(made.success(), "the image can't be made");
    Ok(())
}

/// The archive that [`build_image`] made.
///
/// # Errors
/// This machine is none that an image runs on, or the image wasn't made.
pub fn image(tag: &str) -> Result<PathBuf> {
    let end = format!("-{}.tar", architecture(std::env::consts::ARCH)?);
    let folder = images(tag);
    let files = std::fs::read_dir(&folder);
    let mut files = files.with_context(|| format!("{} can't be read", folder.display()))?;
    let found = files.find_map(|file| {
        let file = file.ok()?.path();
        file.to_str()?.ends_with(&end).then_some(file)
    });
    found.with_context(|| format!("no image in {}", folder.display()))
}

fn images(tag: &str) -> PathBuf {
    paths::ground().join("image").join(tag)
}

/// Cargo, in the repository.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::repository());
    // A program that Cargo runs has these of its own package: build scripts that look at them would run again.
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
        if told {
            cargo.env_remove(name);
        }
    }
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
