//! What a static secret's source may be, and what happens when it goes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::Kind;
use ground::wait_for;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::probes::{Eye, workload};
use crate::support::{LONG, Suite, Team, config, prepare, static_secret};

crate::trials![
    "sources": ; in each grade:
    the_default_is_to_look_once_a_minute, reads_keep_to_their_slots,
    a_denied_path_costs_one_login_and_waits, without_a_ca_the_systems_roots_are_trusted,
    a_kv_v1_secret_arrives_and_follows, a_pinned_version_stays, filters_pick_the_keys,
    raw_is_the_answer_as_go_writes_it, a_deleted_version_keeps_the_secret,
    a_destroyed_version_keeps_the_secret, a_missing_path_is_told_and_waited_for,
    an_annotation_asks_for_a_read_and_status_echoes_it,
];

async fn a_kv_v1_secret_arrives_and_follows(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "kv-one", Names::APP).await?;
    let (vault, mount) = (&team.tenant.vault, &team.tenant.kv1);
    vault
        .kv1_put(mount, "app/db", &json!({ "password": "first" }))
        .await?;
    team.static_secret(
        "app",
        json!({ "mount": mount, "type": "kv-v1", "path": "app/db" }),
    )
    .await?;
    let ready = team.wait_ready("app").await?;
    ensure!(
        !ready.message.contains("version"),
        "kv-v1 has none: {ready:?}"
    );
    ensure!(team.value("app", "password").await? == "first");
    vault
        .kv1_put(mount, "app/db", &json!({ "password": "second" }))
        .await?;
    team.wait_value("app", "password", "second").await
}

async fn a_pinned_version_stays(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "pinned", Names::APP).await?;
    for value in ["one", "two", "three"] {
        team.put("app", json!({ "value": value })).await?;
    }
    team.static_secret("app", json!({ "version": 2 })).await?;
    team.wait_told("app", "version 2").await?;
    ensure!(team.value("app", "value").await? == "two");
    team.edit("app", json!({ "version": 9 })).await?;
    let message = team.wait_problem("app", "SecretNotFound").await?;
    ensure!(message.contains("no such version"), "{message}");
    ensure!(
        team.value("app", "value").await? == "two",
        "the last good content stays"
    );
    team.edit("app", json!({ "version": null })).await?;
    team.wait_value("app", "value", "three").await
}

async fn filters_pick_the_keys(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "filters", Names::APP).await?;
    team.put(
        "app",
        json!({ "db_user": "u", "db_password": "p", "db_debug": "d", "other": "o" }),
    )
    .await?;
    let transformation =
        json!({ "includes": ["^db_"], "excludes": ["debug$"], "excludeRaw": true });
    team.static_secret(
        "app",
        json!({ "destination": { "transformation": transformation } }),
    )
    .await?;
    team.wait_ready("app").await?;
    ensure!(team.keys("app").await? == ["db_password", "db_user"]);
    // A filter is part of the spec: its change takes keys out and puts keys in.
    let transformation = json!({ "includes": null, "excludes": ["^db_"], "excludeRaw": null });
    team.edit(
        "app",
        json!({ "destination": { "transformation": transformation } }),
    )
    .await?;
    wait_for("the other keys", LONG, || async {
        let keys = team.keys("app").await?;
        ensure!(keys == ["_raw", "other"], "{keys:?}");
        Ok(())
    })
    .await?;
    // Filters that keep nothing wipe nothing.
    let transformation = json!({ "excludes": ["."] });
    team.edit(
        "app",
        json!({ "destination": { "transformation": transformation } }),
    )
    .await?;
    team.wait_problem("app", "SecretDeleted").await?;
    ensure!(team.value("app", "other").await? == "o");
    Ok(())
}

async fn raw_is_the_answer_as_go_writes_it(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "raw", Names::APP).await?;
    let mount = &team.tenant.kv1;
    let data = json!({ "z": "<a&b>", "list": [1, "ü"], "big": 12_345_678_901_234_567_890_u64, "nested": { "b": null, "a": true } });
    team.tenant.vault.kv1_put(mount, "app", &data).await?;
    team.static_secret("app", json!({ "mount": mount, "type": "kv-v1" }))
        .await?;
    team.wait_ready("app").await?;
    let expected = r#"{"big":12345678901234567890,"list":[1,"ü"],"nested":{"a":true,"b":null},"z":"\u003ca\u0026b\u003e"}"#;
    let raw = team.value("app", "_raw").await?;
    ensure!(raw == expected, "{raw}");
    ensure!(
        team.value("app", "z").await? == "<a&b>",
        "a string is its own bytes"
    );
    ensure!(team.value("app", "nested").await? == r#"{"a":true,"b":null}"#);
    Ok(())
}

