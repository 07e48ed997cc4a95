//! Random runs: two resources of one Deployment, a destination that is
//! another's, one that moves, two that share one, everything that people do, every
//! fault, and networks that are away for a while, by seed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use vault_tenant_operator::config::Grade;

use crate::defects::{DEFECTS, Defect};
use crate::objects::Field;
use crate::runs::{Ended, rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::{Server, World};

/// Seeds of an ordinary run of the tests.
const RUNS: u64 = 1200;

/// The most requests to Vault within a second that slots, backoff and breaker
/// leave over of eight resources, whatever happens. The budget of the real port
/// is 150 by default; what keeps under this would not need it.
const BUSY: usize = 20;

/// The resource of KV v1; its content changes with that of `db`.
fn plain_secret() -> Value {
    let mut manifest = static_secret("db");
    manifest["spec"]["type"] = json!("kv-v1");
    manifest["spec"]["mount"] = json!("kv1");
    manifest["spec"]["refreshAfter"] = json!("45s");
    manifest
}

fn manifest(name: &str) -> Value {
    if name == "db" {
        plain_secret()
    } else {
        static_secret(name)
    }
}

/// One whose destination changes its name.
fn moving(destination: &str) -> Value {
    let mut manifest = static_secret("moving");
    manifest["spec"]["destination"]["name"] = json!(destination);
    manifest["spec"]["rolloutRestartTargets"] = json!([]);
    manifest
}

/// One of two that share a destination.
fn sharing(name: &str) -> Value {
    let mut manifest = moving("shared");
    manifest["metadata"]["name"] = json!(name);
    manifest["spec"]["path"] = json!(name);
    manifest["spec"]["destination"]["share"] = json!(true);
    manifest["spec"]["destination"]["transformation"] = json!({ "excludeRaw": true });
    manifest
}

async fn scenario(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    world.load.borrow_mut().limit = Some(BUSY);
    tenant.basics();
    tenant.create_workload("web", &["app", "db"]);
    tenant.create_foreign(
        "taken",
        &[
            (Field::Data("their".to_owned()), "own"),
            (Field::Label("foreign".to_owned()), "yes"),
        ],
    );
    for name in ["app", "db", "taken"] {
        tenant.write_vault(name, &source(&[("password", "a"), ("user", name)]));
        tenant.apply(&manifest(name));
    }
    tenant.write_vault("moving", &source(&[("password", "m")]));
    tenant.apply(&moving("moving-a"));
    for name in ["left", "right"] {
        tenant.write_vault(name, &source(&[(name, "a")]));
        tenant.apply(&sharing(name));
    }
    let calm_start = world.rng.borrow_mut().chance(1, 2);
    if calm_start {
        // The second is longer than a workload counts as new.
        let calm = world.rng.borrow_mut().pick(&[20, 300]);
        seconds(calm).await;
    }
    world.faults.borrow_mut().one_in = world.rng.borrow_mut().pick(&[0, 6, 12, 30]);
    world.flaky_watches.set(world.rng.borrow_mut().chance(1, 2));
    world.lag.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[30, 300, 3000]),
    ));
    world.latency.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[10, 100, 1000]),
    ));
    let edits = 4 + world.rng.borrow_mut().below(16);
    for _ in 0..edits {
        let most = world.rng.borrow_mut().pick(&[50, 500, 5000, 30_000]);
        world.pause(Duration::from_millis(most)).await;
        edit(&tenant);
    }
    put_right(&tenant);
    rest(&world).await;
}

/// The same, for an operator that follows names.
async fn scenario_by_names(world: Rc<World>) {
    world.grade.set(Grade::Named);
    scenario(world).await;
}

/// One thing that somebody does.
fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        (
            rng.below(36),
            rng.pick(&["app", "db"]),
            rng.pick(&["a", "b", "c"]),
        )
    };
    let data = |key: &str| Field::Data(key.to_owned());
    match what {
        0..=5 => tenant.write_vault(name, &source(&[("password", value), ("user", name)])),
        6 => tenant.write_vault(name, &source(&[("password", value)])),
        7 => tenant.edit_secret(name, data("password"), Some(value)),
        8 => tenant.edit_secret(name, data("password"), None),
        9 => tenant.edit_secret(name, data("foreign.txt"), Some(value)),
        10 => tenant.edit_secret(name, Field::Label("foreign".to_owned()), Some(value)),
        11 | 12 => tenant.delete_secret(name),
        13 => {
            tenant.0.judge.borrow_mut().in_the_dark();
            tenant.strip_state(name);
        }
        14 => tenant.strip_template("web"),
        15 => tenant.undo("web"),
        16 => tenant.touch_template("web"),
        17 => tenant.pause("web", true),
        18 => tenant.pause("web", false),
        19 => tenant.create_workload("web", &["app", "db"]),
        20 => tenant.set_deleted(name, value != "c"),
        21 => {
            let mut manifest = manifest(name);
            manifest["spec"]["destination"]["labels"] = json!({ "app": value });
            manifest["spec"]["destination"]["transformation"] =
                json!({ "excludeRaw": value == "b" });
            tenant.apply(&manifest);
        }
        22 => tenant.delete_resource(name),
        23 => {
            tenant.delete_resource(name);
            tenant.apply(&manifest(name));
        }
        24 => {
            if value == "b" {
                tenant.0.judge.borrow_mut().in_the_dark();
            }
            tenant.restart_operator(value == "b");
        }
        25 => tenant.set_sealed(value != "a"),
        26 => tenant.set_denied(name, value != "a"),
        27 | 28 => tenant.hand_over(),
        29 | 30 => tenant.apply(&moving(&format!("moving-{value}"))),
        31 => tenant.write_vault("left", &source(&[("left", value)])),
        32 => {
            tenant.delete_resource("left");
            if value != "a" {
                tenant.apply(&sharing("left"));
            }
        }
        33 | 34 => {
            let seconds = 20 + tenant.0.rng.borrow_mut().below(101);
            let server = if what == 33 {
                Server::Kubernetes
            } else {
                Server::Vault
            };
            tenant.cut_off(server, seconds);
        }
        _ => tenant.tamper_state(name, |state| state["generation"] = json!(99)),
    }
}

