//! What status says of the workloads that a resource restarts is true whenever it is said, they restart in order, and
//! one that gets on is waited for.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use vault_tenant_operator::config::{Grade, Rollout};
use vault_tenant_operator::key::Kind;
use vault_tenant_operator::reconcile::view::WorkloadKind;

use crate::api_server::resource;
use crate::lease_people::roll_workloads;
use crate::objects::Object;
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::{Fault, Faults, World};

/// Whether any status ever said that a target isn't there.
fn told_missing(world: &World) -> bool {
    let api = world.api.borrow();
    api.log.iter().any(|change| match &change.now {
        Ok(Object::Static(one)) => {
            let status = one.status.as_ref();
            let rows = status.and_then(|status| status.rollouts.rollout_targets.first());
            rows.is_some_and(|row| row.reason.as_deref() == Some("TargetMissing"))
        }
        _ => false,
    })
}

#[test]
fn no_workload_is_missing_before_it_was_looked_for() {
    for (grade, seed) in [Grade::Namespace, Grade::Named]
        .into_iter()
        .flat_map(|grade| (0..10).map(move |seed| (grade, seed)))
    {
        let ended = run(seed, None, async |world: Rc<World>| {
            let tenant = Tenant(Rc::clone(&world));
            world.grade.set(grade);
            tenant.basics();
            tenant.write_vault("app", &source(&[("password", "a")]));
            tenant.create_workload("web", &["app"]);
            // The first operator starts with it, too.
            tenant.restart_operator(false);
            world.lag.set(Duration::from_secs(5));
            tenant.apply(&static_secret("app"));
            for _ in 0..3 {
                seconds(40).await;
                tenant.restart_operator(false);
            }
            rest(&world).await;
            assert!(!told_missing(&world), "{grade:?}, seed {seed}");
            world.at_api(|api| api.delete_workload("web"));
            seconds(5).await;
            assert!(told_missing(&world), "{grade:?}, seed {seed}: it is gone");
        });
        ended.expect_right(&format!("{grade:?}, seed {seed}"));
    }
}

/// The Secret `app` with these workloads as targets, one of which may roll at a time, each for so long.
async fn with_targets(world: &Rc<World>, takes: Duration, named: &[&str]) -> Tenant {
    let tenant = Tenant(Rc::clone(world));
    tokio::task::spawn_local(roll_workloads(Rc::clone(world)));
    world.rollout.set(takes);
    let policy = Rollout {
        max_concurrent: 1,
        ..Rollout::default()
    };
    world.policy.replace(policy);
    tenant.restart_operator(false);
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    for name in named {
        tenant.create_workload(name, &["app"]);
    }
    let kind = world.api.borrow().workload_kind();
    tenant.apply(&manifest(kind, named));
    seconds(60).await;
    tenant
}

fn manifest(kind: WorkloadKind, named: &[&str]) -> Value {
    let mut manifest = static_secret("app");
    let target = |name: &&str| json!({ "kind": kind.as_str(), "name": name });
    manifest["spec"]["rolloutRestartTargets"] = named.iter().map(target).collect();
    manifest
}

/// Which workloads were asked to restart since, in their order.
fn restarted(world: &World, since: usize) -> Vec<String> {
    let requests = &world.requests.borrow()[since..];
    let name = |request: &String| {
        let rest = request.strip_prefix("patch ")?;
        let (_, name) = rest.strip_suffix(" (restart)")?.split_once('/')?;
        Some(name.to_owned())
    };
    requests.iter().filter_map(name).collect()
}

/// Why each target waits, as status says.
fn reasons(world: &World) -> Vec<String> {
    let api = world.api.borrow();
    let key = resource(Kind::VaultStaticSecret, "app");
    let Object::Static(found) = &api.resources[&key] else {
        return Vec::new();
    };
    let rows = found
        .status
        .as_ref()
        .map(|status| &status.rollouts.rollout_targets);
    let reason = |row: &vault_tenant_operator::api::RolloutTargetStatus| {
        row.reason.clone().unwrap_or_default()
    };
    rows.into_iter().flatten().map(reason).collect()
}

