//! Scrape: what a look at the metrics takes and how long it is, with series of each resource and without, and with as many
//! workloads beside them whose restarts wait; and what it leaves of
//! memory in the same process: two that have done the same differ by more, as their heaps happen to lie.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ground::judges::Memory;
use ground::resources::resources;
use ground::{Operator, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::load::{MB, at_rest};
use crate::site::{self, Site, UNLIMITED};
use crate::table::{Bound, Table};

/// How often it is looked at: often enough that the memory for it is there.
const LOOKS: usize = 20;

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Series for more than there are.
const ALL: usize = 10_000;

/// The configuration under which every restart waits, which is what has the most series.
const HOLD: &str = "rollout: {hold: true}\n";

/// The family with a series for each of them.
const PENDING: &str = "vto_rollout_restarts_pending";

/// How many objects are made at a time.
const AT_ONCE: usize = 16;

/// What one process showed.
struct Shown {
    /// Milliseconds of each look.
    took: Vec<f64>,
    /// Bytes of the last one.
    length: usize,
    before: Memory,
    after: Memory,
}

/// One operator with so many resources, started with series and without in turn, and then with targets.
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
        without.push(look(bench, &site, 0, "").await?);
        with.push(look(bench, &site, ALL, "").await?);
    }
    waiting_targets(bench, &site).await?;
    let mut waiting = Vec::new();
    for _ in 0..rounds {
        waiting.push(look(bench, &site, ALL, HOLD).await?);
    }
    let mb = |bytes: u64| bytes as f64 / MB;
    for (what, all, counts) in [
        ("without series", &without, false),
        ("with series", &with, true),
        ("and with as many targets", &waiting, true),
    ] {
        let goal = |goal| Bound::goal_if(counts && resources == 1_000, goal);
        let when = format!("{resources}, {what}");
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

/// Gives each resource a Deployment to restart, and then other content: each restart is due, and waits.
async fn waiting_targets(bench: &Bench, site: &Site) -> Result<()> {
    let kind = resources(&site.tenant, "VaultStaticSecret");
    let deployments: Api<Deployment> = site.tenant.api();
    let merge = async |name: &str, change: Value| {
        let params = PatchParams::default();
        kind.patch(name, &params, &Patch::Merge(change)).await
    };
    let give = async |number: usize| {
        let name = Site::name(number);
        let deployment: Deployment = serde_json::from_value(deployment(&name))?;
        let params = PostParams::default();
        deployments.create(&params, &deployment).await?;
        let targets = json!([{ "kind": "Deployment", "name": name }]);
        merge(
            &name,
            json!({ "spec": { "rolloutRestartTargets": targets } }),
        )
        .await?;
        anyhow::Ok(())
    };
    each(site, give).await?;
    let operator = start(bench, site, ALL, HOLD).await?;
    has_series(&operator, "vto_rollouts_failed", site.resources).await?;
    site.wait_all_ready().await?;
    let change = async |number: usize| {
        let name = Site::name(number);
        site.renew(&name).await?;
        let asked = json!({ "vso.hashicorp.com/resync": "other content" });
        merge(&name, json!({ "metadata": { "annotations": asked } })).await?;
        anyhow::Ok(())
    };
    each(site, change).await?;
    has_series(&operator, PENDING, site.resources).await?;
    operator.terminate(LONG).await;
    Ok(())
}

/// A Deployment that runs no pods: what is told of it is the same.
fn deployment(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{
                    "name": "app", "image": "app:1", "envFrom": [{ "secretRef": { "name": name } }],
                }] },
            },
        },
    })
}

/// Does the same for the number of each resource.
async fn each(site: &Site, action: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
    futures::stream::iter(0..site.resources)
        .map(|number| action(number))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn series(metrics: &str, family: &str) -> usize {
    metrics.matches(&format!("{family}{{")).count()
}

/// Waits until a family has so many series.
async fn has_series(operator: &Operator, family: &str, count: usize) -> Result<()> {
    wait_for(&format!("series of {family}"), site::LONG, || async {
        let found = series(&operator.metrics().await?, family);
        ensure!(found == count, "{found} of {count}");
        Ok(())
    })
    .await
}

/// Starts an operator with series of at most so many resources, and this configuration besides.
async fn start(bench: &Bench, site: &Site, most: usize, more: &str) -> Result<Operator> {
    let telemetry = format!("telemetry: {{maxResourceSeries: {most}}}\n");
    let config = site.config(UNLIMITED) + &telemetry + more;
    let operator = site.tenant.operator(&bench.binary).config(&config);
    let operator = operator.start().await?;
    operator.wait_ready(LONG).await?;
    Ok(operator)
}

/// Starts such an operator, and looks at it.
async fn look(bench: &Bench, site: &Site, most: usize, more: &str) -> Result<Shown> {
    let operator = start(bench, site, most, more).await?;
    let before = at_rest(&operator).await?;
    let (mut took, mut last) = (Vec::new(), String::new());
    for _ in 0..LOOKS {
        let began = Instant::now();
        last = operator.metrics().await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let after = at_rest(&operator).await?;
    operator.terminate(LONG).await;
    let targets = if more == HOLD { site.resources } else { 0 };
    let found = series(&last, PENDING);
    ensure!(found == targets, "{found} of {targets} targets");
    Ok(Shown {
        took,
        length: last.len(),
        before,
        after,
    })
}
