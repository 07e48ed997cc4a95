//! A tenant that is installed by a copy of a shipped overlay.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::{Kind, Templates};
use ground::resources::{merge, references, resources};
use ground::tenant::APP_ACCOUNT;
use ground::{Tenant, manifests, node, paths, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{LONG, Site, is_ready, path};

/// Which of the shipped overlays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// The operator in the tenant's namespace.
    Tenant,
    /// The operator in a namespace of the platform's.
    Beside,
    /// With rights to single names.
    Named,
}

impl Overlay {
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Beside, Self::Named];

    /// Its folder, as it is shipped.
    pub fn folder(self) -> PathBuf {
        let name = match self {
            Self::Tenant => "example-tenant",
            Self::Beside => "beside",
            Self::Named => "named",
        };
        paths::repository().join("kustomize/overlays").join(name)
    }

    /// The namespace of the operator that serves `tenant`.
    pub fn home(self, tenant: &str) -> String {
        match self {
            Self::Beside => format!("vto-{tenant}"),
            Self::Tenant | Self::Named => tenant.to_owned(),
        }
    }
}

/// A tenant with an overlay of its own: a copy of a shipped one, with other names and the CA of its Vault.
pub struct Installation {
    pub tenant: Tenant,
    pub overlay: Overlay,
    /// The copy.
    pub folder: PathBuf,
}

impl Installation {
    /// Makes the namespace, the tenant's side of Vault and the copy; nothing is applied yet.
    pub async fn prepare(site: &Site, overlay: Overlay, namespace: &str) -> Result<Self> {
        let mut tenant = site.ground.adopt(namespace)?;
        tenant.vault_address = format!("https://{}:8200", node::VAULT);
        site.restricted(namespace).await?;
        tenant.let_into_vault().await?;
        let mut installation = Self {
            tenant,
            overlay,
            folder: PathBuf::new(),
        };
        installation.take(&paths::repository(), None)?;
        let login = &references(&installation.tenant)[1];
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": APP_ACCOUNT },
        });
        for object in [login, &account] {
            installation.tenant.apply(&object.to_string()).await?;
        }
        Ok(installation)
    }

    /// Makes the copy anew, from the sources of another version; its image goes by the tag.
    pub fn take(&mut self, sources: &Path, tag: Option<&str>) -> Result<()> {
        let platform = self.tenant.dir.join("platform");
        if platform.exists() {
            std::fs::remove_dir_all(&platform)?;
        }
        for folder in ["kustomize", "rbac"] {
            manifests::copy(&sources.join(folder), &platform.join(folder))?;
        }
        let name = self.overlay.folder();
        let name = name.file_name().context("no name")?;
        self.folder = platform.join("kustomize/overlays").join(name);
        self.change_names(tag)?;
        let up = match self.overlay {
            Overlay::Beside => "../../..",
            Overlay::Tenant | Overlay::Named => "../..",
        };
        trust_vault(&self.half_of_the_operator(), up, &self.tenant.ca_pem)
    }

    /// More of the operator's configuration, before it is applied.
    pub fn configure(&self, more: &str) -> Result<()> {
        let file = self.half_of_the_operator().join("config.yaml");
        let text = std::fs::read_to_string(&file)?;
        Ok(std::fs::write(file, text + more)?)
    }

    /// Operations (RFC 6902) on the operator's Deployment, before it is applied.
    pub fn patch_operator(&self, operations: &[Value]) -> Result<()> {
        let file = self.half_of_the_operator().join("kustomization.yaml");
        let mut overlay: Value = serde_yaml::from_str(&std::fs::read_to_string(&file)?)?;
        let patch = json!({
            "target": { "kind": "Deployment", "name": "vault-tenant-operator" },
            "patch": serde_json::to_string(operations)?,
        });
        let patches = overlay
            .as_object_mut()
            .context("no object")?
            .entry("patches");
        let patches = patches.or_insert_with(|| json!([])).as_array_mut();
        patches.context("no list of patches")?.push(patch);
        Ok(std::fs::write(&file, overlay.to_string())?)
    }

    fn half_of_the_operator(&self) -> PathBuf {
        match self.overlay {
            Overlay::Beside => self.folder.join("operator"),
            Overlay::Tenant | Overlay::Named => self.folder.clone(),
        }
    }

    /// What the tenant applies. For rights by names, the Role is made anew from it, as the overlay says.
    pub async fn bring(&self, objects: &[Value]) -> Result<()> {
        let text: String = objects
            .iter()
            .map(|object| format!("---\n{object}\n"))
            .collect();
        if self.overlay == Overlay::Named {
            let file = self.tenant.dir.join("resources.yaml");
            let login = &references(&self.tenant)[1];
            std::fs::write(&file, format!("{text}---\n{login}\n"))?;
            let said = Command::new(env!("CARGO_BIN_EXE_kubectl-vto"))
                .args(["rbac", "-f", path(&file)?])
                .arg(format!("--namespace={}", self.tenant.namespace))
                .arg(format!(
                    "--config={}",
                    path(&self.folder.join("config.yaml"))?
                ))
                .output()?;
            let words = String::from_utf8_lossy(&said.stderr);
            ensure!(said.status.success(), "kubectl vto rbac: {words}");
            std::fs::write(self.folder.join("rbac.yaml"), said.stdout)?;
        }
        self.tenant.apply(&text).await.map(drop)
    }

    /// A resource of ours says that it is Ready, of its present spec.
    pub async fn ready(&self, kind: &str, name: &str) -> Result<Value> {
        let what = format!("{kind} {name} of {} to be Ready", self.tenant.namespace);
        wait_for(&what, LONG, || async {
            let found = resources(&self.tenant, kind).get(name).await?;
            let status = &found.data["status"];
            let conditions = status["conditions"].as_array();
            let ready = conditions
                .into_iter()
                .flatten()
                .find(|one| one["type"] == "Ready");
            let ready = ready.context("no condition")?;
            ensure!(
                ready["status"] == "True"
                    && ready["observedGeneration"] == json!(found.metadata.generation),
                "{ready}"
            );
            Ok(status.clone())
        })
        .await
    }

    /// How often a Deployment was restarted.
    pub async fn restarts(&self, name: &str) -> Result<usize> {
        let tenant = &self.tenant;
        let all = Templates::of(&tenant.client, Kind::Deployment, &tenant.namespace, name);
        Ok(all.await?.restarts())
    }

    /// The pods of a Deployment that `app` tells apart: those that are Ready and not about to go.
    pub async fn serving(&self, app: &str) -> Result<Vec<Pod>> {
        let label = format!("app={app}");
        let params = ListParams::default().labels(&label);
        let mut pods = self.tenant.api::<Pod>().list(&params).await?.items;
        pods.retain(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        Ok(pods)
    }

    /// All pods of a Deployment run its present template, and nothing else is left.
    pub async fn rolled_out(&self, app: &str, replicas: usize) -> Result<Vec<Pod>> {
        let what = format!("the rollout of {app} in {}", self.tenant.namespace);
        wait_for(&what, LONG, || async {
            let deployments = self.tenant.api::<k8s_openapi::api::apps::v1::Deployment>();
            let found = deployments.get(app).await?;
            let status = found.status.unwrap_or_default();
            let all = i32::try_from(replicas).ok();
            ensure!(
                status.observed_generation == found.metadata.generation
                    && status.updated_replicas == all
                    && status.replicas == all
                    && status.available_replicas == all,
                "{status:?}"
            );
            let pods = self.serving(app).await?;
            ensure!(pods.len() == replicas, "{} serve", pods.len());
            Ok(pods)
        })
        .await
    }

    /// The namespace of its operator.
    pub fn home(&self) -> String {
        self.overlay.home(&self.tenant.namespace)
    }

    /// What the comments of the overlays ask for.
    fn change_names(&self, tag: Option<&str>) -> Result<()> {
        let to = &self.tenant.namespace;
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?.path();
                if entry.is_dir() {
                    folders.push(entry);
                    continue;
                }
                let mut text = std::fs::read_to_string(&entry)?
                    .replace("vto-example", &format!("vto-{to}"))
                    .replace("namespace: example\n", &format!("namespace: {to}\n"))
                    .replace("-namespaces=example\n", &format!("-namespaces={to}\n"));
                if let Some((before, after)) = tag.and(text.split_once("newTag: ")) {
                    let after = after.split_once('\n').map_or("", |(_, after)| after);
                    let tag = tag.unwrap_or_default();
                    text = format!("{before}newTag: {tag}\n{after}");
                }
                std::fs::write(&entry, text)?;
            }
        }
        Ok(())
    }

    /// `kubectl apply -k`.
    pub async fn apply(&self, site: &Site) -> Result<()> {
        site.apply_overlay(&self.folder).await
    }

    /// Applies it, and waits for its operator.
    pub async fn install(&self, site: &Site) -> Result<Pod> {
        self.apply(site).await?;
        site.ready_operator(&self.home()).await
    }
}

