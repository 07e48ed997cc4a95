//! How often a workload was restarted: its distinct pod templates, minus the first.
//!
//! Every template that was rolled out leaves an object behind: a ReplicaSet for a Deployment, a ControllerRevision for a
//! StatefulSet or DaemonSet. `generation` would count changes that roll nothing. Two limits: going back to an earlier
//! template reuses its object and isn't counted, and objects beyond `revisionHistoryLimit` (10 by default) are removed. A
//! full history is an error, so that restarts are never undercounted by it: give the workload a larger limit.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};

/// The label of a ReplicaSet that names its pod template.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// The API server's default for `revisionHistoryLimit`.
const DEFAULT_HISTORY: i32 = 10;

/// Which workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
}

/// The pod templates that a workload has had, by hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(pub BTreeSet<String>);

impl Templates {
    /// Of the workload with this name.
    ///
    /// # Errors
    /// When it doesn't exist, its controller has made no template object yet, its history is full, or the API server
    /// refuses.
    pub async fn of(client: &Client, kind: Kind, namespace: &str, name: &str) -> Result<Self> {
        let what = || format!("the restarts of {kind:?} {namespace}/{name}");
        Self::read(client, kind, namespace, name)
            .await
            .with_context(what)
    }

    /// How often another template was rolled out after the first.
    pub fn restarts(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    async fn read(client: &Client, kind: Kind, namespace: &str, name: &str) -> Result<Self> {
        let (owner, limit) = match kind {
            Kind::Deployment => {
                let found = Api::<Deployment>::namespaced(client.clone(), namespace)
                    .get(name)
                    .await?;
                (
                    found.metadata,
                    found.spec.and_then(|spec| spec.revision_history_limit),
                )
            }
            Kind::StatefulSet => {
                let found = Api::<StatefulSet>::namespaced(client.clone(), namespace)
                    .get(name)
                    .await?;
                (
                    found.metadata,
                    found.spec.and_then(|spec| spec.revision_history_limit),
                )
            }
            Kind::DaemonSet => {
                let found = Api::<DaemonSet>::namespaced(client.clone(), namespace)
                    .get(name)
                    .await?;
                (
                    found.metadata,
                    found.spec.and_then(|spec| spec.revision_history_limit),
                )
            }
        };
        let owner = owner.uid.context("the object has no uid")?;
        let limit = usize::try_from(limit.unwrap_or(DEFAULT_HISTORY))
            .context("revisionHistoryLimit is negative")?;
        let all = ListParams::default();
        let templates = match kind {
            Kind::Deployment => {
                let sets = Api::<ReplicaSet>::namespaced(client.clone(), namespace)
                    .list(&all)
                    .await?;
                owned(&sets.items, &owner)
                    .map(template_hash)
                    .collect::<Result<BTreeSet<_>>>()?
            }
            Kind::StatefulSet | Kind::DaemonSet => {
                let revisions = Api::<ControllerRevision>::namespaced(client.clone(), namespace)
                    .list(&all)
                    .await?;
                // The name of a revision ends in the hash of its template; an equal template reuses the revision.
                owned(&revisions.items, &owner)
                    .map(ResourceExt::name_any)
                    .collect()
            }
        };
        ensure!(
            !templates.is_empty(),
            "its controller has made no ReplicaSet or ControllerRevision yet; wait for it"
        );
        if templates.len() > limit {
            bail!(
                "its history is full ({limit} old templates), older restarts may be gone; raise revisionHistoryLimit"
            );
        }
        Ok(Self(templates))
    }
}

fn owned<'a, K: Resource>(objects: &'a [K], owner: &'a str) -> impl Iterator<Item = &'a K> {
    let is_owned = move |meta: &ObjectMeta| {
        meta.owner_references
            .iter()
            .flatten()
            .any(|reference| reference.uid == owner)
    };
    objects.iter().filter(move |object| is_owned(object.meta()))
}

fn template_hash(set: &ReplicaSet) -> Result<String> {
    let hash = set.labels().get(TEMPLATE_HASH);
    hash.cloned()
        .with_context(|| format!("ReplicaSet {} has no label {TEMPLATE_HASH}", set.name_any()))
}

#[cfg(test)]
#[path = "workloads_tests.rs"]
mod tests;
