//! One situation of a certificate's life each, with what must come of it.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use crate::certificate_people::certificate;
use crate::runs::{rest, run, seconds};
use crate::tenant::Tenant;
use crate::world::World;

/// How many were issued.
fn issued(world: &World) -> usize {
    let requests = world.requests.borrow();
    let issues = requests.iter().filter(|what| what.starts_with("read pki/"));
    issues.count()
}

#[test]
fn a_rollout_by_somebody_else_has_none_issued() {
    let ended = run(1, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tokio::task::spawn_local(crate::lease_people::roll_workloads(Rc::clone(&world)));
        world.rollout.set(Duration::from_secs(20));
        tenant.basics();
        tenant.issuing_role("app", 3600, false, false);
        tenant.create_workload("web", &["app"]);
        let mut manifest = certificate("app", "10m");
        manifest["spec"]["rolloutRestartTargets"] =
            json!([{ "kind": "Deployment", "name": "web" }]);
        tenant.apply_certificate(&manifest);
        seconds(100).await;
        manifest["spec"]["commonName"] = json!("other.example");
        tenant.apply_certificate(&manifest);
        seconds(1200).await;
        assert_eq!(issued(&world), 2);
        // Not since the last restart of the operator's did this rollout last.
        tenant.touch_template("web");
        seconds(100).await;
        assert_eq!(issued(&world), 2, "{}", world.last_of_trace());
        rest(&world).await;
    });
    ended.expect_right("a rollout by hand");
}
