//! A destination that changes its name, its type or the resource that it belongs
//! to, with each fault at each request: what is to be there is there, what is to
//! go is gone, and nothing restarts for it.

use std::rc::Rc;

use serde_json::json;

use crate::exhaustive::each_fault;
use crate::objects::Field;
use crate::runs::{rest, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::{Faults, World};

async fn renamed(world: Rc<World>, faults: Faults) {
    let tenant = Tenant(Rc::clone(&world));
    world.faults.replace(faults);
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    let mut manifest = static_secret("app");
    manifest["spec"]["destination"]["name"] = json!("old");
    manifest["spec"]["rolloutRestartTargets"] = json!([]);
    tenant.apply(&manifest);
    seconds(90).await;
    manifest["spec"]["destination"]["name"] = json!("new");
    tenant.apply(&manifest);
    seconds(90).await;
    rest(&world).await;
    let names: Vec<String> = world.api.borrow().secrets.keys().cloned().collect();
    assert_eq!(names, ["new"], "{}", world.last_of_trace());
}

async fn retyped(world: Rc<World>, faults: Faults) {
    let tenant = Tenant(Rc::clone(&world));
    world.faults.replace(faults);
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    tenant.create_workload("web", &["app"]);
    tenant.apply(&static_secret("app"));
    seconds(90).await;
    let mut manifest = static_secret("app");
    manifest["spec"]["destination"]["type"] = json!("example.com/own");
    tenant.apply(&manifest);
    seconds(90).await;
    rest(&world).await;
    let api = world.api.borrow();
    let type_ = api
        .secrets
        .get("app")
        .map(|found| &found.fields[&Field::Type]);
    let wanted = b"example.com/own".to_vec();
    assert_eq!(type_, Some(&wanted), "{}", world.last_of_trace());
}

async fn taken_over(world: Rc<World>, faults: Faults) {
    let tenant = Tenant(Rc::clone(&world));
    world.faults.replace(faults);
    tenant.basics();
    for name in ["first", "second"] {
        tenant.write_vault(name, &source(&[("password", name)]));
        let mut manifest = static_secret(name);
        manifest["spec"]["destination"]["name"] = json!("one");
        manifest["spec"]["rolloutRestartTargets"] = json!([]);
        tenant.apply(&manifest);
        seconds(90).await;
    }
    assert_eq!(held(&world, "one"), "first", "{}", world.last_of_trace());
    tenant.delete_resource("first");
    seconds(90).await;
    rest(&world).await;
    assert_eq!(held(&world, "one"), "second", "{}", world.last_of_trace());
}

async fn kept(world: Rc<World>, faults: Faults) {
    let tenant = Tenant(Rc::clone(&world));
    world.faults.replace(faults);
    tenant.basics();
    tenant.write_vault("app", &source(&[("password", "a")]));
    let mut manifest = static_secret("app");
    manifest["spec"]["destination"]["retainOnDelete"] = json!(true);
    tenant.apply(&manifest);
    seconds(90).await;
    tenant.delete_resource("app");
    seconds(90).await;
    rest(&world).await;
    let marked = Field::Annotation("vault-tenant-operator.io/orphaned-at".to_owned());
    let found = world.api.borrow().secrets.get("app").cloned();
    let marked = found.is_some_and(|found| found.fields.contains_key(&marked));
    assert!(marked, "{}", world.last_of_trace());
}

/// The password that a Secret holds.
fn held(world: &World, secret: &str) -> String {
    let field = Field::Data("password".to_owned());
    let api = world.api.borrow();
    let found = api
        .secrets
        .get(secret)
        .and_then(|found| found.fields.get(&field));
    found
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .unwrap_or_default()
}

#[test]
fn each_fault_at_each_request_of_a_rename() {
    each_fault(0, renamed);
}

#[test]
fn each_fault_at_each_request_of_a_takeover() {
    each_fault(0, taken_over);
}

#[test]
fn each_fault_at_each_request_of_a_secret_that_is_kept() {
    each_fault(0, kept);
}

#[test]
fn each_fault_at_each_request_of_another_type() {
    each_fault(0, retyped);
}
