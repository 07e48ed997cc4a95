//! The end of a namespace under a running operator: nothing of it is held up,
//! nothing is tried for ever, and nobody is sent to look at the Role.

use anyhow::{Result, ensure};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::wait_for;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "endings": ; in each grade:
    one_that_is_being_deleted_is_left_alone,
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
    let since = eye.at_api().since(mark);
    wait_for("the key's write to be refused", LONG, || async {
        ensure!(!eye.api.forbidden(&since)?.is_empty(), "nothing is refused");
        Ok(())
    })
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