/// Ends what would keep the specs from being reached.
fn put_right(tenant: &Tenant) {
    tenant.set_sealed(false);
    for name in ["app", "db"] {
        tenant.set_denied(name, false);
        let gone = tenant.0.rng.borrow_mut().chance(1, 5);
        if !gone {
            tenant.apply(&manifest(name));
        }
    }
    let still_paused = tenant.0.rng.borrow_mut().chance(1, 5);
    if !still_paused {
        tenant.pause("web", false);
    }
}

pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}: give a number")),
    )
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Tries seeds on all processors; answers with what failed, by seed, and with the
/// most requests to Vault within a second of any.
pub fn failures(
    seeds: Range<u64>,
    scenario: impl AsyncFn(Rc<World>) + Copy + Send + Sync,
) -> (BTreeMap<u64, Ended>, usize) {
    let most = AtomicUsize::new(0);
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..processors() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let ended = run(seed, None, scenario);
                    most.fetch_max(ended.most, Ordering::Relaxed);
                    if !ended.breaches.is_empty() {
                        failed.lock().unwrap().insert(seed, ended);
                    }
                }
            });
        }
    });
    (failed.into_inner().unwrap(), most.into_inner())
}

#[test]
fn everything_at_random() {
    at_random(scenario, RUNS);
}

#[test]
fn everything_at_random_by_names() {
    at_random(scenario_by_names, RUNS / 2);
}

pub fn at_random(scenario: impl AsyncFn(Rc<World>) + Copy + Send + Sync, runs: u64) {
    let seeds = match number("VTO_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("VTO_SIM_FIRST").unwrap_or(0);
            first..first + number("VTO_SIM_RUNS").unwrap_or(runs)
        }
    };
    let count = seeds.end - seeds.start;
    let began = std::time::Instant::now();
    let (failed, most) = failures(seeds, scenario);
    println!(
        "{count} seeds in {:.1?}, {most} requests to Vault in a second at most",
        began.elapsed()
    );
    let Some(first) = failed.values().next() else {
        return;
    };
    let trace = if count == 1 {
        &first.whole_trace
    } else {
        &first.trace
    };
    let all: String = failed
        .iter()
        .map(|(seed, ended)| format!("\nVTO_SIM_SEED={seed}:{}", ended.told()))
        .collect();
    panic!(
        "{trace}\n{} of {count} seeds failed; the trace is that of the first{all}",
        failed.len()
    );
}

#[test]
fn a_seed_replays_exactly() {
    fn twice(scenario: impl AsyncFn(Rc<World>)) {
        for seed in [3, 4, 5, 6, 7, 8, 9, 10, 11, 12] {
            let run = || run(seed, None, &scenario);
            let (one, other) = (run(), run());
            let mut lines = one.whole_trace.lines().zip(other.whole_trace.lines());
            let differs = lines.find(|(one, other)| one != other);
            assert_eq!(differs, None, "seed {seed}");
        }
    }
    twice(scenario);
    twice(scenario_by_names);
}

/// Seeds within which each deliberate defect must be caught.
const DEFECT_SEEDS: u64 = 10_000;

#[test]
fn each_defect_is_caught_by_chance() {
    let caught = |defect: Defect| {
        (0..DEFECT_SEEDS).find_map(|seed| {
            let breaches = run(seed, Some(defect), scenario).breaches;
            breaches.first().map(|(invariant, _)| (seed, *invariant))
        })
    };
    std::thread::scope(|scope| {
        for some in DEFECTS.chunks(DEFECTS.len().div_ceil(processors())) {
            scope.spawn(move || {
                for defect in some {
                    let (seed, invariant) =
                        caught(*defect).unwrap_or_else(|| panic!("{defect:?} is not caught"));
                    println!("{defect:?} is caught by {invariant:?} at seed {seed}");
                }
            });
        }
    });
}
