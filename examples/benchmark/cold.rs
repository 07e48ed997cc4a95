//! Cold: all resources are there, the operator starts, and writes every Secret; beside it the floor.

use anyhow::{Context as _, Result, ensure};
use ground::judges::{ApiFilter, Memory};
use jiff::Timestamp;

use crate::bench::Bench;
use crate::floor::{Floor, Template, best};
use crate::load::{at_rest, processor_time, tell_memory};
use crate::site::{Site, UNLIMITED};
use crate::table::{Bound, Table};

/// So long that no slot falls into a measurement.
const NEVER: &str = "1000h";

/// The most resources that the floor's number at a time is chosen with.
const TRIED_WITH: usize = 1000;

/// Seconds from the start to the last Secret and to the last status, as the API server's log has them; and seconds of
/// processor time, its own and that of what it asked.
struct Run {
    secrets: f64,
    statuses: f64,
    processor: f64,
    plane: f64,
    vault: f64,
}

/// Seconds of processor time so far: API server and etcd, and Vault.
fn servers(bench: &Bench) -> Result<(f64, f64)> {
    let of = |process: &ground::Process| processor_time(process.pid());
    let plane = &bench.ground.plane;
    Ok((
        of(&plane.api_server)? + of(&plane.etcd)?,
        of(&bench.ground.vault.process)?,
    ))
}

/// What only the operator has.
struct Operated {
    run: Run,
    memory: Memory,
    reads: usize,
    other_at_vault: usize,
    writes: usize,
    other_at_api: usize,
}

/// Floor and operator in turns, in fresh namespaces.
pub async fn measure(
    bench: &Bench,
    table: &mut Table,
    resources: usize,
    rounds: usize,
) -> Result<()> {
    let template = Template::take(bench).await?;
    let at_a_time = best(bench, &template, resources.min(TRIED_WITH)).await?;
    let (mut floors, mut operators) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // In turns also with who is first: the ground grows with everything that is in it.
        if round % 2 == 0 {
            floors.push(floor(bench, &template, resources, at_a_time).await?);
            operators.push(operator(bench, resources).await?);
        } else {
            operators.push(operator(bench, resources).await?);
            floors.push(floor(bench, &template, resources, at_a_time).await?);
        }
    }
    tell_times(table, resources, at_a_time, &floors, &operators);
    tell_counts(table, resources, &operators);
    let last = operators.last().context("no round")?;
    let goal = match resources {
        1_000 => Bound::Goal(14.0),
        10_000 => Bound::Goal(50.0),
        _ => Bound::None,
    };
    tell_memory(
        table,
        &format!("with {resources}"),
        last.memory,
        goal,
        Bound::None,
    );
    Ok(())
}

async fn floor(
    bench: &Bench,
    template: &Template,
    resources: usize,
    at_a_time: usize,
) -> Result<Run> {
    let site = Site::make(bench, "floor", resources, NEVER).await?;
    let floor = Floor::at(bench, &site, template).await?;
    let before = servers(bench)?;
    let processor = processor_time(std::process::id())?;
    let began = floor.all(at_a_time).await?;
    let processor = processor_time(std::process::id())? - processor;
    run(bench, &site, began, processor, before)
}

async fn operator(bench: &Bench, resources: usize) -> Result<Operated> {
    let site = Site::make(bench, "operator", resources, NEVER).await?;
    let before = servers(bench)?;
    let began = Timestamp::now();
    let operator = site.operator(bench, UNLIMITED).await?;
    // Beside them, its own key and Vault's CA.
    site.wait_secrets(resources + 2).await?;
    let memory = at_rest(&operator).await?;
    let processor = processor_time(operator.process.pid())?;
    let run = run(bench, &site, began, processor, before)?;
    let tenant = &site.tenant;
    let writes: usize = ["secrets", "vaultstaticsecrets/status", "events"]
        .iter()
        .map(|resource| {
            let of = tenant
                .at_api()
                .resource(resource)
                .verb("patch")
                .verb("create");
            bench.api.count(&of)
        })
        .sum::<Result<usize>>()?;
    let reads = bench.vault.count(&tenant.reads())?;
    Ok(Operated {
        run,
        memory,
        reads,
        other_at_vault: bench.vault.count(&tenant.at_vault())? - reads,
        writes,
        other_at_api: bench.api.count(&tenant.at_api())? - writes,
    })
}

