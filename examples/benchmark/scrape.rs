//! Scrape: what a look at the metrics takes and how long it is, and the memory of an operator that is looked at, with
//! series of each resource and without.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::load::{MB, at_rest, tell_memory};
use crate::site::{Site, UNLIMITED};
use crate::table::{Bound, Table};

/// How often it is looked at: often enough that the memory for it is there.
const LOOKS: usize = 20;

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// One operator with so many resources, started with each of the two configurations.
pub async fn measure(bench: &Bench, table: &mut Table, resources: usize) -> Result<()> {
    let site = Site::make(bench, "scrape", resources, "1000h").await?;
    // What a first sync leaves behind is none of theirs.
    let first = site.operator(bench, UNLIMITED).await?;
    site.wait_all_ready().await?;
    first.terminate(LONG).await;
    for (what, most) in [("without series", 0), ("with series", 10_000)] {
        let telemetry = format!("telemetry: {{maxResourceSeries: {most}}}\n");
        let config = site.config(UNLIMITED) + &telemetry;
        let operator = site.tenant.operator(&bench.binary).config(&config);
        let operator = operator.start().await?;
        operator.wait_ready(LONG).await?;
        let before = at_rest(&operator).await?;
        let (mut took, mut length) = (Vec::new(), 0);
        for _ in 0..LOOKS {
            let began = Instant::now();
            length = operator.metrics().await?.len();
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        let median = took.get(LOOKS / 2).context("no look")?;
        let memory = at_rest(&operator).await?;
        let bound = |goal| Bound::goal_if(resources == 1_000 && most > 0, goal);
        let when = format!("{resources}, {what}");
        table.one(format!("scrape of {when}"), "ms", *median, bound(20.0));
        table.one("  its length", "MB", length as f64 / MB, bound(1.0));
        tell_memory(
            table,
            &format!("{when}, before"),
            before,
            Bound::None,
            Bound::None,
        );
        tell_memory(
            table,
            &format!("{when}, after {LOOKS}"),
            memory,
            Bound::None,
            Bound::None,
        );
        operator.terminate(LONG).await;
    }
    Ok(())
}
