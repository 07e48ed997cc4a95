//! One tenant: a namespace, its application's ServiceAccount, the operator's ServiceAccount with the shipped Role and
//! nothing else, two kv mounts at Vault and a role that reads only these.
//!
//! What the operator gets comes from the repository's `kustomize/`, rendered by the real kustomize as a tenant would.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Resource;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::json;

use crate::kubeconfig::{self, User};
use crate::manifests;
use crate::vault::{KUBERNETES_AUTH, LONG, service_account_token};
use crate::vault_api::{KubernetesRole, VaultApi};

/// The name of the operator's ServiceAccount, Role and RoleBinding, as the repository ships them.
pub const OPERATOR_ACCOUNT: &str = "vault-tenant-operator";

/// The ServiceAccount of the tenant's application: what a VaultAuth logs in as.
pub const APP_ACCOUNT: &str = "app";

/// The audience that the tenant's Vault role asks for.
pub const AUDIENCE: &str = "vault";

/// What a tenant needs of its ground.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) client: kube::Client,
    pub(crate) vault: VaultApi,
    pub(crate) vault_address: String,
    pub(crate) api_url: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) ca_pem: String,
    pub(crate) kustomize: PathBuf,
    pub(crate) repository: PathBuf,
}

/// One tenant of a ground. It isn't removed: the whole ground is.
#[derive(Clone)]
pub struct Tenant {
    /// Its namespace; also the name of its role and policy at Vault.
    pub namespace: String,
    /// A client that acts as cluster administrator, with the tenant's namespace as default.
    pub client: kube::Client,
    /// Vault's API as root.
    pub vault: VaultApi,
    /// Where Vault serves, `https://127.0.0.1:PORT`.
    pub vault_address: String,
    /// The CA (PEM) of Vault's and of the API server's certificates.
    pub ca_pem: String,
    /// The mount of its kv version 1.
    pub kv1: String,
    /// The mount of its kv version 2.
    pub kv2: String,
    /// Its folder: the operator's files and logs.
    pub dir: PathBuf,
    pub(crate) setting: Setting,
    /// How many operators it has had: each has files of its own.
    pub(crate) operators: Arc<AtomicU32>,
}

impl Tenant {
    /// A tenant that isn't there yet, but for its folder.
    pub(crate) fn new(setting: Setting, namespace: String, dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        Ok(Self {
            client: setting.client.clone(),
            vault: setting.vault.clone(),
            vault_address: setting.vault_address.clone(),
            ca_pem: setting.ca_pem.clone(),
            kv1: format!("{namespace}-kv1"),
            kv2: format!("{namespace}-kv2"),
            namespace,
            dir,
            setting,
            operators: Arc::default(),
        })
    }

    pub(crate) async fn create(setting: Setting, namespace: String, dir: PathBuf) -> Result<Self> {
        let tenant = Self::new(setting, namespace, dir)?;
        tokio::try_join!(tenant.create_in_kubernetes(), tenant.let_into_vault())?;
        Ok(tenant)
    }

    async fn create_in_kubernetes(&self) -> Result<()> {
        let namespace = serde_json::from_value(json!({ "metadata": { "name": self.namespace } }))?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await?;
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": APP_ACCOUNT } });
        self.apply(&account.to_string()).await?;
        for object in self.operator_manifests().await? {
            // The operator of a test is a process; its Deployment would run nothing on a fake node.
            if object
                .types
                .as_ref()
                .is_none_or(|types| types.kind != "Deployment")
            {
                manifests::apply_object(&self.client, &self.namespace, &object).await?;
            }
        }
        Ok(())
    }

    /// Its two mounts at Vault, and a role by which its ServiceAccount [`APP_ACCOUNT`] reads them.
    ///
    /// # Errors
    /// Vault refuses a step.
    pub async fn let_into_vault(&self) -> Result<()> {
        let policy = self.kv_policy();
        let role = KubernetesRole {
            service_account: APP_ACCOUNT,
            namespace: &self.namespace,
            audience: Some(AUDIENCE),
            policies: &[&self.namespace],
            ttl: Duration::from_secs(3600),
        };
        tokio::try_join!(
            self.vault.mount_kv1(&self.kv1),
            self.vault.mount_kv2(&self.kv2),
            self.vault.policy(&self.namespace, &policy),
            self.vault
                .kubernetes_role(KUBERNETES_AUTH, &self.namespace, &role),
        )?;
        Ok(())
    }

    /// The policy (HCL) that lets its role read its kv mounts.
    pub(crate) fn kv_policy(&self) -> String {
        let (kv1, kv2) = (&self.kv1, &self.kv2);
        format!(
            "path \"{kv1}/*\" {{ capabilities = [\"read\"] }}\npath \"{kv2}/data/*\" {{ capabilities = [\"read\"] }}\n"
        )
    }

