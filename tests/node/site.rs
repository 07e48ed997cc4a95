//! The cluster that the trials share, and a tenant's installation by `kubectl apply -k`.

pub mod installation;
pub mod leased;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Ground, NodeKind, Options, manifests, node, paths, shipped, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use tokio::process::Command;

/// How long something may take that takes seconds when nothing else is going on.
pub const LONG: Duration = Duration::from_secs(120);

/// The control plane, the node and Vault, with the operator's image and the CRDs.
pub struct Site {
    pub ground: Ground,
}

impl Site {
    pub async fn start() -> Result<Self> {
        let options = Options {
            // The cluster's overlay brings them, as it does for everybody.
            crds: false,
            node: NodeKind::Real,
            ..Options::default()
        };
        let ground = Ground::start(options).await?;
        let node = ground.node.as_ref().context("no node")?;
        node.import(&shipped::image(shipped::TAG)?).await?;
        let site = Self { ground };
        site.apply_definitions(&paths::repository()).await?;
        Ok(site)
    }

    /// What a cluster needs once, from the sources of some version.
    pub async fn apply_definitions(&self, sources: &Path) -> Result<()> {
        let cluster = sources.join("kustomize/overlays/cluster");
        self.kubectl(&["apply", "--server-side", "-k", path(&cluster)?])
            .await
            .map(drop)
    }

    pub fn node(&self) -> Result<&node::Node> {
        self.ground.node.as_ref().context("no node")
    }

    /// kubectl as the cluster's administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        let said = Command::new(self.ground.components().path("kubectl")?)
            .env("KUBECONFIG", &self.ground.plane.kubeconfig)
            .env("HOME", self.ground.dir())
            .args(arguments)
            .output()
            .await?;
        ensure!(
            said.status.success(),
            "kubectl {arguments:?}: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(said)
    }

    /// `kubectl apply -k` of a folder, which must not warn of anything.
    pub async fn apply_overlay(&self, folder: &Path) -> Result<()> {
        let said = self.kubectl(&["apply", "-k", path(folder)?]).await?;
        let told = String::from_utf8_lossy(&said.stderr);
        ensure!(told.is_empty(), "{}: {told}", folder.display());
        Ok(())
    }

    /// A namespace in which no pod runs but restricted ones.
    pub async fn restricted(&self, namespace: &str) -> Result<()> {
        let labels = json!({
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
        });
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace, "labels": labels },
        });
        manifests::apply(&self.ground.client, namespace, &object.to_string())
            .await
            .map(drop)
    }

    /// The pods of an operator, without those that have ended for good, such as evicted ones.
    pub async fn operators(&self, namespace: &str) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.ground.client.clone(), namespace);
        let label = format!("app.kubernetes.io/name={OPERATOR_ACCOUNT}");
        let mut pods = pods
            .list(&ListParams::default().labels(&label))
            .await?
            .items;
        pods.retain(|pod| {
            let phase = pod
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Failed" | "Succeeded"))
        });
        Ok(pods)
    }

    /// The operator's only pod, once it is Ready.
    pub async fn ready_operator(&self, namespace: &str) -> Result<Pod> {
        let what = format!("the operator in {namespace} to be Ready");
        wait_for(&what, LONG, || async {
            let mut pods = self.operators(namespace).await?;
            let pod = pods.pop().context("no pod")?;
            ensure!(pods.is_empty(), "more than one pod");
            ensure!(is_ready(&pod), "{:?}", pod.status);
            Ok(pod)
        })
        .await
    }
}

/// Whether a pod's condition says so.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions);
    conditions
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}
