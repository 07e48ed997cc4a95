//! The tenant's operator: a process of this machine where the node is a fake one, its pod on a real one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::process::Exit;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Ground, Operator, Tenant, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};

use crate::observe::LONG;

/// The program in the pod.
const PROGRAM: &str = "vault-tenant-operator";

/// How the operator runs.
pub enum Running {
    /// As a process in the place of its pod.
    Process(Operator),
    /// As the pod of its Deployment.
    Pod,
}

impl Running {
    /// SIGKILL, and the next one at work.
    ///
    /// # Errors
    /// It isn't ready in time.
    pub async fn kill_and_restart(&self, ground: &Ground, tenant: &Tenant) -> Result<()> {
        match self {
            Self::Process(operator) => {
                operator.process.kill();
                operator.restart().await?;
                operator.wait_ready(LONG).await
            }
            Self::Pod => {
                let (uid, before) = ready_pod(tenant).await?;
                let node = ground.node.as_ref().context("no real node")?;
                node.kill_in(&uid, PROGRAM)?;
                wait_for("the kubelet to restart it", LONG, || async {
                    let (_, restarts) = ready_pod(tenant).await?;
                    ensure!(restarts > before, "not yet");
                    Ok(())
                })
                .await
            }
        }
    }

    /// Ends it as a cluster would.
    ///
    /// # Errors
    /// It doesn't end well.
    pub async fn terminate(&self, tenant: &Tenant, grace: Duration) -> Result<()> {
        match self {
            Self::Process(operator) => {
                let ended = operator.terminate(grace).await;
                ensure!(
                    ended.success(),
                    "the operator did not end well when it was asked to: {ended:?}"
                );
                Ok(())
            }
            Self::Pod => {
                let deployments = tenant.api::<Deployment>();
                deployments
                    .delete(OPERATOR_ACCOUNT, &DeleteParams::foreground())
                    .await?;
                wait_for("the operator's pod to go", grace + LONG, || async {
                    ensure!(
                        deployments.get_opt(OPERATOR_ACCOUNT).await?.is_none(),
                        "it is there"
                    );
                    Ok(())
                })
                .await
            }
        }
    }

    /// Returns when it ends by itself; a pod is restarted.
    pub async fn wait(&self) -> Exit {
        match self {
            Self::Process(operator) => operator.process.wait().await,
            Self::Pod => std::future::pending().await,
        }
    }
}

/// The uid of the operator's pod and how often its container was restarted, once it is Ready.
pub async fn ready_pod(tenant: &Tenant) -> Result<(String, i32)> {
    let params =
        ListParams::default().labels(&format!("app.kubernetes.io/name={OPERATOR_ACCOUNT}"));
    wait_for("the operator's pod to be Ready", LONG, || async {
        let pods = tenant.api::<Pod>().list(&params).await?;
        let pod = pods.items.into_iter().next().context("no pod")?;
        let status = pod.status.unwrap_or_default();
        let container = status
            .container_statuses
            .unwrap_or_default()
            .into_iter()
            .next();
        let container = container.context("no container")?;
        ensure!(container.ready, "{:?}", container.state);
        Ok((pod.metadata.uid.context("no uid")?, container.restart_count))
    })
    .await
}
