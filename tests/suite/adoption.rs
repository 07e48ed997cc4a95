//! Secrets that the Vault Secrets Operator made for the very resource that is
//! ours now: kept on, with all that it owned, and without a restart.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ground::Tenant;
use ground::judges::workloads::Kind;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::grades::{Grade, Names};
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team, deployment, merge, resources, static_secret};

crate::trials![
    "adoption": ; in each grade:
    a_secret_of_the_existing_operator_is_kept_on_without_a_restart,
    content_that_came_while_nobody_looked_restarts_once,
    a_secret_that_it_made_for_another_resource_is_refused,
];

async fn a_secret_of_the_existing_operator_is_kept_on_without_a_restart(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "adopted", Names::ROLLED).await?;
    let held = json!({ "password": "vault", "user": "u" });
    team.put("app", held.clone()).await?;
    team.stop_and_leave("app", held).await?;
    let before = team.secret("app").await?;
    // Made just now: nobody wrote down yet what its pods run.
    team.workload_now().await?;
    let eye = Eye::on(suite, &team);
    let (_, mark) = eye.mark()?;
    team.operator.restart().await?;
    // Ready is what the other one left behind; only ours tells of the workload.
    team.wait_current("app").await?;
    team.wait_ready("app").await?;
    // One that is refused since the view is a moment old is sent again.
    let patches = eye.at_api().since(mark).resource("secrets").name("app");
    let patches = eye.api.counts(&patches.writes().code(200))?;
    ensure!(
        patches == BTreeMap::from([("patch secrets".to_owned(), 2)]),
        "one moves the ownership, one writes: {patches:?}"
    );
    let after = team.secret("app").await?;
    let without_raw = |secret: &Secret| {
        let mut data: BTreeMap<_, _> = secret.data.clone().unwrap_or_default();
        data.remove("_raw");
        data
    };
    ensure!(
        before.metadata.uid == after.metadata.uid && without_raw(&before) == without_raw(&after)
    );
    let metadata = serde_json::to_value(&after.metadata)?;
    let labels = &metadata["labels"];
    ensure!(
        labels["app.kubernetes.io/managed-by"] == "vault-tenant-operator"
            && labels["app.kubernetes.io/name"].is_null()
            && labels["secrets.hashicorp.com/vso-ownerRefUID"].is_null(),
        "{labels}"
    );
    let managers: Vec<&Value> = metadata["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| &entry["manager"])
        .collect();
    ensure!(managers.len() == 1, "{managers:?}");
    let text = team.wait_described("app", "Normal SecretAdopted").await?;
    ensure!(!text.contains("SecretDataDrift"), "{text}");
    team.wait_restarts(Kind::Deployment, "web", 0).await?;
    // A key that leaves Vault later goes from the Secret, and that is new content.
    team.put("app", json!({ "password": "vault" })).await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    ensure!(team.keys("app").await? == ["_raw", "password"]);
    Ok(())
}

async fn content_that_came_while_nobody_looked_restarts_once(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "adopted-behind", Names::ROLLED).await?;
    team.put("app", json!({ "password": "new" })).await?;
    team.stop_and_leave("app", json!({ "password": "old" }))
        .await?;
    team.workload_now().await?;
    team.operator.restart().await?;
    team.wait_value("app", "password", "new").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.wait_current("app").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}

