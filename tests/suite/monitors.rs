//! What `kustomize/components` has for a monitoring system: the API server takes it
//! with the Prometheus Operator's own definitions, it leads to the operator's pods,
//! and the dashboard is one that Grafana's sidecar finds and that says what it shows.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::manifests::install_crds;
use ground::prometheus::{JOB, operator_crds};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::applied::{apply_without_warning, render_own};
use crate::install::kind_of;
use crate::support::Suite;

crate::trials![
    "monitors": the_api_server_takes_them_and_they_lead_to_the_pods,
    each_panel_of_the_dashboard_says_what_it_shows,
];

const DASHBOARD: &str =
    include_str!("../../kustomize/components/grafana-dashboard/vault-tenant-operator.json");

/// The rows of the dashboard, each with its panels.
const ROWS: [&str; 6] = [
    "Is my tenant fine?",
    "Secrets",
    "Expiry",
    "Vault",
    "Rollouts",
    "Operator",
];

async fn the_api_server_takes_them_and_they_lead_to_the_pods(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("monitored").await?;
    install_crds(&tenant.client, &operator_crds()?).await?;
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": tenant.namespace,
        "resources": ["kustomize/base"],
        "components": [
            "kustomize/components/network-policy",
            "kustomize/components/pod-monitor",
            "kustomize/components/service-monitor",
            "kustomize/components/prometheus-rule",
            "kustomize/components/grafana-dashboard",
        ],
    });
    let dir = tenant.dir.join("monitored");
    let rendered = render_own(suite, &dir, overlay, &["resources", "components"]).await?;
    let objects = apply_without_warning(&tenant.client, &tenant.namespace, &rendered).await?;
    let one = |kind: &str| -> Result<&DynamicObject> {
        let mut of_kind = objects.iter().filter(|object| kind_of(object) == kind);
        let found = of_kind.next().with_context(|| format!("no {kind}"))?;
        ensure!(of_kind.next().is_none(), "several {kind}");
        Ok(found)
    };
    let deployment = &one("Deployment")?.data["spec"]["template"];
    let labels = &deployment["metadata"]["labels"];
    let ports = &deployment["spec"]["containers"][0]["ports"];
    let named: Vec<_> = ports.as_array().into_iter().flatten().collect();
    let has_metrics = named.iter().any(|port| port["name"] == "metrics");
    ensure!(has_metrics, "{ports}");
    let [pods, service, services] = ["PodMonitor", "Service", "ServiceMonitor"].map(one);
    let (pods, service, services) = (pods?, service?, services?);
    let policy = one("NetworkPolicy")?;
    for (endpoint, selector) in [
        (
            &pods.data["spec"]["podMetricsEndpoints"][0],
            &pods.data["spec"]["selector"]["matchLabels"],
        ),
        (
            &services.data["spec"]["endpoints"][0],
            &services.data["spec"]["selector"]["matchLabels"],
        ),
    ] {
        ensure!(
            endpoint["port"] == "metrics" && endpoint["honorLabels"] == true,
            "{endpoint}"
        );
        ensure!(selector["app.kubernetes.io/name"] == JOB, "{selector}");
    }
    ensure!(labels["app.kubernetes.io/name"] == JOB, "{labels}");
    ensure!(
        &service.data["spec"]["selector"] == labels,
        "{:?}",
        service.data
    );
    ensure!(
        service.data["spec"]["ports"][0]["targetPort"] == "metrics",
        "{:?}",
        service.data
    );
    let own = service.metadata.labels.as_ref().context("no labels")?;
    ensure!(
        own.get("app.kubernetes.io/name")
            .is_some_and(|name| name == JOB),
        "{own:?}"
    );
    for monitor in [pods, services] {
        ensure!(
            monitor.data["spec"]["jobLabel"] == "app.kubernetes.io/name",
            "{monitor:?}"
        );
    }
    ensure!(
        policy.data["spec"]["ingress"][0]["ports"][0]["port"] == "metrics",
        "{policy:?}"
    );
    let dashboards: Vec<_> = objects
        .iter()
        .filter(|object| {
            let labels = object.metadata.labels.as_ref();
            labels
                .and_then(|labels| labels.get("grafana_dashboard"))
                .is_some_and(|on| on == "1")
        })
        .collect();
    let [dashboard] = dashboards[..] else {
        anyhow::bail!("{} dashboards", dashboards.len());
    };
    let json = dashboard.data["data"]["vault-tenant-operator.json"].as_str();
    ensure!(json == Some(DASHBOARD), "another dashboard");
    Ok(())
}

