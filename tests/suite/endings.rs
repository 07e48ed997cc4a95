//! The end of a namespace under a running operator: nothing of it is held up,
//! nothing is tried for ever, and nobody is sent to look at the Role.

use std::time::Duration;

use anyhow::{Result, ensure};
use ground::engines::DatabaseRole;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{TokenRules, wait_for};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::grades::{Grade, Names, tenant_of};
use crate::lessee::{Lessee, QUICK, engine_of};
use crate::probes::{Eye, QUIET, tcp_proxy};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "endings": ; in each grade:
    one_that_is_being_deleted_is_left_alone, one_goes_with_its_operator_and_its_leases,
];

async fn one_that_is_being_deleted_is_left_alone(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "forbidden-ending", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let lingering = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "lingering" },
    });
    team.tenant.apply(&lingering.to_string()).await?;
    // With its rights, the operator sees all to the end.
    team.hold(true).await?;
    let eye = Eye::on(suite, &team);
    let mark = eye.api.mark()?;
    let namespaces: Api<Namespace> = Api::all(team.tenant.client.clone());
    let name = &team.tenant.namespace;
    namespaces.delete(name, &DeleteParams::default()).await?;
    wait_for("all Secrets and resources to go", LONG, || async {
        let all = ListParams::default();
        let secrets = team.secrets().list(&all).await?.items.len();
        let resources = team.resources("VaultStaticSecret").list(&all).await?;
        let resources = resources.items.len();
        ensure!(
            secrets + resources == 0,
            "{secrets} Secrets, {resources} resources"
        );
        Ok(())
    })
    .await?;
    // That of its key, or of its Lease, whichever it misses first.
    let both = [eye.at_api(), eye.at_leases()].map(|of| of.since(mark));
    wait_for(
        "a write of the operator's own to be refused",
        LONG,
        || async {
            let refused = both.iter().map(|of| Ok(eye.api.forbidden(of)?.len()));
            let refused = refused.sum::<Result<usize>>()?;
            ensure!(refused > 0, "nothing is refused");
            Ok(())
        },
    )
    .await?;
    let writes = eye.at_api().verb("patch");
    let before = eye.api.settle(&writes, QUIET, LONG).await?.len();
    ensure!(before > 0, "no write was seen");
    let log = team.operator.log()?;
    ensure!(
        !log.contains("rbac/") && !log.contains("KubernetesForbidden"),
        "{}",
        team.operator.process.last_lines(20)
    );
    team.hold(false).await?;
    wait_for("the namespace to go", LONG, || async {
        let found = namespaces.get_opt(name).await?;
        ensure!(found.is_none(), "{:?}", found.and_then(|n| n.status));
        Ok(())
    })
    .await
}

impl Team {
    /// Holds a ConfigMap, the operator's account and its rights by a finalizer,
    /// or lets them go.
    async fn hold(&self, held: bool) -> Result<()> {
        let finalizers: &[&str] = if held { &["example.com/held"] } else { &[] };
        let patch = json!({ "metadata": { "finalizers": finalizers } });
        self.merge::<ConfigMap>("lingering", &patch).await?;
        self.merge::<ServiceAccount>(OPERATOR_ACCOUNT, &patch)
            .await?;
        for role in [OPERATOR_ACCOUNT, "vault-tenant-operator-leadership"] {
            self.merge::<Role>(role, &patch).await?;
            self.merge::<RoleBinding>(role, &patch).await?;
        }
        Ok(())
    }

    async fn merge<K>(&self, name: &str, patch: &serde_json::Value) -> Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.tenant.api();
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }
}

/// The operator's pod goes first, before any resource is marked, and Vault cannot be
/// reached: nothing waits for either, and the leases end with their token.
async fn one_goes_with_its_operator_and_its_leases(suite: &Suite, grade: Grade) -> Result<()> {
    const TOKEN: Duration = Duration::from_secs(20);
    let name = "forbidden-whole";
    let (mut tenant, more) = tenant_of(suite, grade, name, Names::APP, QUICK).await?;
    let (engine, creds) = engine_of(suite, &tenant, &DatabaseRole::default()).await?;
    let rules = TokenRules {
        ttl: TOKEN,
        ..TokenRules::default()
    };
    tenant.token_rules(&rules).await?;
    let (proxy, url) = tcp_proxy(&suite.ground.vault.address).await?;
    tenant.vault_address = url;
    let team = Team::of(suite, tenant, None, &more).await?;
    let lessee = Lessee {
        team,
        engine,
        creds,
    };
    let tenant = &lessee.team.tenant;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": OPERATOR_ACCOUNT },
        "spec": {
            "serviceAccountName": OPERATOR_ACCOUNT,
            "containers": [{ "name": "operator", "image": "operator:1" }],
        },
    });
    tenant.apply(&pod.to_string()).await?;
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    proxy.blackhole(true);
    proxy.cut();
    let namespaces: Api<Namespace> = Api::all(tenant.client.clone());
    namespaces
        .delete(&tenant.namespace, &DeleteParams::default())
        .await?;
    let pods: Api<Pod> = tenant.api();
    wait_for("the namespace to go", LONG, || async {
        // The process is what the pod runs.
        let pod = pods.get_opt(OPERATOR_ACCOUNT).await?;
        if pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()) {
            lessee.team.operator.process.kill();
        }
        let left = namespaces.get_opt(&tenant.namespace).await?;
        ensure!(left.is_none(), "{:?}", left.and_then(|left| left.status));
        Ok(())
    })
    .await?;
    ensure!(
        !lessee.team.operator.process.is_running(),
        "the pod never went"
    );
    lessee.wait_gone(&lease).await
}
