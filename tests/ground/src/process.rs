//! One child process under a [`supervisor`](crate::supervisor): start, signal, wait, restart, read its log.
//!
//! A [`Process`] is a cheap handle; the child ends when the last handle is dropped or when this process dies, however
//! it dies. The child's environment is exactly what its [`Spec`] names: nothing of the host's reaches it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::{oneshot, watch};

use crate::supervisor::MARKER;
use crate::wait::wait_for;

/// How many lines of its log an error about a child shows.
const LINES_IN_ERRORS: usize = 15;

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The name that errors use.
    pub name: String,
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub dir: PathBuf,
    /// The file that its standard output and standard error are appended to.
    pub log: PathBuf,
    /// The signal by which it ends with its last handle, where SIGKILL would leave something behind.
    pub(crate) end: Option<Signal>,
}

impl Spec {
    /// A spec whose log is `DIR/NAME.log` and whose environment is `PATH` and `HOME=DIR`.
    pub fn new(name: &str, program: &Path, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            env: vec![
                ("PATH".into(), std::env::var_os("PATH").unwrap_or_default()),
                ("HOME".into(), dir.into()),
            ],
            dir: dir.to_owned(),
            log: dir.join(format!("{name}.log")),
            end: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds `--NAME=VALUE`; the value may be a path of any bytes.
    #[must_use]
    pub fn flag(self, name: &str, value: impl Into<OsString>) -> Self {
        let mut arg = OsString::from(format!("--{name}="));
        arg.push(value.into());
        self.arg(arg)
    }

    /// Sets one variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.into(), value.into()));
        self
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Unknown: its supervisor was killed, and the child with it.
    Lost,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// A child process; clones are handles of the same child.
#[derive(Clone, Debug)]
pub struct Process {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    spec: Spec,
    run: Mutex<Run>,
}

/// One life of the child; `restart` replaces it.
#[derive(Debug)]
struct Run {
    pid: Pid,
    exit: watch::Receiver<Option<Exit>>,
    /// Closing it ends the child.
    _lifeline: ChildStdin,
}

impl Process {
    /// Starts the child and returns once it has a process id.
    ///
    /// # Errors
    /// The program can't be started, or its log can't be opened.
    pub async fn start(spec: Spec) -> Result<Self> {
        let run = Run::start(&spec).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                spec,
                run: Mutex::new(run),
            }),
        })
    }

    /// Waits until `probe` answers; fails at once, with the last lines of its log, when the child ends before that.
    ///
    /// # Errors
    /// The child ended, or the probe still failed after `within`.
    pub async fn ready<T, F, Fut>(&self, within: Duration, probe: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let what = format!("{} to be ready", self.name());
        tokio::select! {
            answer = wait_for(&what, within, probe) => {
                answer.with_context(|| self.describe_log())
            }
            exit = self.wait() => {
                bail!("{} ended before it was ready ({exit:?}).\n{}", self.name(), self.describe_log())
            }
        }
    }

    /// The name from its [`Spec`].
    pub fn name(&self) -> &str {
        &self.inner.spec.name
    }

    /// What it was started from.
    pub fn spec(&self) -> &Spec {
        &self.inner.spec
    }

    /// The process id of the child itself, not of its supervisor; the last one when it has ended.
    pub fn pid(&self) -> u32 {
        self.locked().pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether the child has not ended.
    pub fn is_running(&self) -> bool {
        self.exit().is_none()
    }

    /// How the child ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.locked().exit.borrow()
    }

    /// SIGSTOP to all of its group: it stands still, and its connections stay open.
    ///
    /// # Errors
    /// The child has ended.
    pub fn stop(&self) -> Result<()> {
        self.signal_group(Signal::STOP)
    }

    /// SIGCONT after [`stop`](Self::stop).
    ///
    /// # Errors
    /// The child has ended.
    pub fn cont(&self) -> Result<()> {
        self.signal_group(Signal::CONT)
    }

    /// SIGKILL to all of its group; returns without waiting ([`wait`](Self::wait) does). Ended already is fine.
    pub fn kill(&self) {
        let _ = self.signal_group(Signal::KILL);
    }

    /// SIGTERM to the child alone, as a kubelet does; SIGKILL after `grace`.
    pub async fn terminate(&self, grace: Duration) -> Exit {
        self.end(Signal::TERM, grace).await
    }

    /// Another signal to the child alone that makes it end; SIGKILL after `grace`.
    pub(crate) async fn end(&self, signal: Signal, grace: Duration) -> Exit {
        let asked = {
            let run = self.locked();
            run.exit.borrow().is_none() && kill_process(run.pid, signal).is_ok()
        };
        if asked && let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            return exit;
        }
        self.kill();
        self.wait().await
    }

    /// Waits for the end of the child.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.locked().exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| *exit).unwrap_or(Exit::Lost)
    }

    /// Starts the child anew from the same [`Spec`], after a SIGKILL if it still runs. The log is continued.
    ///
    /// # Errors
    /// The program can't be started.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.wait().await;
        let run = Run::start(&self.inner.spec).await?;
        *self.locked() = run;
        Ok(())
    }

    /// The file that holds all of its output.
    pub fn log(&self) -> &Path {
        &self.inner.spec.log
    }

    /// The last `count` lines of its log; empty when it can't be read.
    pub fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// The last lines of its log, for an error.
    pub(crate) fn describe_log(&self) -> String {
        let lines = self.last_lines(LINES_IN_ERRORS);
        format!("Last lines of {}:\n{lines}", self.log().display())
    }

    fn signal_group(&self, signal: Signal) -> Result<()> {
        let run = self.locked();
        if let Some(exit) = *run.exit.borrow() {
            bail!("{} has ended already ({exit:?})", self.name());
        }
        kill_process_group(run.pid, signal)
            .with_context(|| format!("signal {signal:?} to {}", self.name()))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Run> {
        self.inner
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    async fn start(spec: &Spec) -> Result<Self> {
        let (mut supervisor, lifeline, events) = spawn_supervisor(spec)?;
        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        // A thread and not a task: a child belongs to no runtime, and tests may run several.
        std::thread::Builder::new()
            .name(format!("watch-{}", spec.name))
            .spawn(move || {
                let exit = follow(BufReader::new(events), started);
                let _ = supervisor.wait();
                let _ = ended.send(Some(exit));
            })?;
        let pid = start
            .await
            .unwrap_or_else(|_| Err(anyhow!("the supervisor said nothing")))
            .with_context(|| {
                format!(
                    "can't start {}: does this program call ground::supervisor::dispatch() first thing in main, and is {} an executable file?",
                    spec.name,
                    spec.program.display()
                )
            })?;
        Ok(Self {
            pid,
            exit,
            _lifeline: lifeline,
        })
    }
}

fn spawn_supervisor(spec: &Spec) -> Result<(Child, ChildStdin, ChildStdout)> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log)
        .with_context(|| format!("can't open the log {}", spec.log.display()))?;
    // Not current_exe: this also works when the file was replaced by a newer build meanwhile.
    let mut supervisor = Command::new("/proc/self/exe")
        .arg0("ground-supervisor")
        .arg(MARKER)
        .arg(spec.end.map_or(0, Signal::as_raw).to_string())
        .arg(&spec.program)
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        // Ctrl-C at the terminal is for the host, which decides in what order things end.
        .process_group(0)
        .spawn()
        .with_context(|| format!("can't start the supervisor of {}", spec.name))?;
    let lifeline = supervisor
        .stdin
        .take()
        .context("the supervisor has no input")?;
    let events = supervisor
        .stdout
        .take()
        .context("the supervisor has no output")?;
    Ok((supervisor, lifeline, events))
}

