//! Random runs of restarts under a policy: four workloads that share four Secrets, rollouts that take time, windows, a
//! least distance and a number that may roll, what people do, and every fault, by seed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use vault_tenant_operator::config::{Rollout, window};
use vault_tenant_operator::key::Kind;
use vault_tenant_operator::reconcile::PREFIX;
use vault_tenant_operator::render::ResourceTag;

use crate::api_server::resource;
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
        (before, after): (&Workload, &Workload),
        rolling: &[&String],
    ) -> Vec<(Invariant, String)> {
        let policy = world.policy.borrow();
        let stricter = world.stricter.borrow();
        // Those on whose behalf it was.
        let stricter: Vec<_> = stricter
            .iter()
            .filter(|(secret, _)| {
                let tag = ResourceTag::of(&resource(Kind::VaultStaticSecret, secret));
                let content = format!("{PREFIX}c-{tag}");
                before.template.get(&content) != after.template.get(&content)
            })
            .collect();
        let now = world.now();
        let mut wrong = Vec::new();
        let before = now - jiff::SignedDuration::try_from(LATE).unwrap();
        let outside = |policy: &Rollout| {
            window::opening(&policy.windows, before).is_none_or(|opening| opening > now)
        };
        if outside(&policy) {
            wrong.push(format!("{name} was restarted outside of the windows"));
        }
        for (secret, own) in &stricter {
            if outside(own) {
                wrong.push(format!("{name} was restarted outside of those of {secret}"));
            }
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
                for (secret, own) in &stricter {
                    if apart.is_some_and(|apart| apart < own.min_interval) {
                        wrong.push(format!("{name} was restarted too early for {secret}"));
                    }
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

fn manifest(world: &World, name: &str, hold: bool) -> Value {
    let mut manifest = static_secret(name);
    let stricter = world.stricter.borrow();
    let stricter = stricter
        .get(name)
        .filter(|_| world.defect != Some(Defect::Unpaced));
    if let Some(own) = stricter {
        manifest["spec"]["rollout"] = json!({
            "hold": hold,
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
fn windows(open: i32, of: usize, times: usize) -> Vec<window::Window> {
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
                ..Rollout::default()
            };
            all.insert(name.to_owned(), own);
        }
    }
    all
}

async fn scenario(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
    let rolls = world.rng.borrow_mut().pick(&[3, 20]);
    world.rollout.set(Duration::from_secs(rolls));
    let policy = policy(&world);
    world.policy.replace(policy);
    world.stricter.replace(stricter(&world));
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
    rest(&world).await;
    // What the policy still holds back, of which nothing is to be seen where a Secret went meanwhile.
    seconds(700).await;
}

/// One thing that somebody does.
fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        let (name, _) = rng.pick(&USES);
        (rng.below(16), name, rng.pick(&["a", "b", "c"]))
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
        14 => tenant.0.crash.notify_one(),
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
                let rules = [
                    "outside of the windows",
                    "outside of those of",
                    "again after",
                    "too early for",
                    "while",
                ];
                let rule = rules.into_iter().find(|rule| what.contains(rule));
                *caught.entry(rule.unwrap()).or_insert(0) += 1;
            }
        }
        if caught.len() == 5 {
            break;
        }
    }
    println!("{caught:?}");
    assert_eq!(caught.len(), 5, "{caught:?}");
}