/// What each variable of the dashboard is chosen from, but for the data source: its name and its query.
pub fn variables() -> Result<Vec<(String, String)>> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let variables = dashboard["templating"]["list"].as_array();
    let queries = variables.into_iter().flatten();
    let queries = queries.filter(|one| one["type"] == "query");
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    queries
        .map(|one| Some((text(&one["name"])?, text(&one["query"]["query"])?)))
        .map(|one| one.context("a variable without name or query"))
        .collect()
}

/// The panels of the dashboard, without its rows.
pub fn panels() -> Result<Vec<Value>> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let shown = panels.iter().filter(|panel| panel["type"] != "row");
    Ok(shown.cloned().collect())
}

/// Whether the thresholds of a panel colour anything, or are drawn.
fn shows_thresholds(panel: &Value) -> bool {
    let defaults = &panel["fieldConfig"]["defaults"];
    match panel["type"].as_str() {
        // Lines have colours of their own.
        Some("timeseries") => {
            let style = defaults["custom"]["thresholdsStyle"]["mode"].as_str();
            style.is_some_and(|mode| mode != "off")
        }
        Some("stat") => {
            defaults["color"]["mode"] == "thresholds" && panel["options"]["colorMode"] != "none"
        }
        Some("bargauge") => defaults["color"]["mode"] == "thresholds",
        Some("table") => {
            let cells = defaults["custom"]["cellOptions"]["type"].as_str();
            defaults["color"]["mode"] == "thresholds"
                && cells.is_some_and(|cells| cells.starts_with("color-"))
        }
        _ => false,
    }
}

async fn each_panel_of_the_dashboard_says_what_it_shows(_: &Suite) -> Result<()> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let all = dashboard["panels"].as_array().context("no panels")?;
    let rows: Vec<_> = all
        .iter()
        .filter(|panel| panel["type"] == "row")
        .filter_map(|row| row["title"].as_str())
        .collect();
    ensure!(rows == ROWS, "{rows:?}");
    let ids: BTreeSet<_> = all
        .iter()
        .filter_map(|panel| panel["id"].as_u64())
        .collect();
    ensure!(ids.len() == all.len(), "two panels have one id");
    let variables = dashboard["templating"]["list"].as_array();
    let source = variables
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "datasource");
    ensure!(
        source.is_some_and(|one| one["name"] == "datasource"),
        "no data source to choose"
    );
    for panel in panels()? {
        let defaults = &panel["fieldConfig"]["defaults"];
        let said = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
        for text in [
            &panel["title"],
            &panel["description"],
            &defaults["unit"],
            &defaults["noValue"],
        ] {
            ensure!(said(text), "something is not said: {panel}");
        }
        let steps = defaults["thresholds"]["steps"].as_array();
        let steps = steps.with_context(|| format!("no thresholds: {panel}"))?;
        ensure!(!steps.is_empty(), "no thresholds: {panel}");
        // A limit is one that is seen; where there is none, one colour says so.
        ensure!(
            shows_thresholds(&panel) == (steps.len() > 1)
                // One that has no limit is coloured too.
                || (panel["type"] == "stat" && steps.len() == 1),
            "its thresholds are not seen, or it shows none: {panel}"
        );
        let targets = panel["targets"].as_array().context("no targets")?;
        ensure!(!targets.is_empty(), "no query: {panel}");
        // The namespace that is chosen counts, or the panel says that it does not.
        let chosen = |target: &Value| {
            let query = target["expr"].as_str();
            query.is_some_and(|query| query.contains("$namespace"))
        };
        let by_job = panel["description"].as_str().unwrap_or_default();
        ensure!(
            targets.iter().all(chosen) != by_job.contains("hosen by job alone"),
            "{panel}"
        );
        for target in targets {
            ensure!(
                said(&target["expr"]) && said(&target["legendFormat"]),
                "{target}"
            );
            ensure!(target["datasource"]["uid"] == "${datasource}", "{target}");
        }
    }
    Ok(())
}
