//! Workloads that are to restart with the same content: the first alone, no more at once than may, and none after one
//! that fails.

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::Kind;
use ground::wait_for;
use jiff::Timestamp;
use serde_json::json;
use vault_tenant_operator::api::RolloutState;

use crate::endpoints::sample;
use crate::pacing::{reconfigured, start, with, with_deployments};
use crate::support::{LONG, Suite, Team, prepare};

crate::trials![
    "pacing_line": restarts_stay_below_the_number_that_may_roll, the_first_is_tried_alone,
    a_failed_first_workload_holds_the_others,
];

/// Seconds that a rollout takes, and those that two restarts are apart at least of which one waits for the other.
const TAKES: i64 = 5;
const APART: i64 = TAKES - 1;

async fn restarted(team: &Team, names: &[&str]) -> Result<Vec<usize>> {
    let mut restarts = Vec::new();
    for name in names {
        restarts.push(team.restarts(Kind::Deployment, name).await?);
    }
    Ok(restarts)
}

/// When each was restarted.
async fn times(team: &Team, names: &[&str]) -> Result<Vec<Timestamp>> {
    let mut times = Vec::new();
    for name in names {
        let found = team.deployments().get(name).await?;
        let annotations = found.metadata.annotations.unwrap_or_default();
        let at = annotations.get("vault-tenant-operator.io/restarted-at");
        times.push(at.context("no time")?.parse::<Timestamp>()?);
    }
    Ok(times)
}

/// Restarts three, each of which takes so many seconds, and tells when that was.
async fn three_restart(
    suite: &Suite,
    tenant: &str,
    lines: &str,
    waits: &str,
) -> Result<Vec<Timestamp>> {
    const NAMES: [&str; 3] = ["one", "two", "three"];
    let tenant = suite.ground.tenant(tenant).await?;
    prepare(&tenant).await?;
    let config = with(&tenant, "", lines);
    let team = start(suite, tenant, &config).await?;
    // A pod counts once it has been ready for so many seconds, which its controller counts in whole ones.
    let slow = json!({ "minReadySeconds": TAKES });
    with_deployments(&team, &NAMES.map(|name| (name, slow.clone()))).await?;
    team.changes("second").await?;
    team.wait_pending(waits).await?;
    wait_for("all to be restarted", 2 * LONG, || async {
        let restarts = restarted(&team, &NAMES).await?;
        ensure!(restarts == [1; NAMES.len()], "{restarts:?}");
        Ok(())
    })
    .await?;
    team.wait_current("app").await?;
    times(&team, &NAMES).await
}

async fn restarts_stay_below_the_number_that_may_roll(suite: &Suite) -> Result<()> {
    let lines = "  maxConcurrent: 1\n";
    let mut times = three_restart(suite, "number", lines, "rollout.maxConcurrent").await?;
    times.sort_unstable();
    let apart = times
        .windows(2)
        .all(|two| two[1].duration_since(two[0]).as_secs() >= APART);
    ensure!(apart, "{times:?}: two rolled at once");
    Ok(())
}

async fn the_first_is_tried_alone(suite: &Suite) -> Result<()> {
    let waits = "Deployment/one is the first with the same content";
    let times = three_restart(suite, "first", "", waits).await?;
    let after = |at: &Timestamp| at.duration_since(times[0]).as_secs();
    ensure!(times[1..].iter().all(|at| after(at) >= APART), "{times:?}");
    Ok(())
}

async fn a_failed_first_workload_holds_the_others(suite: &Suite) -> Result<()> {
    const NAMES: [&str; 2] = ["one", "two"];
    let tenant = suite.ground.tenant("halt").await?;
    prepare(&tenant).await?;
    let halts = with(&tenant, "", "");
    let goes_on = with(&tenant, "", "  haltOnFailure: false\n");
    let team = start(suite, tenant, &halts).await?;
    // The only node takes no second pod of it, and the first one stays until the second is there.
    let stuck = |name: &str| {
        let apart = json!([{
            "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": name } },
        }]);
        json!({
            "progressDeadlineSeconds": 3,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": { "spec": { "affinity": {
                "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": apart },
            } } },
        })
    };
    with_deployments(&team, &NAMES.map(|name| (name, stuck(name)))).await?;
    team.changes("second").await?;
    team.wait_pending("Deployment/one is the first with the same content, and has to be through")
        .await?;
    team.wait_pending("Deployment/one does not get on").await?;
    let restarts = restarted(&team, &NAMES).await?;
    ensure!(restarts == [1, 0], "{restarts:?}");
    let failed = NAMES[0];
    let expected = [("Failed", None), ("Pending", Some("HaltOnFailure"))];
    let labels = format!("name=\"{failed}\"");
    wait_for("the failure to be told", LONG, || async {
        let all = team.rollouts("app").await?;
        let rows = all.rollout_targets.iter();
        let rows: Vec<_> = rows
            .map(|row| (row.state.as_str(), row.reason.as_deref()))
            .collect();
        ensure!(rows == expected, "{rows:?}");
        ensure!(all.rollout == Some(RolloutState::Failed), "{all:?}");
        let metrics = team.operator.metrics().await?;
        ensure!(
            sample(&metrics, "vto_rollouts_failed", &[&labels]) == Some(1.0),
            "{metrics}"
        );
        let events = team.events("app").await?;
        let told = events
            .iter()
            .filter(|(reason, note)| reason == "RolloutFailed" && note.contains(failed));
        ensure!(told.count() == 1, "{events:?}");
        Ok(())
    })
    .await?;
    let team = reconfigured(suite, team, &goes_on).await?;
    wait_for("the other to be restarted", LONG, || async {
        let restarts = restarted(&team, &NAMES).await?;
        ensure!(restarts == [1; NAMES.len()], "{restarts:?}");
        Ok(())
    })
    .await?;
    // It fails, too, which is told by an event of its own.
    team.wait_events("app", |events| {
        NAMES.iter().all(|name| {
            let about = format!("Deployment/{name} restarted, and its rollout does not get on");
            let told = events
                .iter()
                .filter(|(reason, note)| reason == "RolloutFailed" && note.contains(&about));
            told.count() == 1
        })
    })
    .await
}
