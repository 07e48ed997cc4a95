//! Runs: a world, an operator in it, a scenario, and the verdict.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;

use crate::defects::Defect;
use crate::judge::Invariant;
use crate::objects::Field;
use crate::tenant::{Tenant, source, static_secret};
use crate::world::{Fault, Faults, World};
use crate::{lease_people, operator, verdict};

/// The bound of virtual time within which all must be right: longer than any
/// backoff with a deadline before it.
const REST: Duration = Duration::from_secs(420);

/// How often that is looked at: longer than any slot.
const LOOK: Duration = Duration::from_secs(70);

/// Longer than the debounce of restarts: one may be due when all looks right.
const SETTLE: Duration = Duration::from_secs(10);

/// How a run ended.
pub struct Ended {
    pub requests: Vec<String>,
    pub breaches: Vec<(Invariant, String)>,
    pub restarts: usize,
    /// The most requests to Vault within a second.
    pub most: usize,
    pub trace: String,
    pub whole_trace: String,
}

impl Ended {
    /// Panics with all that helps to find out why, if anything is wrong.
    pub fn expect_right(self, run: &str) -> Self {
        let told = self.told();
        assert!(self.breaches.is_empty(), "{run}{told}\n{}", self.trace);
        self
    }

    /// What was wrong, a line each.
    pub fn told(&self) -> String {
        let breaches = self.breaches.iter();
        breaches
            .map(|(invariant, what)| format!("\n  {invariant:?}: {what}"))
            .collect()
    }

    pub fn breaks(&self, invariant: Invariant) -> bool {
        self.breaches.iter().any(|(broken, _)| *broken == invariant)
    }
}

/// Runs a scenario in a world of its own, on virtual time.
pub fn run(seed: u64, defect: Option<Defect>, scenario: impl AsyncFnOnce(Rc<World>)) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let world = World::new(seed, defect);
        tokio::task::spawn_local(operator::supervise(Rc::clone(&world)));
        tokio::task::spawn_local(collect_garbage(Rc::clone(&world)));
        scenario(Rc::clone(&world)).await;
        let mut breaches = verdict::at_rest(&world);
        if verdict::all_well(&world) {
            let known = world.judge.borrow().violations.len();
            breaches.extend(verdict::quiet(&world, Duration::from_secs(90)).await);
            // What was broken while nothing was due counts like all else.
            let judge = world.judge.borrow();
            breaches.extend(judge.violations[known..].iter().cloned());
        }
        let most = world.load.borrow().most;
        Ended {
            most,
            requests: world.requests.borrow().clone(),
            restarts: world
                .judge
                .borrow()
                .pods
                .values()
                .map(|pods| pods.restarts)
                .sum(),
            trace: world.last_of_trace(),
            whole_trace: world.whole_trace(),
            breaches,
        }
    })
}

async fn collect_garbage(world: Rc<World>) {
    loop {
        world.pause(Duration::from_secs(3)).await;
        for (name, gone) in world.at_api(|api| api.collect_garbage()) {
            world.note(format!("     the Secret {name} is collected"));
            world.judge.borrow_mut().others.remove(&name);
            world.leases.borrow_mut().secret_gone(&name);
            let mut judge = world.judge.borrow_mut();
            judge.secret_gone(&world, &gone, &name);
        }
    }
}

/// Lets everything come to rest: no more faults, and time for what is due.
pub async fn rest(world: &World) {
    world.note("     faults end");
    world.faults.replace(Faults::default());
    world.outages.borrow_mut().clear();
    world.flaky_watches.set(false);
    world.lag.set(Duration::from_millis(30));
    world.latency.set(Duration::from_millis(10));
    for _ in 0..REST.as_secs() / LOOK.as_secs() {
        tokio::time::sleep(LOOK).await;
        if verdict::is_settled(world) && verdict::all_well(world) {
            break;
        }
    }
    tokio::time::sleep(SETTLE).await;
    // Where credentials come to their end by themselves, one may have done so now.
    for _ in 0..12 {
        if lease_people::dynamics(world).is_empty() || verdict::is_settled(world) {
            break;
        }
        tokio::time::sleep(SETTLE).await;
    }
}

pub async fn seconds(number: u64) {
    tokio::time::sleep(Duration::from_secs(number)).await;
}

/// The script of the exhaustive runs: a resource with a target, two changes of
/// content of which the second is an equal one, a drift.
pub async fn script(world: Rc<World>, faults: Faults) {
    let tenant = Tenant(Rc::clone(&world));
    world.faults.replace(faults);
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a"), ("user", "u")]));
    tenant.create_workload("web", &["app"]);
    seconds(2).await;
    tenant.apply(&static_secret("app"));
    seconds(90).await;
    tenant.write_vault("app", &source(&[("password", "b"), ("user", "u")]));
    seconds(90).await;
    tenant.write_vault("app", &source(&[("password", "b"), ("user", "u")]));
    seconds(60).await;
    tenant.edit_secret("app", Field::Data("password".to_owned()), Some("by hand"));
    seconds(60).await;
    rest(&world).await;
}

/// One fault at one request.
pub fn at(number: usize, fault: Fault) -> Faults {
    Faults {
        at: [(number, fault)].into(),
        ..Faults::default()
    }
}
