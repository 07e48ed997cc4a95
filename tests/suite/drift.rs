//! What others do to a Secret: repaired at once, by one read, naming who did it;
//! and left alone where they don't stop.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ground::judges::workloads::Kind;
use ground::wait_for;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::probes::{Eye, QUIET, workload};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "drift": ; in each grade:
    an_edit_is_repaired_by_one_read_that_names_who_made_it,
    two_that_correct_each_other_come_to_rest, a_secret_that_is_always_deleted_is_left,
    a_mount_that_vanishes_and_a_right_that_is_lost_keep_the_secret,
    an_empty_version_keeps_the_secret,
];

async fn an_edit_is_repaired_by_one_read_that_names_who_made_it(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = quiet(suite, grade, "drifted").await?;
    let eye = Eye::on(suite, &team);
    // Warm token and connections, as in the middle of a day.
    let mut times = Vec::new();
    for _ in 0..5 {
        eye.settled(&eye.at_vault()).await?;
        let (vault, api) = eye.mark()?;
        let edited = Instant::now();
        team.edit_secret("app", "value", "wrong").await?;
        team.wait_value("app", "value", "right").await?;
        times.push(edited.elapsed());
        let asked = eye.settled(&eye.at_vault().since(vault)).await?;
        let read = eye.vault.count(&eye.reads().since(vault))?;
        let written = eye.api.requests(&eye.at_api().since(api).writes())?;
        ensure!(
            (asked.len(), read) == (1, 1),
            "one read: {asked:?}, of {written:?}"
        );
        let patches = written.iter().filter(|write| write.resource == "secrets");
        ensure!(patches.count() == 1, "{written:?}");
    }
    println!("repaired after {times:.1?}");
    // What the other trials of a busy machine take is in every one of them.
    let least = times.iter().min();
    ensure!(least < Some(&Duration::from_secs(1)), "{times:?}");
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    // The same three times, and what followed at the end with its number.
    let told = |events: &[(String, String)]| {
        let notes = events.iter().filter(|(reason, note)| {
            reason == "SecretDataDrift" && note.contains("was changed by kubectl-edit")
        });
        let (sums, single): (Vec<_>, Vec<_>) =
            notes.partition(|(_, note)| note.contains(" since "));
        let twice = sums
            .iter()
            .all(|(_, note)| note.starts_with("2 times since "));
        (single.len(), sums.len(), twice)
    };
    team.wait_events("app", |events| told(events) == (3, 0, true))
        .await?;
    ensure!(team.operator.terminate(LONG).await.success());
    team.wait_events("app", |events| told(events) == (3, 1, true))
        .await
}

async fn two_that_correct_each_other_come_to_rest(suite: &Suite, grade: Grade) -> Result<()> {
    let team = quiet(suite, grade, "fight").await?;
    let edit = async || {
        let patch = Patch::Merge(json!({ "stringData": { "value": "theirs" } }));
        let params = PatchParams {
            field_manager: Some("other-controller".into()),
            ..PatchParams::default()
        };
        team.secrets().patch("app", &params, &patch).await
    };
    for _ in 0..5 {
        edit().await?;
        team.wait_value("app", "value", "right").await?;
    }
    edit().await?;
    let message = team.wait_problem("app", "DriftFight").await?;
    ensure!(
        message.contains("changed by other-controller again"),
        "{message}"
    );
    let eye = Eye::on(suite, &team);
    let (vault, api) = eye.mark()?;
    eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await?;
    ensure!(
        team.value("app", "value").await? == "theirs",
        "the fight stops"
    );
    let events = team.events("app").await?;
    let fights = events.iter().filter(|(reason, _)| reason == "DriftFight");
    ensure!(fights.count() == 1, "told once: {events:?}");
    let asked = eye.vault.count(&eye.at_vault().since(vault))?;
    let written = eye.api.counts(&eye.at_api().since(api).writes())?;
    ensure!(
        asked == 0 && !written.contains_key("patch secrets"),
        "{written:?}"
    );

    // New content is no repair, and a wish is obeyed.
    team.put("app", json!({ "value": "newer" })).await?;
    team.resync("app", "1").await?;
    team.wait_value("app", "value", "newer").await?;
    team.wait_ready("app").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}

