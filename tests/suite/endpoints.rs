//! `/healthz`, `/readyz` and `/metrics`: what they say and in which form.

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::Kind;
use ground::{Operator, wait_for};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::probes::workload;
use crate::support::{LONG, Suite, Team};

crate::trials!["endpoints": ; in each grade: probes_answer_and_each_metric_counts];

/// A URL below one of the operator's own addresses, by the flag that gave it.
fn endpoint(operator: &Operator, flag: &str, path: &str) -> Result<String> {
    let start = format!("--{flag}=");
    let args = &operator.process.spec().args;
    let address = args
        .iter()
        .find_map(|arg| arg.to_str()?.strip_prefix(&start));
    Ok(format!(
        "http://{}{path}",
        address.with_context(|| format!("no {flag}"))?
    ))
}

/// Content type and text of the metrics for an `Accept` header.
async fn metrics_as(operator: &Operator, accept: &str) -> Result<(String, String)> {
    let url = endpoint(operator, "metrics-bind-address", "/metrics")?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).header("Accept", accept).send().await?;
    let type_ = answer
        .headers()
        .get("content-type")
        .context("no content type")?;
    Ok((type_.to_str()?.to_owned(), answer.text().await?))
}

/// The value of the first sample whose line begins so and holds all of `labels`.
pub fn sample(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let is_it = |line: &&str| {
        let after = line.strip_prefix(name);
        after.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    metrics
        .lines()
        .find(is_it)?
        .rsplit(' ')
        .next()?
        .parse()
        .ok()
}

async fn probes_answer_and_each_metric_counts(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names {
        secrets: &["app", "missing"],
        ..Names::ROLLED
    };
    let team = Team::graded(suite, grade, "metrics", names).await?;
    team.put("app", json!({ "password": "first" })).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    team.tenant.apply(&web.to_string()).await?;
    let targets = json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] });
    team.static_secret("app", targets).await?;
    team.static_secret("missing", json!({})).await?;
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    team.wait_problem("missing", "SecretNotFound").await?;
    team.put("app", json!({ "password": "canary-of-metrics" }))
        .await?;
    let wanted: [(&str, &[&str]); 13] = [
        (
            "vto_build_info",
            &[concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")],
        ),
        (
            "vto_reconciles_total",
            &["kind=\"VaultStaticSecret\"", "outcome=\"ok\""],
        ),
        (
            "vto_reconciles_total",
            &["kind=\"VaultStaticSecret\"", "outcome=\"SecretNotFound\""],
        ),
        (
            "vto_reconciles_total",
            &["kind=\"VaultConnection\"", "outcome=\"ok\""],
        ),
        (
            "vto_reconcile_duration_seconds_count",
            &["VaultStaticSecret"],
        ),
        (
            "vto_vault_requests_total",
            &["operation=\"login\"", "outcome=\"ok\""],
        ),
        (
            "vto_vault_requests_total",
            &["operation=\"read\"", "outcome=\"ok\""],
        ),
        (
            "vto_vault_requests_total",
            &["operation=\"health\"", "outcome=\"ok\""],
        ),
        ("vto_vault_request_duration_seconds_count", &["read"]),
        (
            "vto_kubernetes_requests_total",
            &["operation=\"patch\"", "outcome=\"ok\""],
        ),
        ("vto_kubernetes_request_duration_seconds_count", &["patch"]),
        ("vto_secret_writes_total", &[]),
        ("vto_rollout_restarts_total", &[]),
    ];
    wait_for("all metrics to count", LONG, || async {
        let metrics = team.operator.metrics().await?;
        for (name, labels) in &wanted {
            let value = sample(&metrics, name, labels)
                .with_context(|| format!("no {name} {labels:?} in\n{metrics}"))?;
            ensure!(value >= 1.0, "{name} {labels:?} is {value}");
        }
        Ok(())
    })
    .await?;
    let metrics = team.operator.metrics().await?;
    ensure!(
        sample(&metrics, "vto_secret_writes_total", &[]) == Some(2.0),
        "{metrics}"
    );
    ensure!(
        sample(&metrics, "vto_rollout_restarts_total", &[]) == Some(1.0),
        "{metrics}"
    );
    ensure!(
        sample(&metrics, "vto_watch_failing", &[]) == Some(0.0),
        "{metrics}"
    );
    ensure!(
        !metrics.contains("canary-of-metrics") && !metrics.contains("password"),
        "a value is in the metrics"
    );
    let (type_, text) = metrics_as(&team.operator, "text/plain").await?;
    ensure!(
        type_.starts_with("text/plain; version=0.0.4") && !text.contains("# EOF"),
        "{type_}"
    );
    let (type_, text) = metrics_as(
        &team.operator,
        "application/openmetrics-text; version=1.0.0",
    )
    .await?;
    ensure!(
        type_.starts_with("application/openmetrics-text; version=1.0.0")
            && text.ends_with("# EOF\n"),
        "{type_}"
    );
    for path in ["/healthz", "/readyz"] {
        let url = endpoint(&team.operator, "health-probe-bind-address", path)?;
        let answer = reqwest::Client::builder()
            .no_proxy()
            .build()?
            .get(url)
            .send()
            .await?;
        ensure!(
            answer.status() == 200 && answer.text().await? == "ok",
            "{path}"
        );
    }
    Ok(())
}
