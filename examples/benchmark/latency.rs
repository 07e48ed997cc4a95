//! Latency: from a new resource to its Secret, with a warm token and warm connections.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ground::judges::Arrivals;

use crate::bench::Bench;
use crate::floor::{Floor, Template};
use crate::site::{Site, UNLIMITED};
use crate::table::{Bound, Table, quantile};

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// From one try to the next: the last one's status and event are written by then, and no connection closes.
const PACE: Duration = Duration::from_millis(40);

/// Fewer tries say nothing about a goal.
const ENOUGH: usize = 100;

/// The first tries, which open the connections.
const WARM_UP: usize = 20;

/// Milliseconds of each try: since the resource's creation was sent, and since it was answered.
#[derive(Default)]
struct Times {
    sent: Vec<f64>,
    answered: Vec<f64>,
}

impl Times {
    fn note(&mut self, number: usize, sent: Instant, answered: Instant, seen: Instant) {
        if number >= WARM_UP {
            let ms = |from: Instant| seen.saturating_duration_since(from).as_secs_f64() * 1000.0;
            self.sent.push(ms(sent));
            self.answered.push(ms(answered));
        }
    }
}

/// So many new resources one by one, for the operator and for the floor.
pub async fn measure(bench: &Bench, table: &mut Table, tries: usize) -> Result<()> {
    let tries = WARM_UP + tries;
    let floor = floor(bench, tries).await?;
    let operator = operator(bench, tries).await?;
    tell(table, "floor", floor, false);
    let enough = operator.answered.len() >= ENOUGH;
    tell(table, "operator", operator, enough);
    Ok(())
}

async fn operator(bench: &Bench, tries: usize) -> Result<Times> {
    let site = Site::make(bench, "latency", 1, "1000h").await?;
    let operator = site.operator(bench, UNLIMITED).await?;
    site.wait_all_ready().await?;
    let times = timed(&site, tries, async |_| Ok(())).await;
    drop(operator);
    times
}

/// The floor learns of a resource by having made it.
async fn floor(bench: &Bench, tries: usize) -> Result<Times> {
    let template = Template::take(bench).await?;
    let site = Site::make(bench, "latency-floor", 1, "1000h").await?;
    let floor = Floor::at(bench, &site, &template).await?;
    let uid = site.uids().await?.pop().context("no uid")?;
    timed(&site, tries, async |name| floor.write(name, &uid).await).await
}

/// Makes one resource after the other, lets `write` do its part, and sees the Secret.
async fn timed(
    site: &Site,
    tries: usize,
    write: impl AsyncFn(&str) -> Result<()>,
) -> Result<Times> {
    for number in 0..tries {
        site.put(&name(number)).await?;
    }
    let arrivals = Arrivals::follow(site.tenant.api()).await?;
    let mut pace = tokio::time::interval(PACE);
    let mut times = Times::default();
    for number in 0..tries {
        pace.tick().await;
        let sent = Instant::now();
        site.create(&name(number), "1000h").await?;
        let answered = Instant::now();
        write(&name(number)).await?;
        let seen = arrivals.of(&name(number), LONG).await?;
        times.note(number, sent, answered, seen);
    }
    Ok(times)
}

fn name(number: usize) -> String {
    format!("new-{number}")
}

fn tell(table: &mut Table, whose: &str, times: Times, has_goals: bool) {
    let Times {
        mut sent,
        mut answered,
    } = times;
    for (since, values, has_goals) in [
        ("sent", &mut sent, false),
        ("created", &mut answered, has_goals),
    ] {
        values.sort_by(f64::total_cmp);
        for (name, part, goal) in [("median", 0.5, 7.0), ("p95", 0.95, 10.0)] {
            let what = format!("resource {since} to Secret seen, {whose}: {name}");
            let bound = Bound::goal_if(has_goals, goal);
            table.one(what, "ms", quantile(values, part), bound);
        }
        let what = format!("resource {since} to Secret seen, {whose}: p99");
        table.one(what, "ms", quantile(values, 0.99), Bound::None);
    }
}
