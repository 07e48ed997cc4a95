//! The operator killed between any two steps of a change: what it left undone
//! is done after its next start, and the workload restarts exactly once.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::faults::{HttpProxy, KillPoint, Match};
use ground::judges::workloads::Kind;
use jiff::SignedDuration;
use serde_json::json;

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{api_proxy, vault_proxy};
use crate::rollouts::targets;
use crate::support::{LONG, Suite, Team, config, merge, prepare};

crate::trials!["killed": ; in each grade: at_every_request_of_a_change_it_restarts_once];

const ROUNDS: usize = 20;

/// Where to kill: at the first request of this kind, when it arrives or once it is answered.
#[derive(Clone, Debug)]
struct Point {
    of_vault: bool,
    method: String,
    path: String,
    answered: bool,
}

impl Point {
    fn set(&self, team: &Team, vault: &HttpProxy, api: &HttpProxy) -> KillPoint {
        let proxy = if self.of_vault { vault } else { api };
        let matcher = Match::method(&self.method).path(&self.path);
        let process = team.operator.process.clone();
        let pid = move || process.pid();
        if self.answered {
            KillPoint::at_answer(proxy, matcher, pid)
        } else {
            KillPoint::at_request(proxy, matcher, pid)
        }
    }
}

async fn at_every_request_of_a_change_it_restarts_once(suite: &Suite, grade: Grade) -> Result<()> {
    let vault = vault_proxy(&suite.ground).await?;
    let api = api_proxy(&suite.ground).await?;
    let (mut tenant, more) = tenant_of(suite, grade, "killed", Names::ROLLED, "").await?;
    tenant.vault_address = vault.url();
    prepare(&tenant).await?;
    let config = config(&tenant, &more).replace("debounce: 1s", "debounce: 300ms");
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .api_url(&api.url())
        // Nobody waits for the Lease of one that was killed.
        .arg("--leader-elect=false")
        .start()
        .await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "first" })).await?;
    let history = json!({ "revisionHistoryLimit": 2 * ROUNDS });
    team.workload(Kind::Deployment, history).await?;
    // It is read only when it is asked for, so that each change is one.
    let mut spec = targets(&[Kind::Deployment]);
    merge(&mut spec, json!({ "refreshAfter": "1000h" }));
    team.static_secret("app", spec).await?;
    team.baselined(&[Kind::Deployment]).await?;

    let points = points(&team, &vault, &api).await?;
    println!("{} points: {points:?}", points.len());
    ensure!((8..=ROUNDS).contains(&points.len()), "{points:#?}");
    for (round, point) in points.iter().cycle().take(ROUNDS).enumerate() {
        let context = || format!("round {round}, {point:?}");
        let struck = point.set(&team, &vault, &api);
        team.change(round + 2).await?;
        struck.killed(LONG).await.with_context(context)?;
        team.operator.process.wait().await;
        team.operator.restart().await?;
        team.changed(round + 2).await.with_context(context)?;
    }
    // This one would show a restart that came late.
    team.change(ROUNDS + 2).await?;
    team.changed(ROUNDS + 2).await
}

/// Lets a change pass, and answers with the places before and after each request
/// between Vault's answer and the patch that restarts, both included.
async fn points(team: &Team, vault: &HttpProxy, api: &HttpProxy) -> Result<Vec<Point>> {
    let marks = (vault.mark(), api.mark());
    team.change(1).await?;
    team.changed(1).await?;
    let read = Match::method("GET").path_contains("/data/app");
    let read = vault.requests_since(marks.0, &read).into_iter().next();
    let read = read.context("no read of the source")?;
    let took = SignedDuration::try_from(read.duration.context("no answer")?)?;
    let answered = read.at + took;
    let mut points = vec![Point {
        of_vault: true,
        method: read.method.to_string(),
        path: read.path,
        answered: true,
    }];
    let mut seen = BTreeSet::new();
    for request in api.requests_since(marks.1, &Match::any()) {
        let method = request.method.to_string();
        let restarts = method == "PATCH" && request.path.ends_with("/deployments/web");
        // What a start asks for may come this late, and comes once.
        let aside = ["/leases/", "/selfsubjectrulesreviews"]
            .iter()
            .any(|part| request.path.contains(part))
            || request.query.contains("watch=true");
        if request.at < answered || aside || !seen.insert((method.clone(), request.path.clone())) {
            continue;
        }
        points.extend([false, true].map(|answered| Point {
            of_vault: false,
            method: method.clone(),
            path: request.path.clone(),
            answered,
        }));
        if restarts {
            return Ok(points);
        }
    }
    anyhow::bail!("nothing was restarted")
}

impl Team {
    async fn change(&self, number: usize) -> Result<()> {
        self.put("app", json!({ "password": number.to_string() }))
            .await?;
        self.resync("app", &number.to_string()).await
    }

    async fn changed(&self, number: usize) -> Result<()> {
        self.wait_value("app", "password", &number.to_string())
            .await?;
        self.wait_restarts(Kind::Deployment, "web", number).await?;
        self.wait_current("app").await
    }
}
