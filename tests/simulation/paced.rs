//! Random runs of restarts under a policy: four workloads that share four Secrets, rollouts that take time, windows, a
//! least distance and a number that may roll, what people do, and every fault, by seed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use vault_tenant_operator::config::{Rollout, window};
use vault_tenant_operator::reconcile::PREFIX;

use crate::defects::Defect;
use crate::judge::Invariant;
use crate::lease_people::roll_workloads;
use crate::objects::Workload;
use crate::random::at_random;
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::World;

/// Seeds of an ordinary run of the tests.
const RUNS: u64 = 300;

/// Each Secret, and the workloads that use it.
const USES: [(&str, [&str; 2]); 4] = [
    ("app", ["one", "two"]),
    ("db", ["two", "three"]),
    ("tls", ["three", "four"]),
    ("key", ["four", "one"]),
];

/// What is decided may take effect so much later: the way of a request, and a look before it.
const LATE: Duration = Duration::from_secs(10);

/// What the judge remembers of restarts.
#[derive(Debug, Default)]
pub struct Paces {
    /// When each workload was restarted last, as the operator wrote it.
    last: BTreeMap<String, Timestamp>,
    /// Those that the operator that runs now has restarted.
    of_this_one: Vec<String>,
}

impl Paces {
    /// The operator ended: what it sent may still arrive, and the next one can't know of that.
    pub fn operator_ended(&mut self) {
        self.of_this_one.clear();
    }

    /// Somebody else rolls it, or holds it up, which the operator may not know yet.
    pub fn stirred(&mut self, name: &str) {
        self.of_this_one.retain(|one| one != name);
    }

    /// What is wrong with a restart that takes effect now; `rolling` are the workloads that roll.
    pub fn restarted(
        &mut self,
        world: &World,
        name: &str,
        after: &Workload,
        rolling: &[&String],
    ) -> Vec<(Invariant, String)> {
        let policy = world.policy.borrow();
        let now = world.now();
        let mut wrong = Vec::new();
        let before = now - jiff::SignedDuration::try_from(LATE).unwrap();
        if window::opening(&policy.windows, before).is_none_or(|opening| opening > now) {
            wrong.push(format!("{name} was restarted outside of the windows"));
        }
        let written = after.annotations.get(&format!("{PREFIX}restarted-at"));
        match written.and_then(|at| at.parse::<Timestamp>().ok()) {
            None => wrong.push(format!("{name} was restarted and doesn't say when")),
            Some(at) => {
                let last = self.last.insert(name.to_owned(), at);
                let apart = last.map(|last| at.duration_since(last).unsigned_abs());
                if let Some(apart) = apart.filter(|apart| *apart < policy.min_interval) {
                    wrong.push(format!("{name} was restarted again after {apart:?}"));
                }
            }
        }
        let others = rolling
            .iter()
            .filter(|one| **one != name && self.of_this_one.contains(one));
        let most = usize::from(policy.max_concurrent);
        if most > 0 && others.count() >= most {
            wrong.push(format!("{name} was restarted while {rolling:?} roll"));
        }
        self.of_this_one.push(name.to_owned());
        wrong
            .into_iter()
            .map(|what| (Invariant::Paced, what))
            .collect()
    }
}

fn manifest(name: &str) -> Value {
    let mut manifest = static_secret(name);
    let (_, targets) = USES.iter().find(|(secret, _)| *secret == name).unwrap();
    let target = |name: &&str| json!({ "kind": "Deployment", "name": name });
    manifest["spec"]["rolloutRestartTargets"] = targets.iter().map(target).collect();
    manifest
}

/// Three minutes of each five, for the hours that a run may last.
fn windows() -> Vec<window::Window> {
    let minutes = (0..360).step_by(5);
    let text = |minute: i32| {
        let time = |minute: i32| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("daily {}-{}", time(minute), time(minute + 3))
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
        windows: match rng.chance(1, 3) {
            true => windows(),
            false => Vec::new(),
        },
        ..Rollout::default()
    }
}

async fn scenario(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
    let rolls = world.rng.borrow_mut().pick(&[3, 20]);
    world.rollout.set(Duration::from_secs(rolls));
    let policy = policy(&world);
    world.policy.replace(policy);
    tenant.basics();
    for workload in ["one", "two", "three", "four"] {
        let uses = USES
            .iter()
            .filter(|(_, targets)| targets.contains(&workload));
        let uses: Vec<&str> = uses.map(|(secret, _)| *secret).collect();
        tenant.create_workload(workload, &uses);
    }
    for (name, _) in USES {
        tenant.write_vault(name, &source(&[("password", "a"), ("user", name)]));
        tenant.apply(&manifest(name));
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
    rest(&world).await;
    // What the policy still holds back, of which nothing is to be seen where a Secret went meanwhile.
    seconds(400).await;
}

/// One thing that somebody does.
fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        let (name, _) = rng.pick(&USES);
        (rng.below(14), name, rng.pick(&["a", "b", "c"]))
    };
    match what {
        0..=8 => tenant.write_vault(name, &source(&[("password", value), ("user", name)])),
        9 => tenant.pause("one", true),
        10 => tenant.pause("one", false),
        11 => tenant.touch_template("two"),
        12 => tenant.0.crash.notify_one(),
        _ => tenant.delete_secret(name),
    }
}

#[test]
fn restarts_keep_to_their_policy_at_random() {
    at_random(scenario, RUNS);
}

#[test]
fn an_operator_without_the_policy_is_caught() {
    let mut caught = BTreeMap::new();
    for seed in 0..400 {
        for (invariant, what) in run(seed, Some(Defect::Unpaced), scenario).breaches {
            if invariant == Invariant::Paced {
                let rules = ["outside of", "again after", "while"];
                let rule = rules.into_iter().find(|rule| what.contains(rule));
                *caught.entry(rule.unwrap()).or_insert(0) += 1;
            }
        }
        if caught.len() == 3 {
            break;
        }
    }
    println!("{caught:?}");
    assert_eq!(caught.len(), 3, "{caught:?}");
}
