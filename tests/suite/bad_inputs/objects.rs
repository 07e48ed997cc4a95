//! The objects of one case, as manifests: right, or wrong in one place.

use std::collections::BTreeMap;

use ground::Tenant;
use ground::tenant::AUDIENCE;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{Case, STATIC, Wrong};
use crate::support::{merge, static_secret};

impl Case {
    /// One of its objects as it should be, but for a patch of its spec (of a
    /// Secret: another content).
    pub fn manifest(&self, tenant: &Tenant, kind: &str, patch: &Value) -> Value {
        let name = self.name;
        let mut manifest = match kind {
            "ServiceAccount" => json!({ "apiVersion": "v1", "metadata": { "name": name } }),
            "Secret" => {
                let good = json!({ "ca.crt": tenant.ca_pem });
                let content = if patch.is_null() { &good } else { patch };
                json!({
                    "apiVersion": "v1", "metadata": { "name": ca_of(name) }, "data": encoded(content),
                })
            }
            "VaultConnection" => ours(
                name,
                json!({
                    "address": tenant.vault_address, "caCertSecretRef": ca_of(name),
                    "headers": { "X-Case": tag(name) },
                }),
            ),
            "VaultAuth" => ours(
                name,
                json!({
                    "method": "kubernetes", "mount": "kubernetes", "vaultConnectionRef": name,
                    "kubernetes": {
                        "role": self.role_name(tenant), "serviceAccount": name, "audiences": [AUDIENCE],
                    },
                }),
            ),
            _ => {
                let mut more = json!({ "vaultAuthRef": name });
                merge(&mut more, self.always.clone());
                if kind == STATIC {
                    static_secret(tenant, name, more)
                } else {
                    let mut spec = json!({
                        "mount": pki_of(tenant), "role": name, "commonName": "web.test",
                        "destination": { "name": name, "create": true },
                    });
                    merge(&mut spec, more);
                    ours(name, spec)
                }
            }
        };
        manifest["kind"] = kind.into();
        if kind.starts_with("Vault") && !patch.is_null() {
            merge(&mut manifest["spec"], patch.clone());
        }
        without_nulls(manifest)
    }

    /// What a Role of names is made for.
    pub fn resources(&self, tenant: &Tenant) -> Vec<Value> {
        let right = |kind| self.manifest(tenant, kind, &Value::Null);
        let mut resources = ["VaultConnection", "VaultAuth", self.kind]
            .map(right)
            .to_vec();
        if !self.names_others {
            return resources;
        }
        // Beside the right ones, so under names of their own.
        let other = format!("{}-wrong", self.name);
        let mut wrong = |kind, patch| {
            let mut manifest = self.manifest(tenant, kind, patch);
            manifest["metadata"]["name"] = json!(other);
            resources.push(manifest);
        };
        match &self.wrong {
            Wrong::Spec(patch) => wrong(self.kind, patch),
            Wrong::Connection(patch) => wrong("VaultConnection", patch),
            Wrong::Auth(patch) => {
                wrong("VaultAuth", patch);
                wrong(self.kind, &json!({ "vaultAuthRef": other }));
            }
            _ => {}
        }
        resources
    }

    /// The name of its role in Vault.
    pub fn role_name(&self, tenant: &Tenant) -> String {
        format!("{}-{}", tenant.namespace, self.name)
    }
}

fn ours(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1",
        "metadata": { "name": name }, "spec": spec,
    })
}

/// The mount of the tenant's PKI engine.
pub fn pki_of(tenant: &Tenant) -> String {
    format!("{}-pki", tenant.namespace)
}

/// The Secret of its CA certificates.
pub fn ca_of(name: &str) -> String {
    format!("{name}-ca")
}

/// What no other case's header contains.
pub fn tag(name: &str) -> String {
    format!("<{name}>")
}

/// The `data` of a Secret. (Of what was applied as `stringData` nothing goes again.)
fn encoded(content: &Value) -> BTreeMap<&String, ByteString> {
    let fields = content.as_object().into_iter().flatten();
    fields
        .map(|(key, value)| (key, ByteString(value.as_str().unwrap_or_default().into())))
        .collect()
}

/// Fields that are null, in whatever depth, are not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name, without_nulls(field)))
            .collect(),
        other => other,
    }
}
