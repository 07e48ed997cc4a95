//! One resource's trouble is its own, whatever the number of others: a panic in
//! a port call, a request that never ends.

use std::rc::Rc;

use serde_json::{Value, json};
use vault_tenant_operator::key::Kind;

use crate::api_server::resource;
use crate::objects::Object;
use crate::runs::{Ended, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::{Fault, World};

/// How many others there are.
const OTHERS: usize = 500;

async fn one_among_many(world: Rc<World>, fault: Fault) {
    let tenant = Tenant(Rc::clone(&world));
    world.faults.borrow_mut().of = Some(("read kv/data/app", fault));
    tenant.basics();
    tenant.create_workload("web", &["app"]);
    let others: Vec<String> = (0..OTHERS).map(|n| format!("other-{n}")).collect();
    for name in ["app"].into_iter().chain(others.iter().map(String::as_str)) {
        tenant.write_vault(name, &source(&[("password", "a")]));
        let mut manifest = static_secret(name);
        if name != "app" {
            manifest["spec"]["rolloutRestartTargets"] = json!([]);
        }
        tenant.apply(&manifest);
    }
    seconds(80).await;
    let reason = |name: &str| {
        let api = world.api.borrow();
        let Some(Object::Static(found)) =
            api.resources.get(&resource(Kind::VaultStaticSecret, name))
        else {
            panic!("{name} is gone")
        };
        let status: Value = serde_json::to_value(&found.status).unwrap();
        let ready = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "Ready");
        ready
            .map(|one| one["reason"].as_str().unwrap_or_default().to_owned())
            .unwrap_or_default()
    };
    let expected = if fault == Fault::Panic {
        "InternalError"
    } else {
        "DeadlineExceeded"
    };
    assert_eq!(reason("app"), expected, "{}", world.last_of_trace());
    for name in &others {
        assert_eq!(reason(name), "Synced", "{name}");
        // Written at first, and read again at its slots.
        let read = format!("read kv/data/{name}");
        let requests = world.requests.borrow();
        let reads = requests.iter().filter(|what| what.ends_with(&read));
        let reads = reads.count();
        assert!((2..=4).contains(&reads), "{reads} reads of {name}");
    }
    // A change is worked on again.
    world.faults.borrow_mut().of = None;
    let mut changed = static_secret("app");
    changed["spec"]["destination"]["labels"]["app"] = "changed".into();
    tenant.apply(&changed);
    seconds(150).await;
}

fn after(fault: Fault) -> Ended {
    run(0, None, async |world| one_among_many(world, fault).await)
        .expect_right(&format!("{fault:?}"))
}

#[test]
fn a_panic_is_one_resources_internal_error() {
    let ended = after(Fault::Panic);
    let tries = ended
        .requests
        .iter()
        .take_while(|what| !what.contains("InternalError"))
        .filter(|what| what.contains("read kv/data/app"));
    assert_eq!(
        tries.count(),
        1,
        "set aside until it changes\n{}",
        ended.trace
    );
}

#[test]
fn a_request_without_an_answer_ends_at_the_deadline() {
    after(Fault::Hang);
}
