//! What an HTTP proxy saw: one record a request, from its arrival to the last byte of its answer.
//!
//! Records hold headers and, where asked for, bodies, so that a test can look at what was sent. `Debug` prints neither
//! header values nor bodies: a failing assertion must not print a token.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use http::{HeaderMap, Method, StatusCode, header};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Match;

/// The most that is kept of one captured body, in bytes; what is longer is cut.
pub const CAPTURE_LIMIT: usize = 4 * 1024 * 1024;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer yet, or its body is still under way (a watch).
    Running,
    /// The whole answer was handed over.
    Answered,
    /// A rule ended the connection without an answer.
    Dropped,
    /// The client went away, or the upstream did, before the end.
    Broken,
}

/// One request as the proxy saw it.
#[derive(Clone)]
pub struct Record {
    /// Its place among all requests of this proxy, from 0.
    pub index: usize,
    /// When its head had arrived.
    pub at: Timestamp,
    /// The method.
    pub method: Method,
    /// The path, percent-encoded as sent.
    pub path: String,
    /// What follows `?`, or nothing.
    pub query: String,
    /// All headers as sent.
    pub headers: HeaderMap,
    /// The status that the upstream answered; none if the request wasn't forwarded or not answered.
    pub upstream_status: Option<StatusCode>,
    /// The status that the client was sent.
    pub status: Option<StatusCode>,
    /// From its arrival to the end of the answer; none while it runs.
    pub duration: Option<Duration>,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the request's body.
    pub sent: u64,
    /// Bytes of the answer's body that the connection took.
    pub received: u64,
    /// The request's body, up to [`CAPTURE_LIMIT`]; empty unless the proxy captures bodies.
    pub request_body: Vec<u8>,
    /// The answer's body, likewise.
    pub response_body: Vec<u8>,
    start: Instant,
}

impl Record {
    /// The User-Agent, if one was sent as text.
    pub fn user_agent(&self) -> Option<&str> {
        self.headers.get(header::USER_AGENT)?.to_str().ok()
    }

    /// Whether a header of this name was sent, in any case.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    /// Whether the upstream answered it: its effect, if any, took place.
    pub fn reached_upstream(&self) -> bool {
        self.upstream_status.is_some()
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: BTreeSet<_> = self.headers.keys().map(|name| name.as_str()).collect();
        write!(f, "{} {}", self.method, self.path)?;
        if !self.query.is_empty() {
            write!(f, "?{}", self.query)?;
        }
        let status = |status: Option<StatusCode>| {
            status.map_or("-".to_owned(), |status| status.as_u16().to_string())
        };
        write!(
            f,
            " -> {} (upstream {}), ",
            status(self.status),
            status(self.upstream_status)
        )?;
        write!(
            f,
            "{:?} after {:?}, agent {:?}, headers {headers:?}",
            self.outcome,
            self.duration,
            self.user_agent()
        )
    }
}

/// A place in the order of requests, taken with `mark()`; what comes later is "since" it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub(super) usize);

/// All records of one proxy, and the bell that rings when one changes.
#[derive(Default)]
pub(super) struct Log {
    records: Mutex<Vec<Record>>,
    changes: watch::Sender<u64>,
}

impl Log {
    pub(super) fn open(&self, head: &http::request::Parts) -> Record {
        let mut records = self.lock();
        let record = Record {
            index: records.len(),
            at: Timestamp::now(),
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers.clone(),
            upstream_status: None,
            status: None,
            duration: None,
            outcome: Outcome::Running,
            sent: 0,
            received: 0,
            request_body: Vec::new(),
            response_body: Vec::new(),
            start: Instant::now(),
        };
        records.push(record.clone());
        drop(records);
        self.ring();
        record
    }

    pub(super) fn change(&self, index: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.lock().get_mut(index) {
            change(record);
        }
        self.ring();
    }

    /// Notes the end; only the first end counts.
    pub(super) fn end(&self, index: usize, outcome: Outcome) {
        self.change(index, |record| {
            if record.outcome == Outcome::Running {
                record.outcome = outcome;
                record.duration = Some(record.start.elapsed());
            }
        });
    }

    pub(super) fn get(&self, index: usize) -> Option<Record> {
        self.lock().get(index).cloned()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.lock().len())
    }

    pub(super) fn matching(&self, matcher: &Match, since: Mark) -> Vec<Record> {
        let records = self.lock();
        let mut met = 0;
        let meets = |record: &&Record| matcher.meets(record) && matcher.is_turn(&mut met);
        records
            .iter()
            .skip(since.0)
            .filter(meets)
            .cloned()
            .collect()
    }

    /// Waits until `look` finds something, looking again after each change.
    pub(super) async fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let mut changes = self.changes.subscribe();
        let found = tokio::time::timeout(deadline, async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = look(self) {
                    return Some(found);
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        })
        .await;
        if let Ok(Some(found)) = found {
            return Ok(found);
        }
        let records = self.lock();
        let last: Vec<_> = records
            .iter()
            .rev()
            .take(5)
            .map(|record| format!("  {record:?}"))
            .collect();
        bail!(
            "the proxy saw no {what} within {deadline:?}; of {} requests the last were (newest first):\n{}",
            records.len(),
            last.join("\n")
        )
    }

    pub(super) fn ring(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
