//! The user who owns nothing: as whom a test run by root starts what must not run as root.
//!
//! Who isn't root is such a user already and has no need of this.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::process::Spec;

/// Its id, and that of its group.
pub const ID: u32 = 65534;

/// The command of util-linux, with its arguments, before a command of that user's. Only root may run it.
pub const COMMAND: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// Whether this process is root's.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same child as that user.
#[must_use]
pub fn run(mut spec: Spec) -> Spec {
    let [command, args @ ..] = COMMAND;
    let program = std::mem::replace(&mut spec.program, command.into());
    let before = args.map(OsString::from).into_iter();
    spec.args.splice(0..0, before.chain([program.into()]));
    spec
}

/// Whether that user gets to what lies in this folder: it may pass each folder on the way.
pub fn may_pass(folder: &Path) -> bool {
    let passes = |folder: &Path| {
        std::fs::metadata(folder).is_ok_and(|data| data.permissions().mode() & 0o001 != 0)
    };
    folder.ancestors().all(passes)
}
