//! Finds the programs that a ground is made of, and builds from pinned Go modules those that are missing.
//!
//! `tests/ground/go/build.tsv` names them. A built program lies at `TARGET/ground/components/NAME-HASH/NAME`, where the
//! hash covers its Go module, its build line and the version of Go: it is rebuilt exactly when one of these changes.
//! Two runs at once build once, and a half-made file never has the final name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::disk;
use crate::go_build;
use crate::node::NodeKind;
use crate::paths;
use crate::progress::Progress;
use crate::wait::wait_for;

/// The file that is written beside a built program: how many seconds its build took here.
const SECONDS: &str = "seconds";

/// How long to wait for another run that builds the same; its own build gives up far earlier.
const OTHER_RUN: Duration = Duration::from_secs(3600);

/// One line of `build.tsv`.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The name of the program.
    pub(crate) name: String,
    /// The folder of its Go module.
    pub(crate) dir: PathBuf,
    /// The Go package that is built.
    pub(crate) package: String,
    /// The value of `-ldflags`.
    pub(crate) ldflags: String,
    /// The value of `-tags`; empty for none.
    pub(crate) tags: String,
    /// Whether C is compiled too.
    pub(crate) cgo: bool,
    /// About how long a build from nothing takes on two cores.
    pub(crate) cold: Duration,
}

impl Recipe {
    /// The arguments of `go` that build this program into `output`.
    pub(crate) fn args(&self, output: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = [
            "build",
            "-mod=readonly",
            "-trimpath",
            "-ldflags",
            &self.ldflags,
        ]
        .map(OsString::from)
        .to_vec();
        if !self.tags.is_empty() {
            args.extend(["-tags".into(), OsString::from(&self.tags)]);
        }
        args.extend(["-o".into(), output.into(), OsString::from(&self.package)]);
        args
    }
}

/// The paths of the programs, by name.
#[derive(Clone, Debug)]
pub struct Components {
    paths: BTreeMap<String, PathBuf>,
}

impl Components {
    /// Finds every program of `build.tsv`, and for a real node also those of `node.tsv`, building what is missing, with
    /// a progress display on standard error.
    ///
    /// `KUBEBUILDER_ASSETS` names a folder whose programs take the place of ours, `VTO_VAULT_BIN` a Vault.
    ///
    /// # Errors
    /// A named program isn't there, or a build fails: a sentence says what to do.
    pub async fn find(node: NodeKind) -> Result<Self> {
        let tables: &[&str] = match node {
            NodeKind::Fake => &["build.tsv"],
            NodeKind::Real => &["build.tsv", "node.tsv"],
        };
        let found = Self::find_or_build(tables).await;
        found.map_err(disk::name_if_full)
    }

    async fn find_or_build(tables: &[&str]) -> Result<Self> {
        let go = paths::repository().join("tests/ground/go");
        let folder = folder();
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        let mut versions = BTreeMap::new();
        let mut recipes = Vec::new();
        for table in tables {
            recipes.extend(read_table(&go, table)?);
        }
        for recipe in recipes {
            if let Some(path) = given(&recipe.name, variable)? {
                found.insert(recipe.name, path);
                continue;
            }
            let version = match versions.get(&recipe.dir) {
                Some(version) => version,
                None => versions
                    .entry(recipe.dir.clone())
                    .or_insert(go_build::version(&recipe.dir)?),
            };
            let slot = Slot::of(&folder, &recipe, version)?;
            if !slot.program.is_file() {
                missing.push((recipe.clone(), slot.clone()));
            }
            found.insert(recipe.name, slot.program);
        }
        build_all(&missing).await?;
        Ok(Self { paths: found })
    }

    /// Every program: its name and its path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.paths
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// The path of a program.
    ///
    /// # Errors
    /// `build.tsv` has no such name.
    pub fn path(&self, name: &str) -> Result<&Path> {
        let path = self.paths.get(name).map(PathBuf::as_path);
        path.with_context(|| {
            format!("tests/ground/go names no component {name}, or none for this node")
        })
    }
}

/// The folder of all built programs.
fn folder() -> PathBuf {
    paths::ground().join("components")
}

/// Where a built program lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    dir: PathBuf,
    pub(crate) program: PathBuf,
}

impl Slot {
    /// The place below `folder` for what this recipe, its sources and this version of Go give.
    pub(crate) fn of(folder: &Path, recipe: &Recipe, go_version: &str) -> Result<Self> {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(go_version.as_bytes());
        for arg in recipe.args(Path::new("")) {
            hash.update(b"\0");
            hash.update(arg.as_encoded_bytes());
        }
        if recipe.cgo {
            hash.update(b"\0cgo");
        }
        for file in sources(&recipe.dir)? {
            let text =
                std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
            let name = file.strip_prefix(&recipe.dir).unwrap_or(&file);
            hash.update(format!("\0{}\0{}\0", name.display(), text.len()).as_bytes());
            hash.update(&text);
        }
        let hash: String = hash
            .finish()
            .as_ref()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let dir = folder.join(format!("{}-{hash}", recipe.name));
        let program = dir.join(&recipe.name);
        Ok(Self { dir, program })
    }
}

