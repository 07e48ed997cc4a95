//! What a platform engineer does for a tenant, on a ground that has nothing yet: the CRDs from
//! `kustomize/overlays/cluster`, a copy of `kustomize/overlays/example-tenant`, `examples/vault-setup.sh`, and the operator.
//!
//! On a fake node the operator is a process of this machine where a cluster would run its pod; its account, its Role and its configuration are those that the overlay gave the tenant.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use ground::vault::KUBERNETES_AUTH;
use ground::{Ground, Operator, OperatorBinary, Tenant, VaultApi, manifests};
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::json;

use crate::observe::LONG;
use crate::running::{self, Running};
use crate::screen::Screen;

/// The namespace of `kustomize/overlays/example-tenant`.
pub const NAMESPACE: &str = "example";

/// The mount, and the end of the names of policy and role, that `examples/first-secret.yaml` expects of
/// `examples/vault-setup.sh`.
pub const TENANT: &str = "example";

/// The application's ServiceAccount in `examples/first-secret.yaml`.
const ACCOUNT: &str = "app";

/// A tenant that is set up, with its operator.
pub struct Site<'a> {
    /// Where it runs.
    pub ground: &'a Ground,
    /// The tenant.
    pub tenant: Tenant,
    /// Its operator.
    pub operator: Running,
    /// The copy of the overlay that was applied.
    pub overlay: PathBuf,
    /// The folder of the application's manifests.
    pub app: PathBuf,
}

/// Sets the tenant up and starts its operator.
///
/// # Errors
/// A step is refused, or the operator isn't ready in time.
pub async fn set_up<'a>(screen: &Screen, ground: &'a Ground) -> Result<Site<'a>> {
    let repository = ground::paths::repository();
    let begun = begin(screen, "the CRDs, by kustomize/overlays/cluster");
    let cluster = repository.join("kustomize/overlays/cluster");
    let kustomize = ground.components().path("kustomize")?;
    manifests::install_crds(
        &ground.client,
        &manifests::kustomize(kustomize, &cluster).await?,
    )
    .await?;
    screen.end(begun.elapsed());

    let begun = begin(
        screen,
        "the tenant example, by a copy of kustomize/overlays/example-tenant",
    );
    let platform = ground.dir().join("platform");
    for folder in ["kustomize", "rbac"] {
        manifests::copy(&repository.join(folder), &platform.join(folder))?;
    }
    let overlay = platform.join("kustomize/overlays/example-tenant");
    write(&overlay.join("config.yaml"), &config(&ground.vault.address))?;
    let tenant = ground.adopt(NAMESPACE)?;
    let objects = apply_overlay(ground, &tenant, &overlay).await?;
    screen.end(begun.elapsed());

    let begun = begin(
        screen,
        "its mount, policy and role in Vault, as examples/vault-setup.sh makes them",
    );
    set_up_vault(ground).await?;
    screen.end(begun.elapsed());

    let operator = match ground.node {
        Some(_) => {
            let begun = begin(screen, "its operator, in the pod of its Deployment");
            running::ready_pod(&tenant).await?;
            screen.end(begun.elapsed());
            Running::Pod
        }
        None => {
            let begun = begin(
                screen,
                "its operator, as the ServiceAccount vault-tenant-operator with nothing but its Role",
            );
            let operator = start_operator(&tenant, &objects).await?;
            screen.end(begun.elapsed());
            screen.note(
                "(The fake node runs no containers: the operator is a process here, in the place of its pod.)",
            );
            Running::Process(operator)
        }
    };
    Ok(Site {
        ground,
        operator,
        overlay,
        app: ground.dir().join("app"),
        tenant,
    })
}

impl Site<'_> {
    /// The Secrets, connection and workload that an application's team brings: `examples/first-secret.yaml` as it is
    /// but for a shorter `refreshAfter`, and the connection that its Vault needs. Returns the rendered manifests.
    ///
    /// # Errors
    /// A file can't be written, or kustomize refuses them.
    pub async fn app_manifests(&self) -> Result<String> {
        let example = ground::paths::repository().join("examples/first-secret.yaml");
        std::fs::create_dir_all(&self.app)
            .with_context(|| format!("can't make {}", self.app.display()))?;
        let copy = self.app.join("first-secret.yaml");
        std::fs::copy(&example, &copy)
            .with_context(|| format!("can't copy {}", example.display()))?;
        write(&self.app.join("ca.crt"), &self.tenant.ca_pem)?;
        let connection = connection(&self.ground.vault.address);
        write(&self.app.join("connection.yaml"), &connection)?;
        write(&self.app.join("kustomization.yaml"), APP)?;
        manifests::kustomize(self.ground.components().path("kustomize")?, &self.app).await
    }

    /// What an application's team brings for a login of its database: `examples/database.yaml`, but that a login is given
    /// back sooner after the rollout.
    ///
    /// # Errors
    /// A file can't be read or written.
    pub fn database_manifests(&self) -> Result<String> {
        let text = self
            .manifests("database.yaml")?
            .replace("drain: 1m", "drain: 1s");
        write(&self.app.join("database.yaml"), &text)?;
        Ok(text)
    }

    /// An example's manifests as they are, and as a file of the application's team.
    ///
    /// # Errors
    /// It can't be read, or not be written.
    pub fn manifests(&self, example: &str) -> Result<String> {
        let path = ground::paths::repository().join("examples").join(example);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("can't read {}", path.display()))?;
        write(&self.app.join(example), &text)?;
        Ok(text)
    }

    /// A file that only this user can read, with a token for Vault that may do everything for a day.
    ///
    /// # Errors
    /// Vault gives none, or the file can't be written.
    pub async fn vault_token_file(&self) -> Result<PathBuf> {
        let wish = json!({ "policies": ["root"], "ttl": "24h" });
        let answer = self
            .ground
            .vault
            .api
            .write("auth/token/create", &wish)
            .await?;
        let token = answer["auth"]["client_token"].as_str();
        let token = token.context("Vault created no token")?;
        let file = self.ground.dir().join("vault.token");
        let opened = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file);
        opened
            .and_then(|mut opened| opened.write_all(token.as_bytes()))
            .with_context(|| format!("can't write {}", file.display()))?;
        Ok(file)
    }
}

