//! What a cluster does to the operator's pod, and that none of it costs a credential or a restart.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ground::resources::static_secret;
use ground::wait_for;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::operator::LEADER_LEASE;

use crate::site::installation::{Installation, Overlay, deployment, from_secret};
use crate::site::{LONG, Site, is_ready, leased};

crate::trials!["troubles": nothing_rotates_and_nothing_restarts];

/// A tenant with a leased login and a static secret that an application uses.
pub struct Tenancy<'a> {
    site: &'a Site,
    pub installation: Installation,
    creds: String,
    /// The leases at Vault, and what the two Secrets hold.
    before: (Vec<String>, Vec<Value>),
}

impl<'a> Tenancy<'a> {
    pub async fn start(site: &'a Site, name: &str) -> Result<Self> {
        let installation = Installation::prepare(site, Overlay::Beside, name).await?;
        let tenant = &installation.tenant;
        let engine = leased::engine(site, tenant, &["app"]).await?;
        for name in ["settings", "probe"] {
            let data = json!({ "value": "0" });
            tenant.vault.kv2_put(&tenant.kv2, name, &data).await?;
        }
        let targets = json!([{ "kind": "Deployment", "name": "app" }]);
        let settings = static_secret(
            tenant,
            "settings",
            json!({ "rolloutRestartTargets": targets }),
        );
        let probe = static_secret(tenant, "probe", json!({ "path": "probe" }));
        let container = json!({ "env": [
            from_secret("USERNAME", "app", "username"), from_secret("VALUE", "settings", "value"),
        ] });
        let app = deployment("app", 1, container, json!({}));
        let login = leased::login(&engine, "app");
        installation.bring(&[login, settings, probe, app]).await?;
        installation.install(site).await?;
        installation.rolled_out("app", 1).await?;
        let mut tenancy = Self {
            site,
            installation,
            creds: leased::leases(&engine),
            before: Default::default(),
        };
        tenancy.works("0").await?;
        tenancy.before = tenancy.now().await?;
        Ok(tenancy)
    }

    async fn now(&self) -> Result<(Vec<String>, Vec<Value>)> {
        let leases = self.site.ground.vault.api.leases(&self.creds).await?;
        let mut held = Vec::new();
        for name in ["app", "settings"] {
            let secret = self.installation.tenant.secret(name).await?;
            let secret = secret.context("no Secret")?;
            held.push(json!([secret.metadata.uid, secret.data]));
        }
        Ok((leases, held))
    }

    /// Something new in Vault arrives, which only an operator that works brings.
    async fn works(&self, value: &str) -> Result<()> {
        let tenant = &self.installation.tenant;
        let data = json!({ "value": value });
        tenant.vault.kv2_put(&tenant.kv2, "probe", &data).await?;
        wait_for("what is new in Vault", LONG, || async {
            let secret = tenant.secret("probe").await?.context("no Secret")?;
            let held = secret.data.unwrap_or_default();
            let held = held.get("value").context("no key")?;
            ensure!(held.0 == value.as_bytes(), "it holds another");
            Ok(())
        })
        .await
    }

    /// The operator comes back after `what`; how long that takes is printed.
    pub async fn comes_back(&self, what: &str, begun: Instant) -> Result<()> {
        self.works(what).await?;
        println!("{what}: it works again after {:.1?}", begun.elapsed());
        self.site.ready_operator(&self.installation.home()).await?;
        for (kind, name) in [
            ("VaultDynamicSecret", "app"),
            ("VaultStaticSecret", "settings"),
        ] {
            self.installation.ready(kind, name).await?;
        }
        self.unchanged().await.with_context(|| what.to_owned())
    }

    pub async fn unchanged(&self) -> Result<()> {
        let now = self.now().await?;
        ensure!(
            now.0 == self.before.0,
            "leases: {:?}, before: {:?}",
            now.0,
            self.before.0
        );
        ensure!(now.1 == self.before.1, "a Secret was changed");
        ensure!(self.installation.restarts("app").await? == 0, "a restart");
        Ok(())
    }

    async fn operator(&self) -> Result<Pod> {
        self.site.ready_operator(&self.installation.home()).await
    }

    fn pods(&self) -> kube::Api<Pod> {
        kube::Api::namespaced(self.site.ground.client.clone(), &self.installation.home())
    }

