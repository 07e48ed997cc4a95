//! Pods on the pretended node: they become Ready and end, at once or as slowly as an annotation says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::LONG;
use crate::Ground;
use crate::wait::wait_for;

pub(super) async fn deployment(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("deployment").await?;
    tenant.apply(&manifest("web", 3).to_string()).await?;
    ready(&tenant.client, &tenant.namespace, "web", 3).await
}

/// A Deployment.
pub(super) fn manifest(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "web", "image": "web" }] },
            },
        },
    })
}

/// Waits until all replicas of a Deployment are ready.
pub(super) async fn ready(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    replicas: i32,
) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let what = format!("{replicas} ready replicas of {name}");
    wait_for(&what, LONG, || async {
        let status = deployments.get(name).await?.status;
        let ready = status.as_ref().and_then(|status| status.ready_replicas);
        ensure!(ready == Some(replicas), "{status:?}");
        Ok(())
    })
    .await
}

/// How slow the slow pod is. The API server's times are whole seconds, so one less is what can be seen of it.
const SLOW: Duration = Duration::from_secs(3);
const SEEN: Duration = Duration::from_secs(2);

pub(super) async fn slow_pod(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("slow-pod").await?;
    let seconds = SLOW.as_secs().to_string();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "slow", "annotations": {
            "ground.test/ready-after-seconds": seconds,
            "ground.test/terminates-after-seconds": seconds,
        } },
        "spec": { "containers": [{ "name": "web", "image": "web" }] },
    });
    let manifest = pod.to_string();
    // The controllers give a new namespace its ServiceAccount a little later than the namespace is there.
    wait_for("the pod to be taken", LONG, || tenant.apply(&manifest)).await?;
    let pods: Api<Pod> = tenant.api();
    let took = wait_for("the slow pod to be Ready", LONG, || async {
        let pod = pods.get("slow").await?;
        let since = |type_: &str| -> Result<i64> {
            let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            let found = conditions.find(|it| it.type_ == type_ && it.status == "True");
            let found = found.and_then(|it| it.last_transition_time.as_ref());
            Ok(found.with_context(|| format!("not {type_}"))?.0.as_second())
        };
        Ok(since("Ready")? - since("PodScheduled")?)
    })
    .await?;
    ensure!(
        took >= SEEN.as_secs().cast_signed(),
        "it was Ready {took} s after it was scheduled"
    );
    let asked = Instant::now();
    pods.delete("slow", &DeleteParams::default()).await?;
    // Less than the grace period of 30 seconds, which ends it in any case.
    wait_for("the slow pod to end", SLOW * 8, || async {
        let left = pods.get_opt("slow").await?;
        ensure!(left.is_none(), "it is there");
        Ok(())
    })
    .await?;
    let took = asked.elapsed();
    ensure!(took >= SEEN, "it ended after {took:?}");
    Ok(())
}
