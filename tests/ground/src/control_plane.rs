//! A real Kubernetes control plane on loopback: etcd, API server, controller manager, scheduler; and kwok's fake
//! node, unless there is a real one.
//!
//! RBAC decides, and the audit log holds every request once with its answer: no bodies (level Metadata), but of
//! RoleBindings that are written. Nothing here is safe for more than tests: etcd is plain HTTP on loopback and doesn't sync to disk.

mod servers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::components::Components;
use crate::kubeconfig::{self, User};
use crate::node::NodeKind;
use crate::paths;
use crate::pki::Pki;
use crate::process::{Process, Spec};
use crate::wait::wait_for;

/// How long one component may take to be ready; on an idle machine it is two seconds.
const START: Duration = Duration::from_secs(120);

/// What the ground's own clients call themselves, so that a request in a tenant's name isn't taken for the operator's.
pub const USER_AGENT: &str = "ground";

/// The name of the only node.
pub const NODE: &str = "ground";

/// A part of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kwok.
    Kwok,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kwok,
    ];
}

/// The control plane of one ground.
#[derive(Debug)]
pub struct ControlPlane {
    /// etcd.
    pub etcd: Process,
    /// kube-apiserver.
    pub api_server: Process,
    /// kube-controller-manager.
    pub controller_manager: Process,
    /// kube-scheduler.
    pub scheduler: Process,
    /// kwok, unless there is a real node: plays the kubelet of the one node.
    pub kwok: Option<Process>,
    /// The API server's address, `https://127.0.0.1:PORT`.
    pub url: String,
    /// A kubeconfig of a cluster administrator.
    pub kubeconfig: PathBuf,
    /// The API server's audit log, one JSON `audit.k8s.io/v1` Event a line.
    pub audit_log: PathBuf,
    etcd_url: String,
    /// What pods are told to trust.
    roots: PathBuf,
}

impl ControlPlane {
    /// Starts all of it below `dir`; answers also a client that acts as administrator.
    ///
    /// # Errors
    /// A component can't be started or isn't ready in time.
    pub(crate) async fn start(
        components: &Components,
        pki: &Pki,
        dir: &Path,
        node: NodeKind,
    ) -> Result<(Self, kube::Client)> {
        let servers = servers::start(components, pki, dir, node).await?;
        let kubeconfig = |name: &str, user: &str, group| -> Result<PathBuf> {
            let file = dir.join(format!("{name}.kubeconfig"));
            let identity = pki.client(name, user, group)?;
            kubeconfig::write(
                &file,
                &servers.url,
                &pki.trust_file(),
                User::Certificate(&identity),
                "default",
            )?;
            Ok(file)
        };
        let roots = dir.join("roots.crt");
        std::fs::write(&roots, &pki.ca_pem)?;
        let manager = Spec::new(
            "kube-controller-manager",
            components.path("kube-controller-manager")?,
            dir,
        )
        .flag(
            "kubeconfig",
            kubeconfig("controller-manager", "system:kube-controller-manager", None)?,
        )
        .flag("service-account-private-key-file", &servers.sa_key)
        .flag("root-ca-file", &roots)
        .arg("--use-service-account-credentials")
        .arg("--leader-elect=false")
        .arg("--secure-port=0");
        let scheduler = Spec::new("kube-scheduler", components.path("kube-scheduler")?, dir)
            .flag(
                "kubeconfig",
                kubeconfig("scheduler", "system:kube-scheduler", None)?,
            )
            .arg("--leader-elect=false")
            .arg("--secure-port=0");
        let kwok = async {
            if node == NodeKind::Real {
                return Ok(None);
            }
            let spec = Spec::new("kwok", components.path("kwok")?, dir)
                .flag(
                    "kubeconfig",
                    kubeconfig("kwok", "kwok", Some("system:masters"))?,
                )
                .flag(
                    "config",
                    paths::repository().join("tests/ground/go/kwok/stages.yaml"),
                )
                .arg("--manage-all-nodes=true")
                .arg("--node-ip=127.0.0.1");
            let kwok = Process::start(spec).await?;
            create_node(&servers.client).await?;
            Ok(Some(kwok))
        };
        let (controller_manager, scheduler, kwok) =
            tokio::try_join!(Process::start(manager), Process::start(scheduler), kwok)?;
        let plane = Self {
            kubeconfig: dir.join("admin.kubeconfig"),
            audit_log: dir.join("audit.log"),
            etcd: servers.etcd,
            etcd_url: servers.etcd_url,
            api_server: servers.api_server,
            controller_manager,
            scheduler,
            kwok,
            url: servers.url,
            roots,
        };
        Ok((plane, servers.client))
    }

