//! A real Vault core on loopback: TLS, file audit, an access log, and the kubernetes auth method against our API server.
//!
//! Storage is in memory, or in files where a test restarts it; unsealing after a restart happens by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::Options;
use crate::components::Components;
use crate::control_plane::ControlPlane;
use crate::manifests;
use crate::node::{self, NodeKind};
use crate::pki::Pki;
use crate::ports::start_on_free_ports;
use crate::process::{Process, Spec};
use crate::vault_api::VaultApi;

/// How long Vault may take to be ready; on an idle machine it is under a second.
const START: Duration = Duration::from_secs(60);

/// Where the kubernetes auth method is mounted, as Vault's own default has it.
pub const KUBERNETES_AUTH: &str = "kubernetes";

/// The ServiceAccount whose token Vault reviews others' tokens with.
const REVIEWER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: vault}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: token-reviewer, namespace: vault}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: vault-token-reviewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:auth-delegator'}
subjects: [{kind: ServiceAccount, name: token-reviewer, namespace: vault}]
";

/// Where Vault keeps its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VaultStorage {
    /// In memory: fast; a killed Vault comes back empty.
    #[default]
    Memory,
    /// In files: a killed Vault comes back as it was.
    File,
}

/// The Vault of one ground.
#[derive(Debug)]
pub struct Vault {
    /// The server; stop, continue, kill and restart it here.
    pub process: Process,
    /// The API as root.
    pub api: VaultApi,
    /// Where it serves, `https://ADDRESS:PORT`.
    pub address: String,
    /// The audit log of Vault's file device: one JSON line for each request and one for each answer.
    pub audit_log: PathBuf,
    /// One JSON line for each request, also those that no audit device sees (`sys/health`, `sys/seal-status`).
    pub access_log: PathBuf,
    keys: Keys,
}

/// The file that our Vault writes when it initializes its storage.
#[derive(Debug, Deserialize)]
struct Keys {
    root_token: String,
    unseal_key: String,
}

impl Vault {
    /// Starts Vault below `dir`, unsealed, with its audit device.
    ///
    /// # Errors
    /// It can't be started or isn't ready in time.
    pub(crate) async fn start(
        components: &Components,
        pki: &Pki,
        dir: &Path,
        options: &Options,
    ) -> Result<Self> {
        let serving = pki.server(
            "vault",
            &[
                "127.0.0.1",
                "localhost",
                node::ADDRESS,
                node::VAULT,
                "vault.vault.svc",
            ],
        )?;
        let (keys_file, access_log) = (dir.join("vault-keys.json"), dir.join("vault-access.log"));
        let mut base = Spec::new("vault", components.path("vault")?, dir)
            .flag("tls-cert", &serving.cert_file)
            .flag("tls-key", &serving.key_file)
            .flag("keys-file", &keys_file)
            .flag("access-log", &access_log);
        if options.vault_storage == VaultStorage::File {
            base = base
                .arg("--storage=file")
                .flag("storage-dir", dir.join("vault"));
        }
        let place = |[port]: [u16; 1]| match options.node {
            NodeKind::Fake => format!("127.0.0.1:{port}"),
            // Alone there, so that it can have the port that the overlays name.
            NodeKind::Real => format!("{}:8200", node::ADDRESS),
        };
        let health = |ports| {
            let api = VaultApi::new(&format!("https://{}", place(ports)), &pki.ca_pem, "");
            async move { is_active(&api?).await }
        };
        let spec = |ports| Ok(base.clone().flag("address", place(ports)));
        let (process, ports) = start_on_free_ports(START, spec, health).await?;
        let text = std::fs::read(&keys_file)
            .with_context(|| format!("can't read {}", keys_file.display()))?;
        let keys: Keys = serde_json::from_slice(&text).context("Vault's file of keys")?;
        let address = format!("https://{}", place(ports));
        let api = VaultApi::new(&address, &pki.ca_pem, &keys.root_token)?;
        let audit_log = dir.join("vault-audit.log");
        api.audit_to_file("file", &audit_log).await?;
        Ok(Self {
            process,
            api,
            address,
            audit_log,
            access_log,
            keys,
        })
    }

    /// Mounts the kubernetes auth method and lets it review tokens at this API server.
    ///
    /// # Errors
    /// The API server or Vault refuses a step.
    pub(crate) async fn trust(
        &self,
        plane: &ControlPlane,
        client: &kube::Client,
        ca_pem: &str,
    ) -> Result<()> {
        manifests::apply(client, "vault", REVIEWER).await?;
        let token = service_account_token(client, "vault", "token-reviewer", &[], LONG).await?;
        let mount = format!("sys/auth/{KUBERNETES_AUTH}");
        self.api
            .write(&mount, &json!({ "type": "kubernetes" }))
            .await?;
        let config = json!({
            "kubernetes_host": plane.url,
            "kubernetes_ca_cert": ca_pem,
            "token_reviewer_jwt": token,
            "disable_local_ca_jwt": true,
        });
        self.api
            .write(&format!("auth/{KUBERNETES_AUTH}/config"), &config)
            .await?;
        Ok(())
    }

    /// Seals Vault: it answers 503 to all but a few paths under `sys/`.
    ///
    /// # Errors
    /// Vault refuses or doesn't answer.
    pub async fn seal(&self) -> Result<()> {
        let answer = self.api.request(Method::POST, "sys/seal", None).await?;
        ensure!(
            answer.status == 204,
            "Vault answered {} to sys/seal: {}",
            answer.status,
            answer.body
        );
        Ok(())
    }

    /// Unseals Vault and waits until it serves.
    ///
    /// # Errors
    /// Vault refuses the key or isn't active in time.
    pub async fn unseal(&self) -> Result<()> {
        self.api
            .write("sys/unseal", &json!({ "key": self.keys.unseal_key }))
            .await?;
        self.process.ready(START, || is_active(&self.api)).await
    }

    /// Kills and starts Vault again, and waits until it serves (it unseals itself).
    ///
    /// # Errors
    /// It can't be started, or isn't active in time.
    pub async fn restart(&self) -> Result<()> {
        self.process.restart().await?;
        self.process.ready(START, || is_active(&self.api)).await
    }
}

async fn is_active(api: &VaultApi) -> Result<()> {
    let answer = api.request(Method::GET, "sys/health", None).await?;
    if answer.status != 200 {
        bail!("Vault's health is {} {}", answer.status, answer.body);
    }
    Ok(())
}

/// The life of tokens that must outlast every run: a day.
pub(crate) const LONG: Duration = Duration::from_secs(24 * 3600);

/// A token of a ServiceAccount by TokenRequest; no audience means the API server's own.
///
/// # Errors
/// The API server refuses it.
pub async fn service_account_token(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    audiences: &[&str],
    life: Duration,
) -> Result<String> {
    let request: TokenRequest = serde_json::from_value(json!({
        "spec": { "audiences": audiences, "expirationSeconds": life.as_secs() },
    }))?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await;
    let answer =
        answer.with_context(|| format!("a token for the ServiceAccount {namespace}/{name}"))?;
    Ok(answer.status.context("the API server gave no token")?.token)
}
