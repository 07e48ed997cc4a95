//! The supervisor: a small process between this one and each component, so that nothing outlives a killed run.
//!
//! The host starts itself again with a marker argument; that copy starts the component in a process group of its own
//! and ends the whole group as soon as its standard input closes, which the kernel does for it however the host dies. It
//! kills it, or gives it a moment to end by a signal of its own first, if it would leave something behind.
//! It speaks one line per event on its standard output (`started PID`, `failed REASON`, `exited code N`,
//! `exited signal N`) and does nothing else: no restarts, no logs of its own.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

/// The first argument that makes a copy of the host a supervisor.
pub(crate) const MARKER: &str = "--ground-supervisor";

/// How long a component has to end by its own signal.
const GRACE: Duration = Duration::from_secs(5);

/// Turns this process into a supervisor when its arguments say so, and never returns then.
///
/// Every program that starts a ground calls this first thing in `main`, before it reads its own arguments.
pub fn dispatch() {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() != Some(OsStr::new(MARKER)) {
        return;
    }
    std::process::exit(supervise(args.collect()));
}

/// Runs `signal program args...` (0: no signal of its own) and answers the exit code of the supervisor itself.
fn supervise(mut command: Vec<OsString>) -> i32 {
    let first = command.drain(..1.min(command.len())).next();
    let gently = first
        .and_then(|number| number.to_str()?.parse().ok())
        .and_then(Signal::from_named_raw);
    let child = match start(&command) {
        Ok(child) => child,
        Err(error) => {
            report(&format!("failed {error}"));
            return 1;
        }
    };
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        report("failed the system gave a process id that is none");
        return 1;
    };
    report(&format!("started {pid}"));

    // Held while the child is reaped: its group may be signalled only as long as its id can't be somebody else's.
    let alive = Arc::new(Mutex::new(true));
    let watched = Arc::clone(&alive);
    std::thread::spawn(move || {
        wait_for_end_of_input();
        let if_alive = |act: &dyn Fn()| {
            let alive = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if *alive {
                act();
            }
            *alive
        };
        if let Some(signal) = gently {
            if_alive(&|| {
                let _ = kill_process(pid, signal);
            });
            let deadline = Instant::now() + GRACE;
            while if_alive(&|| ()) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if_alive(&|| {
            let _ = kill_process_group(pid, Signal::KILL);
        });
    });
    reap(child, pid, &alive)
}

/// Starts the component: no input, its output where the host pointed our standard error (the log).
fn start(command: &[OsString]) -> std::io::Result<Child> {
    let (program, args) = command
        .split_first()
        .ok_or_else(|| std::io::Error::other("no program was named"))?;
    let log = std::io::stderr().as_fd().try_clone_to_owned()?;
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::from(log))
        .process_group(0)
        .spawn()
}

/// Waits for the end of the component, ends what it left in its group, and says how it ended.
fn reap(mut child: Child, pid: Pid, alive: &Mutex<bool>) -> i32 {
    let exited = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(
        waitid(WaitId::Pid(pid), exited),
        Err(rustix::io::Errno::INTR)
    ) {}
    let mut alive = alive.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = kill_process_group(pid, Signal::KILL);
    let ended = child.wait();
    *alive = false;
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => report(&format!("exited code {code}")),
            (None, signal) => report(&format!("exited signal {}", signal.unwrap_or_default())),
        },
        Err(error) => report(&format!("failed {error}")),
    }
    0
}

fn wait_for_end_of_input() {
    let mut input = std::io::stdin().lock();
    let mut buffer = [0_u8; 64];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Writes one line to the host; a host that is gone reads nothing, and that is no error here.
fn report(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}");
    let _ = output.flush();
}