    /// All processes, by which a caller can see whether one has ended.
    pub fn processes(&self) -> Vec<&Process> {
        let mut all = vec![
            &self.etcd,
            &self.api_server,
            &self.controller_manager,
            &self.scheduler,
        ];
        all.extend(&self.kwok);
        all
    }

    /// The process of a part, if it is there; stop, continue and kill it here.
    pub fn process(&self, part: Part) -> Option<&Process> {
        match part {
            Part::Etcd => Some(&self.etcd),
            Part::ApiServer => Some(&self.api_server),
            Part::ControllerManager => Some(&self.controller_manager),
            Part::Scheduler => Some(&self.scheduler),
            Part::Kwok => self.kwok.as_ref(),
        }
    }

    /// Kills a part if it runs, starts it again as it was, and waits until the API server serves, after etcd does.
    ///
    /// The other three listen nowhere: they are back when their work is done again, which
    /// [`ready_for_pods`](Self::ready_for_pods) or a pod shows.
    ///
    /// # Errors
    /// It isn't part of this ground, can't be started, or isn't ready within two minutes.
    pub async fn restart(&self, part: Part) -> Result<()> {
        let process = self.process(part);
        let process = process.with_context(|| format!("this ground has no {part:?}"))?;
        process.restart().await?;
        if part == Part::Etcd {
            let health = || servers::etcd_is_healthy(self.etcd_url.clone());
            process.ready(START, health).await?;
        }
        let serves = || is_ready(&self.kubeconfig);
        self.api_server.ready(START, serves).await
    }

    /// Tells the pods of all namespaces, by the ConfigMap `kube-root-ca.crt`, to trust these CAs (PEM) at the API server,
    /// in place of those that they trusted.
    ///
    /// # Errors
    /// The controller manager, which does it, can't be started again.
    pub async fn publish_roots(&self, pem: &str) -> Result<()> {
        std::fs::write(&self.roots, pem)?;
        self.restart(Part::ControllerManager).await
    }

    /// Gives the API server a certificate of the CA that takes the first one's place, and starts it again, so that
    /// everybody has to look at it.
    ///
    /// # Errors
    /// It isn't ready in time.
    pub async fn change_authority(&self, pki: &Pki) -> Result<()> {
        pki.successors_server(servers::SERVING, &servers::NAMES)?;
        self.restart(Part::ApiServer).await
    }

    /// Waits until pods can run: the node is Ready, without a taint of a time before, and the controllers have given
    /// `default` its ServiceAccount.
    ///
    /// # Errors
    /// Not within two minutes, or a component has ended.
    pub async fn ready_for_pods(&self, client: &kube::Client) -> Result<()> {
        let nodes: Api<Node> = Api::all(client.clone());
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        let ready = wait_for("the control plane to run pods", START, || async {
            let node = nodes.get(NODE).await?;
            let conditions = node
                .status
                .unwrap_or_default()
                .conditions
                .unwrap_or_default();
            let taints = node.spec.unwrap_or_default().taints.unwrap_or_default();
            ensure!(taints.is_empty(), "the node has taints: {taints:?}");
            ensure!(
                conditions
                    .iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
                "the node is not Ready; its conditions: {conditions:?}"
            );
            accounts
                .get("default")
                .await
                .context("the ServiceAccount default/default")?;
            Ok(())
        });
        tokio::select! {
            ready = ready => ready,
            ended = self.first_end() => bail!("{} has ended. {}", ended.name(), ended.describe_log()),
        }
    }

    /// Returns when a component ends: that one.
    pub async fn first_end(&self) -> &Process {
        let ends = self.processes().into_iter().map(|process| {
            Box::pin(async move {
                process.wait().await;
                process
            })
        });
        futures::future::select_all(ends).await.0
    }
}

/// A client that acts as the user of this kubeconfig; a failing request fails at once.
pub(crate) async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let options = KubeConfigOptions::default();
    let mut config =
        kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    config.default_retry = false;
    config.headers.push((
        http::header::USER_AGENT,
        http::HeaderValue::from_static(USER_AGENT),
    ));
    Ok(kube::Client::try_from(config)?)
}

async fn is_ready(kubeconfig: &Path) -> Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    client(kubeconfig).await?.request_text(request).await?;
    Ok(())
}

async fn create_node(client: &kube::Client) -> Result<()> {
    let node = serde_json::from_value(json!({
        "metadata": { "name": NODE, "labels": { "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux" } },
    }))?;
    Api::<Node>::all(client.clone())
        .create(&PostParams::default(), &node)
        .await
        .context("create the node")?;
    Ok(())
}
