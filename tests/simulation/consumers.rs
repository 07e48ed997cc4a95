//! A key that a workload needs goes at Vault: it stays in the Secret, with all else
//! that was there, until that may change.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use crate::api_server::resource;
use crate::objects::Field;
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::verdict::ready;
use crate::world::World;
use vault_tenant_operator::key::Kind;

/// The password that the Secret holds, and whether it has a user.
fn held(world: &World) -> (String, bool) {
    let api = world.api.borrow();
    let field = |key: &str| api.secrets["app"].fields.get(&Field::Data(key.to_owned()));
    let password = field("password").cloned().unwrap_or_default();
    (
        String::from_utf8(password).unwrap(),
        field("user").is_some(),
    )
}

fn is_refused(world: &World) -> bool {
    let key = resource(Kind::VaultStaticSecret, "app");
    let (truth, reason) = ready(&world.api.borrow().resources[&key]);
    (truth.as_str(), reason.as_str()) == ("False", "WouldBreakConsumers")
}

/// `jobs`, which is nobody's target, needs a user, which goes at Vault as the password changes; then `mends` mends
/// that, and within `within` seconds the Secret holds what Vault does.
fn mended(what: &str, within: u64, user: bool, mends: impl AsyncFnOnce(&Tenant)) {
    let ended = run(7, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tenant.basics();
        tenant.write_vault("app", &source(&[("password", "a"), ("user", "u")]));
        tenant.create_workload("web", &["app"]);
        tenant.create_workload("jobs", &[]);
        tenant.need("jobs", "app", &["absent", "user"]);
        tenant.apply(&static_secret("app"));
        seconds(60).await;
        tenant.write_vault("app", &source(&[("password", "b"), ("user", "u")]));
        seconds(60).await;
        assert_eq!(held(&world), ("b".to_owned(), true), "nothing goes: {what}");
        tenant.write_vault("app", &source(&[("password", "c")]));
        seconds(60).await;
        assert!(is_refused(&world), "{what}");
        let before = world.requests.borrow().len();
        seconds(600).await;
        assert_eq!(held(&world), ("b".to_owned(), true), "{what}");
        let requests = world.requests.borrow()[before..].to_vec();
        let reads = requests.iter().filter(|one| one.starts_with("read "));
        let reads = reads.count();
        assert!((10..=40).contains(&reads), "{reads} reads in ten minutes");
        assert!(requests.len() < 4 * reads, "{requests:?}");
        mends(&tenant).await;
        seconds(within).await;
        let password = if user { "d" } else { "c" };
        assert_eq!(held(&world), (password.to_owned(), user), "{what}");
        assert!(!is_refused(&world), "{what}");
        rest(&world).await;
    });
    ended.expect_right(what);
}

#[test]
fn a_key_that_is_needed_stays_until_that_is_mended() {
    mended("it is back at Vault", 61, true, async |tenant| {
        tenant.write_vault("app", &source(&[("password", "d"), ("user", "u")]));
    });
    mended("the workload lets it go", 2, false, async |tenant| {
        tenant.need("jobs", "app", &["absent"]);
    });
    mended("the workload goes", 2, false, async |tenant| {
        tenant.0.at_api(|api| api.delete_workload("jobs"));
    });
    mended("it may go", 2, false, async |tenant| {
        let mut manifest = static_secret("app");
        manifest["spec"]["destination"]["allowKeyRemoval"] = json!(true);
        tenant.apply(&manifest);
    });
}

#[test]
fn a_restart_of_the_operator_forgets_no_need() {
    let ended = run(7, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tenant.basics();
        tenant.write_vault("app", &source(&[("password", "a"), ("user", "u")]));
        tenant.create_workload("web", &["app"]);
        tenant.need("web", "app", &["user"]);
        tenant.apply(&static_secret("app"));
        seconds(60).await;
        tenant.write_vault("app", &source(&[("password", "b")]));
        // What it reads first, it reads before it has seen the workloads, maybe.
        for _ in 0..5 {
            tenant.restart_operator(false);
            seconds(40).await;
            assert_eq!(held(&world), ("a".to_owned(), true));
        }
        assert!(is_refused(&world));
        tenant.write_vault("app", &source(&[("password", "c"), ("user", "u")]));
        rest(&world).await;
    });
    ended.expect_right("restarts of the operator");
}

#[test]
fn no_need_is_overlooked_before_the_workloads_are_listed() {
    for seed in 0..10 {
        let ended = run(seed, None, async |world: Rc<World>| {
            let tenant = Tenant(Rc::clone(&world));
            tenant.basics();
            tenant.write_vault("app", &source(&[("password", "a"), ("user", "u")]));
            // Nobody's target, and so nothing that the resource itself waits for.
            tenant.create_workload("jobs", &[]);
            tenant.need("jobs", "app", &["user"]);
            let mut manifest = static_secret("app");
            manifest["spec"]["rolloutRestartTargets"] = json!([]);
            tenant.apply(&manifest);
            seconds(60).await;
            tenant.write_vault("app", &source(&[("password", "b")]));
            world.lag.set(Duration::from_secs(8));
            for _ in 0..5 {
                tenant.restart_operator(false);
                seconds(60).await;
                assert_eq!(held(&world), ("a".to_owned(), true), "seed {seed}");
            }
            tenant.need("jobs", "app", &[]);
            rest(&world).await;
            assert_eq!(held(&world), ("b".to_owned(), false), "seed {seed}");
        });
        ended.expect_right(&format!("seed {seed}"));
    }
}
