//! Scrape: what a look at the metrics takes and how long it is, with series of each resource and without; and what it leaves of
//! memory in the same process: two that have done the same differ by more, as their heaps happen to lie.

use std::time::{Duration, Instant};

use anyhow::Result;
use ground::judges::Memory;

use crate::bench::Bench;
use crate::load::{MB, at_rest};
use crate::site::{Site, UNLIMITED};
use crate::table::{Bound, Table};

/// How often it is looked at: often enough that the memory for it is there.
const LOOKS: usize = 20;

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// What one process showed.
struct Shown {
    /// Milliseconds of each look.
    took: Vec<f64>,
    /// Bytes of the last one.
    length: usize,
    before: Memory,
    after: Memory,
}

/// One operator with so many resources, started with each of the two configurations in turn.
pub async fn measure(
    bench: &Bench,
    table: &mut Table,
    resources: usize,
    rounds: usize,
) -> Result<()> {
    let site = Site::make(bench, "scrape", resources, "1000h").await?;
    // What a first sync leaves behind is none of theirs.
    let first = site.operator(bench, UNLIMITED).await?;
    site.wait_all_ready().await?;
    first.terminate(LONG).await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(look(bench, &site, 0).await?);
        with.push(look(bench, &site, 10_000).await?);
    }
    let mb = |bytes: u64| bytes as f64 / MB;
    for (what, all, counts) in [("without", &without, false), ("with", &with, true)] {
        let goal = |goal| Bound::goal_if(counts && resources == 1_000, goal);
        let when = format!("{resources}, {what} series");
        let took = all.iter().flat_map(|one| one.took.clone()).collect();
        table.several(format!("scrape of {when}"), "ms", took, goal(20.0));
        let of = |figure: &dyn Fn(&Shown) -> f64| all.iter().map(figure).collect::<Vec<_>>();
        let length = of(&|one| one.length as f64 / MB);
        table.several("  its length", "MB", length, goal(1.0));
        let before = of(&|one| mb(one.before.anonymous));
        table.several("  anonymous before the first", "MB", before, Bound::None);
        let more = of(&|one| mb(one.after.anonymous) - mb(one.before.anonymous));
        table.several(format!("  more after {LOOKS}"), "MB", more, Bound::None);
        let more = of(&|one| mb(one.after.resident) - mb(one.before.resident));
        table.several("  the same with pages of the binary", "MB", more, goal(1.5));
    }
    Ok(())
}

/// Starts an operator with series of at most so many resources, and looks at it.
async fn look(bench: &Bench, site: &Site, most: usize) -> Result<Shown> {
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
    let after = at_rest(&operator).await?;
    operator.terminate(LONG).await;
    Ok(Shown {
        took,
        length,
        before,
        after,
    })
}
