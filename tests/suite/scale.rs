//! How soon a new resource has its Secret while two thousand others are read
//! again and again. One grade is enough: by names all but 32 would be looked at
//! one by one, each new name would need a new Role first, and nobody is told to
//! run so many that way.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ground::judges::Arrivals;
use ground::wait_for;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};

use crate::endpoints::sample;
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team, config, prepare, static_secret};

crate::trials!["scale": among_two_thousand_a_new_secret_is_there_within_a_second];

const RESOURCES: usize = 2000;
const TRIES: usize = 100;
/// From one try to the next, so that they meet all that the others do.
const PACE: Duration = Duration::from_millis(150);
const REFRESH: Duration = Duration::from_secs(30);

/// As a platform would configure an operator of this size: 67 reads a second are
/// due, and the default budget is 50.
const BUDGET: &str = "  vaultRequestsPerSecond: 200\n  vaultRequestsBurst: 400\n";

async fn among_two_thousand_a_new_secret_is_there_within_a_second(suite: &Suite) -> Result<()> {
    let begun = Instant::now();
    let tenant = suite.ground.tenant("two-thousand").await?;
    prepare(&tenant).await?;
    let config = config(&tenant, BUDGET);
    let operator = tenant.operator(&suite.binary).config(&config);
    let operator = operator.start().await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "vault" })).await?;
    futures::stream::iter(0..RESOURCES)
        .map(|number| team.create(format!("s-{number}")))
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await?;
    println!("{RESOURCES} created {:.1?}", begun.elapsed());
    team.wait_secrets(RESOURCES).await?;
    println!("{RESOURCES} there {:.1?}", begun.elapsed());
    let eye = Eye::on(suite, &team);
    let (vault, _) = eye.mark()?;

    let arrivals = Arrivals::follow(team.secrets()).await?;
    let measured = Instant::now();
    let mut took = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for number in 0..TRIES {
        pace.tick().await;
        let name = format!("new-{number}");
        let asked = Instant::now();
        team.create(name.clone()).await?;
        took.push(arrivals.of(&name, LONG).await? - asked);
    }
    let (reads, lasted) = (
        eye.vault.count(&eye.reads().since(vault))?,
        measured.elapsed(),
    );
    println!("{reads} reads in {lasted:.1?}");
    let due = RESOURCES as f64 * lasted.as_secs_f64() / REFRESH.as_secs_f64();
    ensure!(
        reads as f64 > 0.8 * due,
        "{reads} reads where {due} were due"
    );
    let scraped = Instant::now();
    let metrics = team.operator.metrics().await?;
    println!(
        "{} bytes of metrics {:.1?}",
        metrics.len(),
        scraped.elapsed()
    );
    // A thousand have series of their own; the connection and the login do.
    let left_out = sample(&metrics, "vto_resource_series_left_out", &[]);
    let expected = (RESOURCES + TRIES + 2 - 1000) as f64;
    ensure!(left_out == Some(expected), "{left_out:?}");
    ensure!(metrics.len() < 1_000_000, "{} bytes", metrics.len());
    took.sort();
    let at = |percent: usize| took[took.len() * percent / 100 - 1];
    println!(
        "a new Secret among {RESOURCES}: median {:?}, p95 {:?}, p99 {:?}, longest {:?}; all {:.1?}",
        at(50),
        at(95),
        at(99),
        at(100),
        begun.elapsed()
    );
    ensure!(at(99) < Duration::from_secs(1), "{took:?}");
    Ok(())
}

impl Team {
    async fn create(&self, name: String) -> Result<()> {
        let more = json!({
            "path": "app", "refreshAfter": format!("{}s", REFRESH.as_secs()),
        });
        let manifest: Value = static_secret(&self.tenant, &name, more);
        let object: DynamicObject = serde_json::from_value(manifest)?;
        let kind = self.resources("VaultStaticSecret");
        kind.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    async fn wait_secrets(&self, count: usize) -> Result<()> {
        wait_for("all Secrets", 3 * LONG, || async {
            let all = self.secrets().list_metadata(&ListParams::default()).await?;
            let there = all.iter().filter(|one| one.name_any().starts_with("s-"));
            let there = there.count();
            ensure!(there == count, "{there} of {count}");
            Ok(())
        })
        .await
    }
}
