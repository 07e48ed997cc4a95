//! What metrics tell beyond the sixteen signals: of single resources, of lanes, of
//! Vault as each connection finds it, and of the process. Each family is provoked and
//! read back, and goes with what it tells of.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, HttpProxy, Match};
use ground::judges::Memory;
use ground::resources::references;
use ground::{Exit, Operator, wait_for};
use jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::endpoints::sample;
use crate::leadership::instance;
use crate::lessee::{self, leased_certificate};
use crate::probes::vault_proxy;
use crate::support::{LONG, Suite, Team, deployment};

crate::trials![
    "series": each_follows_what_happens, beyond_the_bound_sums_tell_of_all,
    a_standby_tells_of_no_resource,
];

const STATIC: &str = "VaultStaticSecret";

/// Nothing is looked at by itself while a trial counts.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// What the ground's tokens live for.
const TOKEN: i64 = 3600;

/// One place in each lane, and little patience with Vault.
const NARROW: &str = "  maxConcurrentReconciles: 1\nconnection:\n  timeout: 3s\n";

/// Families that tell of resources, of which a standby knows nothing.
const OF_RESOURCES: [&str; 9] = [
    "vto_resource_ready",
    "vto_resources_not_ready",
    "vto_resource_last_success",
    "vto_resource_next_due",
    "vto_resource_series_left_out",
    "vto_secret_expiry",
    "vto_vault_token_expiry",
    "vto_vault_breaker_open",
    "vto_queue_depth",
];

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A series of one resource.
fn of(team: &Team, family: &str, kind: &str, name: &str) -> String {
    let namespace = &team.tenant.namespace;
    format!("{family}{{kind=\"{kind}\",namespace=\"{namespace}\",name=\"{name}\"}}")
}

/// A series of a VaultConnection or VaultAuth.
fn of_vault(team: &Team, family: &str, name: &str) -> String {
    let namespace = &team.tenant.namespace;
    format!("{family}{{namespace=\"{namespace}\",name=\"{name}\"}}")
}

fn not_ready(team: &Team) -> String {
    let namespace = &team.tenant.namespace;
    format!("vto_resources_not_ready{{namespace=\"{namespace}\",kind=\"{STATIC}\"}}")
}

/// The value of a series, if it is there.
async fn read(operator: &Operator, series: &str) -> Result<Option<f64>> {
    let metrics = operator.metrics().await?;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(value.map(str::parse).transpose()?)
}

/// Waits until a series is as wanted, and tells of it.
async fn wait(operator: &Operator, series: &str, wanted: impl Fn(i64) -> bool) -> Result<i64> {
    let value = wait_for(series, LONG, || async {
        let value = read(operator, series).await?.context("it is not there")?;
        let value = value as i64;
        ensure!(wanted(value), "it is {value}");
        Ok(value)
    })
    .await?;
    println!("{series} {value}");
    Ok(value)
}

