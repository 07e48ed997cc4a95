//! Vault's kubernetes secrets engine: tokens of a ServiceAccount at our API server. Its leases can't be renewed.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::tenant::Tenant;
use crate::vault::{LONG, service_account_token};
use crate::vault_api::VaultApi;

/// The ServiceAccount whose tokens Vault gives out: it may list the pods of its namespace.
const READER: &str = "pod-reader";

/// The ServiceAccount that Vault acts as: it may make tokens of the other and nothing else.
const MINTER: &str = "token-minter";

const ACCOUNTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: pod-reader}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: token-minter}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: pod-reader}
rules: [{apiGroups: [''], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: token-minter}
rules: [{apiGroups: [''], resources: [serviceaccounts/token], resourceNames: [pod-reader], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: pod-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: pod-reader}
subjects: [{kind: ServiceAccount, name: pod-reader}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: token-minter}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: token-minter}
subjects: [{kind: ServiceAccount, name: token-minter}]
";

/// The mount of the engine for one namespace.
#[derive(Clone, Debug)]
pub struct KubernetesEngine {
    /// Its mount; a POST to `MOUNT/creds/ROLE` gives a token, `kubernetes_namespace` is optional in it.
    pub mount: String,
    namespace: String,
    vault: VaultApi,
}

impl Tenant {
    /// Mounts the kubernetes secrets engine, with the ServiceAccounts and rights that it needs in the tenant's namespace.
    ///
    /// # Errors
    /// The API server or Vault refuses a step.
    pub async fn kubernetes_engine(&self) -> Result<KubernetesEngine> {
        self.apply(ACCOUNTS).await?;
        let token = service_account_token(&self.client, &self.namespace, MINTER, &[], LONG).await?;
        let mount = format!("{}-kubernetes", self.namespace);
        self.vault
            .mount(&mount, &json!({ "type": "kubernetes" }))
            .await?;
        let config = json!({
            "kubernetes_host": self.setting.api_url,
            "kubernetes_ca_cert": self.ca_pem,
            "service_account_jwt": token,
            "disable_local_ca_jwt": true,
        });
        self.vault
            .write(&format!("{mount}/config"), &config)
            .await?;
        Ok(KubernetesEngine {
            mount,
            namespace: self.namespace.clone(),
            vault: self.vault.clone(),
        })
    }
}

impl KubernetesEngine {
    /// Writes a role whose tokens live so long (whole seconds, at least ten minutes: the API server's least), and returns
    /// the path of its tokens.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn role(&self, name: &str, life: Duration) -> Result<String> {
        let body = json!({
            "allowed_kubernetes_namespaces": [self.namespace],
            "service_account_name": READER,
            "token_default_ttl": life.as_secs(),
            "token_max_ttl": life.as_secs(),
        });
        let mount = &self.mount;
        self.vault
            .write(&format!("{mount}/roles/{name}"), &body)
            .await?;
        Ok(format!("{mount}/creds/{name}"))
    }
}
