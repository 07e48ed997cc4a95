//! Ends a process at a chosen request or at its answer, with no hook in its binary.
//!
//! The proxy holds the request (or the answer) back until the process is gone, so what is under test can't do one step
//! more than the kill point allows. SIGKILL only: there is no last word.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures::future::BoxFuture;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::http::{Answer, Hook, HttpProxy, Match, Record, RuleHandle};

/// How long a killed process may take to vanish.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A set kill point; it strikes once.
pub struct KillPoint {
    rule: RuleHandle,
    struck: oneshot::Receiver<Result<Record>>,
}

impl KillPoint {
    /// Kills when the request arrives, before it is forwarded: it never takes effect. `pid` is asked at that moment.
    pub fn at_request(
        proxy: &HttpProxy,
        matcher: Match,
        pid: impl Fn() -> u32 + Send + Sync + 'static,
    ) -> Self {
        Self::set(proxy, matcher, pid, Answer::run_and_drop_before)
    }

    /// Kills when the upstream has answered and before the answer is passed on: the request took effect, and the process
    /// never knew.
    pub fn at_answer(
        proxy: &HttpProxy,
        matcher: Match,
        pid: impl Fn() -> u32 + Send + Sync + 'static,
    ) -> Self {
        Self::set(proxy, matcher, pid, Answer::run_and_drop_after)
    }

    fn set(
        proxy: &HttpProxy,
        matcher: Match,
        pid: impl Fn() -> u32 + Send + Sync + 'static,
        answer: impl FnOnce(Hook) -> Answer,
    ) -> Self {
        let (report, struck) = oneshot::channel();
        let report = Arc::new(Mutex::new(Some(report)));
        let hook: Hook = Arc::new(move |record| -> BoxFuture<'static, ()> {
            let pid = pid();
            let report = report.clone();
            Box::pin(async move {
                let killed = kill(pid).await.map(|()| record);
                if let Some(report) = report.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    // Nobody waits any more: the kill itself is done.
                    let _ = report.send(killed);
                }
            })
        });
        Self {
            rule: proxy.on(matcher).once().answer(answer(hook)),
            struck,
        }
    }

    /// Waits for the kill and returns the request at which it struck; the process is gone by then (a zombie, until its
    /// parent reaps it). The point is used up.
    ///
    /// # Errors
    /// When no such request came within `deadline` (the point is then taken away), or the process could not be killed.
    pub async fn killed(self, deadline: Duration) -> Result<Record> {
        match tokio::time::timeout(deadline, self.struck).await {
            Ok(Ok(killed)) => killed,
            Ok(Err(_)) => bail!("the proxy of the kill point was dropped before it struck"),
            Err(_) => {
                self.rule.remove();
                bail!(
                    "no request came to the kill point within {deadline:?}; check its conditions against the proxy's records"
                )
            }
        }
    }

    /// Takes the point away.
    pub fn disarm(self) {
        self.rule.remove();
    }
}

/// Ends a process by SIGKILL and waits until it is gone.
///
/// # Errors
/// When `pid` is 0 (no process there), isn't ours to kill, or outlives the signal.
pub async fn kill(pid: u32) -> Result<()> {
    let target = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| anyhow!("there is no process to kill: its id is {pid}"))?;
    match kill_process(target, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("process {pid} could not be killed"));
        }
    }
    let start = Instant::now();
    while is_running(pid) {
        if start.elapsed() > GONE_WITHIN {
            bail!("process {pid} is still there {GONE_WITHIN:?} after SIGKILL");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Whether a process exists and is more than a zombie. Its first thread can be one while others still run.
fn is_running(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name is in parentheses and may hold any character; then, see proc(5), come the state and, 17 fields on, the
    // number of threads.
    let mut fields = stat
        .rsplit_once(") ")
        .map_or("", |(_, rest)| rest)
        .split(' ');
    let state = fields.next();
    let threads = fields.nth(16).and_then(|threads| threads.parse().ok());
    !matches!(state, Some("Z" | "X")) || threads.unwrap_or(0) > 1
}

#[cfg(test)]
#[path = "killer_tests.rs"]
mod tests;
