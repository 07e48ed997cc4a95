//! One situation of product.md's table of restarts each, with the exact count.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::objects::Field;
use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::World;

/// Runs what happens to a secret that is in place, and counts restarts.
fn restarts(what: &str, expected: usize, happens: impl AsyncFnOnce(&Tenant)) {
    restarts_by(&static_secret("app"), what, expected, happens);
}

/// The same with a resource that says in another way what restarts.
fn restarts_by(resource: &Value, what: &str, expected: usize, happens: impl AsyncFnOnce(&Tenant)) {
    let ended = run(7, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tenant.basics();
        tenant.write_vault("app", &source(&[("password", "a"), ("user", "u")]));
        tenant.create_workload("web", &["app"]);
        tenant.apply(resource);
        seconds(60).await;
        happens(&tenant).await;
        rest(&world).await;
    });
    let ended = ended.expect_right(what);
    assert_eq!(ended.restarts, expected, "{what}\n{}", ended.trace);
}

#[test]
fn content_restarts_once_and_nothing_else_does() {
    let a = source(&[("password", "a"), ("user", "u")]);
    let b = source(&[("password", "b"), ("user", "u")]);
    restarts("a changed value", 1, async |tenant| {
        tenant.write_vault("app", &b)
    });
    restarts("an equal version", 0, async |tenant| {
        tenant.write_vault("app", &a)
    });
    restarts("an edit of the spec", 0, async |tenant| {
        let mut manifest = static_secret("app");
        manifest["spec"]["destination"]["labels"] = json!({ "app": "other" });
        manifest["spec"]["refreshAfter"] = json!("50s");
        tenant.apply(&manifest);
    });
    restarts("deleted and applied again", 0, async |tenant| {
        tenant.delete_resource("app");
        seconds(10).await;
        tenant.apply(&static_secret("app"));
    });
    restarts("a repaired drift", 0, async |tenant| {
        tenant.edit_secret("app", Field::Data("password".to_owned()), Some("by hand"));
    });
    restarts("a deleted Secret", 0, async |tenant| {
        tenant.delete_secret("app")
    });
    restarts("a stripped state", 0, async |tenant| {
        tenant.strip_state("app")
    });
    restarts("a state of a later generation", 0, async |tenant| {
        tenant.tamper_state("app", |state| state["generation"] = json!(99));
    });
}

#[test]
fn what_is_found_restarts_as_what_is_named() {
    let mut found = static_secret("app");
    found["spec"]["rolloutRestartTargets"] = json!([]);
    found["spec"]["rollout"] = json!({ "auto": true });
    let change = source(&[("password", "b")]);
    restarts_by(&found, "found: a change", 1, async |tenant| {
        tenant.write_vault("app", &change)
    });
    restarts_by(&found, "found: a new leader", 0, async |tenant| {
        tenant.restart_operator(false)
    });
    restarts_by(&found, "found: a lost key", 0, async |tenant| {
        tenant.restart_operator(true)
    });
    restarts_by(
        &found,
        "found: a change and a new leader while it waits",
        1,
        async |tenant| {
            tenant.pause("web", true);
            tenant.write_vault("app", &change);
            seconds(60).await;
            tenant.restart_operator(false);
            seconds(60).await;
            tenant.pause("web", false);
        },
    );
    restarts_by(&found, "found: made again", 0, async |tenant| {
        tenant.create_workload("web", &["app"])
    });
    restarts_by(
        &found,
        "found: named, too, and then alone",
        1,
        async |tenant| {
            let mut both = static_secret("app");
            both["spec"]["rollout"] = json!({ "auto": true });
            tenant.apply(&both);
            seconds(60).await;
            tenant.write_vault("app", &change);
            seconds(60).await;
            tenant.apply(&static_secret("app"));
        },
    );
}

#[test]
fn a_lost_key_restarts_nothing() {
    restarts("a lost key", 0, async |tenant| {
        tenant.restart_operator(true)
    });
    restarts(
        "a lost key, with keys of others in the Secret",
        0,
        async |tenant| {
            tenant.edit_secret("app", Field::Data("foreign.txt".to_owned()), Some("x"));
            seconds(5).await;
            tenant.restart_operator(true);
        },
    );
    restarts("a lost key after a restart", 1, async |tenant| {
        tenant.write_vault("app", &source(&[("password", "b")]));
        seconds(60).await;
        tenant.restart_operator(true);
    });
    restarts("a lost key while a restart is pending", 1, async |tenant| {
        tenant.pause("web", true);
        tenant.write_vault("app", &source(&[("password", "b")]));
        seconds(60).await;
        tenant.restart_operator(true);
        seconds(60).await;
        tenant.pause("web", false);
    });
}

#[test]
fn what_people_do_to_the_workload_costs_at_most_one() {
    let change = source(&[("password", "b")]);
    restarts("paused, then resumed", 1, async |tenant| {
        tenant.pause("web", true);
        tenant.write_vault("app", &change);
        seconds(60).await;
        tenant.pause("web", false);
    });
    restarts("undone to an old hash", 3, async |tenant| {
        tenant.write_vault("app", &change);
        seconds(60).await;
        tenant.write_vault("app", &source(&[("password", "c")]));
        seconds(60).await;
        tenant.undo("web");
    });
    restarts("stripped", 1, async |tenant| {
        tenant.write_vault("app", &change);
        seconds(60).await;
        tenant.strip_template("web");
    });
    restarts("made again", 0, async |tenant| {
        tenant.create_workload("web", &["app"])
    });
}