#[test]
fn targets_of_one_change_restart_in_the_order_of_the_spec() {
    const NAMES: [&str; 4] = ["web", "jobs", "api", "mail"];
    for (row, seed) in [
        ("after the debounce", 1),
        ("held until the operator starts anew", 2),
        ("touched by others meanwhile", 3),
    ] {
        let ended = run(seed, None, async |world: Rc<World>| {
            let tenant = with_targets(&world, Duration::from_secs(5), &NAMES).await;
            let mark = world.requests.borrow().len();
            world.policy.borrow_mut().hold = seed == 2;
            if seed == 2 {
                tenant.restart_operator(false);
            }
            if seed == 3 {
                world.policy.borrow_mut().debounce = Duration::from_secs(50);
                tenant.restart_operator(false);
                seconds(20).await;
            }
            tenant.write_vault("app", &source(&[("password", "b")]));
            seconds(40).await;
            if seed == 2 {
                assert_eq!(restarted(&world, mark), [""; 0], "{row}");
                world.policy.borrow_mut().hold = false;
                tenant.restart_operator(false);
            }
            if seed == 3 {
                assert_eq!(restarted(&world, mark), [""; 0], "{row}");
                tenant.need("web", "app", &["password"]);
            }
            rest(&world).await;
            assert_eq!(restarted(&world, mark), NAMES, "{row}");
        });
        ended.expect_right(row);
    }
}

#[test]
fn a_rollout_that_gets_on_is_waited_for_however_long_it_takes() {
    let ended = run(1, None, async |world: Rc<World>| {
        let deadline = u64::from(world.deadline.get());
        let takes = Duration::from_secs(10 * deadline);
        let tenant = with_targets(&world, takes, &["web", "jobs"]).await;
        let mark = world.requests.borrow().len();
        tenant.write_vault("app", &source(&[("password", "b")]));
        seconds(60).await;
        assert_eq!(restarted(&world, mark), ["web"]);
        for _ in 0..4 {
            seconds(deadline - 60).await;
            tenant.replace_a_pod("web");
            assert_eq!(reasons(&world), ["", "MaxConcurrent"]);
        }
        seconds(deadline - 60).await;
        assert_eq!(reasons(&world), ["", "MaxConcurrent"]);
        seconds(90).await;
        assert_eq!(reasons(&world), ["", "HaltOnFailure"], "it stands still");
        tenant.replace_a_pod("web");
        seconds(5).await;
        assert_eq!(reasons(&world), ["", "MaxConcurrent"], "it goes on");
        seconds(10 * deadline).await;
        assert_eq!(restarted(&world, mark), ["web", "jobs"]);
        seconds(10 * deadline).await;
        rest(&world).await;
    });
    ended.expect_right("one pod after the other");
}

/// The judge sees each restart: one too many at a time, and one for content that runs.
#[test]
fn a_restart_without_an_answer_counts_and_is_not_made_twice() {
    for seed in 0..30 {
        let ended = run(seed, None, async |world: Rc<World>| {
            let takes = Duration::from_secs(150);
            let tenant = with_targets(&world, takes, &["web", "jobs"]).await;
            let mark = world.requests.borrow().len();
            // It may be past the deadline of the reconcile when a watch shows it.
            world.lag.set(Duration::from_secs(88));
            world.faults.borrow_mut().of = Some(("web (restart)", Fault::HangAfter));
            tenant.write_vault("app", &source(&[("password", "b")]));
            while restarted(&world, mark).is_empty() {
                seconds(1).await;
            }
            world.faults.replace(Faults::default());
            seconds(600).await;
            rest(&world).await;
            assert_eq!(
                restarted(&world, mark).last().unwrap(),
                "jobs",
                "seed {seed}"
            );
        });
        ended.expect_right(&format!("seed {seed}"));
    }
}

