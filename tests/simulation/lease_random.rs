//! Random runs of dynamic secrets: leases with and without targets, one that
//! nobody gives back, one that is replaced at once, one that cannot be renewed,
//! one that Vault rotates; certificates beside them; what people do, every fault, by
//! seed.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use vault_tenant_operator::config::Grade;

use crate::certificate_random;
use crate::defects::Defect;
use crate::lease_defects::LEASE_DEFECTS;
use crate::lease_people::{dynamic_secret, dynamics, roll_workloads};
use crate::random::{at_random, processors};
use crate::runs::{rest, run, seconds};
use crate::tenant::Tenant;
use crate::world::{Server, World};

/// Seeds of an ordinary run of the tests.
const RUNS: u64 = 150;

/// Seeds within which each deliberate defect must be caught.
const DEFECT_SEEDS: u64 = 10_000;

/// The resources, each with a role of its name.
const NAMES: [&str; 5] = ["one", "kept", "brief", "once", "turned"];

/// A resource as it is at first.
fn manifest(name: &str) -> Value {
    let mut manifest = dynamic_secret(name);
    let targets = |name: &str| json!([{ "kind": "Deployment", "name": name }]);
    let spec = &mut manifest["spec"];
    match name {
        "one" => spec["rolloutRestartTargets"] = targets("web"),
        "kept" => {
            spec["rolloutRestartTargets"] = targets("web");
            spec["revoke"] = json!(false);
        }
        "brief" => spec["rotation"] = json!({ "strategy": "replace" }),
        "once" => spec["rolloutRestartTargets"] = targets("api"),
        _ => {
            spec["path"] = json!("static-creds/turned");
            spec["allowStaticCreds"] = json!(true);
            spec["rolloutRestartTargets"] = targets("api");
        }
    }
    manifest
}

fn create_workload(tenant: &Tenant, name: &str) {
    let uses: &[&str] = match name {
        "web" => &["one", "kept"],
        _ => &["once", "turned"],
    };
    tenant.create_workload(name, uses);
}

async fn scenario(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
    if world.rng.borrow_mut().chance(1, 4) {
        world.grade.set(Grade::Named);
    }
    let rolls = world.rng.borrow_mut().pick(&[3, 20, 150]);
    world.rollout.set(Duration::from_secs(rolls));
    tenant.basics();
    for (name, ttl, max, renewable) in [
        ("one", 240, 900, true),
        ("kept", 300, 1500, true),
        ("brief", 180, 600, true),
        ("once", 600, 600, false),
    ] {
        tenant.role(name, ttl, max, renewable);
    }
    tenant.rotated_role("turned", 200);
    create_workload(&tenant, "web");
    create_workload(&tenant, "api");
    for name in NAMES {
        tenant.apply_dynamic(&manifest(name));
    }
    certificate_random::begin(&tenant);
    let calm = world.rng.borrow_mut().pick(&[5, 60, 400]);
    seconds(calm).await;
    world.faults.borrow_mut().one_in = world.rng.borrow_mut().pick(&[0, 0, 12, 30]);
    world.flaky_watches.set(world.rng.borrow_mut().chance(1, 2));
    world.lag.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[30, 300, 3000]),
    ));
    world.latency.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[10, 100, 1000]),
    ));
    let edits = 4 + world.rng.borrow_mut().below(12);
    for _ in 0..edits {
        let most = world.rng.borrow_mut().pick(&[500, 5000, 60_000, 200_000]);
        world.pause(Duration::from_millis(most)).await;
        edit(&tenant);
    }
    put_right(&tenant);
    rest(&world).await;
}

/// Rights that the policy may lose.
const RIGHTS: [&[&str]; 5] = [
    &["sys/leases/renew/*"],
    &["sys/leases/renew/*", "sys/leases/renew"],
    &["sys/leases/revoke/*", "sys/leases/revoke"],
    &["sys/leases/lookup"],
    &["auth/token/lookup-accessor", "auth/token/renew-accessor"],
];

