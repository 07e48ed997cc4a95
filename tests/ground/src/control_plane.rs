//! A real Kubernetes control plane on loopback: etcd, API server, controller manager, scheduler; and kwok's fake
//! node, unless there is a real one.
//!
//! RBAC decides, and the audit log holds every request once with its answer: no bodies (level Metadata), but of
//! RoleBindings that are written. Nothing here is safe for more than tests: etcd is plain HTTP on loopback and doesn't sync to disk.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::components::Components;
use crate::kubeconfig::{self, User};
use crate::node::{self, NodeKind, SERVICE_ADDRESS};
use crate::paths;
use crate::pki::Pki;
use crate::ports::start_on_free_ports;
use crate::process::{Process, Spec};
use crate::wait::wait_for;

/// How long one component may take to be ready; on an idle machine it is two seconds.
const START: Duration = Duration::from_secs(120);

/// Every request once, when it is answered: who, verb, resource, name, code; and who is bound where.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  verbs: [create, update, patch]
  resources: [{group: rbac.authorization.k8s.io, resources: [rolebindings]}]
- level: Metadata
";

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
}

/// The parts that listen, before those that only call them.
struct Servers {
    etcd: Process,
    api_server: Process,
    etcd_url: String,
    url: String,
    client: kube::Client,
    sa_key: PathBuf,
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
        let servers = start_servers(components, pki, dir, node).await?;
        let kubeconfig = |name: &str, user: &str, group| -> Result<PathBuf> {
            let file = dir.join(format!("{name}.kubeconfig"));
            let identity = pki.client(name, user, group)?;
            kubeconfig::write(
                &file,
                &servers.url,
                &pki.ca_file(),
                User::Certificate(&identity),
                "default",
            )?;
            Ok(file)
        };
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
        .flag("root-ca-file", pki.ca_file())
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
            let health = || is_healthy(self.etcd_url.clone());
            process.ready(START, health).await?;
        }
        let serves = || is_ready(&self.kubeconfig);
        self.api_server.ready(START, serves).await
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

/// What the API server does otherwise for a kubelet. Its address is one of the node's then, for pods and for the ground.
fn for_kubelet(base: Spec, pki: &Pki) -> Result<Spec> {
    let identity = pki.client(
        "kube-apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        Some("system:masters"),
    )?;
    Ok(base
        .arg("--bind-address=0.0.0.0")
        .flag("advertise-address", node::ADDRESS)
        .arg("--authorization-mode=Node,RBAC")
        .arg("--enable-admission-plugins=NodeRestriction")
        .flag("kubelet-client-certificate", &identity.cert_file)
        .flag("kubelet-client-key", &identity.key_file)
        .flag("kubelet-certificate-authority", pki.ca_file())
        .arg("--kubelet-preferred-address-types=InternalIP"))
}

async fn start_servers(
    components: &Components,
    pki: &Pki,
    dir: &Path,
    node: NodeKind,
) -> Result<Servers> {
    let (etcd, etcd_url) = start_etcd(components.path("etcd")?, dir).await?;
    let serving = pki.server(
        "kube-apiserver",
        &[
            "127.0.0.1",
            "localhost",
            SERVICE_ADDRESS,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ],
    )?;
    let (sa_key, sa_public) = pki.service_account_keys()?;
    let admin = pki.client("admin", "admin", Some("system:masters"))?;
    let audit_policy = dir.join("audit-policy.yaml");
    std::fs::write(&audit_policy, AUDIT_POLICY)?;
    let kubeconfig = dir.join("admin.kubeconfig");
    let base = Spec::new("kube-apiserver", components.path("kube-apiserver")?, dir)
        .flag("etcd-servers", &etcd_url)
        .flag("tls-cert-file", &serving.cert_file)
        .flag("tls-private-key-file", &serving.key_file)
        .flag("client-ca-file", pki.ca_file())
        .flag("service-account-key-file", sa_public)
        .flag("service-account-signing-key-file", &sa_key)
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg("--service-cluster-ip-range=10.0.0.0/24")
        .arg("--profiling=false")
        .flag("audit-policy-file", audit_policy)
        .flag("audit-log-path", dir.join("audit.log"))
        // Judges read one file from its beginning: no rotation in the middle of a run.
        .arg("--audit-log-maxsize=10000");
    let base = match node {
        NodeKind::Fake => base
            .arg("--bind-address=127.0.0.1")
            .arg("--advertise-address=127.0.0.1")
            .arg("--authorization-mode=RBAC"),
        NodeKind::Real => for_kubelet(base, pki)?,
    };
    // What a pod is told of the API server: nothing else can be there.
    let fixed = (node == NodeKind::Real).then_some(443);
    let (api_server, [port]) = start_on_free_ports(
        START,
        |[free]| {
            let port = fixed.unwrap_or(free);
            kubeconfig::write(
                &kubeconfig,
                &url(port),
                &pki.ca_file(),
                User::Certificate(&admin),
                "default",
            )?;
            Ok(base.clone().flag("secure-port", port.to_string()))
        },
        |_| is_ready(&kubeconfig),
    )
    .await?;
    Ok(Servers {
        etcd,
        etcd_url,
        api_server,
        url: url(fixed.unwrap_or(port)),
        client: client(&kubeconfig).await?,
        sa_key,
    })
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

async fn start_etcd(program: &Path, dir: &Path) -> Result<(Process, String)> {
    let url = etcd_url;
    let (etcd, [port, _]) = start_on_free_ports(
        START,
        |[client, peer]| {
            Ok(Spec::new("etcd", program, dir)
                .flag("data-dir", dir.join("etcd"))
                .flag("listen-client-urls", url(client))
                .flag("advertise-client-urls", url(client))
                .flag("listen-peer-urls", url(peer))
                .flag("initial-advertise-peer-urls", url(peer))
                .flag("initial-cluster", format!("default={}", url(peer)))
                .arg("--unsafe-no-fsync")
                .arg("--log-level=warn"))
        },
        |[client, _]| is_healthy(url(client)),
    )
    .await?;
    Ok((etcd, url(port)))
}

fn etcd_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

async fn is_healthy(etcd: String) -> Result<()> {
    let answer = reqwest::get(format!("{etcd}/health")).await?;
    let health = answer.text().await?;
    ensure!(health.contains("\"health\":\"true\""), "etcd says {health}");
    Ok(())
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
