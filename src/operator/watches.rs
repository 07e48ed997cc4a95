//! Watches: one for each kind and namespace, trimmed on entry, each change
//! turned into keys of the queue. A watch that fails is tried again with
//! backoff for ever, says what is missing, and keeps nobody else waiting.

use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::http::Readiness;
use super::kube_errors::classify;
use super::meta;
use crate::key::ObjectKey;
use crate::problem::Problem;
use crate::reconcile::observe::Observer;
use crate::reconcile::view::Store;
use crate::telemetry::Metrics;

/// Where a watch reports how it fares.
#[derive(Clone)]
pub struct Health {
    /// Shown by `/readyz`.
    pub readiness: Readiness,
    /// Counted.
    pub metrics: Rc<Metrics>,
}

/// Before a new list where lists work and watches don't: each such list would
/// end the backoff of the one before.
const RELIST_PAUSE: Duration = Duration::from_secs(2);

/// Runs one watch for ever; `cut` reduces an object to what is kept of it.
pub async fn run<K, T>(
    api: Api<K>,
    store: Store,
    namespace: &str,
    health: Health,
    cut: impl Fn(K) -> Option<T>,
    observer: impl Observer<T>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let topic = format!("watch {store} in {namespace}");
    health
        .readiness
        .waits(&topic, "the first list is not complete");
    loop {
        // Lists come from the API server's cache and in pages: cheap for both sides.
        let config = watcher::Config::default().any_semantic().page_size(100);
        let mut events = std::pin::pin!(watcher(api.clone(), config).default_backoff());
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
                    health.readiness.has(&topic);
                    health.metrics.watch(&store.to_string(), false);
                }
                Err(error) => {
                    let Some(problem) = lasting(&topic, &error) else {
                        continue;
                    };
                    observer.failing(&problem);
                    health.metrics.watch(&store.to_string(), true);
                    if health.readiness.waits(&topic, &problem.to_string()) {
                        tracing::warn!(%store, namespace, %problem, "cannot watch, trying again");
                    }
                    if matches!(error, watcher::Error::WatchStartFailed(_)) {
                        // A resumed watch would not say that it is well again; a new list does.
                        break;
                    }
                }
            }
        }
        tokio::time::sleep(RELIST_PAUSE).await;
    }
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// What is worth telling of a watch's error. An expired or closed watch is the
/// ordinary course of things, and one that does not start because the API server
/// is away for a moment is resumed without loss.
fn lasting(topic: &str, error: &watcher::Error) -> Option<Problem> {
    let (error, listed) = match error {
        watcher::Error::InitialListFailed(error) => (error, false),
        watcher::Error::WatchStartFailed(error) => (error, true),
        _ => return None,
    };
    match classify(topic, error) {
        Problem::KubernetesUnavailable { .. } if listed => None,
        Problem::Conflict { what, .. } => Some(Problem::KubernetesRefused {
            what,
            why: "the API server does not know the kind; apply kustomize/crds".to_owned(),
        }),
        other => Some(other),
    }
}

/// Secrets by their metadata alone.
pub type SecretMetadata = PartialObjectMeta<Secret>;

/// Workloads, cut while they are read.
pub type WorkloadObject = meta::Workload;
