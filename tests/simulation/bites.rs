//! Each invariant bites: a deliberate defect that breaks it is caught by it.

use std::rc::Rc;

use crate::defects::Defect;
use crate::judge::Invariant;
use crate::objects::Field;
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::{Server, World};

/// A life with all that the defects need to show themselves.
async fn life(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a"), ("user", "u")]));
    tenant.create_workload("web", &["app"]);
    tenant.apply(&static_secret("app"));
    seconds(60).await;
    tenant.write_vault("app", &source(&[("password", "b"), ("user", "u")]));
    seconds(60).await;
    tenant.edit_secret("app", Field::Data("password".to_owned()), Some("by hand"));
    seconds(60).await;
    tenant.set_deleted("app", true);
    seconds(60).await;
    tenant.set_deleted("app", false);
    rest(&world).await;
}

/// The content changes long after the workload came into being.
async fn late_change(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    tenant.create_workload("web", &["app"]);
    tenant.apply(&static_secret("app"));
    seconds(300).await;
    tenant.write_vault("app", &source(&[("password", "b")]));
    seconds(60).await;
    rest(&world).await;
}

/// The newest version is deleted at Vault, and stays so.
async fn deleted_source(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    tenant.create_workload("web", &["app"]);
    tenant.apply(&static_secret("app"));
    seconds(60).await;
    tenant.set_deleted("app", true);
    rest(&world).await;
}

/// Somebody else's Secret takes the name while the operator looks away.
async fn stolen_name(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    tenant.create_workload("web", &["app"]);
    tenant.apply(&static_secret("app"));
    seconds(60).await;
    world.lag.set(std::time::Duration::from_secs(600));
    tenant.write_vault("app", &source(&[("password", "b")]));
    tenant.delete_secret("app");
    tenant.create_foreign("app", &[(Field::Data("password".to_owned()), "theirs")]);
    seconds(60).await;
    rest(&world).await;
    seconds(600).await;
}

/// A resource is deleted while the watch that would say so lags.
async fn unseen_deletion(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    tenant.create_workload("web", &["app"]);
    tenant.apply(&static_secret("app"));
    seconds(60).await;
    world.stale.set(true);
    tenant.delete_resource("app");
    seconds(60).await;
    world.stale.set(false);
    rest(&world).await;
}

/// The network to Vault is away for a minute while a resource is due.
async fn lost_network(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    world.load.borrow_mut().limit = Some(10);
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    tenant.create_workload("web", &["app"]);
    tenant.apply(&static_secret("app"));
    seconds(60).await;
    tenant.cut_off(Server::Vault, 60);
    seconds(60).await;
    rest(&world).await;
}

#[test]
fn without_a_defect_all_of_it_is_right() {
    run(0, None, life).expect_right("life");
    run(0, Some(Defect::PrunedStatus), life).expect_right("pruned status");
    run(0, None, late_change).expect_right("late change");
    run(0, None, deleted_source).expect_right("deleted source");
    run(0, None, stolen_name).expect_right("stolen name");
    run(0, None, unseen_deletion).expect_right("unseen deletion");
    run(0, None, lost_network).expect_right("lost network");
}

#[test]
fn each_defect_is_caught_by_its_invariant() {
    let caught = |defect, invariant| {
        let ended = run(0, Some(defect), life);
        assert!(
            ended.breaks(invariant),
            "{defect:?} is not caught by {invariant:?} but by {:?}\n{}",
            ended.breaches,
            ended.trace
        );
    };
    caught(Defect::EmptyWrites, Invariant::NeverWiped);
    caught(Defect::NoHashes, Invariant::RestartForContent);
    caught(Defect::RestartFirst, Invariant::RestartForContent);
    caught(Defect::StaleReads, Invariant::EventuallyRight);
    let ended = run(0, Some(Defect::StatusStuck), deleted_source);
    assert!(
        ended.breaks(Invariant::StatusTrue),
        "StatusStuck: {:?}",
        ended.breaches
    );
    caught(Defect::NoState, Invariant::StatusTrue);
    caught(Defect::RisingVersion, Invariant::Quiet);
    let ended = run(0, Some(Defect::NoBaseline), late_change);
    assert!(
        ended.breaks(Invariant::RestartForContent),
        "NoBaseline: {:?}",
        ended.breaches
    );
    let ended = run(0, Some(Defect::NoFence), stolen_name);
    assert!(
        ended.breaks(Invariant::NothingOfOthers),
        "NoFence: {:?}\n{}",
        ended.breaches,
        ended.trace
    );
    let ended = run(0, Some(Defect::AlwaysAlive), unseen_deletion);
    assert!(
        ended.breaks(Invariant::NoneRecreated),
        "AlwaysAlive: {:?}\n{}",
        ended.breaches,
        ended.trace
    );
    let ended = run(0, Some(Defect::RetryAtOnce), lost_network);
    assert!(
        ended.breaks(Invariant::Calm),
        "RetryAtOnce: {:?}\n{}",
        ended.breaches,
        ended.trace
    );
}