/// What the component `vault-ca` asks for in an overlay, from which the way to all of `kustomize/` is `up`.
pub fn trust_vault(overlay: &Path, up: &str, ca_pem: &str) -> Result<()> {
    std::fs::write(overlay.join("ca.crt"), ca_pem)?;
    let file = overlay.join("kustomization.yaml");
    let text = std::fs::read_to_string(&file)?.replace(
        "configMapGenerator:\n",
        &format!(
            "components:\n  - {up}/components/vault-ca\nconfigMapGenerator:\n  - name: vault-ca\n    files: [ca.crt]\n"
        ),
    );
    std::fs::write(file, text)?;
    let file = overlay.join("config.yaml");
    let text = std::fs::read_to_string(&file)? + "  caCertPath: /etc/vault-ca/ca.crt\n";
    Ok(std::fs::write(file, text)?)
}

/// A Deployment of the application, locked down as its namespace asks, with more of its container's and its pods' spec.
pub fn deployment(name: &str, replicas: usize, of_container: Value, of_pod: Value) -> Value {
    let mut container = json!({
        "name": "app", "image": node::APP_IMAGE,
        "readinessProbe": { "httpGet": { "path": "/readyz", "port": 8080 }, "periodSeconds": 1 },
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    });
    merge(&mut container, of_container);
    let mut pod = json!({
        "serviceAccountName": APP_ACCOUNT,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [container],
    });
    merge(&mut pod, of_pod);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 100,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": pod },
        },
    })
}

/// An environment variable with a key of a Secret.
pub fn from_secret(variable: &str, secret: &str, key: &str) -> Value {
    let reference = json!({ "name": secret, "key": key });
    json!({ "name": variable, "valueFrom": { "secretKeyRef": reference } })
}

/// The address of a pod.
pub fn address(pod: &Pod) -> Result<String> {
    let status = pod.status.clone().unwrap_or_default();
    status.pod_ip.context("the pod has no address")
}
