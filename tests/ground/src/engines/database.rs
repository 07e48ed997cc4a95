//! Vault's database engine over one PostgreSQL database: roles whose every read makes a login, and static roles.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::postgres::{Database, quoted};
use crate::tenant::Tenant;
use crate::vault_api::VaultApi;

/// What makes a login that may read the database's table.
const CREATION: &[&str] = &[
    "create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}'",
    "grant select on items to \"{{name}}\"",
];

/// How often Vault looks for static roles that are due, in seconds; its own default is 5.
const ROTATION_TICK: &str = "1";

/// The mount of one database.
#[derive(Clone, Debug)]
pub struct DatabaseEngine {
    /// Its mount; credentials are at `MOUNT/creds/ROLE` and `MOUNT/static-creds/ROLE`.
    pub mount: String,
    /// The database.
    pub database: Database,
    vault: VaultApi,
}

/// A role whose credentials are leased.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseRole<'a> {
    /// The first life of a lease, in whole seconds.
    pub ttl: Duration,
    /// How long renewals can stretch it, in whole seconds.
    pub max_ttl: Duration,
    /// SQL that makes a login of `{{name}}`, `{{password}}` and `{{expiration}}`.
    pub creation: &'a [&'a str],
    /// SQL that revokes it; none: Vault's own, which drops the role.
    pub revocation: &'a [&'a str],
}

impl Default for DatabaseRole<'_> {
    /// An hour, at most a day; a login that may read `items`; Vault's own revocation.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            max_ttl: Duration::from_secs(24 * 3600),
            creation: CREATION,
            revocation: &[],
        }
    }
}

/// When Vault gives a static role another password.
#[derive(Clone, Copy, Debug)]
pub enum Rotation<'a> {
    /// So long after the last time; at least 5 seconds.
    Period(Duration),
    /// At the times of this cron line (five fields, so at most once a minute).
    Schedule(&'a str),
}

impl Tenant {
    /// Mounts the database engine over a database.
    ///
    /// # Errors
    /// Vault refuses a step, or doesn't reach the database.
    pub async fn database_engine(&self, database: &Database) -> Result<DatabaseEngine> {
        let mount = format!("{}-database", self.namespace);
        let options = json!({ "rotation_queue_tick_interval": ROTATION_TICK });
        self.vault
            .mount(&mount, &json!({ "type": "database", "options": options }))
            .await?;
        let config = json!({
            "plugin_name": "postgresql-database-plugin",
            "connection_url": database.vault_url(),
            "username": database.name(),
            "password": database.password(),
            "allowed_roles": "*",
        });
        self.vault
            .write(&format!("{mount}/config/database"), &config)
            .await?;
        Ok(DatabaseEngine {
            mount,
            database: database.clone(),
            vault: self.vault.clone(),
        })
    }
}

impl DatabaseEngine {
    /// Writes a role and returns the path of its credentials.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn role(&self, name: &str, role: &DatabaseRole<'_>) -> Result<String> {
        let body = json!({
            "db_name": "database",
            "default_ttl": role.ttl.as_secs(),
            "max_ttl": role.max_ttl.as_secs(),
            "creation_statements": role.creation,
            "revocation_statements": role.revocation,
        });
        let mount = &self.mount;
        self.vault
            .write(&format!("{mount}/roles/{name}"), &body)
            .await?;
        Ok(format!("{mount}/creds/{name}"))
    }

    /// Makes a login `DATABASE-NAME` and a static role of Vault's over it, and returns the path of its credentials.
    ///
    /// # Errors
    /// The database or Vault refuses it.
    pub async fn static_role(&self, name: &str, rotation: Rotation<'_>) -> Result<String> {
        let user = format!("{}-{name}", self.database.name());
        let create = format!("create role {} login", quoted(&user));
        self.database.execute(&[&create]).await?;
        let mut body = json!({ "db_name": "database", "username": user });
        match rotation {
            Rotation::Period(period) => body["rotation_period"] = period.as_secs().into(),
            Rotation::Schedule(line) => body["rotation_schedule"] = line.into(),
        }
        let mount = &self.mount;
        self.vault
            .write(&format!("{mount}/static-roles/{name}"), &body)
            .await?;
        Ok(format!("{mount}/static-creds/{name}"))
    }

    /// Gives a static role another password now.
    ///
    /// # Errors
    /// The database or Vault refuses it.
    pub async fn rotate(&self, name: &str) -> Result<()> {
        let path = format!("{}/rotate-role/{name}", self.mount);
        self.vault.write(&path, &json!({})).await?;
        Ok(())
    }
}
