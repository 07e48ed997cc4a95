//! The platform's policy about restarts (`rollout`): when one waits, what it says of that, and that none is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use ground::Right;
use ground::engines::{DatabaseRole, PkiRole};
use ground::judges::workloads::Kind;
use ground::tenant::Tenant;
use ground::wait_for;
use jiff::{Timestamp, ToSpan as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::api::RolloutState;

use crate::endpoints::sample;
use crate::grades::{Grade, tenant_of};
use crate::lessee::{KIND, QUICK, dynamic_secret, engine_of};
use crate::probes::workload;
use crate::rollout_status::wait_column;
use crate::rollouts::{KINDS, OF_ALL_KINDS, targets};
use crate::support::{LONG, Suite, Team, config, merge, prepare};

crate::trials![
    "pacing": one_that_is_not_available_waits, what_ends_before_its_window_restarts_in_time,
    what_lives_on_waits_for_its_window,
    a_window_after_the_end_is_told_in_advance;
    in each grade: a_hold_outlives_the_operator, a_window_is_waited_for_and_told,
    restarts_of_one_workload_keep_their_distance,
];

const WEB: [Kind; 1] = [Kind::Deployment];

/// A configuration with these lines under `rollout`.
pub fn with(tenant: &Tenant, more: &str, lines: &str) -> String {
    let to = format!("rollout:\n{lines}  debounce: 1s\n");
    config(tenant, more).replace("rollout:\n  debounce: 1s\n", &to)
}

/// A window of an hour, three hours from now, whatever the time is: when it opens, and the line that says so.
fn in_three_hours() -> Result<(Timestamp, String)> {
    let opens = Timestamp::now().checked_add(3.hours())?;
    let closes = opens.checked_add(1.hours())?;
    let time = |at: Timestamp| at.strftime("%H:%M").to_string();
    let line = format!("  windows: [\"daily {}-{}\"]\n", time(opens), time(closes));
    Ok((opens, line))
}

pub async fn start(suite: &Suite, tenant: Tenant, config: &str) -> Result<Team> {
    let operator = tenant.operator(&suite.binary).config(config);
    let operator = operator.start().await?;
    operator.wait_ready(LONG).await?;
    Ok(Team { tenant, operator })
}

/// The same tenant with another configuration.
pub async fn reconfigured(suite: &Suite, team: Team, config: &str) -> Result<Team> {
    ensure!(team.operator.terminate(LONG).await.success());
    start(suite, team.tenant, config).await
}

impl Team {
    /// The message of `RolloutRestart` once it has these words.
    pub async fn wait_pending(&self, words: &str) -> Result<String> {
        let told = |condition: &Condition| {
            condition.status == "False"
                && (condition.message.split("; "))
                    .any(|row| row.contains(" pending, ") && row.contains(words))
        };
        let found = self
            .wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", told)
            .await?;
        Ok(found.message)
    }

    /// Fails unless `web` of each kind was restarted so often.
    async fn restarted_each(&self, expected: usize) -> Result<()> {
        for kind in KINDS {
            let seen = self.restarts(kind, "web").await?;
            ensure!(seen == expected, "{seen} restarts of the {kind:?}");
        }
        Ok(())
    }

    async fn wait_restarts_of_each(&self, expected: usize) -> Result<()> {
        for kind in KINDS {
            self.wait_restarts(kind, "web", expected).await?;
        }
        Ok(())
    }

    pub async fn changes(&self, value: &str) -> Result<()> {
        self.put("app", json!({ "password": value })).await?;
        self.wait_value("app", "password", value).await
    }
}

async fn a_hold_outlives_the_operator(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "hold", OF_ALL_KINDS, "").await?;
    prepare(&tenant).await?;
    let held = with(&tenant, &more, "  hold: true\n");
    let free = with(&tenant, &more, "");
    let team = start(suite, tenant, &held).await?;
    team.with_targets(&KINDS).await?;
    team.changes("second").await?;
    team.wait_pending("rollout.hold").await?;
    let team = reconfigured(suite, team, &held).await?;
    team.changes("third").await?;
    team.wait_told("app", "version 3").await?;
    team.wait_pending("rollout.hold").await?;
    team.restarted_each(0).await?;
    let metrics = team.operator.metrics().await?;
    let pending = "vto_rollout_restarts_pending";
    for kind in KINDS {
        let labels = [
            &format!("kind=\"{kind:?}\"") as &str,
            "name=\"web\"",
            "reason=\"Hold\"",
        ];
        ensure!(sample(&metrics, pending, &labels) == Some(1.0), "{metrics}");
    }
    let team = reconfigured(suite, team, &free).await?;
    team.wait_restarts_of_each(1).await?;
    wait_for("nothing to be pending", LONG, || async {
        let metrics = team.operator.metrics().await?;
        ensure!(!metrics.contains(pending), "{metrics}");
        Ok(())
    })
    .await?;
    team.wait_current("app").await?;
    team.rolls_once(&KINDS, "fourth", 1).await
}

