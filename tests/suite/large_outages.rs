//! Vault or the API server away while two hundred secrets are due: what is there
//! stays, everybody is told, one prober asks, and all is well soon after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ground::faults::{Answer, HttpProxy, Match};
use ground::judges::workloads::Kind;
use ground::wait_for;
use kube::api::DeleteParams;

use crate::grades::Grade;
use crate::many::Many;
use crate::probes::{Eye, tcp_proxy};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "large_outages": ; in each grade:
    two_hundred_that_are_due_wait_for_one_prober,
    a_vault_that_only_seems_well_is_tried_by_one_at_a_time,
    a_limit_of_the_rate_is_tried_by_one_first,
    two_hundred_outlast_an_outage_of_the_api_server,
];

/// Where each name is followed by itself, some more than are watched are enough.
const fn due(grade: Grade) -> usize {
    match grade {
        Grade::Namespace => 200,
        Grade::Named => 40,
    }
}

/// More requests than this are not made in any second of a recovery: the burst of the
/// budget, and what comes back of it meanwhile.
pub const BUDGET: usize = 100 + 50;

/// What the operator's configuration lets pass between two probes, at most.
const PROBES_APART: Duration = Duration::from_secs(2);

async fn two_hundred_that_are_due_wait_for_one_prober(suite: &Suite, grade: Grade) -> Result<()> {
    let more = "connection:\n  timeout: 2s\n";
    let due = due(grade);
    let (team, proxy) =
        Many::team_behind_vault_proxy(suite, grade, "outage", (due, &[]), more).await?;
    let team = Many::make(team, due, "5s").await?;
    let before = team.contents().await?;
    let eye = Eye::on(suite, &team.team);
    let (_, api) = eye.mark()?;

    let troubles = [
        ("VaultUnreachable", Answer::drop_before()),
        (
            "VaultUnavailable",
            Answer::vault_error(503, &["Vault is sealed"]),
        ),
        ("VaultClientError", Answer::garbage()),
        (
            "VaultUnavailable",
            Answer::vault_error(500, &["internal error"]),
        ),
        ("VaultUnreachable", Answer::hang()),
        (
            "VaultUnavailable",
            Answer::vault_error(503, &["Vault is in standby mode"]),
        ),
    ];
    let mut rule = None;
    let mut since = BTreeSet::new();
    for (reason, answer) in troubles {
        let now = proxy.on(Match::any()).answer(answer);
        if let Some(before) = rule.replace(now) {
            let before: ground::faults::RuleHandle = before;
            before.remove();
        }
        let told = team.wait_all_told(reason).await?;
        since.extend(since_when(&told)?);
        one_prober(&proxy).await?;
    }
    ensure!(since.len() == 1, "one outage, since one time: {since:?}");
    ensure!(team.contents().await? == before, "the Secrets stay");

    // Somebody deletes one meanwhile: it comes first.
    let missing = Many::name(due / 2);
    let gone = DeleteParams::default();
    team.team.secrets().delete(&missing, &gone).await?;
    team.team
        .wait_for_condition("VaultStaticSecret", &missing, "Ready", |c| {
            c.status == "False"
        })
        .await?;
    let ended = now();
    if let Some(rule) = rule {
        rule.remove();
    }
    let recovery = Instant::now();
    team.wait_all_ready().await?;
    let took = recovery.elapsed();
    println!("all {due} were ready again {took:.1?} after Vault was back");
    ensure!(took < Duration::from_secs(60), "{took:?}");
    let reads: Vec<_> = reads_of(&proxy)
        .into_iter()
        .filter(|(at, _)| *at >= ended)
        .collect();
    let place = reads.iter().position(|(_, path)| path.ends_with(&missing));
    ensure!(
        place.is_some_and(|place| place < 16),
        "missing ones first: {place:?}"
    );
    let spread = spread(&reads);
    ensure!(
        spread > 25 * i64::try_from(due)?,
        "a storm: {due} in {spread} ms"
    );
    let most = most_in_a_second(&reads);
    ensure!(most <= BUDGET, "{most} reads in a second: over the budget");

    let after = team.contents().await?;
    let kept = |all: &BTreeMap<String, String>| {
        let mut all = all.clone();
        all.remove(&missing);
        all
    };
    ensure!(kept(&after) == kept(&before), "written without a change");
    ensure!(team.team.restarts(Kind::Deployment, "app").await? == 0);
    let written = eye.api.counts(&eye.at_api().since(api).writes())?;
    println!("written in six troubles and a recovery: {written:?}");
    let statuses = written.get("patch vaultstaticsecrets/status");
    // One for each turn of the cause, and one for the end.
    ensure!(
        statuses.is_some_and(|n| *n <= due * 7 + due / 10),
        "{written:?}"
    );
    Ok(())
}