async fn the_default_is_to_look_once_a_minute(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["minute", "never"]);
    let team = Team::graded(suite, grade, "default-refresh", names).await?;
    for name in ["minute", "never"] {
        team.put(name, json!({ "value": "first" })).await?;
        let mut manifest = static_secret(
            &team.tenant,
            name,
            json!({ "hmacSecretData": name == "minute" }),
        );
        manifest["spec"]
            .as_object_mut()
            .context("no spec")?
            .remove("refreshAfter");
        team.tenant.apply(&manifest.to_string()).await?;
    }
    for name in ["minute", "never"] {
        team.wait_ready(name).await?;
        team.put(name, json!({ "value": "second" })).await?;
    }
    let within = Duration::from_secs(75);
    wait_for("the second value", within, || async {
        let value = team.value("minute", "value").await?;
        ensure!(value == "second", "{value}");
        Ok(())
    })
    .await?;
    ensure!(team.value("never", "value").await? == "first");
    Ok(())
}

async fn reads_keep_to_their_slots(suite: &Suite, grade: Grade) -> Result<()> {
    // In milliseconds: nine tenths of twenty seconds, and what a busy machine is late by.
    const SLOT: i64 = 18_000;
    const LATE: i64 = 3000;
    let team = Team::graded(suite, grade, "slots", Names::APP).await?;
    team.put("app", json!({ "value": "same" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "20s" }))
        .await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    let before = eye.vault.wait_for(&eye.reads(), 2, LONG).await?;
    let since = |at: Timestamp| at.as_millisecond() - before[1].at.as_millisecond();
    // A timer that begins anew at the start, or a read at once, is then seen as such.
    wait_for("the middle of the slot", LONG, || async {
        let passed = since(Timestamp::now());
        ensure!(passed >= LATE + 1000, "{passed} ms");
        Ok(())
    })
    .await?;
    // In order: after a kill, the Lease would have to end first.
    team.operator.terminate(LONG).await;
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    // A slot that passed meanwhile is made up for at once, before the next one.
    let passed = since(Timestamp::now()) / SLOT;
    let reads = if passed == 0 { 3 } else { 4 };
    let after = eye.vault.wait_for(&eye.reads(), reads, LONG).await?;
    let apart = since(after[reads - 1].at);
    // The next one, unless some passed; a restart keeps the phase.
    let slots = if passed == 0 {
        1
    } else {
        (apart + SLOT / 2) / SLOT
    };
    ensure!(
        (apart - slots * SLOT).abs() < LATE,
        "{apart} ms around a restart, in which {passed} slots passed"
    );
    Ok(())
}

async fn a_deleted_version_keeps_the_secret(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "gone-version", Names::ROLLED).await?;
    let path = team.synced_with_workload().await?;
    team.tenant
        .vault
        .delete(&format!("{}/data/app", team.tenant.kv2))
        .await?;
    let message = team.wait_problem("app", "SecretDeleted").await?;
    let metadata = team
        .tenant
        .vault
        .read(&format!("{}/metadata/app", team.tenant.kv2))
        .await?;
    let deleted = metadata["data"]["versions"]["1"]["deletion_time"]
        .as_str()
        .unwrap_or_default();
    ensure!(
        message.contains("version 1 was deleted at")
            && message.contains(deleted)
            && message.contains(&path),
        "{message}"
    );
    team.still_there().await?;
    let undelete = format!("{}/undelete/app", team.tenant.kv2);
    team.tenant
        .vault
        .write(&undelete, &json!({ "versions": [1] }))
        .await?;
    team.wait_ready("app").await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    Ok(())
}

async fn a_destroyed_version_keeps_the_secret(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "destroyed", Names::ROLLED).await?;
    team.synced_with_workload().await?;
    let destroy = format!("{}/destroy/app", team.tenant.kv2);
    let body = json!({ "versions": [1] });
    let answer = team
        .tenant
        .vault
        .request(Method::PUT, &destroy, Some(&body))
        .await?;
    ensure!(answer.status == 204, "{answer:?}");
    let message = team.wait_problem("app", "SecretDeleted").await?;
    ensure!(message.contains("version 1 was destroyed"), "{message}");
    team.still_there().await?;
    team.put("app", json!({ "password": "new" })).await?;
    team.wait_value("app", "password", "new").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}

impl Team {
    /// The resource `app` with a Deployment `web`, both at rest; returns the path read.
    async fn synced_with_workload(&self) -> Result<String> {
        self.put("app", json!({ "password": "first" })).await?;
        let web = workload(Kind::Deployment, "web", "app", json!({}));
        self.tenant.apply(&web.to_string()).await?;
        let targets = json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] });
        self.static_secret("app", targets).await?;
        self.wait_ready("app").await?;
        self.wait_current("app").await?;
        Ok(format!("{}/data/app", self.tenant.kv2))
    }

    async fn still_there(&self) -> Result<()> {
        ensure!(
            self.value("app", "password").await? == "first",
            "the Secret stays"
        );
        ensure!(
            self.restarts(Kind::Deployment, "web").await? == 0,
            "no restart"
        );
        Ok(())
    }
}