/// What a run took that began then, with the servers' times from before it.
fn run(
    bench: &Bench,
    site: &Site,
    began: Timestamp,
    processor: f64,
    before: (f64, f64),
) -> Result<Run> {
    let (plane, vault) = servers(bench)?;
    let last = |filter: ApiFilter| {
        let all = bench.api.requests(&filter)?;
        let done = all.iter().filter(|one| one.name.starts_with("s-"));
        let done: Vec<Timestamp> = done.map(|one| one.last_stage).collect();
        let (count, expected) = (done.len(), site.resources);
        ensure!(count == expected, "{count} writes for {expected} resources");
        let last = done.into_iter().max().context("nothing was written")?;
        Ok(last.duration_since(began).as_secs_f64())
    };
    let patches = site.tenant.at_api().verb("patch");
    Ok(Run {
        secrets: last(patches.clone().resource("secrets"))?,
        statuses: last(patches.resource("vaultstaticsecrets/status"))?,
        processor,
        plane: plane - before.0,
        vault: vault - before.1,
    })
}

fn tell_times(
    table: &mut Table,
    resources: usize,
    at_a_time: usize,
    floors: &[Run],
    operators: &[Operated],
) {
    let thousand = |goal| Bound::goal_if(resources == 1_000, goal);
    let floor = |of: fn(&Run) -> f64| floors.iter().map(of).collect::<Vec<f64>>();
    let operator = |of: fn(&Run) -> f64| {
        let runs = operators.iter().map(|one| &one.run);
        runs.map(of).collect::<Vec<f64>>()
    };
    let ratios = |of: fn(&Run) -> f64| {
        let pairs = operators.iter().zip(floors);
        pairs.map(|(one, floor)| of(&one.run) / of(floor)).collect()
    };
    let what = |what: &str| format!("{resources} cold, {what}");
    let secrets: fn(&Run) -> f64 = |run| run.secrets;
    let to_floor = format!("floor ({at_a_time} at a time): last Secret");
    table.several(what(&to_floor), "s", floor(secrets), Bound::None);
    table.several(
        what("operator: last Secret"),
        "s",
        operator(secrets),
        Bound::None,
    );
    table.several(
        what("operator / floor"),
        "x",
        ratios(secrets),
        thousand(1.3),
    );
    for (name, of, goal) in [
        (
            "last status",
            (|run| run.statuses) as fn(&Run) -> f64,
            Bound::None,
        ),
        ("processor time", |run| run.processor, thousand(1.0)),
        (
            "processor time of API server and etcd",
            |run| run.plane,
            Bound::None,
        ),
        ("processor time of Vault", |run| run.vault, Bound::None),
    ] {
        table.several(what(&format!("floor: {name}")), "s", floor(of), Bound::None);
        table.several(what(&format!("operator: {name}")), "s", operator(of), goal);
    }
}

fn tell_counts(table: &mut Table, resources: usize, operators: &[Operated]) {
    let each = |of: fn(&Operated) -> usize| {
        let all = operators.iter().map(of);
        all.map(|count| count as f64 / resources as f64).collect()
    };
    let all = |of: fn(&Operated) -> usize| operators.iter().map(|one| of(one) as f64).collect();
    let what = |what: &str| format!("{resources} cold, {what}");
    table.several(
        what("reads of Vault, each"),
        "",
        each(|one| one.reads),
        Bound::Goal(1.0),
    );
    table.several(
        what("other requests to Vault"),
        "",
        all(|one| one.other_at_vault),
        Bound::None,
    );
    // One more is the operator's own key.
    let writes = each(|one| one.writes - 1);
    table.several(
        what("writes to the API server, each"),
        "",
        writes,
        Bound::Goal(3.0),
    );
    let other = all(|one| one.other_at_api + 1);
    table.several(
        what("other requests to the API server"),
        "",
        other,
        Bound::None,
    );
}
