//! Restarts under a policy of pods whose credentials end: they wait for it as long as there is time, and no longer.

use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use vault_tenant_operator::config::Rollout;

use crate::certificate_people::certificate;
use crate::defects::Defect;
use crate::judge::Invariant;
use crate::lease_people::{dynamic_secret, roll_workloads};
use crate::paced::windows;
use crate::random::at_random;
use crate::runs::{rest, run, seconds};
use crate::tenant::Tenant;
use crate::world::{Server, World};

/// Seeds of an ordinary run of the tests.
const RUNS: u64 = 60;

/// Seconds that a lease or a certificate lives in the scripted runs, and that a rollout takes.
const LIFE: u64 = 6 * 3600;
const TAKES: u64 = 60;

/// How long before the end a restart comes at the latest: twice a rollout, and `rotation.drain`.
const MARGIN: i64 = 2 * 60 + 30;

/// What the pods of `web` hold.
#[derive(Clone, Copy, Debug)]
enum Held {
    Lease,
    Certificate,
}

/// A restart for what takes the place of something that ends.
#[derive(Debug)]
struct Restart {
    /// When the Secret got the new one.
    changed: Timestamp,
    at: Timestamp,
    /// When the old one ends.
    ends: Timestamp,
    /// What the events say was overruled.
    against: Vec<String>,
}

impl Restart {
    /// Seconds that it waited, and that were left.
    fn waited(&self) -> (i64, i64) {
        let waited = self.at.duration_since(self.changed).as_secs();
        (waited, self.ends.duration_since(self.at).as_secs())
    }
}

fn windowed(text: &str) -> Rollout {
    Rollout {
        windows: vec![text.parse().unwrap()],
        ..Rollout::default()
    }
}

fn targets(all: &[&str]) -> Value {
    let target = |name: &&str| json!({ "kind": "Deployment", "name": name });
    all.iter().map(target).collect()
}

/// What comes of a replacement that is due by itself, after a rollout that `begins` was seen to take its time.
fn replaced(
    held: Held,
    policy: &Rollout,
    own: &Value,
    begins: impl AsyncFnOnce(&Tenant, &dyn Fn(&Value)),
) -> Restart {
    let mut found = None;
    let ended = run(1, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
        world.rollout.set(Duration::from_secs(TAKES));
        world.policy.replace(policy.clone());
        tenant.basics();
        tenant.role("app", LIFE, LIFE, false);
        tenant.issuing_role("app", LIFE, false, false);
        tenant.create_workload("web", &["app"]);
        let apply = |spec: &Value| {
            let mut manifest = match held {
                Held::Lease => dynamic_secret("app"),
                Held::Certificate => certificate("app", "2h"),
            };
            let fields = manifest["spec"].as_object_mut().unwrap();
            fields.extend(spec.as_object().unwrap().clone());
            fields.insert("rollout".to_owned(), own.clone());
            fields.insert("rolloutRestartTargets".to_owned(), targets(&["web"]));
            match held {
                Held::Lease => tenant.apply_dynamic(&manifest),
                Held::Certificate => tenant.apply_certificate(&manifest),
            }
        };
        apply(&json!({}));
        seconds(400).await;
        begins(&tenant, &apply).await;
        seconds(2 * TAKES).await;
        let (before, until) = (world.judge.borrow().pods["web"].restarts, world.now());
        let old = world.judge.borrow().pods["web"].run["app"].clone().unwrap();
        let ends = world.leases.borrow().end_of(&world, &old).unwrap();
        while world.judge.borrow().pods["web"].restarts == before {
            assert!(
                world.now() < ends,
                "{held:?} ended\n{}",
                world.last_of_trace()
            );
            seconds(1).await;
        }
        let against = {
            let api = world.api.borrow();
            let said = api.events.iter().filter_map(|(_, message)| {
                let (_, key) = message.split_once("against ")?;
                Some(key.split(',').next()?.to_owned())
            });
            said.collect()
        };
        let (changed, at) = {
            let judge = world.judge.borrow();
            let changed = judge.written["app"].last().unwrap().0;
            (changed, judge.paces.last("web").unwrap())
        };
        assert!(changed > until);
        found = Some(Restart {
            changed,
            at,
            ends,
            against,
        });
        seconds(2 * TAKES).await;
        rest(&world).await;
    });
    ended.expect_right(&format!("{held:?}"));
    found.unwrap()
}

/// Somebody else rolls it.
async fn by_hand(tenant: &Tenant, _: &dyn Fn(&Value)) {
    tenant.touch_template("web");
}

#[test]
fn what_would_end_restarts_by_the_margin_before() {
    let apart = Rollout {
        min_interval: Duration::from_secs(24 * 3600),
        ..Rollout::default()
    };
    let own = json!({ "minInterval": "24h" });
    let none = json!({});
    for (held, edit) in [
        (Held::Lease, json!({ "params": { "ttl": "1h" } })),
        (Held::Certificate, json!({ "commonName": "other.example" })),
    ] {
        for (policy, own, said) in [
            (apart.clone(), &none, "rollout.minInterval"),
            (Rollout::default(), &own, "spec.rollout.minInterval"),
        ] {
            let restart = replaced(held, &policy, own, async |tenant, apply| {
                apply(&edit);
                seconds(60).await;
                assert_eq!(tenant.0.judge.borrow().pods["web"].restarts, 1, "{held:?}");
            });
            let (waited, left) = restart.waited();
            assert!(waited > 3600, "{held:?}: {restart:?}");
            // A rollout is seen to end within a second or two.
            let margin = MARGIN - 1..MARGIN + 8;
            assert!(margin.contains(&left), "{held:?}: {left} left, {restart:?}");
            assert_eq!(restart.against, [said], "{held:?}");
        }
    }
}