async fn a_secret_that_is_always_deleted_is_left(suite: &Suite, grade: Grade) -> Result<()> {
    let team = quiet(suite, grade, "always-deleted").await?;
    let delete = async || {
        let gone = DeleteParams::default();
        team.secrets().delete("app", &gone).await
    };
    for _ in 0..5 {
        delete().await?;
        team.wait_value("app", "value", "right").await?;
    }
    delete().await?;
    let message = team.wait_problem("app", "DriftFight").await?;
    ensure!(
        message.contains("deleted again after 5 repairs"),
        "{message}"
    );
    team.edit("app", json!({ "refreshAfter": "700h" })).await?;
    team.wait_value("app", "value", "right").await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    Ok(())
}

async fn a_mount_that_vanishes_and_a_right_that_is_lost_keep_the_secret(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "vanished", Names::ROLLED).await?;
    let mount = format!("{}-extra", team.tenant.kv2);
    let (vault, policy) = (&team.tenant.vault, &team.tenant.namespace);
    vault.mount_kv2(&mount).await?;
    team.allow_reading(true).await?;
    let rule = format!(
        "path \"{mount}/*\" {{ capabilities = [\"read\"] }}\npath \"{}/*\" {{ capabilities = [\"read\"] }}\n",
        team.tenant.kv2
    );
    vault.policy(policy, &rule).await?;
    vault
        .kv2_put(&mount, "app", &json!({ "value": "good" }))
        .await?;
    // Who follows deletions follows none of these.
    let follows = json!({
        "mount": mount, "onSourceDelete": "delete",
        "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }],
    });
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    team.tenant.apply(&web.to_string()).await?;
    team.static_secret("app", follows).await?;
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    let uid = team.uid("app").await?;

    vault.delete(&format!("sys/mounts/{mount}")).await?;
    // The words are not those of a mount that lacks the secret: nobody deleted it.
    let message = team.wait_problem("app", "SecretNotFound").await?;
    ensure!(
        message.contains(&mount)
            && message.contains("no handler for route")
            && message.contains("spec.mount"),
        "{message}"
    );
    let still_there = async || -> Result<()> {
        ensure!(team.uid("app").await? == uid, "the Secret stays");
        ensure!(team.value("app", "value").await? == "good");
        ensure!(
            team.restarts(Kind::Deployment, "web").await? == 0,
            "no restart"
        );
        Ok(())
    };
    still_there().await?;
    // Seen while it is empty, it would be one whose secret somebody deleted.
    team.allow_reading(false).await?;
    vault.mount_kv2(&mount).await?;
    wait_for("the new mount to take writes", LONG, || async {
        vault
            .kv2_put(&mount, "app", &json!({ "value": "good" }))
            .await
    })
    .await?;
    vault.policy(policy, &rule).await?;
    team.wait_ready("app").await?;

    team.allow_reading(false).await?;
    team.wait_problem("app", "VaultPermissionDenied").await?;
    still_there().await?;
    vault.policy(policy, &rule).await?;
    team.wait_ready("app").await?;
    // New content proves that the workload would have been restarted.
    vault
        .kv2_put(&mount, "app", &json!({ "value": "newer" }))
        .await?;
    team.wait_value("app", "value", "newer").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}

async fn an_empty_version_keeps_the_secret(suite: &Suite, grade: Grade) -> Result<()> {
    let team = quiet(suite, grade, "emptied").await?;
    let uid = team.uid("app").await?;
    team.put("app", json!({})).await?;
    team.resync("app", "1").await?;
    let message = team.wait_problem("app", "SecretDeleted").await?;
    ensure!(
        message.contains("version 2") && message.contains("holds no data"),
        "{message}"
    );
    ensure!(team.uid("app").await? == uid, "the Secret stays");
    ensure!(team.value("app", "value").await? == "right");
    ensure!(
        team.restarts(Kind::Deployment, "web").await? == 0,
        "no restart"
    );
    team.put("app", json!({ "value": "newer" })).await?;
    team.resync("app", "2").await?;
    team.wait_value("app", "value", "newer").await?;
    team.wait_ready("app").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}

/// A team with one secret that is read for no slot, and a workload that uses it.
async fn quiet(suite: &Suite, grade: Grade, name: &str) -> Result<Team> {
    let team = Team::graded(suite, grade, name, Names::ROLLED).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    team.tenant.apply(&web.to_string()).await?;
    team.put("app", json!({ "value": "right" })).await?;
    let more = json!({
        "refreshAfter": "720h",
        "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }],
    });
    team.static_secret("app", more).await?;
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    // The first template is there.
    team.wait_restarts(Kind::Deployment, "web", 0).await?;
    Ok(team)
}
