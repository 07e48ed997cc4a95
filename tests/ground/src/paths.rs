//! Where things are: the repository, Cargo's target folder, and the folder of one run.
//!
//! A run's folder is removed when it ended well, kept when a test asks for it, and removed by the next start when its
//! owner died: each owner holds a lock on a file beside it for as long as it lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// How many folders of failed runs are kept for a look at their logs.
const KEPT_RUNS: usize = 3;

/// The marker in a run's folder that says: keep it, somebody wants to read it.
const KEEP: &str = "kept";

/// How the names of folders begin that a run has elsewhere, with a link to them in its own.
pub(crate) const ELSEWHERE: &str = "ground-elsewhere-";

/// The root of the repository.
pub fn repository() -> PathBuf {
    let ground = Path::new(env!("CARGO_MANIFEST_DIR"));
    ground.ancestors().nth(2).unwrap_or(ground).to_owned()
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, else the one this program was built in, else `target/` of the repository.
pub fn target() -> PathBuf {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        return repository().join(dir);
    }
    // Cargo marks the folder; a program lies at most four levels below (target/TRIPLE/PROFILE/deps/NAME).
    let program = std::env::current_exe().unwrap_or_default();
    let marked = program
        .ancestors()
        .skip(1)
        .take(4)
        .filter(|dir| dir.join("CACHEDIR.TAG").is_file());
    marked
        .last()
        .map_or_else(|| repository().join("target"), Path::to_owned)
}

/// The folder of everything that the ground keeps between runs.
pub(crate) fn ground() -> PathBuf {
    target().join("ground")
}

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    lock_file: PathBuf,
    /// Held until the process ends or this is dropped.
    _lock: File,
}

impl RunDir {
    /// Makes `RUNS/PID-N` and removes what dead runs left in `RUNS`.
    pub(crate) fn create(runs: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        std::fs::create_dir_all(runs).with_context(|| {
            format!(
                "can't make {}: make it writable or set CARGO_TARGET_DIR to a folder that is",
                runs.display()
            )
        })?;
        // One at a time, so that nobody takes a folder for dead whose owner is about to lock it.
        let door = open(&runs.join("lock"))?;
        door.lock().context("can't lock the folder of runs")?;
        sweep(runs)?;
        // In a namespace of its own a process has an id that another had before.
        let name = loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{count}", std::process::id());
            if !runs.join(&name).exists() {
                break name;
            }
        };
        let lock_file = runs.join(format!("{name}.lock"));
        let lock = open(&lock_file)?;
        lock.lock().context("can't lock the folder of this run")?;
        let path = runs.join(&name);
        std::fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self {
            path,
            lock_file,
            _lock: lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Marks the folder as one to keep.
    pub(crate) fn keep(&self) {
        let _ = std::fs::write(self.path.join(KEEP), "");
    }

    /// Removes the folder, unless it is one to keep.
    pub(crate) fn remove(&self) -> Result<()> {
        if !self.path.join(KEEP).exists() {
            remove(&self.path).with_context(|| format!("can't remove {}", self.path.display()))?;
        }
        let _ = std::fs::remove_file(&self.lock_file);
        Ok(())
    }
}

/// Removes the folders whose owner is dead, and all but the newest of those kept.
fn sweep(runs: &Path) -> Result<()> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(runs)?.flatten() {
        let dir = entry.path();
        if !dir.is_dir() || is_owned(&dir) {
            continue;
        }
        let made = entry.metadata().and_then(|data| data.modified()).ok();
        if dir.join(KEEP).exists() {
            kept.push((made, dir));
        } else {
            discard(&dir);
        }
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT_RUNS);
    kept.iter().take(surplus).for_each(|(_, dir)| discard(dir));
    Ok(())
}

/// Whether a living process holds the lock beside this folder.
fn is_owned(dir: &Path) -> bool {
    let lock = File::open(dir.with_extension("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// What can't be removed (another user's run) stays; it is in nobody's way.
fn discard(dir: &Path) {
    let _ = remove(dir);
    let _ = std::fs::remove_file(dir.with_extension("lock"));
}

/// Removes the folder of a run, and the folders of its own that had to lie elsewhere: its links lead there.
fn remove(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let Ok(elsewhere) = std::fs::read_link(entry.path()) else {
            continue;
        };
        let name = elsewhere.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(ELSEWHERE) {
            let _ = std::fs::remove_dir_all(elsewhere);
        }
    }
    std::fs::remove_dir_all(dir)
}

/// Opens a lock file, made if missing.
pub(crate) fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("can't open {}: is it another user's?", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_run_takes_its_folders_elsewhere_with_it() {
        let runs = tempfile::tempdir().unwrap();
        let [own, foreign] =
            [ELSEWHERE, "other-"].map(|prefix| tempfile::TempDir::with_prefix(prefix).unwrap());
        let run = RunDir::create(runs.path()).unwrap();
        for folder in [&own, &foreign] {
            let name = folder.path().file_name().unwrap();
            std::os::unix::fs::symlink(folder.path(), run.path().join(name)).unwrap();
        }
        run.remove().unwrap();
        assert!(!run.path().exists() && !own.path().exists());
        assert!(
            foreign.path().exists(),
            "somebody else's folder was removed"
        );
    }
}