async fn a_window_is_waited_for_and_told(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "window", OF_ALL_KINDS, "").await?;
    prepare(&tenant).await?;
    let (opens, lines) = in_three_hours()?;
    let closed = with(&tenant, &more, &lines);
    let open = with(
        &tenant,
        &more,
        "  windows: [\"daily 00:00-24:00 Europe/Berlin\"]\n",
    );
    let team = start(suite, tenant, &closed).await?;
    team.with_targets(&KINDS).await?;
    team.changes("second").await?;
    let told = team.wait_pending("rollout.windows").await?;
    let when = opens.strftime("%Y-%m-%dT%H:%M:00Z").to_string();
    ensure!(told.contains(&when), "{told} says nothing of {when}");
    let rows = team.rollouts("app").await?.rollout_targets;
    ensure!(rows.len() == KINDS.len(), "{rows:?}");
    for row in rows {
        let until = row.until.as_ref().map(|until| until.0.to_string());
        ensure!(
            row.state == RolloutState::Pending
                && row.reason.as_deref() == Some("Window")
                && until.as_ref() == Some(&when),
            "{row:?}, and it opens at {when}"
        );
    }
    team.restarted_each(0).await?;
    let team = reconfigured(suite, team, &open).await?;
    team.wait_restarts_of_each(1).await?;
    team.wait_current("app").await
}

async fn restarts_of_one_workload_keep_their_distance(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "distance", OF_ALL_KINDS, "").await?;
    prepare(&tenant).await?;
    let apart = with(&tenant, &more, "  minInterval: 1h\n");
    let near = with(&tenant, &more, "  minInterval: 1s\n");
    let team = start(suite, tenant, &apart).await?;
    team.with_targets(&KINDS).await?;
    // Nothing was restarted yet.
    team.rolls_once(&KINDS, "second", 0).await?;
    team.changes("third").await?;
    team.wait_pending("rollout.minInterval").await?;
    team.changes("fourth").await?;
    team.wait_told("app", "version 4").await?;
    team.restarted_each(1).await?;
    let team = reconfigured(suite, team, &near).await?;
    // Both changes in one.
    team.wait_restarts_of_each(2).await?;
    team.wait_current("app").await
}

/// Deployments that use the Secret `app`, each with more in its spec, as targets in this order.
pub async fn with_deployments(team: &Team, deployments: &[(&str, Value)]) -> Result<()> {
    team.put("app", json!({ "password": "first" })).await?;
    let mut targets = Vec::new();
    for (name, more) in deployments {
        let manifest = workload(Kind::Deployment, name, "app", more.clone());
        team.tenant.apply(&manifest.to_string()).await?;
        targets.push(json!({ "kind": "Deployment", "name": name }));
    }
    for (name, _) in deployments {
        let what = format!("{name} to be available");
        wait_for(&what, LONG, || async { available(team, name).await }).await?;
    }
    team.static_secret("app", json!({ "rolloutRestartTargets": targets }))
        .await?;
    team.wait_current("app").await
}

/// All its pods are of the present template, and available.
async fn available(team: &Team, name: &str) -> Result<()> {
    let found = team.deployments().get(name).await?;
    let status = found.status.unwrap_or_default();
    ensure!(
        status.observed_generation == found.metadata.generation
            && status.updated_replicas == Some(1)
            && status.available_replicas == Some(1)
            && status.replicas == Some(1),
        "{status:?}"
    );
    Ok(())
}

async fn one_that_is_not_available_waits(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("available").await?;
    prepare(&tenant).await?;
    let waits = with(&tenant, "", "  onlyWhenAvailable: true\n");
    let team = start(suite, tenant, &waits).await?;
    let slow = json!({ "minReadySeconds": 20 });
    with_deployments(&team, &[("web", slow)]).await?;
    // What the operator did before is no reason to take the next rollout for its own.
    team.changes("second").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    wait_for("the end of its restart", LONG, || async {
        available(&team, "web").await
    })
    .await?;
    // Somebody else rolls it.
    let edit = json!({ "spec": { "template": { "metadata": { "annotations": { "example.com/by": "hand" } } } } });
    let patched: Deployment = team
        .deployments()
        .patch("web", &PatchParams::default(), &Patch::Merge(edit))
        .await?;
    let by_hand = patched.metadata.generation;
    team.changes("third").await?;
    team.wait_pending("rollout.onlyWhenAvailable").await?;
    let now = team.deployments().get("web").await?.metadata.generation;
    ensure!(
        now == by_hand,
        "it was restarted in the middle of another rollout"
    );
    wait_for("the restart", LONG, || async {
        let now = team.deployments().get("web").await?.metadata.generation;
        ensure!(now > by_hand, "not yet");
        Ok(())
    })
    .await?;
    team.wait_current("app").await
}