/// One thing that somebody does.
fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        (rng.below(42), rng.pick(&NAMES), rng.below(3))
    };
    let current = || {
        let all = dynamics(&tenant.0);
        let found = all
            .iter()
            .find(|found| found.metadata.name.as_deref() == Some(name));
        let mut manifest = manifest(name);
        if let Some(found) = found {
            manifest["spec"] = serde_json::to_value(&found.spec).unwrap();
        }
        manifest
    };
    let change = |field: &str, value: Value| {
        let mut manifest = current();
        manifest["spec"][field] = value;
        tenant.apply_dynamic(&manifest);
    };
    match what {
        0..=2 => {
            // Another path, or another request to the same.
            let mut manifest = manifest(name);
            match value {
                _ if name == "turned" => {}
                0 => manifest["spec"]["path"] = json!(format!("creds/{name}-2")),
                1 => manifest["spec"]["params"] = json!({ "ttl": "1h" }),
                _ => {}
            }
            tenant.apply_dynamic(&manifest);
        }
        3 => change("renewalPercent", json!(50 + 10 * value)),
        4 => {
            let targets = match value {
                0 => json!([]),
                _ => manifest(name)["spec"]["rolloutRestartTargets"].clone(),
            };
            change("rolloutRestartTargets", targets);
        }
        5 => {
            let mut manifest = current();
            manifest["spec"]["destination"]["labels"] = json!({ "app": value.to_string() });
            let excludes = if value == 1 { vec!["username"] } else { vec![] };
            manifest["spec"]["destination"]["transformation"] = json!({ "excludes": excludes });
            tenant.apply_dynamic(&manifest);
        }
        6 => change("revoke", json!(value != 0)),
        7 | 8 => tenant.spoil(name, value == 0),
        9..=11 => tenant.revoke_held(name),
        12 => tenant.delete_dynamic(name),
        13 => {
            tenant.delete_dynamic(name);
            tenant.apply_dynamic(&manifest(name));
        }
        14 => {
            tenant.delete_dynamic(name);
            tenant.delete_login();
        }
        15 => {
            tenant.restart_operator(false);
            tenant.delete_dynamic(name);
        }
        16 => tenant.restart_operator(false),
        17 | 18 => tenant.hand_over(),
        19 | 20 => {
            let rights = tenant.0.rng.borrow_mut().pick(&RIGHTS);
            tenant.set_paths_denied(rights, value != 0);
        }
        21 | 22 => {
            let seconds = 60 + tenant.0.rng.borrow_mut().below(90);
            tenant.cut_off(Server::Vault, seconds);
        }
        23 => {
            let seconds = 20 + tenant.0.rng.borrow_mut().below(60);
            tenant.cut_off(Server::Kubernetes, seconds);
        }
        24 => tenant.set_sealed(value == 0),
        25 => tenant.touch_template("web"),
        26 => tenant.pause("web", value == 0),
        27 => create_workload(tenant, "web"),
        28 => tenant.strip_template("web"),
        29 => tenant.restore_login(),
        _ => certificate_random::edit(tenant),
    }
}

/// Ends what would keep the specs from being reached.
fn put_right(tenant: &Tenant) {
    tenant.set_sealed(false);
    for rights in RIGHTS {
        tenant.set_paths_denied(rights, false);
    }
    tenant.login();
    for name in NAMES {
        let gone = tenant.0.rng.borrow_mut().chance(1, 4);
        if !gone {
            tenant.apply_dynamic(&manifest(name));
        }
    }
    certificate_random::put_right(tenant);
    let still_paused = tenant.0.rng.borrow_mut().chance(1, 5);
    if !still_paused {
        tenant.pause("web", false);
    }
}

#[test]
fn leases_at_random() {
    at_random(scenario, RUNS);
}

#[test]
fn each_defect_about_leases_is_caught_by_chance() {
    let caught = |defect: Defect, first: u64| {
        (first..first + DEFECT_SEEDS).find_map(|seed| {
            let breaches = run(seed, Some(defect), scenario).breaches;
            breaches.first().map(|(invariant, _)| (seed, *invariant))
        })
    };
    std::thread::scope(|scope| {
        for some in LEASE_DEFECTS.chunks(LEASE_DEFECTS.len().div_ceil(processors())) {
            scope.spawn(move || {
                for (defect, first) in some {
                    let (seed, invariant) = caught(*defect, *first)
                        .unwrap_or_else(|| panic!("{defect:?} is not caught"));
                    println!("{defect:?} is caught by {invariant:?} at seed {seed}");
                }
            });
        }
    });
}
