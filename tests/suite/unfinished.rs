//! Reconciles that end halfway: what was not written is not called done, what
//! was written where it must not be goes, and what cannot be done is told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, Match};
use ground::judges::workloads::Kind;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::wait_for;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::probes::workload;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "unfinished": ; in each grade:
    a_refused_write_is_no_sync_and_is_tried_again,
    an_empty_source_wipes_nothing_without_a_record,
    a_target_that_may_not_be_patched_is_told_and_restarts_once_it_may,
    a_secret_that_cannot_go_is_told_and_written_again,
];

async fn a_refused_write_is_no_sync_and_is_tried_again(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) =
        Team::graded_behind_api_proxy(suite, grade, "refused-write", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "20s" }))
        .await?;
    team.wait_ready("app").await?;
    let refused = proxy
        .on(Match::method("PATCH").path_contains("/secrets/app"))
        .once()
        .answer(Answer::status(500));
    team.put("app", json!({ "password": "second" })).await?;
    refused.hit(1, LONG).await?;
    // The next slot is 18 s away; what failed does not wait for it.
    let soon = Duration::from_secs(9);
    wait_for("the second version", soon, || async {
        let object = team.resources("VaultStaticSecret").get("app").await?;
        let status = object.data["status"]["conditions"].to_string();
        let value = team.value("app", "password").await?;
        let claimed = status.contains("version 2");
        ensure!(!claimed || value == "second", "claimed: {status}");
        ensure!(value == "second", "{status}");
        Ok(())
    })
    .await
}

async fn an_empty_source_wipes_nothing_without_a_record(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "empty-stripped", Names::APP).await?;
    team.put("app", json!({ "password": "kept" })).await?;
    let nothing = json!({ "destination": { "transformation": { "excludeRaw": true } } });
    team.static_secret("app", nothing).await?;
    team.wait_ready("app").await?;
    team.put("app", json!({})).await?;
    team.wait_problem("app", "SecretDeleted").await?;
    let annotations = team.secret("app").await?.metadata.annotations;
    let state = annotations
        .unwrap_or_default()
        .into_keys()
        .find(|name| name.contains("/state-"))
        .context("no state")?;
    let strip = json!({ "metadata": { "annotations": { state: null } } });
    team.secrets()
        .patch("app", &PatchParams::default(), &Patch::Merge(strip))
        .await?;
    wait_for("the second refusal", LONG, || async {
        let events = team.events("app").await?;
        let told = events
            .iter()
            .filter(|(reason, _)| reason == "SecretDeleted");
        ensure!(told.count() >= 1, "{events:?}");
        let object = team.resources("VaultStaticSecret").get("app").await?;
        let text = object.data["status"]["conditions"].to_string();
        ensure!(text.contains("keeps its 1 keys"), "{text}");
        Ok(())
    })
    .await?;
    team.wait_reads_go_on(suite).await?;
    ensure!(team.value("app", "password").await? == "kept");
    // What comes next is written, and the record is back.
    team.put("app", json!({ "password": "next" })).await?;
    team.wait_value("app", "password", "next").await?;
    team.wait_ready("app").await.map(drop)
}

async fn a_target_that_may_not_be_patched_is_told_and_restarts_once_it_may(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "forbidden-patch", Names::ROLLED).await?;
    let roles: Api<Role> = team.tenant.api();
    let shipped = roles.get(OPERATOR_ACCOUNT).await?.rules;
    let mut without = shipped.clone().context("no rules")?;
    for rule in &mut without {
        if rule.resources.iter().flatten().any(|r| r == "deployments") {
            rule.verbs.retain(|verb| verb != "patch");
        }
    }
    let set = async |rules| {
        let patch = Patch::Merge(json!({ "rules": rules }));
        roles
            .patch(OPERATOR_ACCOUNT, &PatchParams::default(), &patch)
            .await
    };
    set(Some(without)).await?;
    team.put("app", json!({ "password": "first" })).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    team.tenant.apply(&web.to_string()).await?;
    let targets = json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] });
    team.static_secret("app", targets).await?;
    let failed = |c: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        c.status == "False" && c.reason == "RolloutRestartFailed"
    };
    // Before anything is to be restarted: nothing of it could be recorded.
    let told = team
        .wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", failed)
        .await?;
    ensure!(
        told.message.contains("patch Deployment/web"),
        "{}",
        told.message
    );
    // The Secret is true all the same, and the restart is not forgotten.
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", failed)
        .await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    set(shipped).await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.wait_current("app").await?;
    team.put("app", json!({ "password": "third" })).await?;
    team.wait_restarts(Kind::Deployment, "web", 2).await
}

async fn a_secret_that_cannot_go_is_told_and_written_again(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "leaving", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let finalizers = async |names: &[&str]| {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": names } }));
        team.secrets()
            .patch("app", &PatchParams::default(), &patch)
            .await
    };
    let first = finalizers(&["example.com/holds"]).await?.metadata.uid;
    team.secrets()
        .delete("app", &DeleteParams::default())
        .await?;
    let message = team.wait_problem("app", "DestinationTerminating").await?;
    ensure!(message.contains("finalizers"), "{message}");
    finalizers(&[]).await?;
    team.wait_ready("app").await?;
    ensure!(team.secret("app").await?.metadata.uid != first);
    Ok(())
}

impl Team {
    /// Waits until the operator has read its source again, twice.
    async fn wait_reads_go_on(&self, suite: &Suite) -> Result<()> {
        let eye = crate::probes::Eye::on(suite, self);
        let mark = eye.vault.mark()?;
        wait_for("two more reads", LONG, || async {
            let reads = eye.vault.count(&eye.reads().since(mark))?;
            ensure!(reads >= 2, "{reads} reads");
            Ok(())
        })
        .await
    }
}