async fn what_ends_before_its_window_restarts_in_time(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("urgent").await?;
    // No renewal stretches it.
    let life = Duration::from_secs(40);
    let role = DatabaseRole {
        ttl: life,
        max_ttl: life,
        ..DatabaseRole::default()
    };
    engine_of(suite, &tenant, &role).await?;
    prepare(&tenant).await?;
    let (_, lines) = in_three_hours()?;
    let config = with(&tenant, QUICK, &lines);
    let team = start(suite, tenant, &config).await?;
    team.workload(Kind::Deployment, json!({})).await?;
    let object = dynamic_secret(&team.tenant, "app", targets(&WEB));
    team.tenant.apply(&object.to_string()).await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.wait_events("app", |events| {
        let told = |(reason, note): &(String, String)| {
            reason == "RolloutRestartTriggered" && note.contains("against rollout.windows")
        };
        events.iter().any(told)
    })
    .await?;
    wait_column(suite, &team, "vaultdynamicsecrets", "Rolled").await
}

/// Its old credentials are kept alive, and an edit of what becomes of the data ends nothing.
async fn what_lives_on_waits_for_its_window(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("lives-on").await?;
    let role = DatabaseRole::default();
    let (engine, creds) = engine_of(suite, &tenant, &role).await?;
    let other = engine.role("other", &role).await?;
    tenant.grant(&[&creds, &other], &Right::ALL).await?;
    prepare(&tenant).await?;
    let (_, lines) = in_three_hours()?;
    let config = with(&tenant, QUICK, &lines);
    let mut team = start(suite, tenant, &config).await?;
    team.workload(Kind::Deployment, json!({})).await?;
    let object = dynamic_secret(&team.tenant, "app", targets(&WEB));
    team.tenant.apply(&object.to_string()).await?;
    team.wait_condition(KIND, "app", "RolloutRestart", "True")
        .await?;
    let waits = async |team: &Team| {
        let told = |condition: &Condition| condition.message.contains("rollout.windows");
        team.wait_for_condition(KIND, "app", "RolloutRestart", told)
            .await?;
        ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
        anyhow::Ok(())
    };
    for edit in [
        json!({ "destination": { "transformation": { "excludes": ["username"], "excludeRaw": true } } }),
        json!({ "path": "creds/other" }),
    ] {
        let spec = json!({ "spec": edit });
        team.merge_into(KIND, "app", spec).await?;
        team.wait_condition(KIND, "app", "Ready", "True").await?;
        waits(&team).await?;
        team = reconfigured(suite, team, &config).await?;
        team.put("settled", json!({ "password": "x" })).await?;
        team.static_secret("settled", json!({})).await?;
        team.wait_ready("settled").await?;
        waits(&team).await?;
    }
    let leases = suite
        .ground
        .vault
        .api
        .leases(&format!("{}/creds", engine.mount))
        .await?;
    ensure!(leases.len() == 2, "{leases:?}: the pods' own lives on");
    Ok(())
}

async fn a_window_after_the_end_is_told_in_advance(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("in-advance").await?;
    let life = Duration::from_secs(72 * 3600);
    let engine = tenant.pki_engine(life).await?;
    let role = PkiRole {
        max_ttl: life,
        ..PkiRole::default()
    };
    let path = engine.role("web", &role).await?;
    tenant.grant(&[&path], &Right::ALL).await?;
    prepare(&tenant).await?;
    let (_, lines) = in_three_hours()?;
    let config = with(&tenant, QUICK, &lines);
    let team = start(suite, tenant, &config).await?;
    team.workload(Kind::Deployment, json!({})).await?;
    // The second is replaced more than a day before its end, and on each day a window opens.
    for (name, ttl, offset, told) in [("app", "2h", "10m", true), ("long", "48h", "30h", false)] {
        let mut spec = json!({
            "mount": engine.mount, "role": "web", "commonName": "web.test", "ttl": ttl, "expiryOffset": offset,
            "destination": { "name": name, "create": true },
        });
        merge(&mut spec, targets(&WEB));
        let object = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultPKISecret",
            "metadata": { "name": name }, "spec": spec,
        });
        team.tenant.apply(&object.to_string()).await?;
        team.wait_condition("VaultPKISecret", name, "Ready", "True")
            .await?;
        let status = team.status("VaultPKISecret", name).await?;
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|one| one["type"] == "Overlap");
        let late = found.is_some_and(|one| one["reason"] == "WindowAfterExpiry");
        ensure!(late == told, "{name}: {found:?}");
    }
    wait_column(suite, &team, "vaultpkisecrets", "Current").await
}
