//! Vault in trouble: what is there stays, the condition says what is wrong, and
//! all goes on by itself afterwards.

use anyhow::{Result, ensure};
use ground::faults::{Answer, Match};
use ground::{Ground, Options, wait_for};
use serde_json::json;

use crate::grades::{Grade, Names, tenant_of, tenant_on};
use crate::judgement::judge;
use crate::probes::{Eye, tcp_proxy};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "outages": ; in each grade:
    a_hanging_path_leaves_others_alone, a_sealed_vault_keeps_the_secrets,
    retry_after_is_honoured, answers_that_are_none_are_refused,
    a_lost_network_to_the_api_server_heals, a_lost_network_to_vault_heals,
];

async fn a_hanging_path_leaves_others_alone(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["hangs-1", "hangs-2", "fine"]);
    let more = "connection:\n  timeout: 3s\n";
    let (team, proxy) = Team::graded_behind_vault_proxy(suite, grade, "hang", names, more).await?;
    for name in ["hangs-1", "hangs-2", "fine"] {
        team.put(name, json!({ "value": "first" })).await?;
    }
    let hanging = proxy
        .on(Match::any().path_contains("/data/hangs"))
        .answer(Answer::hang());
    for name in ["hangs-1", "hangs-2"] {
        team.static_secret(name, json!({})).await?;
    }
    hanging.hit(2, LONG).await?;
    team.static_secret("fine", json!({})).await?;
    team.wait_ready("fine").await?;
    team.put("fine", json!({ "value": "second" })).await?;
    team.wait_value("fine", "value", "second").await?;
    let message = team.wait_problem("hangs-1", "VaultUnreachable").await?;
    ensure!(message.contains(&proxy.url()), "{message}");
    hanging.remove();
    team.wait_ready("hangs-1").await?;
    team.wait_ready("hangs-2").await.map(drop)
}