    async fn patch_deployment(&self, patch: Value) -> Result<()> {
        let home = self.installation.home();
        let deployments: kube::Api<Deployment> =
            kube::Api::namespaced(self.site.ground.client.clone(), &home);
        let params = PatchParams::default();
        deployments
            .patch("vault-tenant-operator", &params, &Patch::Strategic(patch))
            .await?;
        Ok(())
    }

    async fn limit_memory(&self, limit: &str) -> Result<()> {
        let container = json!({
            "name": "operator",
            "resources": { "requests": { "memory": "1Mi" }, "limits": { "memory": limit } },
        });
        let spec = json!({ "template": { "spec": { "containers": [container] } } });
        self.patch_deployment(json!({ "spec": spec })).await
    }

    /// The name of the pod that leads.
    async fn leader(&self) -> Result<String> {
        let home = self.installation.home();
        let leases: kube::Api<Lease> =
            kube::Api::namespaced(self.site.ground.client.clone(), &home);
        let lease = leases.get(LEADER_LEASE).await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        holder.context("nobody leads")
    }
}

async fn nothing_rotates_and_nothing_restarts(site: &Site) -> Result<()> {
    let tenancy = Tenancy::start(site, "troubled").await?;

    let pod = tenancy.operator().await?;
    let begun = Instant::now();
    let name = pod.metadata.name.clone().context("no name")?;
    tenancy.pods().evict(&name, &EvictParams::default()).await?;
    tenancy.comes_back("evicted", begun).await?;

    let pod = tenancy.operator().await?;
    let uid = pod.metadata.uid.clone().context("no uid")?;
    let begun = Instant::now();
    site.node()?.kill_in(&uid, "vault-tenant-operator")?;
    tenancy.comes_back("killed", begun).await?;
    let restarted = tenancy.operator().await?;
    ensure!(
        restarted.metadata.uid == Some(uid),
        "the kubelet restarts the container alone"
    );

    // Enough to begin with, and too little for what comes then.
    tenancy.limit_memory("10Mi").await?;
    let tenant = &tenancy.installation.tenant;
    let large = json!({ "value": "x".repeat(900_000) });
    tenant.vault.kv2_put(&tenant.kv2, "large", &large).await?;
    for number in 0..10 {
        let name = format!("large-{number}");
        let object = static_secret(tenant, &name, json!({ "path": "large" }));
        tenant.apply(&object.to_string()).await?;
    }
    wait_for("the kernel to kill it", LONG, || async {
        let pods = site.operators(&tenancy.installation.home()).await?;
        let states = pods.iter().flat_map(|pod| pod.status.clone());
        let statuses = states.flat_map(|status| status.container_statuses.unwrap_or_default());
        let mut ends = statuses
            .flat_map(|status| [status.state, status.last_state])
            .flatten();
        let killed = ends.any(|state| {
            state
                .terminated
                .is_some_and(|end| end.reason.as_deref() == Some("OOMKilled"))
        });
        ensure!(killed, "not yet");
        Ok(())
    })
    .await?;
    tenancy.unchanged().await?;
    let begun = Instant::now();
    tenancy.limit_memory("64Mi").await?;
    tenancy.comes_back("out of memory", begun).await?;

    tenancy
        .patch_deployment(json!({ "spec": { "replicas": 2 } }))
        .await?;
    wait_for("two instances", LONG, || async {
        let pods = site.operators(&tenancy.installation.home()).await?;
        ensure!(pods.len() == 2 && pods.iter().all(is_ready), "not yet");
        Ok(())
    })
    .await?;
    let leader = tenancy.leader().await?;
    let pods = site.operators(&tenancy.installation.home()).await?;
    let names = pods.into_iter().filter_map(|pod| pod.metadata.name);
    let leads = names.into_iter().find(|name| leader.contains(name));
    let leads = leads.with_context(|| format!("{leader} is no pod of ours"))?;
    let begun = Instant::now();
    tenancy
        .pods()
        .delete(&leads, &DeleteParams::default())
        .await?;
    tenancy.works("leader deleted").await?;
    println!(
        "leader deleted: it works again after {:.1?}",
        begun.elapsed()
    );
    ensure!(tenancy.leader().await? != leader, "the same leads");
    tenancy.unchanged().await?;
    tenancy
        .patch_deployment(json!({ "spec": { "replicas": 1 } }))
        .await?;
    tenancy.operator().await?;
    Ok(())
}
