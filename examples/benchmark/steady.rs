//! Steady: what a restart of the operator costs while all is well, and a refresh that finds no change.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::load::at_rest;
use crate::site::{Site, UNLIMITED};
use crate::table::{Bound, Table};

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// After what time each refresh is due; they are counted for twice as long.
const REFRESH: Duration = Duration::from_secs(5);

/// Requests of a restart with so many healthy resources.
pub async fn restart(bench: &Bench, table: &mut Table, resources: usize) -> Result<()> {
    let site = Site::make(bench, "restart", resources, "1000h").await?;
    let operator = site.operator(bench, UNLIMITED).await?;
    site.wait_secrets(resources + 2).await?;
    at_rest(&operator).await?;
    let (vault, api) = (bench.vault.mark()?, bench.api.mark()?);
    operator.terminate(LONG).await;
    operator.restart().await?;
    operator.wait_ready(LONG).await?;
    at_rest(&operator).await?;
    let tenant = &site.tenant;
    let asked = bench.vault.count(&tenant.at_vault().since(vault))?;
    let counts = bench.api.counts(&tenant.at_api().since(api))?;
    eprintln!("restart with {resources}: {counts:?}");
    let work: usize = counts.values().sum();
    // Those of a start; later ones are renewals.
    let leases = bench.api.requests(&tenant.at_leases().since(api))?;
    let what = |what: &str| format!("restart with {resources} healthy, {what}");
    table.one(
        what("requests to Vault"),
        "",
        asked as f64,
        Bound::Goal(0.0),
    );
    table.one(
        what("to the API server"),
        "",
        work as f64,
        Bound::Goal(30.0),
    );
    table.one(
        "  and for its Leases meanwhile",
        "",
        leases.len() as f64,
        Bound::None,
    );
    Ok(())
}

/// Requests of refreshes that find no change.
pub async fn refresh(bench: &Bench, table: &mut Table, resources: usize) -> Result<()> {
    let site = Site::make(
        bench,
        "refresh",
        resources,
        &format!("{}s", REFRESH.as_secs()),
    )
    .await?;
    let operator = site.operator(bench, UNLIMITED).await?;
    site.wait_all_ready().await?;
    let tenant = &site.tenant;
    // The first refreshes come while the last statuses are written.
    bench
        .vault
        .wait_for(&tenant.reads(), 2 * resources, LONG)
        .await?;
    let (vault, api) = (bench.vault.mark()?, bench.api.mark()?);
    tokio::time::sleep(2 * REFRESH).await;
    let asked = bench.vault.count(&tenant.at_vault().since(vault))?;
    let reads = bench.vault.count(&tenant.reads().since(vault))?;
    let written = bench.api.count(&tenant.at_api().since(api))?;
    drop(operator);
    ensure!(
        reads >= resources,
        "{reads} refreshes of {resources} secrets"
    );
    let each = |count: usize| count as f64 / reads as f64;
    let what = |what: &str| format!("refresh without change, {what}");
    table.one(what("counted"), "", reads as f64, Bound::None);
    table.one(
        what("requests to Vault, each"),
        "",
        each(asked),
        Bound::Goal(1.0),
    );
    table.one(
        what("to the API server, each"),
        "",
        each(written),
        Bound::Goal(0.0),
    );
    Ok(())
}
