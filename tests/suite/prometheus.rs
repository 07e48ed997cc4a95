//! A real Prometheus scrapes two instances of an operator: what promtool says of their
//! metrics, and what every query of docs/metrics.md, of the dashboard and of the alerts
//! gives for what the trial has done.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::PkiRole;
use ground::faults::{Answer, Match};
use ground::judges::workloads::Kind;
use ground::prometheus::{JOB, Target, promtool};
use ground::{Operator, Prometheus, Right, wait_for};
use serde_json::json;

use crate::alerts::{rule_file, rules, text};
use crate::bearer;
use crate::documents::{quoted, rows};
use crate::leadership::instance;
use crate::lessee;
use crate::monitors::panels;
use crate::probes::{api_proxy, workload};
use crate::support::{LONG, Suite, Team};

crate::trials!["prometheus": every_query_tells_what_was_done];

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

/// Metrics of which there is nothing to see here, and why.
const UNSEEN: [(&str, &str); 2] = [
    (
        "vto_namespace_withheld",
        "comes with the first namespace that is withheld",
    ),
    (
        "vto_pruned_status_fields",
        "comes with a definition that is not ours",
    ),
];

/// What the ground's Prometheus knows of one tenant.
struct Seen<'a> {
    prometheus: &'a Prometheus,
    namespace: &'a str,
}

impl Seen<'_> {
    /// An expression, as somebody sees it who has chosen the tenant's namespace.
    fn chosen(&self, expression: &str) -> String {
        expression
            .replace("$namespace", self.namespace)
            .replace("$job", JOB)
            .replace("$__rate_interval", "1m")
    }

    /// Waits until an expression has this one value.
    async fn is(&self, expression: &str, value: f64) -> Result<()> {
        let expression = self.chosen(expression);
        wait_for(&format!("{expression} to be {value}"), LONG, || async {
            let found = self.prometheus.query(&expression).await?;
            let [one] = &found[..] else {
                anyhow::bail!("{found:?}");
            };
            ensure!((one.value - value).abs() < f64::EPSILON, "{found:?}");
            Ok(())
        })
        .await
    }

    /// The names of the alerts of the tenant that are pending or fire.
    async fn alerts(&self) -> Result<BTreeSet<String>> {
        let query = self.chosen("ALERTS{namespace=\"$namespace\"}");
        let found = self.prometheus.query(&query).await?;
        let names = found
            .into_iter()
            .filter_map(|mut one| one.labels.remove("alertname"));
        Ok(names.collect())
    }

    /// An expression gives something, or did without the bound at its end.
    async fn tells(&self, expression: &str) -> Result<()> {
        let expression = self.chosen(expression);
        self.prometheus.query(&expression).await?;
        if UNSEEN.iter().any(|(metric, _)| expression.contains(metric)) {
            return Ok(());
        }
        let all = without_bound(&expression);
        let found = self.prometheus.query(all).await?;
        // What was not done in the range has no quantile.
        let tells = found.iter().any(|one| one.value.is_finite());
        ensure!(tells, "{all} gives {found:?}");
        Ok(())
    }
}

/// An expression without the comparison with a number that it ends with, if any.
fn without_bound(expression: &str) -> &str {
    let Some((before, bound)) = expression.rsplit_once(' ') else {
        return expression;
    };
    let compared = [" >", " <", " =="]
        .iter()
        .find_map(|sign| before.strip_suffix(sign));
    match (compared, bound.parse::<f64>()) {
        (Some(value), Ok(_)) => value,
        _ => expression,
    }
}