/// The tenant's `config.yaml`.
fn config(vault: &str) -> String {
    format!(
        "\
# The Vault that resources use when they name none, and the only one allowed.
connection:
  address: {vault}
policy:
  # What the tour tries to get around.
  allowedAuthMethods: [kubernetes]
rollout:
  # Shorter than the default, so that nobody waits in the tour.
  debounce: 1s
rotation:
  lookupInterval: 2s
# There is one instance, and its successor doesn't wait for the Lease of the one that the tour kills.
leaderElect: false
"
    )
}

/// The application's `connection.yaml`, after `examples/manifests/1-connection.yaml`.
fn connection(vault: &str) -> String {
    format!(
        "\
apiVersion: secrets.hashicorp.com/v1beta1
kind: VaultConnection
metadata:
  name: default
spec:
  address: {vault}
  caCertSecretRef: vault-ca
"
    )
}

/// The application's `kustomization.yaml`.
const APP: &str = "\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - connection.yaml
  - first-secret.yaml
secretGenerator:
  - name: vault-ca
    files: [ca.crt]
    # The VaultConnection names it, and kustomize doesn't know that.
    options: {disableNameSuffixHash: true}
patches:
  # Looked at more often than in the example, so that nobody waits in the tour.
  - target: {kind: VaultStaticSecret, name: app}
    patch: |
      - op: replace
        path: /spec/refreshAfter
        value: 3s
";

async fn apply_overlay(
    ground: &Ground,
    tenant: &Tenant,
    overlay: &Path,
) -> Result<Vec<DynamicObject>> {
    let namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    Api::<k8s_openapi::api::core::v1::Namespace>::all(ground.client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .context("create the namespace")?;
    let kustomize = ground.components().path("kustomize")?;
    tenant
        .apply(&manifests::kustomize(kustomize, overlay).await?)
        .await
}

/// What `examples/vault-setup.sh example example app` does by Vault's CLI.
async fn set_up_vault(ground: &Ground) -> Result<()> {
    let (vault, name) = (&ground.vault.api, format!("tenant-{TENANT}"));
    vault.mount_kv2(TENANT).await?;
    let rules = format!("path \"{TENANT}/data/*\" {{\n  capabilities = [\"read\"]\n}}\n");
    let_log_in(vault, &name, ACCOUNT, "1h", &rules).await
}

/// A policy at Vault, and the role of its name by which a ServiceAccount of the tenant logs in.
///
/// # Errors
/// Vault refuses it.
pub async fn let_log_in(
    vault: &VaultApi,
    name: &str,
    account: &str,
    period: &str,
    rules: &str,
) -> Result<()> {
    vault.policy(name, rules).await?;
    let role = json!({
        "bound_service_account_namespaces": NAMESPACE,
        "bound_service_account_names": account,
        "audience": "vault",
        "token_policies": name,
        "token_period": period,
    });
    vault
        .write(&format!("auth/{KUBERNETES_AUTH}/role/{name}"), &role)
        .await?;
    Ok(())
}

/// Starts this program again as the operator, with the configuration that the overlay put into the ConfigMap.
async fn start_operator(tenant: &Tenant, applied: &[DynamicObject]) -> Result<Operator> {
    let config = applied
        .iter()
        .find_map(|object| object.data["data"]["config.yaml"].as_str())
        .context("the overlay rendered no ConfigMap with a config.yaml")?;
    let binary = OperatorBinary {
        path: std::env::current_exe().context("the sandbox can't find its own program")?,
        args_prefix: vec![crate::OPERATOR.into()],
    };
    let operator = tenant.operator(&binary).config(config).start().await?;
    operator.wait_ready(LONG).await?;
    Ok(operator)
}

fn begin(screen: &Screen, text: &str) -> Instant {
    screen.begin(text);
    Instant::now()
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("can't write {}", file.display()))
}
