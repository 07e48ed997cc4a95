//! A tenant with many secrets in Vault and as many VaultStaticSecrets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ground::resources::{prepare, resources, static_secret};
use ground::{Operator, Tenant, wait_for};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, ListParams, PostParams};
use serde_json::json;

use crate::bench::Bench;

/// Long enough for ten thousand on a busy machine.
pub const LONG: Duration = Duration::from_secs(600);

/// How many are made at a time.
const AT_ONCE: usize = 16;

/// The key `sync` of an operator whose budget of requests to Vault is no limit: what is measured is its speed.
pub const UNLIMITED: &str = "{vaultRequestsPerSecond: 100000, vaultRequestsBurst: 100000}";

/// What is in each secret: as long as a password and a connection string.
const USER: &str = "app-user";
const PASSWORD: &str = "k3VxJ9sWq7Zt2LrB8nYd5HcPm4GfTa6u";
const URL: &str = "postgres://db.team-a.svc.cluster.local:5432/orders?sslmode=verify-full";

/// A tenant and how many secrets it has.
pub struct Site {
    /// The tenant, with a VaultConnection and a VaultAuth called `default`.
    pub tenant: Tenant,
    /// How many; their names are those of [`Site::name`].
    pub resources: usize,
}

impl Site {
    /// A new tenant with so many secrets, each to be read again after `refresh`; no operator runs yet.
    pub async fn make(bench: &Bench, name: &str, resources: usize, refresh: &str) -> Result<Self> {
        Self::at(bench.ground.tenant(name).await?, resources, refresh).await
    }

    /// The same for a tenant that is there.
    pub async fn at(tenant: Tenant, resources: usize, refresh: &str) -> Result<Self> {
        prepare(&tenant).await?;
        let site = Self { tenant, resources };
        let make = async |number: usize| {
            let name = Self::name(number);
            site.put(&name).await?;
            site.create(&name, refresh).await
        };
        futures::stream::iter(0..resources)
            .map(make)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(site)
    }

    /// What the secret with this number, its resource and its Secret are called.
    pub fn name(number: usize) -> String {
        format!("s-{number:05}")
    }

    /// Puts a secret into Vault.
    pub async fn put(&self, name: &str) -> Result<()> {
        let data = json!({ "username": USER, "password": PASSWORD, "url": URL });
        let tenant = &self.tenant;
        tenant.vault.kv2_put(&tenant.kv2, name, &data).await?;
        Ok(())
    }

    /// Makes a VaultStaticSecret.
    pub async fn create(&self, name: &str, refresh: &str) -> Result<()> {
        let manifest = static_secret(&self.tenant, name, json!({ "refreshAfter": refresh }));
        let object: DynamicObject = serde_json::from_value(manifest)?;
        resources(&self.tenant, "VaultStaticSecret")
            .create(&PostParams::default(), &object)
            .await?;
        Ok(())
    }

    /// Gives a secret in Vault another content.
    pub async fn renew(&self, name: &str) -> Result<()> {
        let data = json!({ "username": USER, "password": "another", "url": URL });
        let tenant = &self.tenant;
        tenant.vault.kv2_put(&tenant.kv2, name, &data).await?;
        Ok(())
    }

    /// Starts the tenant's operator as shipped, but for the key `sync` of its configuration.
    pub async fn operator(&self, bench: &Bench, sync: &str) -> Result<Operator> {
        self.operator_at(bench, sync, None).await
    }

    /// The same, with another address of the API server.
    pub async fn operator_at(
        &self,
        bench: &Bench,
        sync: &str,
        api: Option<&str>,
    ) -> Result<Operator> {
        let operator = self.tenant.operator(&bench.binary);
        let operator = operator.config(&self.config(sync));
        match api {
            Some(url) => operator.api_url(url).start().await,
            None => operator.start().await,
        }
    }

    /// The operator's configuration, as shipped but for the key `sync`.
    pub fn config(&self, sync: &str) -> String {
        let address = &self.tenant.vault_address;
        format!("policy: {{vaultAddresses: [\"{address}\"]}}\nsync: {sync}\n")
    }

    /// Waits until the namespace holds that many Secrets. Cheap for the API server, which counts and sends one.
    pub async fn wait_secrets(&self, count: usize) -> Result<()> {
        let secrets = self.tenant.api::<Secret>();
        wait_for("all Secrets", LONG, || async {
            let page = secrets
                .list_metadata(&ListParams::default().limit(1))
                .await?;
            let rest = page.metadata.remaining_item_count.unwrap_or_default();
            let there = page.items.len() + usize::try_from(rest)?;
            ensure!(there >= count, "{there} of {count}");
            Ok(())
        })
        .await
    }

    /// Waits until all resources are ready.
    pub async fn wait_all_ready(&self) -> Result<()> {
        wait_for("all to be ready", LONG, || async {
            let ready = self.count_ready("True").await?;
            let expected = self.resources;
            ensure!(ready == expected, "{ready} of {expected}");
            Ok(())
        })
        .await
    }

    /// How many resources have a condition Ready of this status.
    pub async fn count_ready(&self, status: &str) -> Result<usize> {
        self.count_ready_of("VaultStaticSecret", status).await
    }

    /// The same of another kind.
    pub async fn count_ready_of(&self, kind: &str, status: &str) -> Result<usize> {
        let kind = resources(&self.tenant, kind);
        let all = kind.list(&ListParams::default()).await?;
        let is = |one: &&DynamicObject| {
            let conditions = one.data["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one["type"] == "Ready" && one["status"] == status)
        };
        Ok(all.iter().filter(is).count())
    }

    /// The version of each of its Secrets, by name.
    pub async fn versions(&self) -> Result<Vec<Option<String>>> {
        let secrets = self.tenant.api::<Secret>();
        let all = secrets.list_metadata(&ListParams::default()).await?;
        Ok(all
            .items
            .into_iter()
            .map(|one| one.metadata.resource_version)
            .collect())
    }

    /// Uid of each resource by its number.
    pub async fn uids(&self) -> Result<Vec<String>> {
        let kind = resources(&self.tenant, "VaultStaticSecret");
        let all = kind.list_metadata(&ListParams::default()).await?;
        // The API server lists by name.
        let uid = |one: kube::core::PartialObjectMeta<DynamicObject>| one.metadata.uid;
        let uids: Option<Vec<String>> = all.items.into_iter().map(uid).collect();
        uids.context("a resource without a uid")
    }
}
