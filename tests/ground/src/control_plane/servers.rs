//! The parts of the control plane that listen: etcd and the API server.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::{START, client, is_ready};
use crate::components::Components;
use crate::kubeconfig::{self, User};
use crate::node::{self, NodeKind, SERVICE_ADDRESS};
use crate::pki::Pki;
use crate::ports::start_on_free_ports;
use crate::process::{Process, Spec};

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

/// What the API server's certificate is called, as a file.
pub(super) const SERVING: &str = "kube-apiserver";

/// What it is for.
pub(super) const NAMES: [&str; 7] = [
    "127.0.0.1",
    "localhost",
    SERVICE_ADDRESS,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The parts that listen, before those that only call them.
pub(super) struct Servers {
    pub etcd: Process,
    pub api_server: Process,
    pub etcd_url: String,
    pub url: String,
    pub client: kube::Client,
    pub sa_key: PathBuf,
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

pub(super) async fn start(
    components: &Components,
    pki: &Pki,
    dir: &Path,
    node: NodeKind,
) -> Result<Servers> {
    let (etcd, etcd_url) = start_etcd(components.path("etcd")?, dir).await?;
    let serving = pki.server(SERVING, &NAMES)?;
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
                &pki.trust_file(),
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
        |[client, _]| etcd_is_healthy(url(client)),
    )
    .await?;
    Ok((etcd, url(port)))
}

fn etcd_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

pub(super) async fn etcd_is_healthy(etcd: String) -> Result<()> {
    let answer = reqwest::get(format!("{etcd}/health")).await?;
    let health = answer.text().await?;
    ensure!(health.contains("\"health\":\"true\""), "etcd says {health}");
    Ok(())
}
