//! Random runs: two resources of one Deployment, a destination that is
//! another's, everything that people do, and every fault, by seed.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::objects::Field;
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::World;

/// Seeds of an ordinary run of the tests.
const RUNS: u64 = 300;

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

async fn scenario(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
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
    let calm_start = world.rng.borrow_mut().chance(1, 2);
    if calm_start {
        seconds(20).await;
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

/// One thing that somebody does.
fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        (
            rng.below(28),
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

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}: give a number")),
    )
}

#[test]
fn everything_at_random() {
    let seeds = match number("VTO_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VTO_SIM_RUNS").unwrap_or(RUNS),
    };
    let (mut failed, mut shown) = (Vec::new(), String::new());
    for seed in seeds.clone() {
        let ended = run(seed, None, scenario);
        if !ended.breaches.is_empty() {
            let breaches: String = ended
                .breaches
                .iter()
                .map(|(invariant, what)| format!("\n  {invariant:?}: {what}"))
                .collect();
            if failed.is_empty() {
                shown = ended.trace;
            }
            failed.push(format!("VTO_SIM_SEED={seed}:{breaches}"));
        }
    }
    assert!(
        failed.is_empty(),
        "{shown}\n{} of {} seeds failed; the trace is that of the first\n{}",
        failed.len(),
        seeds.count(),
        failed.join("\n")
    );
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 4, 5] {
        let (one, other) = (run(seed, None, scenario), run(seed, None, scenario));
        let differs = one
            .whole_trace
            .lines()
            .zip(other.whole_trace.lines())
            .find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
    }
}
