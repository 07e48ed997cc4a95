//! Vault's secrets engines for a tenant, each set up in one call: database, pki, kubernetes, and transit, whose answers
//! have no lease.
//!
//! Each mount has the tenant's namespace in its name, and what is below it is written as Vault's administrator. What the
//! tenant's own role may do with it is [`Tenant::grant`](crate::Tenant::grant)'s affair.

mod database;
mod kubernetes;
mod pki;

use anyhow::Result;
use serde_json::json;

pub use database::{DatabaseEngine, DatabaseRole, Rotation};
pub use kubernetes::KubernetesEngine;
pub use pki::{PkiEngine, PkiRole};

use crate::tenant::Tenant;

impl Tenant {
    /// Mounts transit with one key and returns the path that answers another data key to each POST: without a lease, and
    /// with a `lease_duration` of 0.
    ///
    /// # Errors
    /// Vault refuses a step.
    pub async fn leaseless_engine(&self) -> Result<String> {
        let mount = format!("{}-transit", self.namespace);
        self.vault
            .mount(&mount, &json!({ "type": "transit" }))
            .await?;
        self.vault
            .write(&format!("{mount}/keys/app"), &json!({}))
            .await?;
        Ok(format!("{mount}/datakey/plaintext/app"))
    }
}
