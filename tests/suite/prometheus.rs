//! A real Prometheus scrapes three instances of operators: what promtool says of their
//! metrics, what every query of docs/metrics.md, of the runbooks and of the dashboard
//! gives for what the trial has done, and which alerts fire. A fourth one lives beside its
//! tenant, who sees it in the dashboard.

mod beside;
mod expected;
mod scene;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ground::prometheus::{JOB, Target, promtool};
use ground::{Operator, Prometheus, wait_for};

use crate::alerts::{rule_file, rules, text};
use crate::monitors::variables;
use crate::support::{LONG, Suite};
use scene::Scene;

crate::trials!["prometheus": every_query_tells_what_was_done];

/// Alerts that nothing here leads to: all have series, and the operator lacks no right.
const SILENT: [&str; 2] = ["VtoSeriesLeftOut", "VtoRightMissing"];

/// The one that has fired before a Vault was away.
const REFUSED: &str = "VtoAuthFailing";

/// The one that fires once the instances are gone.
const ABSENCE: &str = "VtoNoLeader";

/// What the ground's Prometheus knows of one tenant.
#[derive(Clone, Copy)]
struct Seen<'a> {
    prometheus: &'a Prometheus,
    namespace: &'a str,
    /// Where another operator lives that serves, or would serve, the same tenant.
    beside: &'a str,
}

impl Seen<'_> {
    /// An expression, as somebody sees it who has chosen the tenant's namespace: in the
    /// dashboard, in docs/metrics.md, in a runbook.
    fn chosen(&self, expression: &str) -> String {
        let namespace = self.namespace;
        expression
            .replace("$namespace", namespace)
            .replace("namespace=\"team\"", &format!("namespace=\"{namespace}\""))
            .replace(
                "namespace=\"OPERATOR\"",
                &format!("namespace=\"{namespace}\""),
            )
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

    /// The names of the alerts of the tenant that fire.
    async fn alerts(&self) -> Result<BTreeSet<String>> {
        let query = self.chosen("ALERTS{namespace=\"$namespace\", alertstate=\"firing\"}");
        let found = self.prometheus.query(&query).await?;
        let names = found
            .into_iter()
            .filter_map(|mut one| one.labels.remove("alertname"));
        Ok(names.collect())
    }

    /// Waits until this alert fires.
    async fn fires(&self, name: &str) -> Result<()> {
        wait_for(name, LONG, || async {
            let alerts = self.alerts().await?;
            ensure!(alerts.contains(name), "{alerts:?}");
            Ok(())
        })
        .await
    }
}

/// The shipped rules without the time that they wait, which promtool's tests are about;
/// what has not succeeded is stale after seconds.
fn impatient() -> Result<String> {
    let mut file: serde_yaml::Value = serde_yaml::from_str(&rule_file()?)?;
    let groups = file["groups"].as_sequence_mut().into_iter().flatten();
    for group in groups {
        for rule in group["rules"].as_sequence_mut().into_iter().flatten() {
            if let Some(rule) = rule.as_mapping_mut() {
                rule.remove("for");
            }
        }
    }
    let rules = serde_yaml::to_string(&file)?;
    let hour = "_last_success_timestamp_seconds) > 3600";
    ensure!(rules.matches(hour).count() == 1, "{rules}");
    Ok(rules.replace(hour, &hour.replace("3600", "5")))
}

async fn every_query_tells_what_was_done(suite: &Suite) -> Result<()> {
    let prometheus = suite.ground.prometheus().await?;
    prometheus.rules(&impatient()?).await?;
    let scene = Scene::start(suite).await?;
    let seen = Seen {
        prometheus,
        namespace: &scene.team.tenant.namespace,
        beside: &scene.beside.namespace,
    };
    let instances = [
        (&scene.team.operator, seen.namespace, "vto-1"),
        (&scene.standby, seen.namespace, "vto-2"),
        (&scene.neighbour, seen.beside, "vto-3"),
    ];
    let targets = instances.map(|(operator, namespace, pod)| Target {
        operator,
        namespace,
        pod,
    });
    prometheus.scrape(&targets).await?;

    scene.what_is_well(&seen).await?;
    // What was seen before a first sync fires until the rules are evaluated again.
    wait_for("no alert to be left", LONG, || async {
        let alerts = seen.alerts().await?;
        ensure!(alerts.is_empty(), "{alerts:?}");
        Ok(())
    })
    .await?;
    scene.what_goes_wrong(suite, &seen).await?;
    for operator in [&scene.team.operator, &scene.standby] {
        lint(suite, operator).await?;
    }
    expected::each_query(&seen).await?;
    let mut gone = false;
    for rule in rules()? {
        let name = text(&rule, "alert")?;
        if name == ABSENCE {
            gone = true;
        } else if !SILENT.contains(&name) && name != REFUSED {
            seen.fires(name).await?;
        }
    }
    for (name, query) in variables()? {
        let inner = query.strip_prefix("label_values(").unwrap_or_default();
        let question = inner.trim_end_matches(')').split_once(", ");
        let (metric, label) = question.unwrap_or_default();
        let found = prometheus.label_values(metric, label).await?;
        let wanted = if name == "job" { JOB } else { seen.namespace };
        let only = name != "job" || found.len() == 1;
        ensure!(
            only && found.iter().any(|value| value == wanted),
            "{name}: {query} gives {found:?}"
        );
    }
    ensure!(gone, "no alert {ABSENCE}");
    let patience = Duration::from_secs(30);
    ensure!(scene.standby.terminate(patience).await.success());
    ensure!(scene.team.operator.terminate(patience).await.success());
    seen.fires(ABSENCE).await?;
    ensure!(scene.neighbour.terminate(patience).await.success());
    beside::its_tenant_sees_it(suite, prometheus).await
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