async fn a_vault_that_only_seems_well_is_tried_by_one_at_a_time(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let count = due(grade).min(50);
    let (team, proxy) =
        Many::team_behind_vault_proxy(suite, grade, "seems-well", (count, &[]), "").await?;
    let team = Many::make(team, count, "5s").await?;
    let data = Match::method("GET").path_contains("/data/");
    let words = "local node not active but active cluster node not found";
    let standby = proxy.on(data).answer(Answer::vault_error(500, &[words]));
    // Those that failed before it was one were told of themselves alone.
    wait_for("all to say since when", LONG, || async {
        let since = since_when(&team.wait_all_told("VaultUnavailable").await?)?;
        ensure!(since.len() == 1, "{since:?}");
        Ok(())
    })
    .await?;
    let quiet = reads_of(&proxy).len();
    let probes = 4;
    let health = Match::method("GET").path_contains("sys/health");
    let seen = proxy.requests(&health).len();
    proxy.wait_for(&health, seen + probes, LONG).await?;
    let tried = reads_of(&proxy).len() - quiet;
    ensure!(
        (1..=probes + 1).contains(&tried),
        "{tried} reads beside {probes} probes"
    );
    standby.remove();
    team.wait_all_ready().await
}

async fn a_limit_of_the_rate_is_tried_by_one_first(suite: &Suite, grade: Grade) -> Result<()> {
    let due = due(grade);
    let (team, proxy) =
        Many::team_behind_vault_proxy(suite, grade, "rate-limit", (due, &[]), "").await?;
    let team = Many::make(team, due, "5s").await?;
    let before = team.contents().await?;
    let data = Match::method("GET").path_contains("/data/");
    let limit = Answer::vault_error(429, &["request path is limited"]).header("Retry-After", "3");
    let limit = proxy.on(data).answer(limit);
    let begun = now();
    let messages = team.wait_all_told("VaultRateLimited").await?;
    let told = now();
    let since = since_when(&messages)?;
    ensure!(since.len() == 1, "one limit, since one time: {since:?}");
    let reads = |from: i64| {
        let all = reads_of(&proxy).into_iter();
        all.filter(|(at, _)| *at >= from).count()
    };
    // Those that were under way when the first one was limited, then one by one.
    let first = reads(begun);
    let seconds = usize::try_from((told - begun) / 1000).unwrap_or_default();
    ensure!(first <= 16 + 1 + seconds / 3, "{first} in {seconds} s");
    let ruled = limit.hits();
    limit.hit(ruled + 3, LONG).await?;
    let seconds = usize::try_from((now() - told) / 1000).unwrap_or_default();
    ensure!(reads(told) <= 2 + seconds / 3, "{} reads", reads(told));
    limit.remove();
    team.wait_all_ready().await?;
    ensure!(team.contents().await? == before, "the Secrets stay");
    Ok(())
}

