//! The requests that Vault saw, from the log of its file audit device.
//!
//! One entry a request: its `request` and `response` lines are joined. Values in the log are HMACs, so nothing here can
//! show a secret. The log lacks `sys/health`, `sys/seal-status` and `sys/leader`, and all that a sealed Vault was asked:
//! see [`super::vault_access`] for those. The line by which Vault tries out a new device (`sys/audit/test`) is left out.
//!
//! # When is the log complete?
//! Vault answers only after its audit device took the `response` line. So whoever has the answer finds the request here;
//! only for requests of *others* that may still be under way, [`Log::settle`] or wait for the last one.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::follow::{Ledger, Log, Mark};

/// What Vault writes to a new device by itself.
const DEVICE_TEST: &str = "sys/audit/test";

/// One request to Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultRequest {
    /// Vault's id of the request.
    pub id: String,
    /// When Vault logged it.
    pub at: Timestamp,
    /// `read`, `list`, `create`, `update`, `patch`, `delete`, `help` and so on.
    pub operation: String,
    /// The path without `/v1/`, such as `auth/kubernetes/login`.
    pub path: String,
    /// The Vault namespace's path; empty for the root namespace.
    pub namespace: String,
    /// The token's display name, such as `kubernetes-NAMESPACE-NAME`; for a login, that of the token it gave.
    pub display_name: String,
    /// The token's entity, or empty.
    pub entity: String,
    /// What went wrong before the path's engine was asked, such as `permission denied`, several lines perhaps; else empty.
    /// What an engine itself refuses (a wrong login, a missing secret) isn't told apart in the log.
    pub error: String,
    /// The User-Agent.
    pub user_agent: String,
    /// The client's port, which tells its connections apart.
    pub remote_port: u16,
    /// The lease in its answer: a new one, or one that was renewed; else empty.
    pub lease: String,
    /// Whether it asks Vault to be done before it answers (`sync` of a revocation).
    pub sync: bool,
    /// Whether its answer was logged.
    pub answered: bool,
}

/// Which requests to look at; all conditions that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct VaultFilter {
    path: Option<String>,
    prefix: Option<String>,
    operation: Option<String>,
    namespace: Option<String>,
    client: Option<String>,
    user_agent: Option<String>,
    failed: Option<bool>,
    since: Mark,
}

impl VaultFilter {
    /// Every request in the log.
    pub fn new() -> Self {
        Self::default()
    }

    /// For exactly this path (without `/v1/`).
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// For paths that begin so.
    #[must_use]
    pub fn path_prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// With this operation.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> Self {
        self.operation = Some(operation.to_owned());
        self
    }

    /// In this Vault namespace; empty for the root namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.trim_matches('/').to_owned());
        self
    }

    /// Whose display name contains this.
    #[must_use]
    pub fn client_contains(mut self, part: &str) -> Self {
        self.client = Some(part.to_owned());
        self
    }

    /// Whose User-Agent contains this; that of an operator names its namespace.
    #[must_use]
    pub fn user_agent_contains(mut self, part: &str) -> Self {
        self.user_agent = Some(part.to_owned());
        self
    }

    /// Only those with an error (`true`) or only those without.
    #[must_use]
    pub fn failed(mut self, failed: bool) -> Self {
        self.failed = Some(failed);
        self
    }

    /// Whose first line was read after this mark.
    #[must_use]
    pub fn since(mut self, mark: Mark) -> Self {
        self.since = mark;
        self
    }

    /// Whether a request meets all conditions but the mark.
    pub fn meets(&self, request: &VaultRequest) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        };
        is(&self.path, &request.path)
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| request.path.starts_with(prefix))
            && is(&self.operation, &request.operation)
            && is(&self.namespace, &request.namespace)
            && self
                .client
                .as_ref()
                .is_none_or(|part| request.display_name.contains(part))
            && self
                .user_agent
                .as_ref()
                .is_none_or(|part| request.user_agent.contains(part))
            && self
                .failed
                .is_none_or(|failed| failed != request.error.is_empty())
    }
}

/// The audit log of one Vault.
pub type VaultAudit = Log<VaultRequests>;

impl VaultAudit {
    /// How many match, by their path.
    ///
    /// # Errors
    /// As for [`Log::requests`].
    pub fn count_by_path(&self, filter: &VaultFilter) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for request in self.requests(filter)? {
            *counts.entry(request.path).or_default() += 1;
        }
        Ok(counts)
    }
}

/// What was read of such a log.
#[derive(Default)]
pub struct VaultRequests {
    entries: Vec<VaultRequest>,
    by_id: HashMap<String, usize>,
}

impl Ledger for VaultRequests {
    type Entry = VaultRequest;
    type Filter = VaultFilter;

    fn take(&mut self, line: &[u8]) -> Result<()> {
        let line: Line = serde_json::from_slice(line).context("no audit entry of Vault's")?;
        let answered = line.kind == "response";
        if line.request.path == DEVICE_TEST && line.request.remote_port == 0 {
            return Ok(());
        }
        // A login has no token of its own yet: its answer has the one that it gave.
        let mut auths = [line.auth, line.response.auth].into_iter().flatten();
        let auth = auths
            .find(|auth| !auth.display_name.is_empty())
            .unwrap_or_default();
        let known = self
            .by_id
            .get(&line.request.id)
            .and_then(|&place| self.entries.get_mut(place));
        if let Some(known) = known {
            known.answered |= answered;
            known.lease.push_str(&line.response.secret.lease_id);
            if !auth.display_name.is_empty() {
                known.display_name = auth.display_name;
                known.entity = auth.entity_id;
            }
            if !line.error.is_empty() {
                known.error = line.error;
            }
            return Ok(());
        }
        self.by_id
            .insert(line.request.id.clone(), self.entries.len());
        self.entries.push(VaultRequest {
            id: line.request.id,
            at: line.time.parse()?,
            operation: line.request.operation,
            path: line.request.path,
            namespace: line.request.namespace.path.trim_matches('/').to_owned(),
            display_name: auth.display_name,
            entity: auth.entity_id,
            error: line.error,
            user_agent: line.request.headers.user_agent.concat(),
            remote_port: line.request.remote_port,
            lease: line.response.secret.lease_id,
            sync: line.request.data.unwrap_or_default().sync == Value::Bool(true),
            answered,
        });
        Ok(())
    }

    fn meets(filter: &VaultFilter, entry: &VaultRequest) -> bool {
        filter.meets(entry)
    }

    fn since(filter: &VaultFilter) -> Mark {
        filter.since
    }

    fn entries(&self) -> &[VaultRequest] {
        &self.entries
    }
}

/// The parts of an audit line that count.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    time: String,
    auth: Option<Auth>,
    request: Request,
    #[serde(default)]
    response: Response,
    #[serde(default)]
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    display_name: String,
    entity_id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    id: String,
    operation: String,
    path: String,
    namespace: Namespace,
    remote_port: u16,
    headers: Headers,
    data: Option<Data>,
}

/// What of a body is no text, so that Vault logs it as it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    sync: Value,
}

/// The one header that Vault logs by default, and as it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Headers {
    #[serde(rename = "user-agent")]
    user_agent: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace {
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    auth: Option<Auth>,
    secret: Secret,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Secret {
    lease_id: String,
}

#[cfg(test)]
#[path = "vault_audit_tests.rs"]
mod tests;