/// Every metric that a text names, by the families of docs/metrics.md.
fn named(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("vto_") || word.starts_with("process_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
}

async fn every_query_tells_what_was_done(suite: &Suite) -> Result<()> {
    let prometheus = suite.ground.prometheus().await?;
    prometheus.rules(&rule_file()?).await?;
    let tenant = suite.ground.tenant("scraped").await?;
    let proxy = api_proxy(&suite.ground).await?;
    let team = Team::of(suite, tenant, Some(&proxy.url()), "").await?;
    let namespace = team.tenant.namespace.clone();
    let standby = instance(&team.tenant, &suite.binary, "").await?;
    let seen = Seen {
        prometheus,
        namespace: &namespace,
    };
    let targets = [(&team.operator, "vto-1"), (&standby, "vto-2")];
    let targets = targets.map(|(operator, pod)| Target {
        operator,
        namespace: &namespace,
        pod,
    });
    prometheus.scrape(&targets).await?;

    what_is_well(&team, &seen).await?;
    // What was seen before a first sync is pending until the rules are evaluated again.
    wait_for("no alert to be left", LONG, || async {
        let alerts = seen.alerts().await?;
        ensure!(alerts.is_empty(), "{alerts:?}");
        Ok(())
    })
    .await?;
    let refused = proxy
        .on(Match::method("PATCH").path_contains("/secrets/app"))
        .once()
        .answer(Answer::status(500));
    what_goes_wrong(&team, &seen).await?;
    refused.hit(1, LONG).await?;
    for operator in [&team.operator, &standby] {
        lint(suite, operator).await?;
    }
    each_query(&seen).await?;
    for name in [
        "VtoSyncFailing",
        "VtoAuthFailing",
        "VtoDuplicateDestination",
    ] {
        wait_for(name, LONG, || async {
            let alerts = seen.alerts().await?;
            ensure!(alerts.contains(name), "{alerts:?}");
            Ok(())
        })
        .await?;
    }
    ensure!(standby.terminate(LONG).await.success());
    Ok(())
}

/// Three kinds of secrets arrive, one with a workload that restarts.
async fn what_is_well(team: &Team, seen: &Seen<'_>) -> Result<()> {
    let tenant = &team.tenant;
    let engine = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
    let leasing = PkiRole {
        generate_lease: true,
        ..PkiRole::default()
    };
    let paths = [
        engine.role("web", &PkiRole::default()).await?,
        engine.role("leased", &leasing).await?,
    ];
    tenant
        .grant(&paths.each_ref().map(String::as_str), &Right::ALL)
        .await?;
    team.put("app", json!({ "password": "first" })).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    tenant.apply(&web.to_string()).await?;
    let targets = json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] });
    team.static_secret("app", targets).await?;
    let certificate = json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": bearer::KIND,
        "metadata": { "name": "web" },
        "spec": {
            "mount": engine.mount, "role": "web", "commonName": "web.test",
            "destination": { "name": "web", "create": true },
        },
    });
    let leased = json!({
        "mount": engine.mount, "path": "issue/leased", "params": { "common_name": "web.test" },
    });
    let leased = lessee::dynamic_secret(tenant, "leased", leased);
    for manifest in [certificate, leased] {
        tenant.apply(&manifest.to_string()).await?;
    }
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    for (kind, name) in [(bearer::KIND, "web"), (lessee::KIND, "leased")] {
        team.wait_condition(kind, name, "Ready", "True").await?;
    }
    for (expression, value) in [
        (
            "sum by (namespace) (vto_managed_secrets{namespace=\"$namespace\"})",
            3.0,
        ),
        (
            "sum(vto_vault_secrets{namespace=\"$namespace\", type=\"pki\"})",
            1.0,
        ),
        (
            "sum(vto_resources{namespace=\"$namespace\", kind=~\"Vault.+Secret\"})",
            3.0,
        ),
        ("sum(vto_leader{namespace=\"$namespace\"})", 1.0),
        ("sum(vto_namespace_served{namespace=\"$namespace\"})", 1.0),
        (
            "sum(vto_resources_not_ready{namespace=\"$namespace\"})",
            0.0,
        ),
        (
            "count(vto_resource_ready{namespace=\"$namespace\"} == 1)",
            5.0,
        ),
        ("count(vto_build_info{namespace=\"$namespace\"})", 2.0),
        (
            "count(up{job=\"$job\", namespace=\"$namespace\"} == 1)",
            2.0,
        ),
    ] {
        seen.is(expression, value).await?;
    }
    Ok(())
}

