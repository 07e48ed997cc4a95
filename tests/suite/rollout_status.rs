//! `status.rolloutTargets` and the column of `kubectl get` answer whether a workload got what its Secret holds.

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::Kind;
use ground::wait_for;
use kube::api::DeleteParams;
use serde_json::json;
use vault_tenant_operator::api::{RolloutState, RolloutTargetStatus};

use crate::endpoints::sample;
use crate::pacing::{start, with, with_deployments};
use crate::probes::{Eye, QUIET};
use crate::rollouts::targets;
use crate::support::{LONG, Suite, Team, merge, prepare};

crate::trials![
    "rollout_status": a_change_is_followed_until_its_pods_run_it,
    who_names_a_workload_no_more_leaves_nothing_pending,
];

/// The row of the only target, once it is in this state.
async fn row(team: &Team, state: RolloutState) -> Result<RolloutTargetStatus> {
    wait_for(&format!("the state {state}"), LONG, || async {
        let all = team.rollouts("app").await?;
        let [row] = &all.rollout_targets[..] else {
            anyhow::bail!("{all:?}");
        };
        ensure!(
            row.state == state && all.rollout == Some(state.clone()),
            "{all:?}"
        );
        Ok(row.clone())
    })
    .await
}

/// Waits until a family tells this of the Deployment `web`.
pub async fn wait_sample(team: &Team, family: &str, value: f64) -> Result<()> {
    wait_for(&format!("{family} {value}"), LONG, || async {
        let metrics = team.operator.metrics().await?;
        let labels = ["kind=\"Deployment\"", "name=\"web\""];
        let told = sample(&metrics, family, &labels);
        ensure!(told == Some(value), "{family} is {told:?}");
        Ok(())
    })
    .await
}

/// Waits until `kubectl get` shows this of the resource `app` in the column ROLLOUT.
pub async fn wait_column(suite: &Suite, team: &Team, plural: &str, state: &str) -> Result<()> {
    wait_for(
        &format!("{state} in the table of {plural}"),
        LONG,
        || async {
            let table = team.kubectl(suite, &["get", plural, "app"]).await?;
            let mut lines = table.lines().map(str::split_whitespace);
            let (mut head, mut line) = (lines.next().context("no head")?, lines.next());
            let column = head.position(|name| name == "ROLLOUT");
            let column = column.context("no column")?;
            let value = line.as_mut().and_then(|line| line.nth(column));
            ensure!(value == Some(state), "{table}");
            Ok(())
        },
    )
    .await
}

async fn a_change_is_followed_until_its_pods_run_it(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("followed").await?;
    prepare(&tenant).await?;
    let config = with(&tenant, "", "");
    let team = start(suite, tenant, &config).await?;
    // A pod counts once it has been ready for so long.
    let slow = json!({ "minReadySeconds": 5 });
    with_deployments(&team, &[("web", slow)]).await?;
    let first = row(&team, RolloutState::Current).await?;
    ensure!(first.restarted_at.is_none(), "{first:?}");
    wait_sample(&team, "vto_rollout_restarts_total", 0.0).await?;
    let eye = Eye::on(suite, &team);
    let (_, mark) = eye.mark()?;
    team.put("app", json!({ "password": "second" })).await?;
    let rolling = row(&team, RolloutState::Rolling).await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    let rolled = row(&team, RolloutState::Rolled).await?;
    let at = rolled.restarted_at.as_ref().context("no time")?;
    ensure!(rolling.restarted_at.as_ref() == Some(at), "{rolling:?}");
    let found = team.deployments().get("web").await?;
    let written = found.metadata.annotations.unwrap_or_default();
    let written = &written["vault-tenant-operator.io/restarted-at"];
    ensure!(
        written.parse::<jiff::Timestamp>()?.as_second() == at.0.as_second(),
        "{written} and {at:?}"
    );
    // What it holds and that a restart is due, that it rolls, that it has rolled.
    eye.api
        .settle(&eye.at_api().since(mark), QUIET, LONG)
        .await?;
    let counts = eye.api.counts(&eye.at_api().since(mark))?;
    ensure!(
        counts.get("patch vaultstaticsecrets/status") == Some(&3),
        "{counts:?}"
    );
    wait_sample(&team, "vto_rollout_restarts_total", 1.0).await?;
    wait_sample(&team, "vto_rollouts_failed", 0.0).await?;
    wait_column(suite, &team, "vaultstaticsecrets", "Rolled").await?;
    let described = team
        .kubectl_describe(suite, "vaultstaticsecret", "app")
        .await?;
    let (_, row) = described
        .split_once("Rollout Targets: Kind: Deployment Name: web Restarted At: ")
        .with_context(|| format!("no row in {described}"))?;
    ensure!(row.contains(" State: Rolled "), "{described}");
    // Its series go with it.
    team.deployments()
        .delete("web", &DeleteParams::default())
        .await?;
    wait_for("its series to go", LONG, || async {
        let metrics = team.operator.metrics().await?;
        ensure!(!metrics.contains("vto_rollout"), "{metrics}");
        Ok(())
    })
    .await
}

async fn who_names_a_workload_no_more_leaves_nothing_pending(suite: &Suite) -> Result<()> {
    const PENDING: &str = "vto_rollout_restarts_pending";
    const WEB: [Kind; 1] = [Kind::Deployment];
    let team = Team::start(suite, "named-no-more").await?;
    team.with_targets(&WEB).await?;
    // Another one restarts it, too, so that it stays a target.
    team.put("other", json!({ "password": "first" })).await?;
    team.static_secret("other", targets(&WEB)).await?;
    team.wait_current("other").await?;
    let mut held = targets(&WEB);
    merge(&mut held, json!({ "rollout": { "hold": true } }));
    let pending = async || {
        team.static_secret("app", held.clone()).await?;
        wait_sample(&team, PENDING, 1.0).await
    };
    let nothing = async || {
        wait_for("nothing to be pending", LONG, || async {
            let metrics = team.operator.metrics().await?;
            ensure!(!metrics.contains(PENDING), "{metrics}");
            wait_sample(&team, "vto_rollout_restarts_total", 0.0).await
        })
        .await
    };
    team.static_secret("app", held.clone()).await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    pending().await?;
    team.static_secret("app", json!({})).await?;
    nothing().await?;
    pending().await?;
    team.delete("VaultStaticSecret", "app").await?;
    nothing().await
}
