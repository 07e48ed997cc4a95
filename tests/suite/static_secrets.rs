//! A secret of the key-value engines arrives, stays true and follows Vault.

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::{Kind, Templates};
use ground::wait_for;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::support::{LONG, Suite, Team, deployment};

crate::trials![
    "static_secrets": ; in each grade:
    a_kv_v2_secret_arrives, a_new_version_arrives_and_restarts_once, a_hand_edit_is_repaired,
    a_deleted_secret_comes_back
];

async fn a_kv_v2_secret_arrives(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "arrives", Names::APP).await?;
    team.put("app", json!({ "password": "first", "port": 5432 }))
        .await?;
    team.static_secret("app", json!({})).await?;
    let ready = team.wait_ready("app").await?;
    ensure!(
        ready.reason == "Synced" && ready.message.contains("version 1"),
        "{ready:?}"
    );
    ensure!(team.value("app", "password").await? == "first");
    ensure!(team.value("app", "port").await? == "5432");
    let raw: serde_json::Value = serde_json::from_str(&team.value("app", "_raw").await?)?;
    ensure!(
        raw["data"]["password"] == "first" && raw["metadata"]["version"] == 1,
        "{raw}"
    );
    let secret = team.tenant.secret("app").await?.context("no Secret")?;
    ensure!(secret.type_.as_deref() == Some("Opaque"));
    let owners = secret.metadata.owner_references.unwrap_or_default();
    ensure!(
        owners.len() == 1 && owners[0].kind == "VaultStaticSecret",
        "{owners:?}"
    );
    let labels = secret.metadata.labels.unwrap_or_default();
    ensure!(
        labels["app.kubernetes.io/managed-by"] == "vault-tenant-operator",
        "{labels:?}"
    );
    team.wait_events("app", |events| {
        events.len() == 1 && events[0].0 == "SecretSynced"
    })
    .await?;
    let auth = team
        .wait_condition("VaultAuth", "default", "Healthy", "True")
        .await?;
    ensure!(auth.reason == "LoggedIn", "{auth:?}");
    team.wait_condition("VaultConnection", "default", "Ready", "True")
        .await?;
    Ok(())
}

async fn a_new_version_arrives_and_restarts_once(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "rolls", Names::ROLLED).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.tenant
        .apply(&deployment("web", "app").to_string())
        .await?;
    let target = json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] });
    team.static_secret("app", target).await?;
    team.wait_ready("app").await?;
    team.wait_condition("VaultStaticSecret", "app", "RolloutRestart", "True")
        .await?;
    let restarts = || async {
        let (client, namespace) = (team.tenant.client.clone(), &team.tenant.namespace);
        let seen = Templates::of(&client, Kind::Deployment, namespace, "web").await?;
        anyhow::Ok(seen.restarts())
    };
    ensure!(restarts().await? == 0, "the first sync restarts nothing");
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    wait_for("the restart", LONG, || async {
        let seen = restarts().await?;
        ensure!(seen == 1, "{seen} restarts");
        Ok(())
    })
    .await?;
    // The same content under a new version restarts nothing: its arrival is the proof of time passed.
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_for_condition("VaultStaticSecret", "app", "Ready", |c| {
        c.message.contains("version 3")
    })
    .await?;
    team.wait_condition("VaultStaticSecret", "app", "RolloutRestart", "True")
        .await?;
    ensure!(restarts().await? == 1, "equal content restarts nothing");
    Ok(())
}

async fn a_hand_edit_is_repaired(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "edited", Names::APP).await?;
    team.put("app", json!({ "password": "right" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    team.edit_secret("app", "password", "wrong").await?;
    team.wait_value("app", "password", "right").await?;
    wait_for("an event that names the editor", LONG, || async {
        let events = team.events("app").await?;
        let told = events
            .iter()
            .any(|(reason, note)| reason == "SecretDataDrift" && note.contains("kubectl-edit"));
        ensure!(told, "{events:?}");
        Ok(())
    })
    .await?;
    let foreign = Patch::Merge(json!({ "stringData": { "extra": "theirs" } }));
    team.secrets()
        .patch("app", &PatchParams::default(), &foreign)
        .await?;
    team.edit_secret("app", "password", "wrong again").await?;
    team.wait_value("app", "password", "right").await?;
    ensure!(
        team.value("app", "extra").await? == "theirs",
        "a key of others stays"
    );
    Ok(())
}

async fn a_deleted_secret_comes_back(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "deleted", Names::APP).await?;
    team.put("app", json!({ "password": "right" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    team.secrets()
        .delete("app", &DeleteParams::default())
        .await?;
    team.wait_value("app", "password", "right").await?;
    Ok(())
}
