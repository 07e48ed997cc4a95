//! Every HTTP request that our Vault's listener saw, from its access log: one JSON line a request, with time, method,
//! path, status, remote_addr and user_agent.
//!
//! It also holds what the audit device leaves out (`sys/health`, `sys/seal-status`, `sys/leader`, a sealed Vault's
//! refusals). Each line is written before its answer leaves: a client that has the answer finds the line.

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

use super::follow::{Ledger, Log, Mark};

/// One HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// When it arrived.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The path with `/v1/`, without the query.
    pub path: String,
    /// The status answered.
    pub status: u16,
    /// The client's address and port.
    pub remote: String,
    /// The User-Agent.
    pub user_agent: String,
}

/// Which requests to look at; all conditions that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct AccessFilter {
    method: Option<String>,
    prefix: Option<String>,
    status: Option<u16>,
    user_agent: Option<String>,
    since: Mark,
}

impl AccessFilter {
    /// Every request in the log.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// For paths that begin so, with `/v1/`.
    #[must_use]
    pub fn path_prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// Answered with this status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Whose User-Agent contains this; that of an operator names its namespace.
    #[must_use]
    pub fn user_agent_contains(mut self, part: &str) -> Self {
        self.user_agent = Some(part.to_owned());
        self
    }

    /// Whose line was read after this mark.
    #[must_use]
    pub fn since(mut self, mark: Mark) -> Self {
        self.since = mark;
        self
    }

    /// Whether a request meets all conditions but the mark.
    pub fn meets(&self, access: &Access) -> bool {
        self.method
            .as_ref()
            .is_none_or(|method| *method == access.method)
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| access.path.starts_with(prefix))
            && self.status.is_none_or(|status| status == access.status)
            && self
                .user_agent
                .as_ref()
                .is_none_or(|part| access.user_agent.contains(part))
    }
}

/// The access log of one Vault.
pub type AccessLog = Log<Accesses>;

/// What was read of such a log.
#[derive(Default)]
pub struct Accesses(Vec<Access>);

impl Ledger for Accesses {
    type Entry = Access;
    type Filter = AccessFilter;

    fn take(&mut self, line: &[u8]) -> Result<()> {
        let line: Line = serde_json::from_slice(line).context("no line of Vault's access log")?;
        self.0.push(Access {
            at: line.time.parse()?,
            method: line.method,
            path: line.path,
            status: line.status,
            remote: line.remote_addr,
            user_agent: line.user_agent,
        });
        Ok(())
    }

    fn meets(filter: &AccessFilter, entry: &Access) -> bool {
        filter.meets(entry)
    }

    fn since(filter: &AccessFilter) -> Mark {
        filter.since
    }

    fn entries(&self) -> &[Access] {
        &self.0
    }
}

#[derive(Deserialize)]
struct Line {
    time: String,
    method: String,
    path: String,
    status: u16,
    remote_addr: String,
    user_agent: String,
}

#[cfg(test)]
#[path = "vault_access_tests.rs"]
mod tests;