/// All files of a Go module that decide what is built, in a fixed order.
fn sources(module: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![module.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("can't read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name == "go.mod"
                || name == "go.sum"
                || (name.ends_with(".go") && !name.ends_with("_test.go"))
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read_table(go: &Path, table: &str) -> Result<Vec<Recipe>> {
    let table = go.join(table);
    let text = std::fs::read_to_string(&table)
        .with_context(|| format!("can't read {}", table.display()))?;
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, dir, package, ldflags, tags, cgo, cold] => Ok(Recipe {
                name: name.to_owned(),
                dir: go.join(dir),
                package: package.to_owned(),
                ldflags: ldflags.to_owned(),
                tags: if tags == "-" {
                    String::new()
                } else {
                    tags.to_owned()
                },
                cgo: cgo == "1",
                cold: Duration::from_secs(
                    cold.parse()
                        .with_context(|| format!("{cold:?} in {} is no number", table.display()))?,
                ),
            }),
            _ => bail!(
                "{} has a line without seven columns: {line:?}",
                table.display()
            ),
        })
        .collect()
}

/// The program that the environment puts in the place of ours, if any.
fn given(name: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<PathBuf>> {
    if name == "vault" {
        let Some(path) = variable("VTO_VAULT_BIN") else {
            return Ok(None);
        };
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "VTO_VAULT_BIN names {}, which is no file: correct it, or unset it and Vault is built from source",
            path.display()
        );
        return Ok(Some(path));
    }
    // Assets hold etcd and kube-apiserver by convention; what else lies there is used as well.
    let Some(dir) = variable("KUBEBUILDER_ASSETS") else {
        return Ok(None);
    };
    let path = Path::new(&dir).join(name);
    let convention = ["etcd", "kube-apiserver"].contains(&name);
    ensure!(
        path.is_file() || !convention,
        "KUBEBUILDER_ASSETS is set, but {} is no file: correct it, or unset it and the components are built from source",
        path.display()
    );
    Ok(path.is_file().then_some(path))
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

async fn build_all(missing: &[(Recipe, Slot)]) -> Result<()> {
    let estimates = missing
        .iter()
        .map(|(recipe, _)| (recipe.name.clone(), estimate(recipe)))
        .collect();
    let progress = Progress::start(estimates);
    for (recipe, slot) in missing {
        progress.begin(&recipe.name);
        build(Path::new(go_build::GO), recipe, slot, &progress).await?;
    }
    Ok(())
}

/// What the last build of this program took here; else what the table says.
fn estimate(recipe: &Recipe) -> Duration {
    let prefix = format!("{}-", recipe.name);
    let folders = std::fs::read_dir(folder()).into_iter().flatten().flatten();
    let seconds = folders
        .filter(|entry| {
            let name = entry.file_name();
            // `kube-apiserver-HASH`, but not another component whose name begins alike.
            name.to_string_lossy()
                .strip_prefix(&prefix)
                .is_some_and(|hash| !hash.contains('-'))
        })
        .filter_map(|entry| {
            std::fs::read_to_string(entry.path().join(SECONDS))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
        .max();
    seconds.map_or(recipe.cold, Duration::from_secs)
}

/// Builds one program by the program `go`, unless another run has done it while this one waited for the lock.
pub(crate) async fn build(
    go: &Path,
    recipe: &Recipe,
    slot: &Slot,
    progress: &Progress,
) -> Result<()> {
    std::fs::create_dir_all(&slot.dir).with_context(|| {
        format!(
            "can't make {}: make it writable or set CARGO_TARGET_DIR to a folder that is",
            slot.dir.display()
        )
    })?;
    let lock = paths::open(&slot.dir.join("lock"))?;
    if lock.try_lock().is_err() {
        let what = format!("another run to build {}", recipe.name);
        progress.note(&format!("waiting for {what}"));
        wait_for(&what, OTHER_RUN, || async { Ok(lock.try_lock()?) }).await?;
    }
    if slot.program.is_file() {
        return Ok(());
    }
    let started = std::time::Instant::now();
    let unfinished = slot.dir.join("unfinished");
    go_build::build(go, recipe, &unfinished).await?;
    std::fs::write(
        slot.dir.join(SECONDS),
        started.elapsed().as_secs().to_string(),
    )?;
    std::fs::rename(&unfinished, &slot.program)
        .with_context(|| format!("can't finish {}", slot.program.display()))
}

#[cfg(test)]
#[path = "components_tests.rs"]
mod tests;