/// Reads the supervisor's events to their end.
fn follow(mut events: impl BufRead, started: oneshot::Sender<Result<Pid>>) -> Exit {
    let mut line = String::new();
    let first = events.read_line(&mut line).map_err(anyhow::Error::from);
    let pid = first.and_then(|_| {
        let line = line.trim_end();
        let pid = line
            .strip_prefix("started ")
            .and_then(|pid| pid.parse().ok());
        pid.and_then(Pid::from_raw)
            .ok_or_else(|| anyhow!("the supervisor said {line:?}"))
    });
    let known = pid.as_ref().ok().copied();
    let _ = started.send(pid);
    let Some(pid) = known else {
        return Exit::Lost;
    };
    line.clear();
    let _ = events.read_line(&mut line);
    let mut words = line.split_whitespace().skip(1);
    match (
        words.next(),
        words.next().and_then(|number| number.parse().ok()),
    ) {
        (Some("code"), Some(code)) => Exit::Code(code),
        (Some("signal"), Some(signal)) => Exit::Signal(signal),
        _ => {
            // The supervisor itself was killed: its task falls to us.
            let _ = kill_process_group(pid, Signal::KILL);
            Exit::Lost
        }
    }
}

/// The command lines of all living processes that work in this folder, or name it in their arguments or environment.
///
/// # Errors
/// `/proc` can't be read, or the folder's name isn't UTF-8.
pub fn processes_naming(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_str().context("the folder is not UTF-8")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        // A process may end while it is looked at; a dead one that only waits to be reaped has neither.
        let read = |file: &str| {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let (arguments, environment) = (read("cmdline"), read("environ"));
        // PostgreSQL's children write over both.
        let works = std::fs::read_link(entry.path().join("cwd"));
        let works_there = works.is_ok_and(|place| place.starts_with(folder));
        if works_there || arguments.contains(folder) || environment.contains(folder) {
            found.push(arguments);
        }
    }
    Ok(found)
}
