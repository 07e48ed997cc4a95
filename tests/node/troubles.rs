//! What a cluster does to the operator's pod, and that none of it costs a credential or a restart.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ground::resources::static_secret;
use ground::wait_for;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::operator::LEADER_LEASE;

use crate::site::{LONG, Site, is_ready};
use crate::tenancy::Tenancy;

crate::trials!["troubles": nothing_rotates_and_nothing_restarts];

impl Tenancy<'_> {
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
    // Until it has ended, the one that is deleted may work on.
    wait_for("another to lead", LONG, || async {
        let now = tenancy.leader().await?;
        ensure!(!now.is_empty() && now != leader, "{now} leads");
        Ok(())
    })
    .await?;
    tenancy.works("leader deleted").await?;
    println!(
        "leader deleted: it works again after {:.1?}",
        begun.elapsed()
    );
    tenancy.unchanged().await?;
    tenancy
        .patch_deployment(json!({ "spec": { "replicas": 1 } }))
        .await?;
    tenancy.operator().await?;
    Ok(())
}
