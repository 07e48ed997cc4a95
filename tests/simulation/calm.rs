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

/// Resources without a workload, from `first` on.
fn many(tenant: &Tenant, first: usize, count: usize) {
    for number in first..first + count {
        let name = name(number);
        tenant.write_vault(&name, &source(&[("password", "a")]));
        let mut manifest = static_secret(&name);
        manifest["spec"]["rolloutRestartTargets"] = serde_json::json!([]);
        tenant.apply(&manifest);
    }
}

/// How many of these requests are reads.
fn reads(requests: &[String]) -> usize {
    let reads = requests.iter().filter(|what| what.starts_with("read "));
    reads.count()
}

/// Half an hour in which nothing changes: each is read in each of its slots, and nothing else is asked for but that the
/// login lasts, nor is an event or anything written.
async fn steady(world: Rc<World>) {
    const SLOTS: usize = 60;
    let tenant = Tenant(Rc::clone(&world));
    tenant.basics();
    many(&tenant, 0, MANY);
    seconds(120).await;
    let begun = world.requests.borrow().len();
    assert_eq!(events(&world), MANY, "one for each Secret");
    seconds(30 * SLOTS as u64).await;
    let asked = world.requests.borrow()[begun..].to_vec();
    let others = asked
        .iter()
        .filter(|what| !what.starts_with("read ") && *what != "renew");
    let others: Vec<_> = others.collect();
    assert!(others.is_empty(), "{others:?}");
    // Slots lie up to a tenth closer than the spec says.
    let each = reads(&asked) / MANY;
    assert!((SLOTS..=SLOTS * 10 / 9 + 1).contains(&each), "{each}");
    assert_eq!(events(&world), MANY);
    rest(&world).await;
}

/// How many events there are.
fn events(world: &World) -> usize {
    world.api.borrow().events.len()
}

#[test]
fn half_an_hour_of_refreshes_writes_nothing_and_no_event() {
    run(5, None, steady).expect_right("nothing changes");
}

async fn outage(world: Rc<World>, prepare: impl Fn(&Tenant)) {
    let tenant = Tenant(Rc::clone(&world));
    prepare(&tenant);
    many(&tenant, 0, MANY);
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
    let calm = async |world| outage(world, Tenant::basics).await;
    run(5, None, calm).expect_right("an outage");
}

#[test]
fn an_outage_of_the_configured_vault_is_calm_too() {
    let calm = async |world| outage(world, Tenant::login).await;
    run(5, None, calm).expect_right("an outage");
}

/// More broken resources than make a hidden outage hold up the others once, and
/// not for long.
async fn broken(world: Rc<World>, prepare: impl Fn(&Tenant)) {
    const BROKEN: usize = 12;
    const GOOD: usize = 20;
    let tenant = Tenant(Rc::clone(&world));
    prepare(&tenant);
    (0..BROKEN).for_each(|number| tenant.set_broken(&name(number), true));
    many(&tenant, 0, BROKEN);
    seconds(5).await;
    many(&tenant, BROKEN, GOOD);
    seconds(60).await;
    let made = world.api.borrow().secrets.len();
    assert_eq!(made, GOOD, "all good ones\n{}", world.last_of_trace());
    for round in 0..5 {
        for number in BROKEN..BROKEN + GOOD {
            let fields = source(&[("password", &format!("round {round}"))]);
            tenant.write_vault(&name(number), &fields);
        }
        // A slot and a debounce; an outage would take longer.
        seconds(35).await;
        let told = world.last_of_trace();
        let api = world.api.borrow();
        let wanted = format!("round {round}").into_bytes();
        let field = crate::objects::Field::Data("password".to_owned());
        let new = |secret: &&crate::objects::Secret| secret.fields.get(&field) == Some(&wanted);
        let followed = api.secrets.values().filter(new).count();
        assert_eq!(followed, GOOD, "round {round}\n{told}");
    }
    (0..BROKEN).for_each(|number| tenant.set_broken(&name(number), false));
    rest(&world).await;
}

#[test]
fn many_that_are_broken_hold_up_no_others() {
    let calm = async |world| broken(world, Tenant::basics).await;
    run(5, None, calm).expect_right("broken ones");
    let calm = async |world| broken(world, Tenant::login).await;
    run(5, None, calm).expect_right("broken ones, configured");
}