/// Waits until nothing is told any more in these words.
async fn wait_gone(operator: &Operator, words: &str) -> Result<()> {
    wait_for(&format!("{words} to go"), LONG, || async {
        let metrics = operator.metrics().await?;
        let left: Vec<&str> = metrics
            .lines()
            .filter(|line| line.contains(words))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

impl Team {
    /// A VaultStaticSecret that nothing is due for by itself.
    async fn calm(&self, name: &str, more: Value) -> Result<()> {
        let mut spec = json!({ "refreshAfter": format!("{}s", NEVER.as_secs()) });
        ground::resources::merge(&mut spec, more);
        self.static_secret(name, spec).await
    }
}

async fn each_follows_what_happens(suite: &Suite) -> Result<()> {
    let begun = now();
    let mut tenant = suite.ground.tenant("series").await?;
    let leased = leased_certificate(&tenant).await?;
    let proxy = vault_proxy(&suite.ground).await?;
    tenant.vault_address = proxy.url();
    let team = Team::of(suite, tenant, None, NARROW).await?;
    of_secrets(&team, begun, leased).await?;
    of_what_others_do(&team).await?;
    of_a_connection(&team, &proxy, begun).await?;
    of_a_lane(&team, &proxy).await?;
    of_the_process(&team, begun).await
}

async fn of_secrets(team: &Team, begun: i64, leased: Value) -> Result<()> {
    let operator = &team.operator;
    team.put("app", json!({ "password": "right" })).await?;
    team.calm("app", json!({})).await?;
    let leased = lessee::dynamic_secret(&team.tenant, "leased", leased);
    team.tenant.apply(&leased.to_string()).await?;
    team.wait_ready("app").await?;
    team.wait_condition(lessee::KIND, "leased", "Ready", "True")
        .await?;
    let ready = |name: &str| of(team, "vto_resource_ready", STATIC, name);
    wait(operator, &ready("app"), |is| is == 1).await?;
    wait(operator, &not_ready(team), |count| count == 0).await?;
    let success = "vto_resource_last_success_timestamp_seconds";
    let app = of(team, success, STATIC, "app");
    let first = wait(operator, &app, |at| (begun..=now()).contains(&at)).await?;
    let due = "vto_resource_next_due_timestamp_seconds";
    let slot = of(team, due, STATIC, "app");
    let day = i64::try_from(NEVER.as_secs())?;
    wait(operator, &slot, |at| {
        (begun + 1..=now() + day).contains(&at)
    })
    .await?;

    let status = team.status(lessee::KIND, "leased").await?;
    let expiry: Timestamp = status["expiry"].as_str().context("no expiry")?.parse()?;
    let renewal: Timestamp = status["nextRenewal"].as_str().context("none")?.parse()?;
    let given = status["lastRenewalTime"].as_i64().context("no time")?;
    let lease = |family: &str| of(team, family, lessee::KIND, "leased");
    let ends = lease("vto_secret_expiry_timestamp_seconds");
    wait(operator, &ends, |at| at == expiry.as_second()).await?;
    wait(operator, &lease(success), |at| at == given).await?;
    // Before it is renewed it may be looked whether it is still there.
    let renewal = renewal.as_second() + 1;
    wait(operator, &lease(due), |at| (now()..=renewal).contains(&at)).await?;

    team.calm("missing", json!({})).await?;
    team.wait_problem("missing", "SecretNotFound").await?;
    wait(operator, &ready("missing"), |is| is == 0).await?;
    wait(operator, &not_ready(team), |count| count == 1).await?;
    // As often as the longest backoff says.
    let again = of(team, due, STATIC, "missing");
    wait(operator, &again, |at| (at - now()).abs() <= 3).await?;
    let never = read(operator, &of(team, success, STATIC, "missing")).await?;
    ensure!(never.is_none(), "a success at {never:?}");

    // Times are whole seconds.
    wait_for("the next second", LONG, || async {
        ensure!(now() > first, "it is {first}");
        Ok(())
    })
    .await?;
    team.resync("app", "once").await?;
    wait(operator, &app, |at| at > first).await?;
    team.delete(STATIC, "missing").await?;
    wait_gone(operator, "name=\"missing\"").await?;
    wait(operator, &not_ready(team), |count| count == 0)
        .await
        .map(drop)
}

async fn of_what_others_do(team: &Team) -> Result<()> {
    let (operator, namespace) = (&team.operator, &team.tenant.namespace);
    let repairs = format!("vto_drift_repairs_total{{kind=\"{STATIC}\",namespace=\"{namespace}\"}}");
    ensure!(
        read(operator, &repairs).await?.is_none(),
        "a repair of what?"
    );
    team.edit_secret("app", "password", "wrong").await?;
    wait(operator, &repairs, |count| count == 1).await?;
    let gone = DeleteParams::default();
    team.secrets().delete("app", &gone).await?;
    wait(operator, &repairs, |count| count == 2).await?;
    team.wait_value("app", "password", "right").await?;

    let token = json!({ "destination": { "type": "kubernetes.io/service-account-token" } });
    team.calm("refused", token).await?;
    team.wait_problem("refused", "PolicyDenied").await?;
    let denials = "vto_policy_denials_total{rule=\"destination types\"}";
    let ended = format!("vto_reconciles_total{{kind=\"{STATIC}\",outcome=\"PolicyDenied\"}}");
    let count = wait(operator, denials, |count| count > 0).await?;
    wait(operator, &ended, |ended| ended >= count).await?;
    let again = wait(operator, denials, |again| again >= count).await?;
    ensure!(again <= count + 1, "{count} became {again}");
    team.delete(STATIC, "refused").await?;
    wait_gone(operator, "name=\"refused\"").await
}

async fn of_a_connection(team: &Team, proxy: &HttpProxy, begun: i64) -> Result<()> {
    let operator = &team.operator;
    let token = of_vault(team, "vto_vault_token_expiry_timestamp_seconds", "default");
    let ends = begun + TOKEN - 1..=now() + TOKEN;
    wait(operator, &token, |at| ends.contains(&at)).await?;
    let breaker = |name: &str| of_vault(team, "vto_vault_breaker_open", name);
    wait(operator, &breaker("default"), |open| open == 0).await?;
    let away = proxy
        .on(Match::any())
        .answer(Answer::vault_error(503, &["Vault is sealed"]));
    team.resync("app", "while it is away").await?;
    wait(operator, &breaker("default"), |open| open == 1).await?;
    away.remove();
    wait(operator, &breaker("default"), |open| open == 0).await?;
    team.wait_ready("app").await?;

    let [mut spare, _] = references(&team.tenant);
    spare["metadata"]["name"] = json!("spare");
    team.tenant.apply(&spare.to_string()).await?;
    team.wait_condition("VaultConnection", "spare", "Ready", "True")
        .await?;
    wait(operator, &breaker("spare"), |open| open == 0).await?;
    let lane = format!("{}/spare", team.tenant.namespace);
    let took =
        format!("vto_reconcile_duration_seconds_count{{kind=\"VaultConnection\",lane=\"{lane}\"}}");
    wait(operator, &took, |count| count > 0).await?;
    team.delete("VaultConnection", "spare").await?;
    wait_gone(operator, "name=\"spare\"").await?;
    wait_gone(operator, &lane).await
}

async fn of_a_lane(team: &Team, proxy: &HttpProxy) -> Result<()> {
    let (operator, namespace) = (&team.operator, &team.tenant.namespace);
    let depth = format!("vto_queue_depth{{lane=\"{namespace}/default\"}}");
    wait(operator, &depth, |count| count == 0).await?;
    let hanging = proxy
        .on(Match::any().path_contains("/data/hangs"))
        .answer(Answer::hang());
    for name in ["hangs-1", "hangs-2", "hangs-3"] {
        team.put(name, json!({ "value": "first" })).await?;
        team.calm(name, json!({})).await?;
    }
    hanging.hit(1, LONG).await?;
    // One has the place, the others wait for it.
    wait(operator, &depth, |count| count == 2).await?;
    hanging.remove();
    for name in ["hangs-1", "hangs-2", "hangs-3"] {
        team.wait_ready(name).await?;
    }
    wait(operator, &depth, |count| count == 0).await.map(drop)
}

async fn of_the_process(team: &Team, begun: i64) -> Result<()> {
    let pid = team.operator.process.pid();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64;
    let memory = Memory::of(pid)?.resident as f64;
    let metrics = team.operator.metrics().await?;
    let told = |name: &str| sample(&metrics, name, &[]).with_context(|| format!("no {name}"));
    let resident = told("process_resident_memory_bytes")?;
    ensure!(
        (0.5..2.0).contains(&(resident / memory)),
        "{resident}, not {memory}"
    );
    ensure!(told("process_virtual_memory_bytes")? >= resident);
    let open = told("process_open_fds")?;
    ensure!((open - files).abs() <= 16.0, "{open}, not {files}");
    ensure!(told("process_max_fds")? > open);
    let started = told("process_start_time_seconds")?;
    ensure!((begun..=now()).contains(&(started as i64)), "{started}");
    let worked = told("process_cpu_seconds_total")?;
    ensure!(
        worked > 0.0 && worked < (now() - begun + 1) as f64 * 4.0,
        "{worked}"
    );
    Ok(())
}

async fn beyond_the_bound_sums_tell_of_all(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("series-bound").await?;
    let bound = "telemetry: {maxResourceSeries: 3}\n";
    let team = Team::of(suite, tenant, None, bound).await?;
    let operator = &team.operator;
    for name in ["a", "b"] {
        team.put(name, json!({ "password": name })).await?;
        team.calm(name, json!({})).await?;
        team.wait_ready(name).await?;
    }
    team.calm("missing", json!({})).await?;
    team.wait_problem("missing", "SecretNotFound").await?;
    // Connection and login come first.
    wait(operator, "vto_resource_series_left_out", |count| count == 2).await?;
    wait(operator, &not_ready(&team), |count| count == 1).await?;
    let ready = |name: &str| of(&team, "vto_resource_ready", STATIC, name);
    wait(operator, &ready("a"), |is| is == 1).await?;
    let metrics = operator.metrics().await?;
    let count = metrics.matches("vto_resource_ready{").count();
    ensure!(count == 3 && !metrics.contains("name=\"b\""), "{metrics}");
    of_workloads_beyond_the_bound(&team).await?;
    // Who goes leaves its place to the next.
    team.delete(STATIC, "a").await?;
    wait(operator, &ready("b"), |is| is == 1).await?;
    wait(operator, "vto_resource_series_left_out", |count| count == 1).await?;
    wait_gone(operator, "name=\"a\"").await
}

/// Of five workloads three have a name, and two are told together and counted.
async fn of_workloads_beyond_the_bound(team: &Team) -> Result<()> {
    let operator = &team.operator;
    let names = ["web-1", "web-2", "web-3", "web-4", "web-5"];
    let targets = names.map(|name| json!({ "kind": "Deployment", "name": name }));
    for name in names {
        let web = deployment(name, "a");
        team.tenant.apply(&web.to_string()).await?;
    }
    let hold = json!({ "rolloutRestartTargets": targets, "rollout": { "hold": true } });
    team.calm("a", hold).await?;
    team.wait_current("a").await?;
    team.put("a", json!({ "password": "second" })).await?;
    team.resync("a", "second").await?;
    let pending = |name: &str| {
        let series = of(team, "vto_rollout_restarts_pending", "Deployment", name);
        series.replace('}', ",reason=\"Hold\"}")
    };
    wait(operator, &pending("web-3"), |count| count == 1).await?;
    wait(operator, &pending(""), |count| count == 2).await?;
    let failed = of(team, "vto_rollouts_failed", "Deployment", "");
    wait(operator, &failed, |count| count == 0).await?;
    wait(operator, "vto_resource_series_left_out", |count| count == 4).await?;
    let metrics = operator.metrics().await?;
    // A sum over those that are there could go down, which no counter does.
    let told =
        |name: &str| metrics.contains(&of(team, "vto_rollout_restarts_total", "Deployment", name));
    ensure!(told("web-3") && !told("web-4") && !told(""), "{metrics}");
    for name in names {
        let gone = DeleteParams::background();
        team.deployments().delete(name, &gone).await?;
    }
    team.calm("a", json!({})).await?;
    wait(operator, "vto_resource_series_left_out", |count| count == 2)
        .await
        .map(drop)
}

async fn a_standby_tells_of_no_resource(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "series-pair").await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.calm("app", json!({})).await?;
    team.wait_ready("app").await?;
    let ready = of(&team, "vto_resource_ready", STATIC, "app");
    wait(&team.operator, &ready, |is| is == 1).await?;
    let standby = instance(&team.tenant, &suite.binary, "").await?;
    let metrics = standby.metrics().await?;
    let told: Vec<&str> = OF_RESOURCES
        .into_iter()
        .filter(|family| metrics.contains(family))
        .collect();
    ensure!(told.is_empty(), "a standby tells of {told:?}");
    let exit = team.operator.terminate(LONG).await;
    ensure!(exit == Exit::Code(0), "{exit:?}");
    wait(&standby, &ready, |is| is == 1).await?;
    let due = of(
        &team,
        "vto_resource_next_due_timestamp_seconds",
        STATIC,
        "app",
    );
    wait(&standby, &due, |at| at >= now()).await?;
    // It has read nothing yet.
    let success = "vto_resource_last_success_timestamp_seconds";
    let success = of(&team, success, STATIC, "app");
    let read = read(&standby, &success).await?;
    ensure!(read.is_none(), "a success at {read:?}");
    let asked = now();
    team.resync("app", "once").await?;
    wait(&standby, &success, |at| at >= asked).await.map(drop)
}