async fn a_secret_that_it_made_for_another_resource_is_refused(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = Names {
        secrets: &["app", "other"],
        ..Names::ROLLED
    };
    let team = Team::graded(suite, grade, "adopted-not", names).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.stop_and_leave("app", json!({ "password": "theirs" }))
        .await?;
    let before = team.secret("app").await?;
    team.operator.restart().await?;
    team.wait_value("app", "password", "vault").await?;
    // The same Secret in all but the resource that it belongs to.
    let mut other = before.clone();
    other.metadata.name = Some("other".to_owned());
    other.metadata.resource_version = None;
    other.metadata.uid = None;
    team.secrets()
        .create(&PostParams::default(), &other)
        .await?;
    team.put("other", json!({ "password": "vault" })).await?;
    team.static_secret("other", json!({})).await?;
    team.wait_problem("other", "DestinationNotOwned").await?;
    let eye = Eye::on(suite, &team);
    let path = format!("{}/data/other", team.tenant.kv2);
    let reads = eye.settled(&eye.at_vault().path(&path)).await?;
    ensure!(reads.is_empty(), "{reads:?}");
    ensure!(team.value("other", "password").await? == "theirs");
    // Not even for one that overwrites: it would go with the other resource.
    let marked = eye.mark()?.0;
    team.edit("other", json!({ "destination": { "overwrite": true } }))
        .await?;
    let message = team.wait_problem("other", "DestinationNotOwned").await?;
    ensure!(message.contains("remove its ownerReferences"), "{message}");
    let reads = eye
        .settled(&eye.at_vault().path(&path).since(marked))
        .await?;
    ensure!(reads.is_empty(), "{reads:?}");
    ensure!(team.value("other", "password").await? == "theirs");
    // The way out that the message names.
    let freed = Patch::Merge(json!({ "metadata": { "ownerReferences": null } }));
    team.secrets()
        .patch("other", &PatchParams::default(), &freed)
        .await?;
    team.wait_value("other", "password", "vault").await?;
    team.wait_ready("other").await.map(drop)
}

/// Leaves what the existing operator would: the resource and its Secret,
/// labelled, owned and written as that operator does it.
pub async fn made_by_that_operator(tenant: &Tenant, name: &str, held: Value) -> Result<()> {
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    let manifest = static_secret(tenant, name, json!({ "rolloutRestartTargets": targets }));
    let mut data = held.clone();
    data["_raw"] = json!(json!({ "data": held }).to_string());
    // A MAC by a key that only that operator has.
    let mac = "mM0pUHe3cLGIUXYV0QnBvVvVlVfmBjYFZxZ6cTVnPqQ=";
    left_by_that_operator(tenant, &manifest, data, json!({ "secretMAC": mac })).await
}

/// The same for a resource of any kind, with `more` in its status.
pub async fn left_by_that_operator(
    tenant: &Tenant,
    manifest: &Value,
    data: Value,
    more: Value,
) -> Result<()> {
    tenant.apply(&manifest.to_string()).await?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = text(&manifest["kind"]).context("no kind")?;
    let name = text(&manifest["metadata"]["name"]).context("no name")?;
    let resource = resources(tenant, &kind).get(&name).await?;
    let uid = resource.metadata.uid.context("no uid")?;
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {
                "app.kubernetes.io/managed-by": "hashicorp-vso",
                "app.kubernetes.io/name": "vault-secrets-operator",
                "app.kubernetes.io/component": "secret-sync",
                "secrets.hashicorp.com/vso-ownerRefUID": uid,
            },
            "ownerReferences": [{
                "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind,
                "name": name, "uid": uid,
            }],
        },
        "stringData": data,
    }))?;
    let params = PostParams {
        field_manager: Some("vault-secrets-operator".to_owned()),
        ..PostParams::default()
    };
    tenant.api::<Secret>().create(&params, &secret).await?;
    // All well.
    let condition = |type_: &str, reason: &str| {
        json!({
            "type": type_, "status": "True", "reason": reason, "message": "Secret synced",
            "observedGeneration": resource.metadata.generation,
            "lastTransitionTime": jiff::Timestamp::now().to_string(),
        })
    };
    let mut status = json!({ "status": {
        "lastGeneration": resource.metadata.generation,
        "vaultClientMeta": { "cacheKey": "kubernetes-f8b1", "id": "9c5d" },
        "conditions": [
            condition("SecretSynced", "SecretSynced"), condition("Healthy", "Healthy"),
            condition("Ready", "SecretSynced"),
        ],
    } });
    merge(&mut status, json!({ "status": more }));
    let params = PatchParams {
        field_manager: params.field_manager,
        ..PatchParams::default()
    };
    resources(tenant, &kind)
        .patch_status(&name, &params, &Patch::Merge(status))
        .await?;
    Ok(())
}

impl Team {
    async fn stop_and_leave(&self, name: &str, held: Value) -> Result<()> {
        self.operator.process.kill();
        self.operator.process.wait().await;
        made_by_that_operator(&self.tenant, name, held).await
    }

    async fn workload_now(&self) -> Result<()> {
        let web = deployment("web", "app");
        self.tenant.apply(&web.to_string()).await?;
        ground::wait_for("the controller of web", LONG, || async {
            self.restarts(Kind::Deployment, "web").await
        })
        .await
        .map(drop)
    }
}
