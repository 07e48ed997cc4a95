//! A team whose login may ask a real PostgreSQL's database engine for
//! credentials, and what its trials look at.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::{DatabaseEngine, DatabaseRole, PkiRole};
use ground::faults::HttpProxy;
use ground::postgres::Login;
use ground::{Right, Tenant, wait_for};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{Eye, api_proxy, vault_proxy};
use crate::support::{LONG, Suite, Team, merge};

/// The kind that these trials are about.
pub const KIND: &str = "VaultDynamicSecret";

/// The shortest drain, so that a trial sees what comes after it.
pub const QUICK: &str = "rotation: {drain: 1s}\n";

/// A team with a database engine.
pub struct Lessee {
    pub team: Team,
    pub engine: DatabaseEngine,
    /// Path of the credentials of the role `app`.
    pub creds: String,
}

/// The tenant's engine with the role `app`, and all rights to its leases.
pub async fn engine_of(
    suite: &Suite,
    tenant: &Tenant,
    role: &DatabaseRole<'_>,
) -> Result<(DatabaseEngine, String)> {
    let postgres = suite.ground.postgres().await?;
    let database = postgres.database(&tenant.namespace).await?;
    let engine = tenant.database_engine(&database).await?;
    let creds = engine.role("app", role).await?;
    tenant.grant(&[&creds], &Right::ALL).await?;
    Ok((engine, creds))
}

/// A VaultDynamicSecret for the role `app` into the Secret of its name.
pub fn dynamic_secret(tenant: &Tenant, name: &str, more: Value) -> Value {
    let mut spec = json!({
        "mount": format!("{}-database", tenant.namespace), "path": "creds/app",
        "destination": { "name": name, "create": true },
    });
    merge(&mut spec, more);
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": KIND,
        "metadata": { "name": name }, "spec": spec,
    })
}

/// What a spec says for a certificate with a lease, from an engine that is made for
/// it: the cheapest lease there is.
pub async fn leased_certificate(tenant: &Tenant) -> Result<Value> {
    let engine = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
    let role = PkiRole {
        generate_lease: true,
        ..PkiRole::default()
    };
    let path = engine.role("leased", &role).await?;
    tenant.grant(&[&path], &Right::ALL).await?;
    Ok(json!({
        "mount": engine.mount, "path": "issue/leased", "params": { "common_name": "web.test" },
    }))
}

impl Lessee {
    pub async fn start(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        role: &DatabaseRole<'_>,
    ) -> Result<Self> {
        Self::with(suite, grade, name, names, role, QUICK).await
    }

    /// The same, with another configuration of the operator.
    pub async fn with(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        role: &DatabaseRole<'_>,
        more: &str,
    ) -> Result<Self> {
        let (tenant, more) = tenant_of(suite, grade, name, names, more).await?;
        let (engine, creds) = engine_of(suite, &tenant, role).await?;
        let team = Team::of(suite, tenant, None, &more).await?;
        Ok(Self {
            team,
            engine,
            creds,
        })
    }

    /// The same, with a proxy in front of the API server.
    pub async fn behind_api_proxy(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        role: &DatabaseRole<'_>,
        more: &str,
    ) -> Result<(Self, HttpProxy)> {
        let (tenant, more) = tenant_of(suite, grade, name, names, more).await?;
        let (engine, creds) = engine_of(suite, &tenant, role).await?;
        let proxy = api_proxy(&suite.ground).await?;
        let team = Team::of(suite, tenant, Some(&proxy.url()), &more).await?;
        let lessee = Self {
            team,
            engine,
            creds,
        };
        Ok((lessee, proxy))
    }

    /// As [`Lessee::start`], with a proxy in front of Vault.
    pub async fn behind_vault_proxy(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        role: &DatabaseRole<'_>,
    ) -> Result<(Self, HttpProxy)> {
        let (mut tenant, more) = tenant_of(suite, grade, name, names, QUICK).await?;
        let (engine, creds) = engine_of(suite, &tenant, role).await?;
        let proxy = vault_proxy(&suite.ground).await?;
        tenant.vault_address = proxy.url();
        let team = Team::of(suite, tenant, None, &more).await?;
        let lessee = Self {
            team,
            engine,
            creds,
        };
        Ok((lessee, proxy))
    }

    /// Applies a VaultDynamicSecret into the Secret `<name>`.
    pub async fn ask(&self, name: &str, more: Value) -> Result<()> {
        let manifest = dynamic_secret(&self.team.tenant, name, more);
        self.team.tenant.apply(&manifest.to_string()).await?;
        Ok(())
    }

    /// Waits until it is synced, and answers with the lease that status names.
    pub async fn wait_lease(&self, name: &str) -> Result<String> {
        self.team
            .wait_condition(KIND, name, "Ready", "True")
            .await?;
        self.lease_of(name).await
    }

    pub async fn lease_of(&self, name: &str) -> Result<String> {
        let status = self.status(name).await?;
        let lease = status["secretLease"]["id"].as_str().context("no lease")?;
        Ok(lease.to_owned())
    }

    pub async fn status(&self, name: &str) -> Result<Value> {
        self.team.status(KIND, name).await
    }

    /// When the credentials were given or renewed last, as status says.
    pub async fn renewed_at(&self, name: &str) -> Result<Timestamp> {
        let at = &self.status(name).await?["lastRenewalTime"];
        Ok(Timestamp::from_second(at.as_i64().context("no time")?)?)
    }

    /// The live leases of the role `app`.
    pub async fn leases(&self) -> Result<Vec<String>> {
        self.team.tenant.vault.leases(&self.creds).await
    }

    pub async fn wait_leases(&self, count: usize) -> Result<()> {
        wait_for(&format!("{count} leases"), LONG, || async {
            let live = self.leases().await?;
            ensure!(live.len() == count, "{live:?}");
            Ok(())
        })
        .await
    }

    /// Waits until Vault does not know the lease any more.
    pub async fn wait_gone(&self, lease: &str) -> Result<()> {
        wait_for(&format!("the end of {lease}"), LONG, || async {
            let found = self.team.tenant.vault.lease(lease).await?;
            ensure!(found.is_none(), "{found:?}");
            Ok(())
        })
        .await
    }

    /// A new connection to the database with what the Secret holds.
    pub async fn login(&self, secret: &str) -> Result<Login> {
        let user = self.team.value(secret, "username").await?;
        let password = self.team.value(secret, "password").await?;
        self.engine.database.login(&user, &password).await
    }

    pub async fn edit(&self, name: &str, patch: Value) -> Result<()> {
        self.team.merge_into(KIND, name, patch).await
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        self.team.delete(KIND, name).await
    }

    /// How many credentials the operator was given so far.
    pub fn minted(&self, suite: &Suite) -> Result<usize> {
        let eye = Eye::on(suite, &self.team);
        eye.vault.count(&eye.at_vault().path(&self.creds))
    }

    /// The leases that the ledger remembers.
    pub async fn remembered(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for shard in [0, 1] {
            let name = format!("vault-tenant-operator-ledger-{shard}");
            let secret = self.team.tenant.secret(&name).await?.unwrap_or_default();
            for (_, entry) in secret.data.unwrap_or_default() {
                let entry: Value = serde_json::from_slice(&entry.0)?;
                found.extend(entry["lease"]["lease"].as_str().map(str::to_owned));
            }
        }
        found.sort();
        Ok(found)
    }
}
