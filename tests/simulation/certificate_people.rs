//! What people do about certificates in the tenant's namespace.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use vault_tenant_operator::api::VaultPKISecret;
use vault_tenant_operator::key::{Kind, ResourceKey};

use crate::api_server::resource;
use crate::certificates::Role;
use crate::objects::{Field, NAMESPACE, Object};
use crate::tenant::Tenant;
use crate::world::World;

/// A VaultPKISecret into the Secret of its name, without targets, whose certificates
/// live for as long as its role lets them.
pub fn certificate(name: &str, offset: &str) -> Value {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1",
        "kind": "VaultPKISecret",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "mount": "pki", "role": name, "commonName": format!("{name}.example"),
            "expiryOffset": offset, "revoke": true,
            "destination": { "name": name, "create": true, "labels": { "app": "web" } },
        },
    })
}

fn key(name: &str) -> ResourceKey {
    resource(Kind::VaultPkiSecret, name)
}

/// What becomes of a Secret.
#[derive(Clone, Copy, Debug)]
pub enum Spoiled {
    Deleted,
    /// What Vault answered with is overwritten.
    Raw,
    /// What is made of that is overwritten.
    Made,
}

/// The living resource of a name.
pub fn living(world: &World, name: &str) -> Option<Rc<VaultPKISecret>> {
    match world.api.borrow().resources.get(&key(name)) {
        Some(Object::Pki(found)) => Some(Rc::clone(found)),
        _ => None,
    }
}

impl Tenant {
    /// The engine gets a role for a resource.
    pub fn issuing_role(&self, name: &str, max: u64, leases: bool, forgets: bool) {
        let role = Role {
            max: Duration::from_secs(max),
            leases,
            forgets,
        };
        let roles = &mut self.0.vault.borrow_mut().leases.issues;
        roles.insert(format!("pki/issue/{name}"), role);
    }

    /// Applies one, and counts what that may cost.
    pub fn apply_certificate(&self, manifest: &Value) {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let before = living(&self.0, name);
        self.apply(manifest);
        let after = living(&self.0, name).unwrap();
        let (now, mut leases) = (self.0.now(), self.0.leases.borrow_mut());
        let Some(before) = before else {
            leases.allow(name);
            return;
        };
        let (was, is) = (&before.spec, &after.spec);
        if (&was.role, &was.common_name, &was.ttl) != (&is.role, &is.common_name, &is.ttl) {
            leases.allow(name);
        }
        if was.rollout_restart_targets != is.rollout_restart_targets {
            leases.retargeted(name, now);
        }
        if was.expiry_offset != is.expiry_offset {
            leases.offset_was(name, was.expiry_offset.as_deref().unwrap_or("0s"), now);
        }
    }

    pub fn delete_certificate(&self, name: &str) {
        self.delete(&key(name));
    }

    /// A Secret is deleted or edited by hand.
    pub fn spoil_certificate(&self, name: &str, how: Spoiled) {
        if !self.0.api.borrow().secrets.contains_key(name) {
            return;
        }
        let edited = match how {
            Spoiled::Deleted => {
                self.0.leases.borrow_mut().allow(name);
                self.delete_secret(name);
                return;
            }
            Spoiled::Raw => {
                self.0.leases.borrow_mut().allow(name);
                "_raw"
            }
            Spoiled::Made => "certificate",
        };
        self.edit_secret(name, Field::Data(edited.to_owned()), Some("by hand"));
    }
}