async fn a_sealed_vault_keeps_the_secrets(suite: &Suite, grade: Grade) -> Result<()> {
    let ground = Ground::start(Options::default()).await?;
    let (tenant, more) = tenant_on(&ground, grade, "sealed", Names::APP, "").await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    team.put("app", json!({ "value": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let eye = Eye::of(&ground, &team.tenant);
    let logins = eye.vault.count(&eye.logins())?;
    ground.vault.seal().await?;
    let message = team.wait_problem("app", "VaultUnavailable").await?;
    ensure!(message.contains("sealed"), "{message}");
    let told = team
        .wait_condition("VaultConnection", "default", "Ready", "False")
        .await?;
    ensure!(
        told.reason == "VaultUnavailable" && told.message.contains("sealed"),
        "{told:?}"
    );
    ensure!(
        team.value("app", "value").await? == "first",
        "the Secret stays"
    );
    ground.vault.unseal().await?;
    team.wait_ready("app").await?;
    team.wait_condition("VaultConnection", "default", "Ready", "True")
        .await?;
    team.put("app", json!({ "value": "second" })).await?;
    team.wait_value("app", "value", "second").await?;
    ensure!(
        eye.vault.count(&eye.logins())? == logins,
        "the token outlives a seal"
    );
    judge(&ground)?;
    ground.stop().await
}

async fn retry_after_is_honoured(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) =
        Team::graded_behind_vault_proxy(suite, grade, "limited", Names::APP, "").await?;
    team.put("app", json!({ "value": "first" })).await?;
    let read = Match::method("GET").path_contains("/data/app");
    let limit = Answer::vault_error(429, &["request path is limited"]).header("Retry-After", "5");
    proxy.on(read.clone()).once().answer(limit);
    team.static_secret("app", json!({})).await?;
    let message = team.wait_problem("app", "VaultRateLimited").await?;
    ensure!(
        message.contains("wait 5 s (since "),
        "what and since when: {message}"
    );
    team.wait_ready("app").await?;
    let reads = proxy.wait_for(&read, 2, LONG).await?;
    let apart = reads[1].at.as_millisecond() - reads[0].at.as_millisecond();
    ensure!(apart >= 5000, "asked again after {apart} ms");
    Ok(())
}

async fn answers_that_are_none_are_refused(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) =
        Team::graded_behind_vault_proxy(suite, grade, "garbage", Names::APP, "").await?;
    team.put("app", json!({ "value": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let read = Match::method("GET").path_contains("/data/app");
    let answers = [
        (Answer::garbage(), "VaultClientError"),
        (Answer::huge(30), "VaultClientError"),
        (Answer::not_http(), "VaultUnreachable"),
        (
            Answer::body(200, "text/html", "<html>a portal</html>"),
            "VaultClientError",
        ),
        (
            Answer::json(
                200,
                &json!({ "data": { "data": {}, "metadata": { "version": 9 } } }),
            ),
            "SecretDeleted",
        ),
    ];
    for (number, (answer, reason)) in answers.into_iter().enumerate() {
        let rule = proxy.on(read.clone()).answer(answer.clone());
        let message = team.wait_problem("app", reason).await?;
        ensure!(
            !message.contains("portal"),
            "it quotes the answer: {message}"
        );
        ensure!(
            team.value("app", "value").await? == "first",
            "the Secret stays"
        );
        if number == 1 {
            ensure!(
                message.contains("MiB") || message.contains("4194304"),
                "{message}"
            );
        }
        rule.remove();
        team.wait_ready("app").await?;
    }
    let most = proxy
        .requests(&read)
        .iter()
        .map(|request| request.received)
        .max();
    // The limit of 4 MiB, and what the sockets hold.
    ensure!(
        most.is_some_and(|most| most < 16 << 20),
        "{most:?} bytes were taken"
    );
    team.wait_condition("VaultConnection", "default", "Ready", "True")
        .await?;
    let peak = ground::judges::Memory::of(team.operator.process.pid())?.peak;
    println!("peak memory with answers of 30 MiB: {} MiB", peak >> 20);
    ensure!(peak < 64 << 20, "{peak} bytes at the peak");
    Ok(())
}

async fn a_lost_network_to_the_api_server_heals(suite: &Suite, grade: Grade) -> Result<()> {
    let (proxy, url) = tcp_proxy(&suite.ground.plane.url).await?;
    // Who leads goes on without the API server for ten seconds only.
    let more = "leaderElect: false\n";
    let (tenant, more) = tenant_of(suite, grade, "lost-api", Names::APP, more).await?;
    let team = Team::of(suite, tenant, Some(&url), &more).await?;
    team.put("app", json!({ "value": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    let before = proxy.traffic();
    ensure!(
        before.live > 0 && before.sent > 0 && before.received > 0,
        "nothing passes through the proxy: {before:?}"
    );

    proxy.blackhole(true);
    let (mark, _) = eye.mark()?;
    team.put("app", json!({ "value": "second" })).await?;
    wait_for("the operator to read the new version", LONG, || async {
        let reads = eye.vault.count(&eye.reads().since(mark))?;
        ensure!(reads > 0, "it has read nothing since");
        Ok(())
    })
    .await?;
    ensure!(
        team.value("app", "value").await? == "first",
        "it was written past the proxy"
    );
    proxy.cut();
    proxy.blackhole(false);
    team.wait_value("app", "value", "second").await?;
    team.wait_ready("app").await?;
    let after = proxy.traffic();
    ensure!(
        after.accepted > before.accepted && after.received > before.received,
        "it has not connected again: {before:?}, then {after:?}"
    );
    Ok(())
}

async fn a_lost_network_to_vault_heals(suite: &Suite, grade: Grade) -> Result<()> {
    let (proxy, url) = tcp_proxy(&suite.ground.vault.address).await?;
    let more = "connection:\n  timeout: 3s\n";
    let (mut tenant, more) = tenant_of(suite, grade, "lost-vault", Names::APP, more).await?;
    tenant.vault_address.clone_from(&url);
    let team = Team::of(suite, tenant, None, &more).await?;
    team.put("app", json!({ "value": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let before = proxy.traffic();
    ensure!(
        before.accepted > 0 && before.sent > 0 && before.received > 0,
        "nothing passes through the proxy: {before:?}"
    );

    proxy.blackhole(true);
    team.put("app", json!({ "value": "second" })).await?;
    let message = team.wait_problem("app", "VaultUnreachable").await?;
    ensure!(message.contains(&url), "{message}");
    ensure!(
        team.value("app", "value").await? == "first",
        "the Secret stays"
    );
    proxy.cut();
    proxy.blackhole(false);
    team.wait_value("app", "value", "second").await?;
    team.wait_ready("app").await?;
    let after = proxy.traffic();
    ensure!(
        after.accepted > before.accepted && after.received > before.received,
        "it has not connected again: {before:?}, then {after:?}"
    );
    Ok(())
}
