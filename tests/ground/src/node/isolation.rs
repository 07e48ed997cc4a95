//! The namespaces that a ground with a real node lives in, and the process that is the first in them.
//!
//! A program [enters](enter) them by starting itself again, below `unshare` and an init of our own: that prepares mounts
//! and network, starts the program, reaps what containers leave behind, and in the end takes back what is the machine's:
//! control groups and the settings that a kubelet changes. It ends all with it, however it ends.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::system::sethostname;

use super::cgroups::Cgroups;
use super::network;
use crate::control_plane::NODE;
use crate::nobody::is_root;

/// The first argument that makes a copy of the program the first process of the namespaces.
const MARKER: &str = "--ground-init";

/// Tells the program that it is in them: by the name of its control groups.
const INSIDE: &str = "GROUND_NODE";

/// How that name begins, before the id of the process outside.
const PREFIX: &str = "ground-";

/// What a kubelet sets for the whole machine.
const SETTINGS: [&str; 6] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// Turns this process into the namespaces' first one when its arguments say so, and never returns then.
///
/// Every program that [enters](enter) calls this first thing in `main`.
pub fn dispatch() {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() != Some(OsStr::new(MARKER)) {
        return;
    }
    let code = init(args.collect()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        1
    });
    std::process::exit(code);
}

/// Whether this program is in namespaces of its own.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The process outside of them by which a shell gets in (`nsenter --target`), if this program is in them.
pub fn process() -> Option<u32> {
    let name = std::env::var(INSIDE).ok()?;
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// Says in time what [`enter`] would say.
///
/// # Errors
/// This isn't root.
pub fn ensure_possible() -> Result<()> {
    ensure!(
        is_root(),
        "a real node needs root on Linux, for namespaces and control groups: run this as root, or take the fake node"
    );
    Ok(())
}

/// Starts this program again, with the same arguments, in namespaces of its own, in place of this process.
///
/// There is no way out of them to a network: what has to be fetched or built is so before.
///
/// # Errors
/// This isn't root, or `unshare` isn't there; otherwise it doesn't return.
pub fn enter() -> Result<std::convert::Infallible> {
    ensure_possible()?;
    let program = std::env::current_exe()?;
    // A terminal that is closed ends the program by a signal of its own, and what it leaves is put right after it.
    let error = Command::new("env")
        .args(["--ignore-signal=HUP", "unshare"])
        .args(["--mount", "--net", "--pid", "--ipc", "--uts"])
        .args(["--fork", "--mount-proc", "--kill-child=KILL"])
        .arg(program)
        .arg(MARKER)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, format!("{PREFIX}{}", std::process::id()))
        .exec();
    Err(anyhow!(error).context("can't run env and unshare: install coreutils and util-linux"))
}

/// The name of this node among others on the machine.
pub(super) fn name() -> Result<String> {
    std::env::var(INSIDE).context(
        "a real node is started in namespaces of its own alone: see ground::node::isolation::enter",
    )
}

/// SIGKILL to all processes that run a program of this name.
pub(super) fn kill_all_named(program: &str) -> Result<()> {
    for process in processes()? {
        let path = std::fs::read_link(format!("/proc/{}/exe", process.as_raw_nonzero()));
        if path.is_ok_and(|path| path.file_name() == Some(OsStr::new(program))) {
            let _ = kill_process(process, Signal::KILL);
        }
    }
    Ok(())
}

/// SIGKILL to one process.
pub(super) fn kill(process: u32) -> Result<()> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = process.context("no process has such an id")?;
    Ok(kill_process(process, Signal::KILL)?)
}

/// Takes away every mount below a folder, the latest first.
pub(super) fn unmount_below(folder: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    // proc(5): the fifth field is the mount point.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let below: Vec<&Path> = points
        .map(Path::new)
        .filter(|point| point.starts_with(folder) && *point != folder)
        .collect();
    for point in below.into_iter().rev() {
        unmount(point, UnmountFlags::DETACH)
            .with_context(|| format!("can't unmount {}", point.display()))?;
    }
    Ok(())
}

fn init(arguments: Vec<OsString>) -> Result<i32> {
    let name = name()?;
    let before: Vec<(PathBuf, Option<Vec<u8>>)> = SETTINGS
        .iter()
        .map(|setting| {
            let path = Path::new("/proc/sys").join(setting);
            let value = std::fs::read(&path).ok();
            (path, value)
        })
        .collect();
    prepare()?;
    let program = Command::new(std::env::current_exe()?)
        .args(arguments)
        .spawn()
        .context("can't start the program in its namespaces")?;
    let code = reap_until_the_end_of(program.id());
    end_all()?;
    Cgroups::remove(&name);
    for (path, value) in before {
        if let Some(value) = value.filter(|value| std::fs::read(&path).ok().as_ref() != Some(value))
        {
            std::fs::write(&path, value)
                .with_context(|| format!("can't put {} back", path.display()))?;
        }
    }
    Ok(code)
}

/// Kills whatever is left, also what is forked meanwhile, until nothing is.
fn end_all() -> Result<()> {
    loop {
        for process in processes()? {
            if !process.is_init() {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break,
                // No child is left.
                Err(_) => return Ok(()),
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn prepare() -> Result<()> {
    // As a kubelet expects it; the namespace itself shares nothing with the machine's.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).context("can't share mounts within the namespace")?;
    for folder in ["/run", "/var/log"] {
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), c"mode=755")
            .with_context(|| format!("can't mount a {folder} of its own"))?;
    }
    // Folders of the kubelet and of libcni are fixed there.
    for folder in ["/run/lock", "/run/var-lib/upper", "/run/var-lib/work"] {
        std::fs::create_dir_all(folder)?;
    }
    let layers = c"lowerdir=/var/lib,upperdir=/run/var-lib/upper,workdir=/run/var-lib/work";
    mount(
        "overlay",
        "/var/lib",
        "overlay",
        MountFlags::empty(),
        layers,
    )
    .context("can't mount a /var/lib of its own")?;
    sethostname(NODE.as_bytes()).context("can't set the name of the host")?;
    network::bring_up()
}

/// The exit code of that child, as a shell tells it. What others leave is reaped meanwhile.
fn reap_until_the_end_of(child: u32) -> i32 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((process, status)))
                if process.as_raw_nonzero().get().unsigned_abs() == child =>
            {
                let killed = || status.terminating_signal().map(|signal| 128 + signal);
                return status.exit_status().or_else(killed).unwrap_or(1);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}

fn processes() -> Result<Vec<Pid>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.filter_map(Pid::from_raw).collect())
}