#[test]
fn a_window_is_waited_for_that_opens_in_time_and_no_other() {
    for held in [Held::Lease, Held::Certificate] {
        let restart = |window: &str| replaced(held, &windowed(window), &json!({}), by_hand);
        let late = restart("daily 23:00-23:30");
        assert!(late.waited().0 < 10, "{held:?}: {late:?}");
        assert_eq!(late.against, ["rollout.windows"], "{held:?}");
        let in_time = restart("daily 05:15-05:30");
        let opens: Timestamp = "2026-01-01T05:15:00Z".parse().unwrap();
        let after = in_time.at.duration_since(opens).as_secs();
        assert!((0..10).contains(&after), "{held:?}: {in_time:?}");
        assert!(in_time.against.is_empty(), "{held:?}: {in_time:?}");
        // It opens a minute too late for a rollout that takes two of them.
        let short = restart("daily 05:59-06:30");
        assert!(short.waited().0 < 10, "{held:?}: {short:?}");
    }
}

const NAMES: [&str; 3] = ["fixed", "renewed", "cert"];

fn apply(tenant: &Tenant, name: &str, edit: u64) {
    let (mut manifest, used): (_, &[&str]) = match name {
        "fixed" => (dynamic_secret(name), &["web", "api"]),
        "renewed" => (dynamic_secret(name), &["api"]),
        _ => (certificate(name, "1h"), &["web"]),
    };
    manifest["spec"]["rolloutRestartTargets"] = targets(used);
    if name == "cert" {
        manifest["spec"]["commonName"] = json!(format!("{edit}.example"));
        return tenant.apply_certificate(&manifest);
    }
    manifest["spec"]["params"] = json!({ "ttl": format!("{}h", edit + 1) });
    tenant.apply_dynamic(&manifest);
}

fn policy(world: &World) -> Rollout {
    let mut rng = world.rng.borrow_mut();
    Rollout {
        min_interval: Duration::from_secs(rng.pick(&[0, 0, 3 * 3600])),
        max_concurrent: rng.pick(&[1, 10]),
        only_when_available: rng.chance(1, 3),
        windows: match rng.below(3) {
            0 => Vec::new(),
            1 => windows(10, 120, 12),
            // Never within a run.
            _ => windowed("daily 23:00-23:30").windows,
        },
        ..Rollout::default()
    }
}

async fn scenario(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
    let rolls = world.rng.borrow_mut().pick(&[3, 20]);
    world.rollout.set(Duration::from_secs(rolls));
    world.deadline.set(60);
    let policy = policy(&world);
    world.policy.replace(policy);
    tenant.basics();
    tenant.role("fixed", 7200, 7200, false);
    tenant.role("renewed", 1800, 3 * 3600, true);
    tenant.issuing_role("cert", 3 * 3600, false, false);
    tenant.create_workload("web", &["fixed", "cert"]);
    tenant.create_workload("api", &["fixed", "renewed"]);
    for name in NAMES {
        apply(&tenant, name, 0);
    }
    seconds(400).await;
    world.faults.borrow_mut().one_in = world.rng.borrow_mut().pick(&[0, 0, 60]);
    world.flaky_watches.set(world.rng.borrow_mut().chance(1, 2));
    world.lag.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[30, 300, 3000]),
    ));
    world.latency.set(Duration::from_millis(
        world.rng.borrow_mut().pick(&[10, 100, 1000]),
    ));
    let edits = 4 + world.rng.borrow_mut().below(6);
    for _ in 0..edits {
        let most = world.rng.borrow_mut().pick(&[5, 300, 3600, 7200]);
        world.pause(Duration::from_secs(most)).await;
        edit(&tenant);
    }
    // What was revoked is noticed by a look, of which one comes in ten minutes.
    seconds(900).await;
    world.pause(Duration::from_secs(7200)).await;
    world.policy.replace(Rollout::default());
    tenant.restart_operator(false);
    rest(&world).await;
}

/// One thing that somebody does.
fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        (rng.below(8), rng.pick(&NAMES), rng.below(3))
    };
    match what {
        0..=2 => apply(tenant, name, value),
        3 => tenant.hand_over(),
        4 => tenant.restart_operator(false),
        5 => tenant.touch_template(["web", "api"][usize::from(value == 0)]),
        // Of a certificate nobody would know.
        6 => tenant.revoke_held(["fixed", "renewed"][usize::from(value == 0)]),
        _ => {
            let server = [Server::Kubernetes, Server::Vault][usize::from(value == 0)];
            tenant.cut_off(server, 20 + 30 * value);
        }
    }
}

#[test]
fn what_ends_restarts_in_time_and_all_else_waits_at_random() {
    at_random(scenario, RUNS);
}

#[test]
fn who_never_waits_and_who_waits_too_long_are_caught() {
    let caught = |defect: Defect, invariant: Invariant, rule: &str| {
        let found = (0..RUNS).find(|seed| {
            let breaches = run(*seed, Some(defect), scenario).breaches;
            let mut breaches = breaches.iter();
            breaches.any(|(broken, what)| *broken == invariant && what.contains(rule))
        });
        let seed = found.unwrap_or_else(|| panic!("{defect:?} is not caught by {rule:?}"));
        println!("{defect:?} is caught by {rule:?} at seed {seed}");
    };
    let outside = "outside of the windows";
    caught(Defect::Unpaced, Invariant::Paced, outside);
    caught(Defect::Unpaced, Invariant::Paced, "again after");
    caught(Defect::NeverUrgent, Invariant::OldKept, "use it still");
}
