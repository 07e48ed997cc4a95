//! Others in the same cluster: a controller that works on the same resources,
//! and definitions that are not ours.

use anyhow::{Context as _, Result, ensure};
use ground::judges::workloads::Kind;
use ground::{Ground, Options, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_on};
use crate::judgement::judge;
use crate::probes::{Eye, QUIET, workload};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "neighbours": ; in each grade:
    another_controller_is_left_alone_until_it_is_gone,
    one_that_sets_finalizers_or_writes_of_logins_is_left_alone,
    definitions_of_others_cost_fields_and_nothing_else,
];

async fn another_controller_is_left_alone_until_it_is_gone(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "another", Names::secrets(&["app", "proof"])).await?;
    team.put("app", json!({ "value": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let status = async |by: &str| {
        let params = PatchParams {
            field_manager: Some(by.to_owned()),
            ..PatchParams::default()
        };
        let lease = json!({ "status": { "lastGeneration": 1, "secretMAC": by, "conditions": [] } });
        let kind = team.resources("VaultStaticSecret");
        kind.patch_status("app", &params, &Patch::Merge(lease))
            .await
    };
    status("kubectl-edit").await?;
    team.wait_ready("app").await?;

    // What it wrote in the very second of our start does not count.
    wait_for("the other controller to be seen", LONG, || async {
        status("vault-secrets-operator").await?;
        let events = team.events("app").await?;
        let told = |(reason, note): &(String, String)| {
            reason == "AnotherController" && note.contains("vault-secrets-operator")
        };
        ensure!(events.iter().any(told), "{events:?}");
        Ok(())
    })
    .await?;
    // It is told once, whatever the other one makes of it, and nothing is done.
    status("vault-secrets-operator").await?;
    team.put("app", json!({ "value": "second" })).await?;
    let eye = Eye::on(suite, &team);
    let (vault, api) = eye.mark()?;
    team.static_secret("proof", json!({ "path": "app" }))
        .await?;
    team.wait_value("proof", "value", "second").await?;
    eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await?;
    ensure!(team.value("app", "value").await? == "first");
    let about = eye.at_api().since(api).writes().name("app");
    let written = eye.api.requests(&about)?;
    ensure!(written.is_empty(), "{written:?}");
    let read = eye.vault.count(&eye.reads().since(vault))?;
    println!("{read} reads, of the other resource");

    // Once it is gone, a new start ends the wait for it.
    team.operator.terminate(LONG).await;
    team.operator.restart().await?;
    team.wait_value("app", "value", "second").await?;
    team.wait_ready("app").await.map(drop)
}

async fn one_that_sets_finalizers_or_writes_of_logins_is_left_alone(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = Names::secrets(&["app", "proof"]);
    let team = Team::graded(suite, grade, "another-mark", names).await?;
    team.put("app", json!({ "value": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let by = |manager: &str| PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    let told = async |name: &str, manager: &str| -> Result<()> {
        let events = team.events(name).await?;
        let told = |(reason, note): &(String, String)| {
            reason == "AnotherController" && note.contains(manager)
        };
        ensure!(events.iter().any(told), "{events:?}");
        Ok(())
    };
    // In the very second of our start nothing counts, and a patch that changes
    // nothing leaves no trace.
    wait_for("who sets the finalizer to be seen", LONG, || async {
        let kind = team.resources("VaultStaticSecret");
        for finalizers in [
            json!([]),
            json!(["vaultstaticsecret.secrets.hashicorp.com/finalizer"]),
        ] {
            let set = json!({ "metadata": { "finalizers": finalizers } });
            kind.patch("app", &by("manager"), &Patch::Merge(set))
                .await?;
        }
        told("app", "manager").await
    })
    .await?;
    wait_for("who writes of the login to be seen", LONG, || async {
        let says = format!("at {}", jiff::Timestamp::now());
        let status = json!({ "status": { "valid": false, "error": says } });
        team.resources("VaultAuth")
            .patch_status("default", &by("other-operator"), &Patch::Merge(status))
            .await?;
        told("default", "other-operator").await
    })
    .await?;
    comes_to_rest(suite, &team).await?;
    team.put("app", json!({ "value": "second" })).await?;
    let eye = Eye::on(suite, &team);
    let (_, api) = eye.mark()?;
    // The login itself serves on.
    team.static_secret("proof", json!({ "path": "app" }))
        .await?;
    team.wait_value("proof", "value", "second").await?;
    comes_to_rest(suite, &team).await?;
    ensure!(team.value("app", "value").await? == "first");
    for name in ["app", "default"] {
        let written = eye
            .api
            .requests(&eye.at_api().since(api).writes().name(name))?;
        ensure!(written.is_empty(), "{written:?}");
    }
    team.operator.terminate(LONG).await;
    team.operator.restart().await?;
    team.wait_value("app", "value", "second").await?;
    team.wait_ready("app").await.map(drop)
}

/// Waits until the team's operator writes nothing more.
async fn comes_to_rest(suite: &Suite, team: &Team) -> Result<()> {
    let eye = Eye::on(suite, team);
    let settled = eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await;
    settled.map(drop)
}

async fn definitions_of_others_cost_fields_and_nothing_else(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let ground = Ground::start(Options::default()).await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(ground.client.clone());
    for plural in ["vaultstaticsecrets", "vaultauths", "vaultconnections"] {
        let name = format!("{plural}.secrets.hashicorp.com");
        let mut definition = serde_json::to_value(definitions.get(&name).await?)?;
        without_our_fields(&mut definition);
        let strip = json!({ "spec": { "versions": definition["spec"]["versions"] } });
        let params = PatchParams::default();
        definitions
            .patch(&name, &params, &Patch::Merge(strip))
            .await?;
    }
    let (tenant, more) = tenant_on(&ground, grade, "pruned", Names::ROLLED, "").await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    team.tenant.apply(&web.to_string()).await?;
    team.put("app", json!({ "value": "first" })).await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    team.static_secret("app", json!({ "rolloutRestartTargets": targets }))
        .await?;
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    let stored = team.resources("VaultStaticSecret").get("app").await?;
    ensure!(
        stored.data["status"]["observedGeneration"].is_null(),
        "{stored:?}"
    );
    let said = "pruned_status_fields{kind=\"VaultStaticSecret\"} 1";
    let metrics = team.operator.metrics().await?;
    ensure!(metrics.contains(said), "{metrics}");
    let told = team.operator.log()?;
    ensure!(told.contains("apply kustomize/crds") && told.contains("observedGeneration"));

    let eye = Eye::of(&ground, &team.tenant);
    eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await?;
    let (vault, api) = eye.mark()?;
    eye.vault
        .wait_for(&eye.reads().since(vault), 3, LONG)
        .await?;
    let written = eye.api.requests(&eye.at_api().since(api).writes())?;
    ensure!(written.is_empty(), "refreshes are quiet: {written:?}");
    let resync = json!({ "metadata": { "annotations": { "vso.hashicorp.com/resync": "1" } } });
    let kind = team.resources("VaultStaticSecret");
    kind.patch("app", &PatchParams::default(), &Patch::Merge(resync))
        .await?;
    let (vault, _) = eye.mark()?;
    eye.vault
        .wait_for(&eye.reads().since(vault), 3, LONG)
        .await?;
    let reads = eye.vault.count(&eye.reads().since(vault))?;
    ensure!(
        reads <= 4,
        "a resync that cannot be echoed is done once: {reads}"
    );

    team.operator.terminate(LONG).await;
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    team.put("app", json!({ "value": "second" })).await?;
    team.wait_value("app", "value", "second").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    wait_for("the status", LONG, || async {
        let object = team.resources("VaultStaticSecret").get("app").await?;
        let conditions = object.data["status"]["conditions"].as_array();
        let ready = conditions
            .context("no conditions")?
            .iter()
            .find(|c| c["type"] == "Ready");
        ensure!(ready.is_some_and(|c| c["status"] == "True"), "{ready:?}");
        Ok(())
    })
    .await?;
    judge(&ground)?;
    ground.stop().await
}

/// Takes the fields that are ours out of a definition's schemas.
fn without_our_fields(definition: &mut Value) {
    let versions = definition["spec"]["versions"].as_array_mut();
    for version in versions.into_iter().flatten() {
        let properties = &mut version["schema"]["openAPIV3Schema"]["properties"];
        let ours = [
            ("status", ["observedGeneration", "lastResync"]),
            ("spec", ["onSourceDelete", ""]),
        ];
        for (part, names) in ours {
            if let Some(fields) = properties[part]["properties"].as_object_mut() {
                fields.retain(|name, _| !names.contains(&name.as_str()));
            }
        }
        // A default names no field that isn't there.
        if let Some(status) = properties["status"].as_object_mut() {
            status.remove("default");
        }
    }
}
