//! An operator in a namespace of its own, whose Vault is away: what the dashboard shows
//! to whoever has chosen its tenant.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::prometheus::Target;
use ground::resources::references;
use ground::{Prometheus, wait_for};
use serde_json::json;

use super::scene::AWAY;
use super::{ABSENCE, Seen};
use crate::grades::Grade;
use crate::monitors::panels;
use crate::namespaces::serve;
use crate::support::{LONG, Suite, config, static_secret};

/// A namespace that no operator serves.
const NOBODYS: &str = "nobodys";

/// Alerts of the operator itself while its Vault is away.
const OF_ITSELF: [&str; 2] = ["VtoBreakerOpen", "VtoVaultUnreachable"];

/// The queries of a panel.
fn asked_by(title: &str) -> Result<Vec<String>> {
    let panels = panels()?;
    let panel = panels.iter().find(|panel| panel["title"] == title);
    let panel = panel.with_context(|| format!("no panel {title}"))?;
    let targets = panel["targets"].as_array().context("no targets")?;
    let queries = targets
        .iter()
        .filter_map(|target| target["expr"].as_str())
        .map(str::to_owned);
    Ok(queries.collect())
}

/// What a panel counts, instead of how many there are.
fn counted(query: &str) -> Result<&str> {
    let inner = query.strip_prefix("count(");
    let inner = inner.and_then(|inner| inner.strip_suffix(") or vector(0)"));
    inner.with_context(|| format!("it counts nothing: {query}"))
}

impl Seen<'_> {
    /// The values of a label, of what the first query of a panel gives or counts, each with its namespace.
    async fn in_panel(&self, title: &str, label: &str) -> Result<BTreeSet<(String, String)>> {
        let queries = asked_by(title)?;
        let query = queries.first().context("no query")?;
        let query = self.chosen(counted(query).unwrap_or(query));
        let found = self.prometheus.query(&query).await?;
        let of = |labels: &std::collections::BTreeMap<String, String>, name: &str| {
            labels.get(name).cloned().unwrap_or_default()
        };
        Ok(found
            .iter()
            .map(|one| (of(&one.labels, "namespace"), of(&one.labels, label)))
            .collect())
    }

    /// The panel of alerts shows this one of the operator.
    async fn is_warned_of(&self, alert: &str) -> Result<()> {
        let own = (self.beside.to_owned(), alert.to_owned());
        wait_for(&format!("the panel to count {alert}"), LONG, || async {
            let shown = self.in_panel("Alerts", "alertname").await?;
            ensure!(shown.contains(&own), "{shown:?}");
            Ok(())
        })
        .await
    }
}

/// Its tenant sees that its Vault is away, what it lacks and which of its alerts fire, and
/// nobody else does.
pub async fn its_tenant_sees_it(suite: &Suite, prometheus: &Prometheus) -> Result<()> {
    let home = suite.ground.tenant("platform").await?;
    let tenant = suite.ground.tenant("chosen").await?;
    serve(Grade::Namespace, &tenant, &home, &[]).await?;
    let connection = format!(
        "connection: {{address: \"{AWAY}\", caCertPath: \"{}\"}}\n",
        suite.ground.pki.ca_file().display()
    );
    let config = config(&home, &connection).replace(&home.vault_address, AWAY);
    let operator = home.operator(&suite.binary).config(&config);
    let operator = operator.watch_namespaces(&[&tenant.namespace]);
    let operator = operator.start().await?;
    // Without a VaultConnection it goes by that of the configuration.
    let [_, auth] = references(&tenant);
    for manifest in [auth, static_secret(&tenant, "app", json!({}))] {
        tenant.apply(&manifest.to_string()).await?;
    }
    let target = Target {
        operator: &operator,
        namespace: &home.namespace,
        pod: "vto-4",
    };
    prometheus.scrape(&[target]).await?;
    let seen = Seen {
        prometheus,
        namespace: &tenant.namespace,
        beside: &home.namespace,
    };
    let nobodys = Seen {
        namespace: NOBODYS,
        ..seen
    };
    for title in ["Vault away", "Vault is away"] {
        let [query] = &asked_by(title)?[..] else {
            anyhow::bail!("{title} has several queries");
        };
        seen.is(query, 1.0).await?;
        let shown = seen.in_panel(title, "name").await?;
        let own = BTreeSet::from([(home.namespace.clone(), String::new())]);
        ensure!(shown == own, "{title}: {shown:?}");
        let shown = nobodys.in_panel(title, "name").await?;
        ensure!(shown.is_empty(), "{title}: {shown:?}");
    }
    // It needs rights in both namespaces.
    wait_for("its rights to be shown", LONG, || async {
        let shown = seen.in_panel("Rights and refusals", "").await?;
        let both = [&home, &tenant].map(|of| (of.namespace.clone(), String::new()));
        ensure!(shown == BTreeSet::from(both), "{shown:?}");
        Ok(())
    })
    .await?;
    for alert in OF_ITSELF {
        seen.is_warned_of(alert).await?;
    }
    ensure!(operator.terminate(Duration::from_secs(30)).await.success());
    seen.is_warned_of(ABSENCE).await?;
    let shown = nobodys.in_panel("Alerts", "alertname").await?;
    ensure!(shown.is_empty(), "{shown:?}");
    Ok(())
}
