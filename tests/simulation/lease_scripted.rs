//! One situation of a lease's life each, with what must come of it.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use vault_tenant_operator::key::Kind;
use vault_tenant_operator::reconcile::view::Store;

use crate::api_server::{Change, resource};
use crate::defects::Defect;
use crate::judge::Invariant;
use crate::lease_people::{dynamic_secret, roll_workloads};
use crate::runs::{at, rest, run, seconds};
use crate::tenant::Tenant;
use crate::verdict::ready;
use crate::world::{Fault, Faults, Server, World};

/// A lease of five minutes, an hour at most.
fn leased(world: &Rc<World>) -> Tenant {
    let tenant = Tenant(Rc::clone(world));
    tenant.basics();
    tenant.role("app", 300, 3600, true);
    tenant.apply_dynamic(&dynamic_secret("app"));
    tenant
}

fn live(world: &World) -> usize {
    world.vault.borrow().leases.live.len()
}

#[test]
fn a_login_for_a_lease_is_told_of() {
    let ended = run(1, None, async |world: Rc<World>| {
        leased(&world);
        seconds(5).await;
        let auth = resource(Kind::VaultAuth, "default");
        let said = ready(&world.api.borrow().resources[&auth]);
        assert_eq!(said.1, "LoggedIn", "{}", world.last_of_trace());
        rest(&world).await;
    });
    ended.expect_right("a login");
}

#[test]
fn a_lease_that_was_renewed_is_given_back_after_an_outage() {
    let ended = run(1, None, async |world: Rc<World>| {
        let tenant = leased(&world);
        seconds(900).await;
        assert_eq!(live(&world), 1);
        tenant.cut_off(Server::Vault, 100);
        tenant.delete_dynamic("app");
        seconds(95).await;
        assert_eq!(live(&world), 1, "Vault is not there");
        seconds(60).await;
        assert_eq!(live(&world), 0, "{}", world.last_of_trace());
        rest(&world).await;
    });
    ended.expect_right("a deletion in an outage");
}

#[test]
fn an_edit_as_an_outage_ends_makes_one_credential() {
    for delay in 0..40 {
        let ended = run(1, None, async |world: Rc<World>| {
            let tenant = leased(&world);
            seconds(200).await;
            tenant.cut_off(Server::Vault, 100);
            // Until it waits for Vault's return.
            seconds(85).await;
            tokio::time::sleep(Duration::from_millis(500 * delay)).await;
            world.latency.set(Duration::from_secs(1));
            let mut manifest = dynamic_secret("app");
            manifest["spec"]["params"] = json!({ "ttl": "1h" });
            tenant.apply_dynamic(&manifest);
            seconds(30).await;
            rest(&world).await;
        });
        ended.expect_right(&format!("an edit after {delay}"));
    }
}

#[test]
fn what_the_leader_before_had_noted_last_is_given_back() {
    for (seed, delay) in (0..10).flat_map(|seed| (20..60).map(move |delay| (seed, delay))) {
        let ended = run(seed, None, async |world: Rc<World>| {
            world.latency.set(Duration::from_secs(1));
            let tenant = Tenant(Rc::clone(&world));
            tenant.basics();
            for name in ["app", "other"] {
                tenant.role(name, 36_000, 36_000, true);
                tenant.apply_dynamic(&dynamic_secret(name));
            }
            tokio::time::sleep(Duration::from_millis(250 * delay)).await;
            tenant.hand_over();
            tenant.delete_dynamic("app");
            seconds(30).await;
            rest(&world).await;
        });
        ended.expect_right(&format!("seed {seed}, a handover after {delay}"));
    }
}

#[test]
fn a_token_that_one_request_leaves_while_another_takes_it_is_remembered() {
    for delay in 0..100 {
        let ended = run(1, None, async |world: Rc<World>| {
            world.faults.replace(Faults {
                of: Some(("read db/creds/bad", Fault::Refused)),
                ..Faults::default()
            });
            let tenant = Tenant(Rc::clone(&world));
            tenant.basics();
            for name in ["app", "bad"] {
                tenant.role(name, 36_000, 36_000, true);
            }
            tenant.apply_dynamic(&dynamic_secret("bad"));
            tokio::time::sleep(Duration::from_millis(delay)).await;
            tenant.apply_dynamic(&dynamic_secret("app"));
            seconds(2).await;
            tenant.delete_dynamic("app");
            seconds(5).await;
            assert_eq!(live(&world), 0, "{}", world.last_of_trace());
            rest(&world).await;
        });
        ended.expect_right(&format!("another after {delay} ms"));
    }
}

#[test]
fn a_token_whose_forgetting_had_no_answer_is_remembered_again() {
    let mut forgotten = 0;
    for (number, delay) in (8..40).flat_map(|n| (0..100).step_by(10).map(move |delay| (n, delay))) {
        let ended = run(1, None, async |world: Rc<World>| {
            world.faults.replace(at(number, Fault::LostAnswer));
            let tenant = Tenant(Rc::clone(&world));
            tenant.basics();
            tenant.role("app", 36_000, 36_000, true);
            tenant.apply_dynamic(&dynamic_secret("bad"));
            tokio::time::sleep(Duration::from_millis(delay)).await;
            tenant.apply_dynamic(&dynamic_secret("app"));
            seconds(60).await;
            let lost = world.requests.borrow()[number - 1].clone();
            // The next one knows what the Secrets say.
            world.crash.notify_one();
            seconds(15).await;
            tenant.delete_dynamic("app");
            seconds(5).await;
            if lost.starts_with("patch ledger") {
                forgotten += 1;
                assert_eq!(live(&world), 0, "{}", world.last_of_trace());
            }
            tenant.role("bad", 36_000, 36_000, true);
            rest(&world).await;
        });
        drop(ended);
    }
    assert!(forgotten > 20, "{forgotten}");
}

