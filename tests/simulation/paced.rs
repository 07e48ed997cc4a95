//! Random runs of restarts under a policy: four workloads that share four Secrets, rollouts that take time, windows, a
//! least distance and a number that may roll, what people do, and every fault, by seed.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use vault_tenant_operator::config::{Rollout, window};

use crate::defects::Defect;
use crate::judge::Invariant;
use crate::lease_people::roll_workloads;
use crate::random::at_random;
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::World;

/// Seeds of an ordinary run of the tests.
const RUNS: u64 = 300;

const WORKLOADS: [&str; 4] = ["one", "two", "three", "four"];

/// What is in each Secret, beside the first password.
const PASSWORDS: [&str; 2] = ["b", "c"];

/// Each Secret, and the workloads that use it.
const USES: [(&str, [&str; 2]); 4] = [
    ("app", ["one", "two"]),
    ("db", ["two", "three"]),
    ("tls", ["three", "four"]),
    ("key", ["four", "one"]),
];

fn manifest(world: &World, name: &str, hold: bool) -> Value {
    let mut manifest = static_secret(name);
    let stricter = world.stricter.borrow();
    if let Some(own) = stricter.get(name) {
        let word = |says: bool| says.then_some(true);
        manifest["spec"]["rollout"] = json!({
            "hold": hold,
            "onlyWhenAvailable": word(own.only_when_available),
            "haltOnFailure": word(own.halt_on_failure),
            "minInterval": format!("{}s", own.min_interval.as_secs()),
            "windows": own.windows.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
    }
    let (_, targets) = USES.iter().find(|(secret, _)| *secret == name).unwrap();
    let target = |name: &&str| json!({ "kind": "Deployment", "name": name });
    manifest["spec"]["rolloutRestartTargets"] = targets.iter().map(target).collect();
    manifest
}

/// So many minutes of each so many, so many times: for longer than a run may last.
pub fn windows(open: i32, of: usize, times: usize) -> Vec<window::Window> {
    let minutes = (0..).step_by(of).take(times);
    let text = |minute: i32| {
        let time = |minute: i32| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("daily {}-{}", time(minute), time(minute + open))
    };
    minutes
        .map(|minute| text(minute).parse().unwrap())
        .collect()
}

fn policy(world: &World) -> Rollout {
    let mut rng = world.rng.borrow_mut();
    Rollout {
        min_interval: Duration::from_secs(rng.pick(&[0, 0, 40, 90])),
        max_concurrent: rng.pick(&[0, 1, 1, 2]),
        only_when_available: rng.chance(1, 3),
        halt_on_failure: rng.chance(1, 2),
        windows: match rng.chance(1, 3) {
            true => windows(3, 5, 72),
            false => Vec::new(),
        },
        ..Rollout::default()
    }
}

/// What some resources say of their restarts, stricter than the policy or not.
fn stricter(world: &World) -> BTreeMap<String, Rollout> {
    let mut rng = world.rng.borrow_mut();
    let mut all = BTreeMap::new();
    for (name, _) in USES {
        if rng.chance(1, 3) {
            let own = Rollout {
                min_interval: Duration::from_secs(rng.pick(&[0, 60, 120])),
                windows: match rng.chance(1, 2) {
                    true => windows(2, 3, 20),
                    false => Vec::new(),
                },
                only_when_available: rng.chance(1, 3),
                halt_on_failure: rng.chance(1, 3),
                ..Rollout::default()
            };
            all.insert(name.to_owned(), own);
        }
    }
    all
}

/// Which workloads don't come up with which password.
fn unfit(world: &World) -> BTreeSet<(String, String)> {
    let mut rng = world.rng.borrow_mut();
    let some = rng.pick(&[0, 2, 4]);
    let one = |_| {
        (
            rng.pick(&WORKLOADS).to_owned(),
            rng.pick(&PASSWORDS).to_owned(),
        )
    };
    (0..some).map(one).collect()
}

async fn scenario(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
    let rolls = world.rng.borrow_mut().pick(&[3, 20]);
    world.rollout.set(Duration::from_secs(rolls));
    // Longer than a rollout takes whose pods come up.
    let more = world.rng.borrow_mut().pick(&[10, 40]);
    let rolls = u32::try_from(rolls).unwrap();
    world.deadline.set(rolls + more);
    let policy = policy(&world);
    world.policy.replace(policy);
    world.stricter.replace(stricter(&world));
    world.unfit.replace(unfit(&world));
    tenant.basics();
    for workload in WORKLOADS {
        let uses = USES
            .iter()
            .filter(|(_, targets)| targets.contains(&workload));
        let uses: Vec<&str> = uses.map(|(secret, _)| *secret).collect();
        tenant.create_workload(workload, &uses);
    }
    for (name, _) in USES {
        tenant.write_vault(name, &source(&[("password", "a"), ("user", name)]));
        tenant.apply(&manifest(&world, name, false));
    }
    seconds(20).await;
    world.faults.borrow_mut().one_in = world.rng.borrow_mut().pick(&[0, 0, 12, 30]);
    world.flaky_watches.set(world.rng.borrow_mut().chance(1, 2));
    world.lag.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[30, 300, 3000]),
    ));
    world.latency.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[10, 100, 1000]),
    ));
    let edits = 4 + world.rng.borrow_mut().below(10);
    for _ in 0..edits {
        let most = world.rng.borrow_mut().pick(&[500, 5000, 60_000]);
        world.pause(Duration::from_millis(most)).await;
        edit(&tenant);
    }
    for workload in ["one", "two"] {
        tenant.pause(workload, false);
    }
    for (name, _) in USES {
        tenant.apply(&manifest(&world, name, false));
    }
    world.unfit.borrow_mut().clear();
    hold(&tenant, false);
    rest(&world).await;
    // What the policy still holds back, of which nothing is to be seen where a Secret went meanwhile.
    seconds(700).await;
}

