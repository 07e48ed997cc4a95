//! The requests that the API server saw, from its audit log.
//!
//! One entry a request, however many stages the audit policy logs: a running watch counts from its `ResponseStarted` on.
//!
//! # When is the log complete?
//! The log backend (mode `blocking`, the default) writes the line of a request at the end of its handler, which can be a
//! moment after the client has the last byte of the answer. Before counting, either [`Log::wait_for`] the request
//! known to be the last, or [`Log::settle`]: it returns once nothing that matches was added for a while. For "no
//! request at all", settle too: the first look is never enough. The policy must not omit stages other than
//! `RequestReceived`, nor users or resources that a test asks about.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

use super::follow::{Ledger, Log, Mark};

/// One request to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiRequest {
    /// The audit id.
    pub id: String,
    /// The authenticated user, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The verb as authorized: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Path and query as sent.
    pub uri: String,
    /// The API group; empty for the core group and for paths that are no resource.
    pub group: String,
    /// The resource as RBAC spells it: `secrets`, `serviceaccounts/token`; empty for paths that are no resource.
    pub resource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name; also that of a list or watch by `fieldSelector=metadata.name=`. Else empty.
    pub name: String,
    /// The status answered; none while it runs.
    pub code: Option<u16>,
    /// What authorization decided: `allow` or `forbid`; empty where the log doesn't say.
    pub decision: String,
    /// The User-Agent.
    pub user_agent: String,
    /// When it arrived.
    pub received: Timestamp,
    /// When its last logged stage was reached.
    pub last_stage: Timestamp,
}

impl ApiRequest {
    /// Whether it made an object: a POST does, and an apply that answers 201 does.
    pub fn created(&self) -> bool {
        self.code == Some(201)
    }
}

/// The user name of a ServiceAccount.
pub fn service_account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Which requests to look at; all conditions that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct ApiFilter {
    user: Option<String>,
    verbs: Vec<String>,
    group: Option<String>,
    resource: Option<String>,
    without: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    code: Option<u16>,
    user_agent: Option<String>,
    uri: Option<String>,
    window: (Option<Timestamp>, Option<Timestamp>),
    since: Mark,
}

impl ApiFilter {
    /// Every request in the log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests of this ServiceAccount.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new().user(service_account(namespace, name))
    }

    /// By exactly this user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// With this verb; several calls widen the choice.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        self.verbs.push(verb.to_owned());
        self
    }

    /// Only those that change something.
    #[must_use]
    pub fn writes(self) -> Self {
        ["create", "update", "patch", "delete", "deletecollection"]
            .into_iter()
            .fold(self, Self::verb)
    }

    /// In this API group; empty for the core group.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// For this resource, spelt as in RBAC: `secrets` leaves out its subresources, `vaultauths/status` is one of them, and
    /// `vaultauths/*` is the resource with all of them.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// For any resource but this one.
    #[must_use]
    pub fn without(mut self, resource: &str) -> Self {
        self.without = Some(resource.to_owned());
        self
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// For the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Answered with this status.
    #[must_use]
    pub fn code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    /// Whose User-Agent contains this.
    #[must_use]
    pub fn user_agent_contains(mut self, part: &str) -> Self {
        self.user_agent = Some(part.to_owned());
        self
    }

    /// Whose path and query contain this, such as a `fieldManager`.
    #[must_use]
    pub fn uri_contains(mut self, part: &str) -> Self {
        self.uri = Some(part.to_owned());
        self
    }

    /// That arrived within `from..to`, by the API server's clock.
    #[must_use]
    pub fn received_within(mut self, from: Timestamp, to: Timestamp) -> Self {
        self.window = (Some(from), Some(to));
        self
    }

    /// Whose first line was read after this mark.
    #[must_use]
    pub fn since(mut self, mark: Mark) -> Self {
        self.since = mark;
        self
    }

    /// Whether a request meets all conditions but the mark.
    pub fn meets(&self, request: &ApiRequest) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        };
        let has = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| value.contains(wanted))
        };
        let resource =
            self.resource
                .as_ref()
                .is_none_or(|wanted| match wanted.strip_suffix("/*") {
                    Some(whole) => request.resource.split('/').next() == Some(whole),
                    None => *wanted == request.resource,
                });
        resource
            && self.without.as_ref() != Some(&request.resource)
            && is(&self.user, &request.user)
            && (self.verbs.is_empty() || self.verbs.contains(&request.verb))
            && is(&self.group, &request.group)
            && is(&self.namespace, &request.namespace)
            && is(&self.name, &request.name)
            && self.code.is_none_or(|code| request.code == Some(code))
            && has(&self.user_agent, &request.user_agent)
            && has(&self.uri, &request.uri)
            && self.window.0.is_none_or(|from| request.received >= from)
            && self.window.1.is_none_or(|to| request.received < to)
    }
}

