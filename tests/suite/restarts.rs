//! The rows of "When a workload restarts" (docs/promises.md) in which people or
//! time take part.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::Kind;
use ground::wait_for;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{Eye, workload};
use crate::rollouts::targets;
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "restarts": ; in each grade:
    five_secrets_that_change_within_ten_seconds_are_one_restart,
    a_workload_made_after_the_change_runs_it_already,
    a_stripped_annotation_is_told_and_restarts_nothing, an_undone_rollout_restarts_once,
    each_target_has_its_own_outcome,
];

const WEB: [Kind; 1] = [Kind::Deployment];

async fn five_secrets_that_change_within_ten_seconds_are_one_restart(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    const APART: Duration = Duration::from_secs(2);
    let names = ["app", "b", "c", "d", "e"];
    let named = Names {
        secrets: &names,
        ..Names::ROLLED
    };
    let (tenant, more) = tenant_of(suite, grade, "five", named, "").await?;
    prepare(&tenant).await?;
    // With the default debounce.
    let config = config(&tenant, &more).replace("rollout:\n  debounce: 1s\n", "");
    let operator = tenant.operator(&suite.binary).config(&config);
    let operator = operator.start().await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.workload(Kind::Deployment, json!({})).await?;
    for name in names {
        team.put(name, json!({ "password": "first" })).await?;
        team.static_secret(name, targets(&WEB)).await?;
    }
    for name in names {
        team.wait_current(name).await?;
    }
    let mut pace = tokio::time::interval(APART);
    for name in names {
        pace.tick().await;
        team.put(name, json!({ "password": "second" })).await?;
        team.resync(name, "now").await?;
    }
    for name in names {
        team.wait_value(name, "password", "second").await?;
    }
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    for name in names {
        team.wait_current(name).await?;
    }
    team.rolls_once(&WEB, "third", 1).await
}

async fn a_workload_made_after_the_change_runs_it_already(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    /// One that is younger than this might have started with the old content.
    const DOUBT: Duration = Duration::from_secs(6);
    let team = Team::graded(suite, grade, "made-after", Names::ROLLED).await?;
    team.with_targets(&WEB).await?;
    team.rolls_once(&WEB, "second", 0).await?;
    tokio::time::sleep(DOUBT).await;
    let gone = DeleteParams::default();
    team.deployments().delete("web", &gone).await?;
    team.wait_condition("VaultStaticSecret", "app", "RolloutRestart", "False")
        .await?;
    team.workload(Kind::Deployment, json!({})).await?;
    team.baselined(&WEB).await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    team.rolls_once(&WEB, "third", 0).await
}

impl Team {
    /// The operator's annotations on the pod template of `web`, as text.
    async fn template(&self) -> Result<String> {
        let spec = self.deployments().get("web").await?.spec;
        let template = spec.context("no spec")?.template.metadata;
        let all = template.and_then(|meta| meta.annotations);
        let ours = all.into_iter().flatten();
        Ok(ours
            .filter(|(name, _)| name.starts_with("vault-tenant-operator.io/"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect())
    }

    /// How often the operator said that it restarted something for `app`.
    async fn told_restarts(&self) -> Result<usize> {
        let events = self.events("app").await?;
        let told = |(reason, _): &&(String, String)| reason == "RolloutRestartTriggered";
        Ok(events.iter().filter(told).count())
    }
}

async fn a_stripped_annotation_is_told_and_restarts_nothing(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "stripped", Names::ROLLED).await?;
    team.with_targets(&WEB).await?;
    team.rolls_once(&WEB, "second", 0).await?;
    let written = team.template().await?;
    let (name, _) = written.split_once('=').context("no annotation")?;
    let strip =
        json!({ "spec": { "template": { "metadata": { "annotations": { name: null } } } } });
    team.deployments()
        .patch("web", &PatchParams::default(), &Patch::Merge(strip))
        .await?;
    let told = team
        .wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |c| {
            c.reason == "AnnotationStripped"
        })
        .await?;
    ensure!(
        told.status == "True" && told.message.contains("Deployment/web"),
        "{told:?}"
    );
    // A look at the resource, and one by the next process, change nothing.
    let eye = Eye::on(suite, &team);
    let (_, before) = eye.mark()?;
    team.edit("app", json!({ "refreshAfter": "3s" })).await?;
    team.wait_ready("app").await?;
    ensure!(team.operator.terminate(LONG).await.success());
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_told("app", "version 3").await?;
    let patches = eye.at_api().since(before).group("apps").writes();
    let written = eye.api.requests(&patches)?;
    ensure!(written.is_empty(), "{written:?}");
    ensure!(team.template().await?.is_empty(), "it is back");
    // The next content restarts once, and all is as it was.
    team.rolls_once(&WEB, "third", 1).await?;
    team.wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |c| {
        c.reason == "Current"
    })
    .await
    .map(drop)
}