/// A Secret is edited, one restart is held, and one path, one login, one address and one destination are wrong.
async fn what_goes_wrong(team: &Team, seen: &Seen<'_>) -> Result<()> {
    team.edit_secret("app", "password", "edited").await?;
    team.wait_value("app", "password", "first").await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.resync("app", "again").await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_current("app").await?;
    let held = workload(Kind::Deployment, "held", "held", json!({}));
    team.tenant.apply(&held.to_string()).await?;
    team.put("held", json!({ "password": "first" })).await?;
    let hold = json!({
        "rolloutRestartTargets": [{ "kind": "Deployment", "name": "held" }], "rollout": { "hold": true },
    });
    team.static_secret("held", hold).await?;
    team.wait_current("held").await?;
    team.put("held", json!({ "password": "second" })).await?;
    team.resync("held", "again").await?;
    team.static_secret("missing", json!({})).await?;
    let same = json!({ "path": "app", "destination": { "name": "app" } });
    team.static_secret("copy", same).await?;
    let [mut connection, mut auth] = ground::resources::references(&team.tenant);
    connection["metadata"]["name"] = json!("foreign");
    connection["spec"]["address"] = json!("https://vault.foreign.test:8200");
    auth["metadata"]["name"] = json!("stranger");
    auth["spec"]["kubernetes"]["role"] = json!("nobody");
    for manifest in [connection, auth] {
        team.tenant.apply(&manifest.to_string()).await?;
    }
    team.static_secret("stranger", json!({ "vaultAuthRef": "stranger" }))
        .await?;
    team.wait_problem("missing", "SecretNotFound").await?;
    team.wait_problem("stranger", "VaultLoginFailed").await?;
    for (expression, value) in [
        (
            "sum(vto_resources_not_ready{namespace=\"$namespace\", kind=\"VaultStaticSecret\"})",
            3.0,
        ),
        (
            "sum(vto_resources_not_ready{namespace=\"$namespace\", kind=\"VaultConnection\"})",
            1.0,
        ),
        ("sum(vto_contested_secrets{namespace=\"$namespace\"})", 1.0),
        (
            "sum(vto_drift_repairs_total{namespace=\"$namespace\"})",
            1.0,
        ),
        (
            "sum(vto_rollout_restarts_total{namespace=\"$namespace\"})",
            1.0,
        ),
        ("sum(vto_managed_secrets{namespace=\"$namespace\"})", 4.0),
        (
            "sum(vto_rollout_restarts_pending{namespace=\"$namespace\"})",
            1.0,
        ),
        ("sum(vto_vault_breaker_open{namespace=\"$namespace\"})", 0.0),
    ] {
        seen.is(expression, value).await?;
    }
    Ok(())
}

/// promtool has nothing to say against the metrics of an instance.
async fn lint(suite: &Suite, operator: &Operator) -> Result<()> {
    let metrics = operator.metrics().await?;
    let (components, dir) = (suite.ground.components(), suite.ground.dir());
    promtool(components, dir, &["check", "metrics"], &metrics).await?;
    // One that is named badly is found.
    let wrong = metrics.replace("vto_leader ", "vto_leader_ms ");
    let wrong = wrong.replace("# TYPE vto_leader ", "# TYPE vto_leader_ms ");
    let said = promtool(components, dir, &["check", "metrics"], &wrong).await;
    ensure!(
        said.is_err(),
        "promtool finds nothing wrong with milliseconds"
    );
    Ok(())
}

/// Those of the document, of the dashboard and of the alerts; all of them go by metrics
/// that the document has.
async fn each_query(seen: &Seen<'_>) -> Result<()> {
    let documented: Vec<_> = rows(DOCUMENT)
        .filter(|row| row.len() >= 5 && row.iter().any(|cell| cell.starts_with('`')))
        .collect();
    let families: BTreeSet<&str> = documented
        .iter()
        .filter_map(|row| quoted(row[row.len() - 5]).next())
        .collect();
    let mut queries = Vec::new();
    for row in &documented {
        let query = quoted(row[row.len() - 1]).next().context("no query")?;
        queries.push(("docs/metrics.md".to_owned(), query.to_owned(), true));
    }
    for panel in panels()? {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().context("no targets")? {
            let query = target["expr"].as_str().context("no query")?;
            queries.push((format!("panel {title}"), query.to_owned(), true));
        }
    }
    for rule in rules()? {
        let alert = text(&rule, "alert")?.to_owned();
        queries.push((alert, text(&rule, "expr")?.to_owned(), false));
    }
    let mut telling = Vec::new();
    ensure!(queries.len() > 80, "only {} queries", queries.len());
    for (place, query, tells) in queries {
        for metric in named(&query) {
            ensure!(families.contains(metric), "{place}: no metric {metric}");
        }
        if !tells {
            seen.prometheus.query(&query).await.context(place)?;
            continue;
        }
        telling.push((place, query));
    }
    wait_for("every query to tell something", LONG, || async {
        let mut silent = Vec::new();
        for (place, query) in &telling {
            if let Err(error) = seen.tells(query).await {
                silent.push(format!("{place}: {error:#}"));
            }
        }
        ensure!(silent.is_empty(), "{silent:#?}");
        Ok(())
    })
    .await
}
