//! The custom resources and the operator configuration that most trials and benchmarks begin with.

use anyhow::Result;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use serde_json::{Value, json};

use crate::tenant::{APP_ACCOUNT, AUDIENCE, Tenant};

/// CA Secret, VaultConnection and VaultAuth of a tenant.
///
/// # Errors
/// The API server refuses one of them.
pub async fn prepare(tenant: &Tenant) -> Result<()> {
    let authority = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "vault-ca" },
        "stringData": { "ca.crt": tenant.ca_pem },
    });
    tenant.apply(&authority.to_string()).await?;
    for manifest in references(tenant) {
        tenant.apply(&manifest.to_string()).await?;
    }
    Ok(())
}

/// The VaultConnection and the VaultAuth of a tenant, both called `default`.
#[must_use]
pub fn references(tenant: &Tenant) -> [Value; 2] {
    [
        json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultConnection",
            "metadata": { "name": "default" },
            "spec": { "address": tenant.vault_address, "caCertSecretRef": "vault-ca" },
        }),
        json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultAuth",
            "metadata": { "name": "default" },
            "spec": {
                "method": "kubernetes", "mount": "kubernetes",
                "kubernetes": {
                    "role": tenant.vault_role(), "serviceAccount": APP_ACCOUNT,
                    "audiences": [AUDIENCE],
                },
            },
        }),
    ]
}

/// The configuration of a trial's operator: its Vault listed, short waits.
#[must_use]
pub fn config(tenant: &Tenant, more: &str) -> String {
    let address = &tenant.vault_address;
    format!(
        "policy:\n  vaultAddresses: [\"{address}\"]\nrollout:\n  debounce: 1s\nsync:\n  backoff: {{initialInterval: 300ms, maxInterval: 2s}}\n{more}"
    )
}

/// A VaultStaticSecret for `<kv2>/<name>` into the Secret `<name>`.
#[must_use]
pub fn static_secret(tenant: &Tenant, name: &str, more: Value) -> Value {
    let mut spec = json!({
        "mount": tenant.kv2, "type": "kv-v2", "path": name, "refreshAfter": "2s",
        "destination": { "name": name, "create": true },
    });
    merge(&mut spec, more);
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultStaticSecret",
        "metadata": { "name": name }, "spec": spec,
    })
}

/// A tenant's resources of one of our kinds.
#[must_use]
pub fn resources(tenant: &Tenant, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "secrets.hashicorp.com".into(),
        version: "v1beta1".into(),
        api_version: "secrets.hashicorp.com/v1beta1".into(),
        kind: kind.into(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    Api::namespaced_with(tenant.client.clone(), &tenant.namespace, &resource)
}

/// Merges one JSON object into another, objects recursively.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
