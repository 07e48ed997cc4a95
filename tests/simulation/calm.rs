//! An outage of Vault with many resources due: one prober asks, who misses a
//! Secret comes first, the others are spread, and nothing restarts.

use std::rc::Rc;

use crate::runs::{rest, run, seconds};
use crate::tenant::{Tenant, source, static_secret};
use crate::world::World;

const MANY: usize = 100;

fn name(number: usize) -> String {
    format!("app-{number}")
}

/// How many of these requests are reads.
fn reads(requests: &[String]) -> usize {
    let reads = requests.iter().filter(|what| what.starts_with("read "));
    reads.count()
}

async fn outage(world: Rc<World>) {
    let tenant = Tenant(Rc::clone(&world));
    tenant.basics();
    for number in 0..MANY {
        let name = name(number);
        tenant.write_vault(&name, &source(&[("password", "a")]));
        let mut manifest = static_secret(&name);
        manifest["spec"]["rolloutRestartTargets"] = serde_json::json!([]);
        tenant.apply(&manifest);
    }
    seconds(120).await;
    tenant.set_sealed(true);
    // Longer than a slot: all are due, and told.
    seconds(60).await;
    tenant.delete_secret(&name(7));
    seconds(10).await;
    let so_far = || world.requests.borrow().len();
    let begun = so_far();
    seconds(600).await;
    let during = world.requests.borrow()[begun..].to_vec();
    assert!(
        during.iter().all(|what| what == "health"),
        "{during:?} while all wait"
    );
    // A probe in 20 seconds at most, and in half of that at least.
    assert!((30..=60).contains(&during.len()), "{} probes", during.len());

    let ended = so_far();
    tenant.set_sealed(false);
    let mut first = Vec::new();
    let mut most = 0;
    for _ in 0..60 {
        let before = so_far();
        seconds(1).await;
        let now = world.requests.borrow()[before..].to_vec();
        most = most.max(reads(&now));
        first.extend(now.into_iter().find(|what| what.starts_with("read ")));
    }
    let all = reads(&world.requests.borrow()[ended..]);
    assert!(
        all >= MANY,
        "{all} of {MANY} are read again within a minute"
    );
    assert!(most <= MANY / 4, "{most} reads in one second");
    let missing = format!("kv/data/{}", name(7));
    assert!(
        first.first().is_some_and(|what| what.ends_with(&missing)),
        "missing ones first: {first:?}"
    );
    rest(&world).await;
}

#[test]
fn an_outage_with_many_resources_due_is_calm() {
    run(5, None, outage).expect_right("an outage");
}