/// How many targets may roll at a time from now on, and whether a failed first one holds the others.
fn next_policy(world: &World, tenant: &Tenant, max_concurrent: u16, halt_on_failure: bool) {
    let policy = Rollout {
        max_concurrent,
        halt_on_failure,
        ..Rollout::default()
    };
    world.policy.replace(policy);
    tenant.restart_operator(false);
}

#[test]
fn the_first_is_tried_alone_and_the_others_follow_together() {
    const NAMES: [&str; 3] = ["web", "jobs", "api"];
    for (halts, fails) in [(true, false), (true, true), (false, true)] {
        let ended = run(1, None, async |world: Rc<World>| {
            let tenant = with_targets(&world, Duration::from_secs(60), &NAMES).await;
            next_policy(&world, &tenant, 10, halts);
            seconds(30).await;
            if fails {
                let unfit = ("web".to_owned(), "b".to_owned());
                world.unfit.borrow_mut().insert(unfit);
            }
            let mark = world.requests.borrow().len();
            tenant.write_vault("app", &source(&[("password", "b")]));
            seconds(60).await;
            if halts {
                assert_eq!(restarted(&world, mark), ["web"]);
                assert_eq!(reasons(&world), ["", "AwaitsFirst", "AwaitsFirst"]);
            }
            if halts && fails {
                seconds(10 * u64::from(world.deadline.get())).await;
                assert_eq!(restarted(&world, mark), ["web"]);
                assert_eq!(reasons(&world), ["", "HaltOnFailure", "HaltOnFailure"]);
                world.unfit.borrow_mut().clear();
            }
            if halts {
                seconds(60).await;
            }
            let mut all = restarted(&world, mark);
            all.sort();
            assert_eq!(all, ["api", "jobs", "web"]);
            assert_eq!(reasons(&world), [""; 3], "both others roll");
            world.unfit.borrow_mut().clear();
            rest(&world).await;
        });
        ended.expect_right(&format!("halts: {halts}, fails: {fails}"));
    }
}

#[test]
fn one_without_pods_proves_nothing() {
    let ended = run(1, None, async |world: Rc<World>| {
        let names = ["web", "jobs", "api"];
        let tenant = with_targets(&world, Duration::from_secs(30), &names).await;
        next_policy(&world, &tenant, 10, true);
        tenant.scale_to_zero("web");
        seconds(30).await;
        let mark = world.requests.borrow().len();
        tenant.write_vault("app", &source(&[("password", "b")]));
        while restarted(&world, mark).len() < 2 {
            seconds(1).await;
        }
        seconds(5).await;
        assert_eq!(restarted(&world, mark), ["web", "jobs"]);
        assert_eq!(reasons(&world), ["", "", "AwaitsFirst"]);
        rest(&world).await;
        assert_eq!(restarted(&world, mark), names);
    });
    ended.expect_right("a first one without pods");
}

#[test]
fn one_that_lacks_pods_already_is_not_the_first() {
    let ended = run(1, None, async |world: Rc<World>| {
        let tenant = with_targets(&world, Duration::from_secs(30), &["web", "jobs"]).await;
        next_policy(&world, &tenant, 10, true);
        seconds(30).await;
        for password in ["b", "c"] {
            let unfit = ("web".to_owned(), password.to_owned());
            world.unfit.borrow_mut().insert(unfit);
        }
        tenant.write_vault("app", &source(&[("password", "b")]));
        seconds(60 + u64::from(world.deadline.get())).await;
        assert_eq!(reasons(&world), ["", "HaltOnFailure"]);
        let mark = world.requests.borrow().len();
        tenant.write_vault("app", &source(&[("password", "c")]));
        seconds(60 + u64::from(world.deadline.get())).await;
        assert_eq!(restarted(&world, mark), ["jobs", "web"]);
        world.unfit.borrow_mut().clear();
        rest(&world).await;
    });
    ended.expect_right("it failed before");
}

