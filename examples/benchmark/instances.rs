//! Instances: one operator for each of many tenants on one machine.

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::bench::Bench;
use crate::load::{MB, at_rest};
use crate::site::Site;
use crate::table::{Bound, Table};

/// How many are set up, or looked at, at a time.
const AT_ONCE: usize = 4;

/// Secrets of each tenant.
const RESOURCES: usize = 10;

/// The memory of so many operators, each at rest with its own tenant.
pub async fn measure(bench: &Bench, table: &mut Table, instances: usize) -> Result<()> {
    let operators: Vec<_> = futures::stream::iter(0..instances)
        .map(async |_| {
            let site = Site::make(bench, "instance", RESOURCES, "1h").await?;
            let operator = site.operator(bench, "{}").await?;
            site.wait_all_ready().await?;
            anyhow::Ok(operator)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let memories: Vec<_> = futures::stream::iter(&operators)
        .map(at_rest)
        .buffer_unordered(instances)
        .try_collect()
        .await?;
    let sum =
        |of: fn(&ground::judges::Memory) -> u64| memories.iter().map(of).sum::<u64>() as f64 / MB;
    let what = |what: &str| format!("{instances} instances, {RESOURCES} secrets each: {what}");
    let goal = Bound::goal_if(instances == 100, 300.0);
    table.one(
        what("proportional"),
        "MB",
        sum(|one| one.proportional),
        goal,
    );
    table.one(
        what("anonymous"),
        "MB",
        sum(|one| one.anonymous),
        Bound::None,
    );
    table.one(what("resident"), "MB", sum(|one| one.resident), Bound::None);
    Ok(())
}