/// A rollout that takes longer than a lease lives.
async fn long_rollout(world: Rc<World>) {
    rollout_of(world, 150, 3600).await;
}

/// A rollout that takes so many seconds, of a lease that lives so long at the most.
async fn rollout_of(world: Rc<World>, takes: u64, longest: u64) {
    let tenant = Tenant(Rc::clone(&world));
    tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
    world.rollout.set(Duration::from_secs(takes));
    tenant.basics();
    tenant.role("app", 100, longest, true);
    tenant.create_workload("web", &["app"]);
    let mut manifest = dynamic_secret("app");
    manifest["spec"]["rolloutRestartTargets"] = json!([{ "kind": "Deployment", "name": "web" }]);
    tenant.apply_dynamic(&manifest);
    seconds(300).await;
    manifest["spec"]["params"] = json!({ "ttl": "1h" });
    tenant.apply_dynamic(&manifest);
    seconds(takes + 50).await;
    rest(&world).await;
}

/// A resource that a list lacks for a while, and that may not be looked at.
async fn unseen(world: Rc<World>) {
    let tenant = leased(&world);
    seconds(60).await;
    world.faults.replace(may_not_be_looked_at());
    // The next one's list lacks it.
    world.crash.notify_one();
    let key = resource(Kind::VaultDynamicSecret, "app");
    world.at_api(|api| {
        let uid = api.resources[&key].uid();
        api.log.push(Change {
            store: Store::Resource(key.kind),
            key: key.object.clone(),
            now: Err(uid),
        });
    });
    seconds(120).await;
    world.faults.take();
    tenant.apply_dynamic(&dynamic_secret("app"));
    rest(&world).await;
}

fn may_not_be_looked_at() -> Faults {
    Faults {
        of: Some(("get VaultDynamicSecret", Fault::Forbidden)),
        ..Faults::default()
    }
}

#[test]
fn what_an_event_told_of_is_given_back_though_the_role_went_too() {
    let ended = run(1, None, async |world: Rc<World>| {
        let tenant = leased(&world);
        seconds(60).await;
        world.faults.replace(may_not_be_looked_at());
        tenant.delete_dynamic("app");
        seconds(5).await;
        assert_eq!(live(&world), 0, "{}", world.last_of_trace());
        rest(&world).await;
    });
    ended.expect_right("a deletion that nobody may look at");
}

#[test]
fn what_pods_use_is_kept_through_a_long_rollout() {
    run(1, None, long_rollout).expect_right("a long rollout");
    let ended = run(1, Some(Defect::NotKeptAlive), long_rollout);
    assert!(ended.breaks(Invariant::OldKept), "{:?}", ended.breaches);
}

#[test]
fn one_that_ends_within_the_rollout_is_told_and_not_asked_for_again() {
    let ended = run(1, None, async |world| rollout_of(world, 350, 400).await);
    let ended = ended.expect_right("a lease that ends within the rollout");
    let told = |what: &str| ended.whole_trace.matches(what).count();
    // The one of before the edit, and the one that this was replaced by in its turn.
    let (ends, asked) = (told("LeaseEnded"), told("lease not found"));
    assert_eq!((ends, asked), (2, 2), "{}", ended.whole_trace);
}

#[test]
fn one_whose_write_had_no_answer_is_replaced_when_it_is_due() {
    let ended = run(1, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tokio::task::spawn_local(roll_workloads(Rc::clone(&world)));
        world.rollout.set(Duration::from_secs(150));
        tenant.basics();
        tenant.role("app", 100, 100, false);
        tenant.create_workload("web", &["app"]);
        world.faults.replace(Faults {
            of: Some(("apply Secret app", Fault::LostAnswer)),
            ..Faults::default()
        });
        let mut manifest = dynamic_secret("app");
        let targets = json!([{ "kind": "Deployment", "name": "web" }]);
        manifest["spec"]["rolloutRestartTargets"] = targets;
        tenant.apply_dynamic(&manifest);
        seconds(5).await;
        world.faults.take();
        // It is due after a third of its life; half of it has not passed.
        seconds(40).await;
        rest(&world).await;
    });
    let ended = ended.expect_right("a write without an answer");
    // Not only once what was in hand is too old to be written.
    let (before, _) = ended.whole_trace.split_once("faults end").unwrap();
    let made = before.matches("app holds password=").count();
    assert_eq!(made, 2, "{}", ended.whole_trace);
}

#[test]
fn what_may_not_be_looked_at_is_not_gone() {
    run(1, None, unseen).expect_right("one that is not to be seen");
    let ended = run(1, Some(Defect::GoneOnForbidden), unseen);
    assert!(ended.breaks(Invariant::OldKept), "{:?}", ended.breaches);
}