#[test]
fn who_cannot_look_leaves_the_line() {
    const LOOK: &str = "get metadata of Secret app";
    let ended = run(1, None, async |world: Rc<World>| {
        let takes = Duration::from_secs(30);
        let tenant = with_targets(&world, takes, &["web", "jobs", "api"]).await;
        let start = world.requests.borrow().len();
        tenant.write_vault("app", &source(&[("password", "b")]));
        while reasons(&world) != ["", "MaxConcurrent", "MaxConcurrent"] {
            seconds(1).await;
        }
        let mark = world.requests.borrow().len();
        world.faults.borrow_mut().of = Some((LOOK, Fault::Unavailable));
        seconds(120).await;
        let requests = world.requests.borrow()[mark..].to_vec();
        let looks = requests.iter().filter(|one| one.contains(LOOK)).count();
        // Each tries again by itself, ever more seldom, and does not wake the other.
        assert!((2..50).contains(&looks), "{looks}");
        assert_eq!(reasons(&world), ["", "Due", "Due"]);
        world.faults.replace(Faults::default());
        rest(&world).await;
        let mut all = restarted(&world, start);
        all.sort();
        assert_eq!(all, ["api", "jobs", "web"]);
    });
    ended.expect_right("a look fails");
}

/// A world with StatefulSets, none of which comes up with the password `b`.
async fn with_bad_sets(world: &Rc<World>) -> Tenant {
    world.api.borrow_mut().sets = true;
    for name in ["web", "jobs"] {
        let unfit = (name.to_owned(), "b".to_owned());
        world.unfit.borrow_mut().insert(unfit);
    }
    let tenant = with_targets(world, Duration::from_secs(5), &["web", "jobs"]).await;
    tenant.write_vault("app", &source(&[("password", "b")]));
    tenant
}

#[test]
fn a_leader_that_finds_a_rollout_finds_that_it_fails() {
    let ended = run(1, None, async |world: Rc<World>| {
        let deadline = u64::from(world.deadline.get());
        let tenant = with_bad_sets(&world).await;
        seconds(deadline / 2).await;
        let mark = world.requests.borrow().len();
        tenant.restart_operator(false);
        seconds(deadline - 30).await;
        assert_eq!(
            reasons(&world),
            ["", "MaxConcurrent"],
            "it has its time again"
        );
        seconds(60).await;
        assert_eq!(reasons(&world), ["", "HaltOnFailure"]);
        seconds(3 * deadline).await;
        assert_eq!(
            restarted(&world, mark),
            [""; 0],
            "what fails reaches no other"
        );
        tenant.write_vault("app", &source(&[("password", "c")]));
        seconds(60).await;
        assert_eq!(restarted(&world, mark), ["jobs", "web"]);
        rest(&world).await;
    });
    ended.expect_right("found under way");
}

#[test]
fn what_an_earlier_leader_saw_fail_is_not_waited_for() {
    let ended = run(1, None, async |world: Rc<World>| {
        let deadline = u64::from(world.deadline.get());
        let tenant = with_bad_sets(&world).await;
        seconds(deadline + 60).await;
        assert_eq!(reasons(&world), ["", "HaltOnFailure"]);
        {
            let mut policy = world.policy.borrow_mut();
            policy.only_when_available = true;
            policy.debounce = Duration::from_secs(60);
        }
        let mark = world.requests.borrow().len();
        tenant.restart_operator(false);
        seconds(20).await;
        assert_eq!(reasons(&world), ["", "HaltOnFailure"]);
        // Its status tells of nothing but the new restart by the time that this happens.
        tenant.write_vault("app", &source(&[("password", "c")]));
        seconds(50).await;
        assert_eq!(reasons(&world), ["Debounce", "Debounce"]);
        seconds(40).await;
        assert_eq!(restarted(&world, mark), ["jobs", "web"]);
        rest(&world).await;
    });
    ended.expect_right("seen to fail before");
}