/// The configuration holds everything, or lets it go.
fn hold(tenant: &Tenant, held: bool) {
    let before = std::mem::replace(&mut tenant.0.policy.borrow_mut().hold, held);
    if before != held {
        tenant.note(format!("all is held: {held}"));
        tenant.restart_operator(false);
    }
}

/// One thing that somebody does.
fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        let (name, _) = rng.pick(&USES);
        (rng.below(20), name, rng.pick(&["a", "b", "c"]))
    };
    match what {
        0..=8 => tenant.write_vault(name, &source(&[("password", value), ("user", name)])),
        9 => tenant.pause("one", true),
        10 => tenant.pause("one", false),
        11 => tenant.touch_template("two"),
        12 | 13 => {
            let hold = what == 12;
            tenant.apply(&manifest(&tenant.0, name, hold));
        }
        14 => tenant.restart_operator(false),
        15 => tenant.hand_over(),
        16 => hold(tenant, value != "a"),
        17 => {
            tenant.note("all come up");
            tenant.0.unfit.borrow_mut().clear();
        }
        _ => tenant.delete_secret(name),
    }
}

#[test]
fn restarts_keep_to_their_policy_at_random() {
    at_random(scenario, RUNS);
}

/// Runs the scenario with a defect until each of the rules has caught it.
fn caught(defect: Defect, rules: &[&str]) {
    let mut caught = BTreeMap::new();
    for seed in 0..600 {
        for (invariant, what) in run(seed, Some(defect), scenario).breaches {
            if invariant == Invariant::Paced {
                let rule = rules.iter().find(|rule| what.contains(**rule));
                if let Some(rule) = rule {
                    *caught.entry(*rule).or_insert(0) += 1;
                }
            }
        }
        if caught.len() == rules.len() {
            break;
        }
    }
    println!("{defect:?}: {caught:?}");
    assert_eq!(caught.len(), rules.len(), "{defect:?}: {caught:?}");
}

#[test]
fn an_operator_without_the_policy_is_caught() {
    let rules = [
        "outside of the windows",
        "outside of those of",
        "again after",
        "too early for",
        "] roll",
        "while it rolls itself",
        "although all is held",
        "holds",
    ];
    caught(Defect::Unpaced, &rules);
}

#[test]
fn an_operator_that_goes_on_after_a_failure_is_caught() {
    caught(
        Defect::NeverHalts,
        &["does not get on", "the first with the same"],
    );
}

#[test]
fn an_operator_that_forgets_restarts_is_caught() {
    caught(Defect::ForgetsRestarts, &["since an operator before"]);
}

/// A restart that the policy holds back while one operator follows the other: once, when it may.
fn held_back(policy: Rollout, changes: usize, opens: u64, hands_over: bool) {
    let what = format!("{policy:?}, handed over: {hands_over}");
    let ended = run(3, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
        world.rollout.set(Duration::from_secs(3));
        world.policy.replace(policy);
        tenant.basics();
        tenant.write_vault("app", &source(&[("password", "a")]));
        tenant.create_workload("web", &["app"]);
        tenant.apply(&static_secret("app"));
        let restarts = |world: &World| world.judge.borrow().pods["web"].restarts;
        seconds(300).await;
        for password in &["b", "c"][..changes] {
            tenant.write_vault("app", &source(&[("password", password)]));
            seconds(60).await;
        }
        let done = changes - 1;
        for _ in 0..3 {
            match hands_over {
                true => tenant.hand_over(),
                false => tenant.restart_operator(false),
            }
            seconds(120).await;
            assert_eq!(restarts(&world), done, "{what}\n{}", world.last_of_trace());
        }
        let passed = world.now().as_second() % 86_400;
        seconds(opens - u64::try_from(passed).unwrap()).await;
        assert_eq!(restarts(&world), done, "{what}\n{}", world.last_of_trace());
        seconds(60).await;
        assert_eq!(
            restarts(&world),
            changes,
            "{what}\n{}",
            world.last_of_trace()
        );
        tenant.hand_over();
        rest(&world).await;
    });
    let ended = ended.expect_right(&what);
    assert_eq!(ended.restarts, changes, "{what}\n{}", ended.trace);
}

#[test]
fn what_the_policy_holds_back_restarts_once_under_another_leader() {
    for hands_over in [true, false] {
        let window = Rollout {
            windows: vec!["daily 00:30-00:40".parse().unwrap()],
            ..Rollout::default()
        };
        held_back(window, 1, 30 * 60, hands_over);
        let apart = Rollout {
            min_interval: Duration::from_secs(1500),
            ..Rollout::default()
        };
        // The first restart comes within the minute after its change at 5:00.
        held_back(apart, 2, 1500 + 300, hands_over);
    }
}
