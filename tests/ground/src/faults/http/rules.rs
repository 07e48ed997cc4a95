//! Which requests a proxy meets with which fault, and for how long.
//!
//! Rules are tried in the order in which they were added; the first that matches and isn't used up decides. So
//! `on(m).once().answer(a)` followed by `on(m).answer(b)` reads as it runs: `a` first, then `b` for good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;

use super::record::{Log, Record};
use super::{Answer, Shared};

/// Conditions on a request; all that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct Match {
    method: Option<Method>,
    path: Option<String>,
    prefix: Option<String>,
    parts: Vec<String>,
    query: Vec<String>,
    headers: Vec<(String, String)>,
    nth: Option<usize>,
}

impl Match {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests with this method, such as `PATCH`. An impossible method matches nothing.
    pub fn method(method: &str) -> Self {
        Self {
            method: Some(Method::from_bytes(method.as_bytes()).unwrap_or(Method::CONNECT)),
            ..Self::default()
        }
    }

    /// The path is exactly this one (without the query).
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The path begins so.
    #[must_use]
    pub fn path_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// The path contains this; several calls add up.
    #[must_use]
    pub fn path_contains(mut self, part: impl Into<String>) -> Self {
        self.parts.push(part.into());
        self
    }

    /// The query contains this, such as `watch=true` or `fieldManager=`; several calls add up.
    #[must_use]
    pub fn query_contains(mut self, part: impl Into<String>) -> Self {
        self.query.push(part.into());
        self
    }

    /// A header of this name contains `part`; an empty `part` asks only that the header is there.
    #[must_use]
    pub fn header_contains(mut self, name: &str, part: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), part.into()));
        self
    }

    /// Only the n-th of the requests that meet the other conditions, counted from 1: for a rule since it was added, for a
    /// question over the records asked about.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        self.nth = Some(n);
        self
    }

    /// Whether all conditions but `nth` hold.
    pub(super) fn meets(&self, record: &Record) -> bool {
        let has = |(name, part): &(String, String)| {
            let contains = |value: &http::HeaderValue| {
                String::from_utf8_lossy(value.as_bytes()).contains(part)
            };
            record.headers.get_all(name).iter().any(contains)
        };
        self.method
            .as_ref()
            .is_none_or(|method| *method == record.method)
            && self.path.as_ref().is_none_or(|path| *path == record.path)
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| record.path.starts_with(prefix))
            && self.parts.iter().all(|part| record.path.contains(part))
            && self.query.iter().all(|part| record.query.contains(part))
            && self.headers.iter().all(has)
    }

    /// Counts one request that meets the conditions, and says whether `nth` picks it.
    pub(super) fn is_turn(&self, met: &mut usize) -> bool {
        *met += 1;
        self.nth.is_none_or(|n| n == *met)
    }
}

struct Rule {
    matcher: Match,
    answer: Answer,
    met: usize,
    hits: usize,
    limit: Option<usize>,
    until: Option<Instant>,
    removed: bool,
}

impl Rule {
    fn is_active(&self) -> bool {
        !self.removed
            && self.limit.is_none_or(|limit| self.hits < limit)
            && self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// All rules of one proxy; used-up ones stay for their counts.
#[derive(Default)]
pub(super) struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    /// The answer of the first active rule that the request matches. Each rule counts it, also those behind the first.
    pub(super) fn pick(&self, record: &Record) -> Option<Answer> {
        let mut picked = None;
        for rule in self.lock().iter_mut() {
            if rule.matcher.meets(record)
                && rule.matcher.is_turn(&mut rule.met)
                && rule.is_active()
                && picked.is_none()
            {
                rule.hits += 1;
                picked = Some(rule.answer.clone());
            }
        }
        picked
    }

    pub(super) fn remove_all(&self) {
        self.lock().iter_mut().for_each(|rule| rule.removed = true);
    }

    fn hits(&self, id: usize) -> usize {
        self.lock().get(id).map_or(0, |rule| rule.hits)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rule in the making: begun by [`super::HttpProxy::on`], in force with [`RuleBuilder::answer`].
#[must_use = "a rule is in force only once it has an answer"]
pub struct RuleBuilder {
    pub(super) shared: Arc<Shared>,
    pub(super) matcher: Match,
    pub(super) limit: Option<usize>,
    pub(super) lasts: Option<Duration>,
}

impl RuleBuilder {
    /// For one request.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// For so many requests.
    pub fn times(mut self, n: usize) -> Self {
        self.limit = Some(n);
        self
    }

    /// For so long, from when it is in force.
    pub fn during(mut self, lasts: Duration) -> Self {
        self.lasts = Some(lasts);
        self
    }

    /// Puts the rule in force. Without a limit it holds until it is removed; dropping the handle doesn't remove it.
    pub fn answer(self, answer: Answer) -> RuleHandle {
        let mut rules = self.shared.rules.lock();
        let id = rules.len();
        let until = self.lasts.map(|lasts| Instant::now() + lasts);
        rules.push(Rule {
            matcher: self.matcher,
            answer,
            met: 0,
            hits: 0,
            limit: self.limit,
            until,
            removed: false,
        });
        drop(rules);
        RuleHandle {
            shared: self.shared,
            id,
        }
    }
}

/// A rule in force.
#[derive(Clone)]
pub struct RuleHandle {
    shared: Arc<Shared>,
    id: usize,
}

impl RuleHandle {
    /// How many requests it has met with its answer.
    pub fn hits(&self) -> usize {
        self.shared.rules.hits(self.id)
    }

    /// Ends the rule.
    pub fn remove(&self) {
        if let Some(rule) = self.shared.rules.lock().get_mut(self.id) {
            rule.removed = true;
        }
    }

    /// Waits until it has met `n` requests.
    ///
    /// # Errors
    /// After `deadline`, with the last requests that the proxy saw.
    pub async fn hit(&self, n: usize, deadline: Duration) -> Result<()> {
        let met = |_: &Log| (self.hits() >= n).then_some(());
        self.shared
            .log
            .wait(
                &format!("{n} requests that rule {} is for", self.id),
                deadline,
                met,
            )
            .await
    }
}
