//! The control groups of a node's pods: below a root of its own in each hierarchy, so that another node on the same
//! machine isn't met, and so that nothing is left.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Where hierarchies are mounted: one folder for each of version 1, or all of it of version 2.
const MOUNTS: &str = "/sys/fs/cgroup";

/// The root of a node's groups.
#[derive(Debug)]
pub(super) struct Cgroups {
    name: String,
    roots: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes the root of this name.
    pub(super) fn make(name: String) -> Result<Self> {
        let hierarchies = hierarchies();
        ensure!(
            !hierarchies.is_empty(),
            "no control groups are mounted at {MOUNTS}: a real node needs them, writable"
        );
        let mut roots = Vec::new();
        for hierarchy in hierarchies {
            let root = hierarchy.join(&name);
            std::fs::create_dir_all(&root)
                .with_context(|| format!("can't make the control group {}", root.display()))?;
            // Of version 1, a new cpuset is empty and takes no process.
            for set in ["cpuset.cpus", "cpuset.mems"] {
                if root.join(set).exists() && !hierarchy.join("cgroup.controllers").exists() {
                    let of_all = std::fs::read_to_string(hierarchy.join(set))?;
                    std::fs::write(root.join(set), of_all.trim())?;
                }
            }
            roots.push(root);
        }
        Ok(Self { name, roots })
    }

    /// The name of the root, without a slash.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Kills every process in it; fails while there is one.
    pub(super) fn kill(&self) -> Result<()> {
        let mut alive = 0;
        for group in self.roots.iter().flat_map(|root| with_children(root)) {
            let listed = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for id in listed.lines().filter_map(|line| line.parse().ok()) {
                // Another namespace's are listed as 0.
                let Some(process) = Pid::from_raw(id) else {
                    continue;
                };
                let _ = kill_process(process, Signal::KILL);
                alive += 1;
            }
        }
        ensure!(alive == 0, "{alive} processes are still in containers");
        Ok(())
    }

    /// The group of a pod and those of its containers, in the hierarchy of this controller; in the only one of version 2.
    pub(super) fn of_pod(&self, uid: &str, controller: &str) -> Vec<PathBuf> {
        let in_it = |root: &&PathBuf| {
            self.roots.len() == 1
                || root
                    .parent()
                    .is_some_and(|parent| parent.ends_with(controller))
        };
        let groups = self
            .roots
            .iter()
            .filter(in_it)
            .flat_map(|root| with_children(root));
        let of_pod = groups.filter(|group| {
            group
                .components()
                .any(|part| part.as_os_str().to_string_lossy().ends_with(uid))
        });
        let mut all: Vec<PathBuf> = of_pod.collect();
        all.reverse();
        all
    }

    /// Removes the groups of this name, made by whoever.
    pub(super) fn remove(name: &str) {
        for hierarchy in hierarchies() {
            for group in with_children(&hierarchy.join(name)) {
                let _ = std::fs::remove_dir(group);
            }
        }
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = Path::new(MOUNTS);
    let is_group = |folder: &Path| folder.join("cgroup.procs").exists();
    if is_group(mounts) {
        return vec![mounts.to_owned()];
    }
    let entries = std::fs::read_dir(mounts).into_iter().flatten().flatten();
    // Links name several controllers of one.
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|folder| is_group(folder))
        .collect()
}

/// A group and all below it, children first.
fn with_children(group: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(with_children(&entry.path()));
        }
    }
    if group.is_dir() {
        all.push(group.to_owned());
    }
    all
}