async fn a_missing_path_is_told_and_waited_for(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "missing-path", Names::APP).await?;
    team.static_secret("app", json!({})).await?;
    let message = team.wait_problem("app", "SecretNotFound").await?;
    let path = format!("{}/data/app", team.tenant.kv2);
    ensure!(
        message.contains(&path) && message.contains("spec.path"),
        "{message}"
    );
    ensure!(team.tenant.secret("app").await?.is_none());
    team.wait_described("app", "Warning SecretNotFound").await?;
    team.put("app", json!({ "password": "late" })).await?;
    team.wait_value("app", "password", "late").await?;
    team.wait_ready("app").await.map(drop)
}

async fn a_denied_path_costs_one_login_and_waits(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "denied", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    let first = eye.vault.requests(&eye.logins())?;
    ensure!(first.len() == 1, "{first:?}");
    // A token younger than half a minute is never the cause of a 403.
    let old = first[0].at.as_millisecond() + 31_000;
    wait_for("the token to be old enough", LONG, || async {
        let left = old - Timestamp::now().as_millisecond();
        ensure!(left <= 0, "{left} ms left");
        Ok(())
    })
    .await?;
    let (mark, _) = eye.mark()?;
    team.allow_reading(false).await?;
    let message = team.wait_problem("app", "VaultPermissionDenied").await?;
    let path = format!("{}/data/app", team.tenant.kv2);
    ensure!(
        message.contains(&path) && message.contains("policy"),
        "{message}"
    );
    eye.vault
        .wait_for(&eye.reads().since(mark).failed(true), 6, LONG)
        .await?;
    let logins = eye.vault.requests(&eye.logins())?;
    ensure!(
        logins.len() == 2,
        "exactly one more login, not {}",
        logins.len() - 1
    );
    ensure!(team.value("app", "password").await? == "first");
    team.put("app", json!({ "password": "second" })).await?;
    team.allow_reading(true).await?;
    team.wait_ready("app").await?;
    team.wait_value("app", "password", "second").await?;
    let last = eye.vault.requests(&eye.logins())?;
    last.get(1).context("no login")?;
    ensure!(
        last.len() == 2,
        "the token still works: {} logins",
        last.len()
    );
    Ok(())
}

async fn without_a_ca_the_systems_roots_are_trusted(suite: &Suite, grade: Grade) -> Result<()> {
    let tenant = grade.tenant(&suite.ground, "system-roots").await?;
    prepare(&tenant).await?;
    let mut resources = Names::APP.resources(&tenant);
    for connection in resources
        .iter_mut()
        .filter(|one| one["kind"] == "VaultConnection")
    {
        connection["spec"] = json!({ "address": tenant.vault_address });
        tenant.apply(&connection.to_string()).await?;
    }
    let config = config(&tenant, grade.lines());
    grade.allow(&tenant, &config, &resources).await?;
    let builder = tenant.operator(&suite.binary).config(&config);
    // The system of a process that trusts nothing of the kind, then one that does.
    let stranger = builder.clone().start().await?;
    stranger.wait_ready(LONG).await?;
    let team = Team {
        tenant: tenant.clone(),
        operator: stranger,
    };
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    let message = team.wait_problem("app", "VaultUnreachable").await?;
    ensure!(message.contains("certificate"), "{message}");
    team.operator.terminate(LONG).await;
    let roots = suite.ground.pki.ca_file();
    let operator = builder.env("SSL_CERT_FILE", roots).start().await?;
    operator.wait_ready(LONG).await?;
    team.wait_ready("app").await?;
    team.wait_value("app", "password", "vault").await
}

async fn an_annotation_asks_for_a_read_and_status_echoes_it(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "resync", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    eye.settled(&eye.reads()).await?;
    // A new version that nobody would look for within the hour, then the same again.
    team.put("app", json!({ "password": "second" })).await?;
    for (asked, writes) in [("deploy-41", 1), ("deploy-42", 0)] {
        let (vault, api) = eye.mark()?;
        team.resync("app", asked).await?;
        wait_for("status to echo the value", LONG, || async {
            let object = team.resources("VaultStaticSecret").get("app").await?;
            let echoed = &object.data["status"]["lastResync"];
            ensure!(echoed == asked, "{echoed}");
            // Whoever waited for it may rely on it.
            ensure!(team.value("app", "password").await? == "second");
            Ok(())
        })
        .await?;
        let reads = eye.settled(&eye.at_vault().since(vault)).await?;
        ensure!(reads.len() == 1, "{asked}: {reads:?}");
        let counts = eye.api.counts(&eye.at_api().writes().since(api))?;
        let written = counts.get("patch secrets").copied().unwrap_or_default();
        ensure!(written == writes, "{asked}: {counts:?}");
    }
    Ok(())
}
