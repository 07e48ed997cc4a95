//! Watches: one for each kind and namespace, or for one name, trimmed on entry,
//! each change turned into keys of the queue. A watch that fails is tried again with
//! backoff for ever, says what is missing, and keeps nobody else waiting.

use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Operator;
use super::http::Readiness;
use super::kube_errors::{classify, unknown_kind, unknown_rollouts};
use super::meta;
use crate::key::ObjectKey;
use crate::problem::Problem;
use crate::reconcile::observe::{Base, Observer};
use crate::reconcile::stores::Place;
use crate::reconcile::view::{Store, WorkloadKind};

/// Where a watch reports how it fares; `/readyz` shows it.
#[derive(Clone)]
pub struct Health {
    /// What the operator waits for, and what is to be said beside.
    pub readiness: Readiness,
}

impl Health {
    /// A watch begins. A single name keeps the operator from being ready neither
    /// now nor later: tenants choose names.
    fn begins(&self, place: &Place) {
        if place.name.is_none() {
            self.readiness
                .waits(&topic(place), "the first list is not complete");
        }
    }

    /// The place can be watched, or need not be any more.
    pub fn well(&self, place: &Place) {
        self.readiness.has(&topic(place));
    }

    /// A list or watch failed. Tells the observer, and people, where it is worth
    /// telling.
    pub fn failed<T>(&self, place: &Place, error: &kube::Error, observer: &impl Observer<T>) {
        let problem = problem_of(place, error);
        observer.failing(&problem);
        let (topic, text) = (topic(place), problem.to_string());
        let missing = is_optional(place) && matches!(problem, Problem::KubernetesRefused { .. });
        let news = match place.name {
            None if !missing => self.readiness.waits(&topic, &text),
            _ => self.readiness.remarks(&topic, &text),
        };
        if news {
            tracing::warn!(%place, %problem, "cannot watch, trying again");
        }
    }
}

/// Whether a cluster may well lack the kind, which others bring: the operator serves all else without it.
fn is_optional(place: &Place) -> bool {
    place.store == Store::Workloads(WorkloadKind::ArgoRollout)
}

fn topic(place: &Place) -> String {
    format!("watch {place}")
}

/// Objects in one answer to a list, as client-go and kubectl have it: a thousand
/// take few requests, and one answer little memory.
const PAGE_SIZE: u32 = 500;

/// After a first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a failure.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// After so long without a failure the next one is a first one.
const QUIET: Duration = Duration::from_secs(120);

/// Pauses that double. A list that works does not shorten them: watches may be
/// refused where lists are not.
struct Pauses {
    next: Duration,
    last: Option<Instant>,
}

impl Pauses {
    async fn pause(&mut self, place: &Place) {
        if self.last.is_none_or(|last| last.elapsed() > QUIET) {
            self.next = FIRST_PAUSE;
        }
        tokio::time::sleep(apart(&place.to_string(), self.next)).await;
        self.next = (self.next * 2).min(LAST_PAUSE);
        self.last = Some(Instant::now());
    }
}

/// A little less than `time`, and for each `name` another: what began together
/// comes apart.
pub fn apart(name: &str, time: Duration) -> Duration {
    time.mul_f64(0.75 + 0.25 * crate::reconcile::fraction(name))
}

/// Runs one watch for ever; `cut` reduces an object to what is kept of it.
pub async fn run<K, T>(
    api: Api<K>,
    place: Place,
    health: Health,
    cut: impl Fn(K) -> Option<T>,
    observer: impl Observer<T>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    health.begins(&place);
    let mut pauses = Pauses {
        next: FIRST_PAUSE,
        last: None,
    };
    loop {
        // Lists come from the API server's cache, in pages of the size that is usual.
        let mut config = watcher::Config::default()
            .any_semantic()
            .page_size(PAGE_SIZE);
        if let Some(name) = &place.name {
            config = config.fields(&selector(name));
        }
        let mut events = std::pin::pin!(watcher(api.clone(), config));
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => observer.listing(),
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    observer.seen(key_of(&object), cut(object));
                }
                Ok(Event::Delete(object)) => {
                    let uid = object.uid();
                    observer.gone(&key_of(&object), uid.as_deref());
                }
                Ok(Event::InitDone) => {
                    observer.listed();
                    health.well(&place);
                }
                // One that does not start because the API server is away for a moment
                // is resumed without loss. An expired or closed watch is the ordinary
                // course of things.
                Err(error) => {
                    let begins_anew = failed(&place, &error, &health, &observer);
                    pauses.pause(&place).await;
                    if begins_anew {
                        // A resumed watch would not say that it is well again; a new list does.
                        break;
                    }
                }
            }
        }
    }
}

/// Tells of a watch's error, where it is worth telling; whether only a new list
/// can end the trouble.
fn failed<T>(
    place: &Place,
    error: &watcher::Error,
    health: &Health,
    observer: &impl Observer<T>,
) -> bool {
    let (error, listed) = match error {
        watcher::Error::InitialListFailed(error) => (error, false),
        watcher::Error::WatchStartFailed(error) => (error, true),
        _ => return false,
    };
    let away = matches!(
        problem_of(place, error),
        Problem::KubernetesUnavailable { .. }
    );
    if listed && away {
        return false;
    }
    health.failed(place, error, observer);
    listed
}

/// A place that is watched as a whole, and what its observers share.
pub fn whole(engine: &Rc<Operator>, store: Store, namespace: &str) -> (Base<Operator>, Place) {
    let base = Base::new(Rc::clone(engine), store, namespace);
    let place = base.place().clone();
    (base, place)
}

/// What one list has shown.
pub fn listed<K: Resource, T>(
    objects: Vec<K>,
    cut: impl Fn(K) -> Option<T>,
    observer: &impl Observer<T>,
) {
    observer.listing();
    for object in objects {
        observer.seen(key_of(&object), cut(object));
    }
    observer.listed();
}

/// Selects the object of one name, which must be one ([`crate::key::is_object_name`]).
pub fn selector(name: &str) -> String {
    format!("metadata.name={name}")
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn problem_of(place: &Place, error: &kube::Error) -> Problem {
    match classify(topic(place), error) {
        Problem::Conflict { what, .. } if is_optional(place) => unknown_rollouts(what),
        Problem::Conflict { what, .. } => unknown_kind(what),
        other => other,
    }
}

/// Secrets by their metadata alone.
pub type SecretMetadata = PartialObjectMeta<Secret>;

/// Workloads, cut while they are read.
pub type WorkloadObject = meta::Workload;
