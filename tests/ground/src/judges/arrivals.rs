//! When Secrets appear, as a watch of the API server tells: for the time from a cause to its Secret.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The longest watch that the client asks for, in seconds: follow no longer.
const LONGEST: u32 = 290;

/// When each Secret of a namespace was first seen since the watch began.
pub struct Arrivals {
    seen: watch::Receiver<BTreeMap<String, Instant>>,
    following: JoinHandle<Result<()>>,
}

impl Arrivals {
    /// Begins to watch; what is there already never arrives.
    ///
    /// # Errors
    /// The API server doesn't answer.
    pub async fn follow(secrets: Api<Secret>) -> Result<Self> {
        let now = secrets
            .list_metadata(&ListParams::default().limit(1))
            .await?;
        let now = now.metadata.resource_version.context("no version")?;
        let (sender, seen) = watch::channel(BTreeMap::new());
        let following = tokio::spawn(async move {
            let params = WatchParams::default().timeout(LONGEST);
            let mut events = secrets.watch_metadata(&params, &now).await?.boxed();
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Added(secret) = event {
                    sender.send_modify(|seen| {
                        seen.entry(secret.name_any()).or_insert_with(Instant::now);
                    });
                }
            }
            Ok(())
        });
        Ok(Self { seen, following })
    }

    /// When the Secret of this name was first seen.
    ///
    /// # Errors
    /// It isn't seen in time, or the watch has ended.
    pub async fn of(&self, name: &str, within: Duration) -> Result<Instant> {
        let mut seen = self.seen.clone();
        let there = seen.wait_for(|seen| seen.contains_key(name));
        let seen = tokio::time::timeout(within, there)
            .await
            .with_context(|| format!("the Secret {name} isn't there after {within:?}"))?
            .context("the watch of Secrets has ended")?;
        seen.get(name).copied().context("no time")
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.following.abort();
    }
}
