//! A tenant's leased logins of a database of its own.

use anyhow::Result;
use ground::engines::{DatabaseEngine, DatabaseRole};
use ground::{Right, Tenant};
use serde_json::{Value, json};

use super::Site;

/// The engine over the tenant's database, with these roles and all rights to their leases.
pub async fn engine(site: &Site, tenant: &Tenant, roles: &[&str]) -> Result<DatabaseEngine> {
    let postgres = site.ground.postgres().await?;
    let database = postgres.database(&tenant.namespace).await?;
    let engine = tenant.database_engine(&database).await?;
    let mut paths = Vec::new();
    for role in roles {
        paths.push(engine.role(role, &DatabaseRole::default()).await?);
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    tenant.grant(&paths, &Right::ALL).await?;
    Ok(engine)
}

/// Below this path Vault has the leases.
pub fn leases(engine: &DatabaseEngine) -> String {
    format!("{}/creds", engine.mount)
}

/// A VaultDynamicSecret `app` for a role of the engine, which restarts the Deployment `app`.
pub fn login(engine: &DatabaseEngine, role: &str) -> Value {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultDynamicSecret",
        "metadata": { "name": "app" },
        "spec": {
            "mount": engine.mount, "path": format!("creds/{role}"),
            "destination": { "name": "app", "create": true },
            "rolloutRestartTargets": [{ "kind": "Deployment", "name": "app" }],
        },
    })
}