async fn an_undone_rollout_restarts_once(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "undone", Names::ROLLED).await?;
    team.with_targets(&WEB).await?;
    team.rolls_once(&WEB, "second", 0).await?;
    team.rolls_once(&WEB, "third", 1).await?;
    let current = team.template().await?;
    let eye = Eye::on(suite, &team);
    let (_, before) = eye.mark()?;
    let undo = ["rollout", "undo", "deployment/web"];
    team.kubectl(suite, &undo).await?;
    // The undone template is one that was there before, so no new one is counted.
    wait_for("the pods to get the content again", LONG, || async {
        let told = team.told_restarts().await?;
        ensure!(told == 3, "{told} restarts told");
        Ok(())
    })
    .await?;
    team.wait_current("app").await?;
    ensure!(team.template().await? == current, "not the last content's");
    team.rolls_once(&WEB, "fourth", 2).await?;
    // One that is refused since the Deployment's controller came in between is sent again.
    let patches = eye.at_api().since(before).group("apps").writes();
    let written = eye.api.requests(&patches.code(200))?;
    ensure!(written.len() == 2, "undone, and changed: {written:?}");
    Ok(())
}

async fn each_target_has_its_own_outcome(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names {
        workloads: &[
            (Kind::Deployment, "web"),
            (Kind::Deployment, "held"),
            (Kind::StatefulSet, "gone"),
        ],
        ..Names::APP
    };
    let team = Team::graded(suite, grade, "outcomes", names).await?;
    for name in ["web", "held"] {
        let manifest = workload(Kind::Deployment, name, "app", json!({}));
        team.tenant.apply(&manifest.to_string()).await?;
        team.wait_restarts(Kind::Deployment, name, 0).await?;
    }
    team.put("app", json!({ "password": "first" })).await?;
    let targets = json!({ "rolloutRestartTargets": [
        { "kind": "Deployment", "name": "web" },
        { "kind": "Deployment", "name": "held" },
        { "kind": "StatefulSet", "name": "gone" },
    ] });
    team.static_secret("app", targets).await?;
    team.wait_ready("app").await?;
    let told = async |words: [&str; 3]| {
        team.wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |c| {
            let rows: Vec<&str> = c.message.split("; ").collect();
            let fits = |(row, words): (&&str, &&str)| row.starts_with(*words);
            rows.len() == words.len() && rows.iter().zip(&words).all(fits)
        })
        .await
    };
    let gone = "StatefulSet/gone does not exist";
    // The worst first.
    let first = [gone, "Deployment/web current", "Deployment/held current"];
    ensure!(told(first).await?.reason == "TargetMissing");
    let pause = Patch::Merge(json!({ "spec": { "paused": true } }));
    let params = PatchParams::default();
    team.deployments().patch("held", &params, &pause).await?;
    team.put("app", json!({ "password": "second" })).await?;
    let held = "Deployment/held pending, it is paused";
    let now = told([held, gone, "Deployment/web current"]).await?;
    ensure!(now.reason == "Pending" && now.status == "False", "{now:?}");
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    ensure!(team.restarts(Kind::Deployment, "held").await? == 0);
    team.wait_ready("app").await.map(drop)
}
