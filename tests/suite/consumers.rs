//! Keys that the pods of a workload need stay in the Secret, until it needs them no more or the resource says that
//! they may go.

use anyhow::{Result, ensure};
use ground::judges::workloads::Kind;
use ground::wait_for;
use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::grades::{Grade, Names};
use crate::probes::Eye;
use crate::rollouts::targets;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "consumers": an_optional_key_goes_and_an_opt_in_lets_any_go;
    in each grade: a_key_that_pods_need_stays_until_they_let_it_go,
];

const REASON: &str = "WouldBreakConsumers";

/// The lines of a workload whose container needs these keys of `app`.
fn needs(keys: &[(&str, bool)]) -> Value {
    let variables = keys.iter().map(|(key, optional)| {
        let from = json!({ "name": "app", "key": key, "optional": optional });
        json!({ "name": key.to_uppercase(), "valueFrom": { "secretKeyRef": from } })
    });
    let variables: Vec<Value> = variables.collect();
    let container = json!({ "name": "app", "image": "app:1", "env": variables });
    json!({ "template": { "spec": { "containers": [container] } } })
}

async fn a_key_that_pods_need_stays_until_they_let_it_go(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "consumers", Names::ROLLED).await?;
    team.put("app", json!({ "password": "first", "user": "u" }))
        .await?;
    let needed = needs(&[("password", false), ("user", false)]);
    team.workload(Kind::Deployment, needed).await?;
    team.static_secret("app", targets(&[Kind::Deployment]))
        .await?;
    team.wait_ready("app").await?;
    team.baselined(&[Kind::Deployment]).await?;
    let before = team.secret("app").await?.metadata.resource_version;
    team.put("app", json!({ "password": "second" })).await?;
    let told = team.wait_problem("app", REASON).await?;
    for word in [
        "the Secret app: its key user",
        "Deployment/web",
        "allowKeyRemoval",
    ] {
        ensure!(told.contains(word), "{told} says nothing of {word}");
    }
    ensure!(!told.contains("password"), "{told}");
    team.wait_events("app", |events| {
        events.iter().any(|(reason, _)| reason == REASON)
    })
    .await?;
    tries_are_apart(suite, &team).await?;
    let secret = team.secret("app").await?;
    ensure!(secret.metadata.resource_version == before, "{secret:?}");
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    // A key that is back heals it, and is written with the rest.
    team.put("app", json!({ "password": "third", "user": "u" }))
        .await?;
    team.wait_value("app", "password", "third").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.put("app", json!({ "password": "fourth" })).await?;
    team.wait_problem("app", REASON).await?;
    let edit = Patch::Merge(json!({ "spec": needs(&[("password", false)]) }));
    team.deployments()
        .patch("web", &PatchParams::default(), &edit)
        .await?;
    team.wait_value("app", "password", "fourth").await?;
    ensure!(team.keys("app").await? == ["_raw", "password"]);
    team.wait_ready("app").await?;
    let problems: Vec<_> = team.events("app").await?;
    let problems = problems.iter().filter(|(reason, _)| reason == REASON);
    ensure!(problems.count() <= 2, "an event for each try");
    Ok(())
}

/// While a write is refused, Vault is read again with the pauses of a backoff, by one login.
async fn tries_are_apart(suite: &Suite, team: &Team) -> Result<()> {
    /// Half the first pause of a trial's operator.
    const APART: SignedDuration = SignedDuration::from_millis(150);
    let eye = Eye::on(suite, team);
    let (mark, _) = eye.mark()?;
    let reads = eye.reads().since(mark);
    let reads = wait_for("further tries", LONG, || async {
        let reads = eye.vault.requests(&reads)?;
        ensure!(reads.len() >= 4, "{} reads", reads.len());
        Ok(reads)
    })
    .await?;
    for two in reads.windows(2) {
        let apart = two[1].at.duration_since(two[0].at);
        ensure!(apart >= APART, "a try after {apart}");
    }
    let logins = eye.vault.requests(&eye.logins().since(mark))?;
    ensure!(logins.is_empty(), "{logins:?}");
    Ok(())
}

async fn an_optional_key_goes_and_an_opt_in_lets_any_go(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "consumers-opt-in").await?;
    let all = json!({ "password": "first", "user": "u", "port": "1" });
    team.put("app", all).await?;
    // Nobody's target; and one key that never was there.
    let needed = needs(&[("password", false), ("port", true), ("absent", false)]);
    team.workload(Kind::Deployment, needed).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    team.put("app", json!({ "password": "second", "user": "u" }))
        .await?;
    team.wait_value("app", "password", "second").await?;
    ensure!(team.keys("app").await? == ["_raw", "password", "user"]);
    team.put("app", json!({ "user": "v" })).await?;
    let told = team.wait_problem("app", REASON).await?;
    ensure!(told.contains("its key password"), "{told}");
    ensure!(team.value("app", "user").await? == "u");
    team.edit("app", json!({ "destination": { "allowKeyRemoval": true } }))
        .await?;
    team.wait_value("app", "user", "v").await?;
    team.wait_ready("app").await?;
    ensure!(team.keys("app").await? == ["_raw", "user"]);
    Ok(())
}
