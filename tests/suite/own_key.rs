//! The operator's own key: a start waits for it without holding up its end, and
//! it comes back however it was lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, Match};
use ground::{Exit, wait_for};
use kube::api::DeleteParams;
use serde_json::json;

use crate::endpoints::sample;
use crate::grades::Grade;
use crate::probes::api_proxy;
use crate::process::said;
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "own_key": one_that_no_watch_saw_go_is_put_back;
    in each grade: a_start_without_an_answer_waits_and_ends_when_told,
];

const KEY: &str = "vault-tenant-operator-key";

async fn a_start_without_an_answer_waits_and_ends_when_told(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let proxy = api_proxy(&suite.ground).await?;
    let silent = proxy
        .on(Match::any().path_contains(format!("/secrets/{KEY}")))
        .answer(Answer::hang());
    let tenant = grade.tenant(&suite.ground, "silent-api").await?;
    let config = config(&tenant, grade.lines());
    grade.allow(&tenant, &config, &[]).await?;
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .api_url(&proxy.url())
        .start()
        .await?;
    silent.hit(1, LONG).await?;
    let exit = operator.terminate(Duration::from_secs(5)).await;
    ensure!(exit == Exit::Code(0), "{exit:?}");
    operator.restart().await?;
    wait_for("/readyz to name the silence", LONG, || async {
        let text = said(&operator).await?;
        ensure!(text.contains(KEY) && text.contains("no answer"), "{text}");
        Ok(())
    })
    .await?;
    proxy.back_to_normal();
    operator.wait_ready(LONG).await?;
    // What was answered is counted: the key, the ledger and the Leases, since no
    // resource is there.
    wait_for("each request to be counted", LONG, || async {
        let metrics = operator.metrics().await?;
        for (method, operation) in [("GET", "\"get\""), ("PATCH", "\"patch\"")] {
            let answered = |path: &str| {
                let all = proxy.requests(&Match::method(method).path_contains(path));
                all.iter().filter(|one| one.status.is_some()).count()
            };
            let (keys, leases) = (answered(&format!("/secrets/{KEY}")), answered("/leases/"));
            ensure!(keys == 1, "{keys} {operation} of the key");
            let ledger = answered("/secrets/vault-tenant-operator-ledger-");
            ensure!(
                method != "GET" || ledger == 2,
                "{ledger} gets of the ledger"
            );
            let counted = sample(
                &metrics,
                "vto_kubernetes_requests_total",
                &[operation, "\"ok\""],
            );
            let seen = (keys + ledger + leases) as f64;
            ensure!(counted == Some(seen), "{seen} {operation}: {metrics}");
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn one_that_no_watch_saw_go_is_put_back(suite: &Suite) -> Result<()> {
    let proxy = api_proxy(&suite.ground).await?;
    let tenant = suite.ground.tenant("missed-key").await?;
    prepare(&tenant).await?;
    // Only lists: each watch of Secrets is answered as one that is too old. Our group's name begins with `secrets` too.
    let too_old = proxy
        .on(Match::method("GET")
            .path(format!("/api/v1/namespaces/{}/secrets", tenant.namespace))
            .query_contains("watch=true"))
        .answer(Answer::kubernetes_error(
            410,
            "Expired",
            "too old resource version",
        ));
    let operator = tenant
        .operator(&suite.binary)
        .config(&config(&tenant, ""))
        .api_url(&proxy.url())
        .start()
        .await?;
    too_old.hit(2, LONG).await?;
    let team = Team { tenant, operator };
    let before = team.secret(KEY).await?;
    team.secrets().delete(KEY, &DeleteParams::default()).await?;
    let after = wait_for("the key to be put back", LONG, || async {
        team.tenant.secret(KEY).await?.context("it is gone")
    })
    .await?;
    ensure!(
        before.metadata.uid != after.metadata.uid && before.data == after.data,
        "another key was made"
    );
    // Each try lists first, and tries are not made in a tight loop.
    let (tries, began) = (too_old.hits(), Instant::now());
    too_old.hit(tries + 3, LONG).await?;
    ensure!(
        began.elapsed() > Duration::from_secs(3),
        "three lists in {:?}",
        began.elapsed()
    );
    too_old.remove();
    team.operator.wait_ready(LONG).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await.map(drop)
}