async fn two_hundred_outlast_an_outage_of_the_api_server(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let (proxy, url) = tcp_proxy(&suite.ground.plane.url).await?;
    let due = due(grade);
    let (tenant, more) = Many::tenant(suite, grade, "api-outage", (due, &[]), "").await?;
    let team = Team::of(suite, tenant, Some(&url), &more).await?;
    let team = Many::make(team, due, "5s").await?;
    let before = team.contents().await?;
    let eye = Eye::on(suite, &team.team);
    proxy.blackhole(true);
    proxy.cut();
    wait_for("the operator to give up its term", LONG, || async {
        let ready = team.team.operator.readyz().await;
        ensure!(ready.is_err(), "{ready:?}");
        Ok(())
    })
    .await?;
    let gone = DeleteParams::default();
    team.team.secrets().delete(&Many::name(7), &gone).await?;
    let (vault, api) = eye.mark()?;
    proxy.blackhole(false);
    proxy.cut();
    let back = Instant::now();
    team.team.operator.wait_ready(LONG).await?;
    team.team
        .wait_value(&Many::name(7), "value", &Many::name(7))
        .await?;
    team.wait_all_ready().await?;
    println!("all well {:.1?} after the API server", back.elapsed());
    ensure!(back.elapsed() < Duration::from_secs(60));
    let after = team.contents().await?;
    let changed = before.iter().filter(|(k, v)| after.get(*k) != Some(v));
    ensure!(changed.count() == 1, "only the deleted one is another");
    let counts = eye.api.counts(&eye.at_api().since(api).writes())?;
    ensure!(
        counts.get("patch secrets").is_none_or(|n| *n <= 2),
        "{counts:?}"
    );
    let logins = eye.vault.count(&eye.logins().since(vault))?;
    ensure!(logins <= 1, "{logins} logins");
    ensure!(team.team.restarts(Kind::Deployment, "app").await? == 0);
    Ok(())
}

/// The times since when something lasts, as the messages say it: each of them must.
fn since_when(messages: &[String]) -> Result<BTreeSet<String>> {
    let of = |message: &String| {
        let (_, since) = message.split_once("(since ")?;
        since.split_once(')').map(|(since, _)| since.to_owned())
    };
    messages
        .iter()
        .map(|message| of(message).with_context(|| format!("not since when: {message}")))
        .collect()
}

/// While all wait, nothing but the prober asks, and not often.
async fn one_prober(proxy: &HttpProxy) -> Result<()> {
    const PROBES: usize = 3;
    let from = now();
    let since = |all: Vec<ground::faults::Record>| {
        let late = all.into_iter().filter(|one| one.at.as_millisecond() > from);
        late.collect::<Vec<_>>()
    };
    wait_for("some probes", LONG, || async {
        let seen = since(proxy.requests(&Match::any())).len();
        ensure!(seen >= PROBES, "{seen} requests");
        Ok(())
    })
    .await?;
    let seen = since(proxy.requests(&Match::any()));
    let stray = seen.iter().find(|one| !one.path.ends_with("/sys/health"));
    ensure!(stray.is_none(), "{stray:?}");
    for pair in seen.windows(2) {
        let apart = pair[1].at.as_millisecond() - pair[0].at.as_millisecond();
        ensure!(apart >= 500, "two probes within {apart} ms");
        ensure!(
            apart <= 2 * i64::try_from(PROBES_APART.as_millis())? + 5000,
            "{apart} ms without a probe"
        );
    }
    Ok(())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// When each secret was read, and its path, in order.
fn reads_of(proxy: &HttpProxy) -> Vec<(i64, String)> {
    let reads = proxy.requests(&Match::method("GET").path_contains("/data/"));
    let at = |one: ground::faults::Record| (one.at.as_millisecond(), one.path);
    reads.into_iter().map(at).collect()
}

/// Milliseconds from the first read to the last.
fn spread(reads: &[(i64, String)]) -> i64 {
    match (reads.first(), reads.last()) {
        (Some(first), Some(last)) => last.0 - first.0,
        _ => 0,
    }
}

pub fn most_in_a_second(reads: &[(i64, String)]) -> usize {
    let within = |from: i64| {
        reads
            .iter()
            .filter(move |(at, _)| (from..from + 1000).contains(at))
    };
    reads
        .iter()
        .map(|(at, _)| within(*at).count())
        .max()
        .unwrap_or_default()
}
