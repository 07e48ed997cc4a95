//! Outage: Vault or the API server away for minutes while many secrets are due, with the waits that the operator ships
//! with.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ground::faults::TcpProxy;
use ground::judges::Mark;
use ground::wait_for;
use jiff::Timestamp;

use crate::bench::Bench;
use crate::site::Site;
use crate::table::{Bound, Table};

/// When each secret is due again; an outage is longer.
const REFRESH: Duration = Duration::from_secs(5);

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(600);

/// Vault refuses connections for `away`, then is back.
pub async fn of_vault(
    bench: &Bench,
    table: &mut Table,
    resources: usize,
    away: Duration,
) -> Result<()> {
    let proxy = before(&bench.ground.vault.address).await?;
    let mut tenant = bench.ground.tenant("outage").await?;
    tenant.vault_address = format!("https://{}", proxy.address());
    let refresh = format!("{}s", REFRESH.as_secs());
    let site = Site::at(tenant, resources, &refresh).await?;
    let operator = site.operator(bench, "{}").await?;
    site.wait_all_ready().await?;
    let versions = site.versions().await?;

    let left = bench.api.mark()?;
    let tried = proxy.traffic().accepted;
    proxy.refuse();
    tokio::time::sleep(away).await;
    let told = site.count_ready("False").await?;
    ensure!(told == resources, "{told} of {resources} were due");
    let (vault, api) = (bench.vault.mark()?, bench.api.mark()?);
    let written = bench
        .api
        .count(&site.tenant.at_api().writes().since(left))?;
    proxy.back_to_normal();
    let back = Instant::now();
    site.wait_all_ready().await?;
    let recovery = back.elapsed();
    ensure!(site.versions().await? == versions, "Secrets were written");
    drop(operator);

    let minutes = away.as_secs_f64() / 60.0;
    let what = |what: &str| format!("Vault away {minutes:.1} min, {resources} due: {what}");
    let seconds = recovery.as_secs_f64();
    table.one(
        what("all ready again after"),
        "s",
        seconds,
        Bound::Goal(60.0),
    );
    let count = |count: usize| count as f64;
    table.one(
        what("API writes meanwhile"),
        "",
        count(written),
        Bound::None,
    );
    let requests = bench.vault.count(&site.tenant.at_vault().since(vault))?;
    table.one(
        what("requests to Vault until ready"),
        "",
        count(requests),
        Bound::None,
    );
    let most = most_in_a_second(bench, &site, vault)?;
    // The default budget: what may come at once, and a second's worth.
    table.one(
        what("most of them in a second"),
        "",
        count(most),
        Bound::Goal(150.0),
    );
    let written = bench.api.count(&site.tenant.at_api().writes().since(api))?;
    table.one(
        what("API writes until ready"),
        "",
        count(written),
        Bound::None,
    );
    let connections = proxy.traffic().accepted - tried;
    table.one(
        what("connections to Vault"),
        "",
        connections as f64,
        Bound::None,
    );
    Ok(())
}

/// The API server answers nothing for `away`, then is back. Meanwhile every secret gets new content at Vault.
pub async fn of_api_server(
    bench: &Bench,
    table: &mut Table,
    resources: usize,
    away: Duration,
) -> Result<()> {
    let proxy = before(&bench.ground.plane.url).await?;
    let tenant = bench.ground.tenant("api-outage").await?;
    let refresh = format!("{}s", REFRESH.as_secs());
    let site = Site::at(tenant, resources, &refresh).await?;
    let url = format!("https://{}", proxy.address());
    let operator = site.operator_at(bench, "{}", Some(&url)).await?;
    site.wait_all_ready().await?;
    let versions = site.versions().await?;

    proxy.blackhole(true);
    proxy.cut();
    for number in 0..resources {
        site.renew(&Site::name(number)).await?;
    }
    tokio::time::sleep(away).await;
    ensure!(site.versions().await? == versions, "Secrets were written");
    let (vault, api) = (bench.vault.mark()?, bench.api.mark()?);
    proxy.blackhole(false);
    proxy.cut();
    let back = Instant::now();
    wait_for("the new content of all", LONG, || async {
        let now = site.versions().await?;
        let written = now.iter().filter(|one| !versions.contains(one)).count();
        ensure!(written == resources, "{written} of {resources}");
        Ok(())
    })
    .await?;
    let recovery = back.elapsed();
    drop(operator);

    let minutes = away.as_secs_f64() / 60.0;
    let what = |what: &str| format!("API server away {minutes:.1} min, {resources} due: {what}");
    table.one(
        what("all have what is new after"),
        "s",
        recovery.as_secs_f64(),
        Bound::Goal(60.0),
    );
    let most = most_in_a_second(bench, &site, vault)?;
    table.one(
        what("most requests to Vault in a second"),
        "",
        most as f64,
        Bound::Goal(150.0),
    );
    let secrets = site.tenant.at_api().writes().resource("secrets").since(api);
    table.one(
        what("writes of Secrets, each"),
        "",
        bench.api.count(&secrets)? as f64 / resources as f64,
        Bound::Goal(1.0),
    );
    Ok(())
}

/// A proxy before a server that is to be away.
async fn before(address: &str) -> Result<TcpProxy> {
    let upstream = address.strip_prefix("https://");
    TcpProxy::start(upstream.context("no https")?.parse()?).await
}

fn most_in_a_second(bench: &Bench, site: &Site, since: Mark) -> Result<usize> {
    let requests = bench.vault.requests(&site.tenant.at_vault().since(since))?;
    let times: Vec<Timestamp> = requests.iter().map(|one| one.at).collect();
    let within = |from: &Timestamp| {
        let second = |at: &&Timestamp| {
            let after = at.duration_since(*from).as_secs_f64();
            (0.0..1.0).contains(&after)
        };
        times.iter().filter(second).count()
    };
    Ok(times.iter().map(within).max().unwrap_or_default())
}
