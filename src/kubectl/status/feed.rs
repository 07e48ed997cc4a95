//! The lists that the rows come from, and the watches after them where somebody follows
//! what changes: one for each kind, begun anew when it fails.

use std::pin::pin;
use std::time::Duration;

use crate::key::Kind;
use crate::operator::resource_of;
use crate::reconcile::sources::KINDS;
use futures::StreamExt as _;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;

use super::board::News;

/// Before a list that failed is asked for again.
const PAUSE: Duration = Duration::from_secs(3);

/// News that nobody has taken yet; beyond them the watches wait.
const BACKLOG: usize = 500;

/// Lists all kinds in one namespace, or in all, and follows them then where `watch` says
/// so, for as long as somebody listens. To be called within a runtime.
pub fn of_all(client: &Client, namespace: Option<&str>, watch: bool) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    for kind in KINDS {
        // Objects are read as they are: a field of a later version must not be lost.
        let resource = resource_of(kind);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        tokio::spawn(of_kind(kind, api, watch, sender.clone()));
    }
    receiver
}

async fn of_kind(kind: Kind, api: Api<DynamicObject>, watch: bool, sender: mpsc::Sender<News>) {
    loop {
        let mut events = pin!(watcher(api.clone(), watcher::Config::default()));
        while let Some(event) = events.next().await {
            let has_failed = event.is_err();
            // The watch begins with the next event: who has no right to it is not refused.
            let is_enough = !watch && matches!(event, Ok(Event::InitDone));
            if sender.send((kind, event)).await.is_err() || is_enough {
                return;
            }
            // A watch that is only resumed would not say that it is well again.
            if has_failed {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