    /// The name of its role (and policy) at Vault's kubernetes auth method.
    pub fn vault_role(&self) -> &str {
        &self.namespace
    }

    /// All that `kustomize/base` gives a tenant, rendered for its namespace, Deployment included.
    ///
    /// # Errors
    /// kustomize refuses the overlay.
    pub async fn operator_manifests(&self) -> Result<Vec<DynamicObject>> {
        let overlay = self.dir.join("overlay");
        std::fs::create_dir_all(&overlay)?;
        // kustomize takes only relative paths.
        let base = relative(
            &overlay.canonicalize()?,
            &self.setting.repository.canonicalize()?,
        )
        .join("kustomize/base");
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "resources": [base],
        });
        std::fs::write(
            overlay.join("kustomization.yaml"),
            kustomization.to_string(),
        )?;
        manifests::parse(&manifests::kustomize(&self.setting.kustomize, &overlay).await?)
    }

    /// Applies a YAML text as administrator; objects that name no namespace go into the tenant's.
    ///
    /// # Errors
    /// See [`manifests::apply_object`].
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        manifests::apply(&self.client, &self.namespace, yaml).await
    }

    /// The objects of a kind in its namespace, as administrator.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A Secret of its namespace; none when it isn't there.
    ///
    /// # Errors
    /// The API server doesn't answer.
    pub async fn secret(&self, name: &str) -> Result<Option<Secret>> {
        Ok(self.api::<Secret>().get_opt(name).await?)
    }

    /// A token of one of its ServiceAccounts for these audiences (none: the API server's), valid for a day.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn token(&self, account: &str, audiences: &[&str]) -> Result<String> {
        service_account_token(&self.client, &self.namespace, account, audiences, LONG).await
    }

    /// Writes `NAME.kubeconfig` and `NAME.token` into its folder: whoever reads them acts as this ServiceAccount.
    ///
    /// `server` is another address of the API server, such as a proxy's. Calling it again renews the token file.
    ///
    /// # Errors
    /// The API server refuses a token, or a file can't be written.
    pub async fn kubeconfig(
        &self,
        name: &str,
        account: &str,
        server: Option<&str>,
    ) -> Result<PathBuf> {
        let token = self.token(account, &[]).await?;
        self.kubeconfig_of_token(name, &token, server)
    }

    fn kubeconfig_of_token(
        &self,
        name: &str,
        token: &str,
        server: Option<&str>,
    ) -> Result<PathBuf> {
        let token_file = self.dir.join(format!("{name}.token"));
        std::fs::write(&token_file, token)?;
        let file = self.dir.join(format!("{name}.kubeconfig"));
        let server = server.unwrap_or(&self.setting.api_url);
        kubeconfig::write(
            &file,
            server,
            &self.setting.ca_file,
            User::TokenFile(&token_file),
            &self.namespace,
        )?;
        Ok(file)
    }

    /// A client that acts as one of its ServiceAccounts.
    ///
    /// # Errors
    /// The API server refuses a token.
    pub async fn client_as(&self, account: &str) -> Result<kube::Client> {
        let kubeconfig = self
            .kubeconfig(&format!("client-{account}"), account, None)
            .await?;
        crate::control_plane::client(&kubeconfig).await
    }

    /// A client that acts by this token; `name` is that of its files in the tenant's folder.
    ///
    /// # Errors
    /// The files can't be written.
    pub async fn client_with_token(&self, name: &str, token: &str) -> Result<kube::Client> {
        let kubeconfig = self.kubeconfig_of_token(name, token, None)?;
        crate::control_plane::client(&kubeconfig).await
    }
}

/// The path of `to` as seen from the folder `from`; both absolute and without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = from.components().skip(shared).map(|_| Path::new(".."));
    let down = to
        .components()
        .skip(shared)
        .map(|part| Path::new(part.as_os_str()));
    up.chain(down).collect()
}

/// A name that fits into a namespace's: lower case letters, digits and dashes, at most 40.
pub(crate) fn label(name: &str) -> String {
    let dashed: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    dashed
        .chars()
        .take(40)
        .collect::<String>()
        .trim_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_climb_only_as_far_as_needed() {
        let path = relative(Path::new("/a/b c/d"), Path::new("/a/x"));
        assert_eq!(path, Path::new("../../x"));
        assert_eq!(relative(Path::new("/a"), Path::new("/a/b")), Path::new("b"));
    }

    #[test]
    fn any_name_of_a_test_makes_a_label() {
        assert_eq!(label("static::KV v2_"), "static--kv-v2");
        assert_eq!(label(&"x".repeat(90)).len(), 40);
    }
}
