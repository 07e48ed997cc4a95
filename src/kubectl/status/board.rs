//! All that is known of the resources, kept by the events of their watches: which
//! rows there are, and of which kinds nothing can be seen, and why.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::GROUP;
use crate::key::Kind;
use crate::reconcile::sources::KINDS;
use jiff::Timestamp;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use serde::Serialize;

use super::row::{Row, RowJson, RowKey, State};
use crate::kubectl::cluster::reason;

/// What a watch tells of a kind.
pub type News = (Kind, watcher::Result<Event<DynamicObject>>);

/// What is known of the resources of one namespace, or of all.
pub struct Board {
    /// `None`: all of them.
    namespace: Option<String>,
    rows: BTreeMap<RowKey, Row>,
    /// What a list that has begun has shown so far, by kind.
    listing: BTreeMap<Kind, BTreeSet<RowKey>>,
    /// Whether a kind can be seen, or the sentence that says why not.
    kinds: BTreeMap<Kind, Result<(), String>>,
}

/// All in JSON.
#[derive(Serialize)]
struct BoardJson<'a> {
    namespace: Option<&'a str>,
    ready: bool,
    secrets: Vec<RowJson<'a>>,
}

impl Board {
    /// Nothing is known yet.
    pub fn new(namespace: Option<String>) -> Self {
        Self {
            namespace,
            rows: BTreeMap::new(),
            listing: BTreeMap::new(),
            kinds: BTreeMap::new(),
        }
    }

    /// Takes in what a watch tells; the rows that are others now.
    pub fn take(&mut self, (kind, event): News) -> Vec<Row> {
        match event {
            Ok(Event::Init) => {
                self.listing.insert(kind, BTreeSet::new());
                Vec::new()
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let row = Row::of(kind, object);
                if let Some(listing) = self.listing.get_mut(&kind) {
                    listing.insert(row.key.clone());
                }
                let before = self.rows.insert(row.key.clone(), row.clone());
                let is_other = before.as_ref() != Some(&row);
                is_other.then_some(row).into_iter().collect()
            }
            Ok(Event::Delete(object)) => self.forget(&[RowKey::of(kind, &object)]),
            Ok(Event::InitDone) => {
                self.kinds.insert(kind, Ok(()));
                let listed = self.listing.remove(&kind).unwrap_or_default();
                let keys = self.rows.keys();
                let gone = keys.filter(|key| key.kind == kind && !listed.contains(key));
                self.forget(&gone.cloned().collect::<Vec<_>>())
            }
            Err(error) => {
                if let Some(trouble) = self.trouble(kind, &error) {
                    self.kinds.insert(kind, Err(trouble));
                }
                Vec::new()
            }
        }
    }

    fn forget(&mut self, keys: &[RowKey]) -> Vec<Row> {
        let gone = keys.iter().filter_map(|key| self.rows.remove(key));
        gone.map(|mut row| {
            row.state = State::Deleted;
            row
        })
        .collect()
    }

    /// Why a kind cannot be seen, with the mend. An expired or closed watch is the
    /// ordinary course of things.
    fn trouble(&self, kind: Kind, error: &watcher::Error) -> Option<String> {
        let (verb, error) = match error {
            watcher::Error::InitialListFailed(error) => ("listed", Some(error)),
            watcher::Error::WatchStartFailed(error) => ("watched", Some(error)),
            watcher::Error::NoResourceVersion => ("watched", None),
            _ => return None,
        };
        let plural = kind.plural();
        let (place, elsewhere) = match &self.namespace {
            Some(namespace) => (format!("in {namespace}"), ""),
            None => (
                "in all namespaces".to_owned(),
                ", or name one with --namespace",
            ),
        };
        let code = match error {
            Some(kube::Error::Api(status)) => status.code,
            _ => 0,
        };
        let mend = match code {
            401 => "; log in to the cluster again".to_owned(),
            403 => format!("; ask for get, list and watch of {plural}.{GROUP}{elsewhere}"),
            404 => {
                "; have kustomize/overlays/cluster applied, which has the definitions".to_owned()
            }
            _ => String::new(),
        };
        let why = error.map_or_else(|| "the list has no resourceVersion".to_owned(), reason);
        Some(format!("{plural} {place} cannot be {verb}: {why}{mend}"))
    }

    /// Whether each kind has been listed once, or has failed to be.
    pub fn is_complete(&self) -> bool {
        self.kinds.len() == KINDS.len()
    }

    /// Whether any kind can be seen.
    pub fn sees_something(&self) -> bool {
        self.kinds.values().any(Result::is_ok)
    }

    /// Why kinds cannot be seen.
    pub fn troubles(&self) -> impl Iterator<Item = &str> {
        let kinds = self.kinds.values();
        kinds.filter_map(|kind| kind.as_ref().err().map(String::as_str))
    }

    /// All rows, in their order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Whether all kinds can be seen, and all that they have is ready.
    pub fn is_ready(&self) -> bool {
        self.troubles().next().is_none() && self.rows().all(Row::is_ready)
    }

    /// Whether nothing is there, or none of it can be seen.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The sentence for nothing at all, in kubectl's words.
    pub fn nothing(&self) -> Option<String> {
        let is_empty = self.is_empty() && self.troubles().next().is_none();
        is_empty.then(|| match &self.namespace {
            Some(namespace) => format!("No resources found in {namespace} namespace."),
            None => "No resources found".to_owned(),
        })
    }

    /// All as JSON.
    pub fn as_json(&self, now: Timestamp) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&BoardJson {
            namespace: self.namespace.as_deref(),
            ready: self.is_ready(),
            secrets: self.rows().map(|row| row.as_json(now)).collect(),
        })
    }
}