/// The audit log of one API server.
pub type ApiAudit = Log<ApiRequests>;

impl ApiAudit {
    /// How many match, for each verb and resource: `"patch secrets" -> 100`. Made for assertions and for printing.
    ///
    /// # Errors
    /// As for [`Log::requests`].
    pub fn counts(&self, filter: &ApiFilter) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for request in self.requests(filter)? {
            let what = if request.resource.is_empty() {
                &request.uri
            } else {
                &request.resource
            };
            *counts
                .entry(format!("{} {what}", request.verb))
                .or_default() += 1;
        }
        Ok(counts)
    }

    /// The matching requests that were answered 403. [`ApiRequest::decision`] tells missing rights (`forbid`) from a
    /// refusal by admission, such as a quota (`allow`).
    ///
    /// # Errors
    /// As for [`Log::requests`].
    pub fn forbidden(&self, filter: &ApiFilter) -> Result<Vec<ApiRequest>> {
        self.requests(&filter.clone().code(403))
    }
}

/// What was read of such a log.
#[derive(Default)]
pub struct ApiRequests {
    entries: Vec<ApiRequest>,
    by_id: HashMap<String, usize>,
}

impl Ledger for ApiRequests {
    type Entry = ApiRequest;
    type Filter = ApiFilter;

    fn take(&mut self, line: &[u8]) -> Result<()> {
        let request = serde_json::from_slice::<Event>(line)
            .context("no audit event")?
            .request()?;
        match self
            .by_id
            .get(&request.id)
            .and_then(|&place| self.entries.get_mut(place))
        {
            Some(known) => *known = request,
            None => {
                self.by_id.insert(request.id.clone(), self.entries.len());
                self.entries.push(request);
            }
        }
        Ok(())
    }

    fn meets(filter: &ApiFilter, entry: &ApiRequest) -> bool {
        filter.meets(entry)
    }

    fn since(filter: &ApiFilter) -> Mark {
        filter.since
    }

    fn entries(&self) -> &[ApiRequest] {
        &self.entries
    }
}

/// The parts of `audit.k8s.io/v1` `Event` that count.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Option<ResponseStatus>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: Option<u16>,
}

impl Event {
    fn request(self) -> Result<ApiRequest> {
        let ObjectRef {
            resource,
            namespace,
            name,
            api_group: group,
            subresource,
        } = self.object_ref;
        let resource = if subresource.is_empty() {
            resource
        } else {
            format!("{resource}/{subresource}")
        };
        Ok(ApiRequest {
            id: self.audit_id,
            user: self.user.username,
            verb: self.verb,
            uri: self.request_uri,
            group,
            resource,
            namespace,
            name,
            code: self.response_status.and_then(|status| status.code),
            decision: self
                .annotations
                .get("authorization.k8s.io/decision")
                .cloned()
                .unwrap_or_default(),
            user_agent: self.user_agent,
            received: self.request_received_timestamp.parse()?,
            last_stage: self.stage_timestamp.parse()?,
        })
    }
}

#[cfg(test)]
#[path = "api_audit_tests.rs"]
mod tests;
