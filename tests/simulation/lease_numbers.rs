//! Leases in numbers: how many requests a day of many costs, how they are spread,
//! and what an outage costs that meets many of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::json;

use crate::lease_people::dynamic_secret;
use crate::runs::{rest, run, seconds};
use crate::tenant::Tenant;
use crate::world::World;

/// Life of each lease, in seconds; each can be renewed for a month.
const LEASE: u64 = 3600;
const LONGEST: u64 = 30 * DAY;

const DAY: u64 = 86_400;

/// A renewal is due after this share of a lease's life, and ten points later at the
/// latest; the first one from three tenths of that on (docs/dynamic.md).
const FIRST: u64 = LEASE * 77 / 100 * 3 / 10;
const EARLIEST: u64 = LEASE * 67 / 100;
const LAST: u64 = LEASE * 77 / 100;

/// What requests and their order add to that, in seconds.
const SLACK: u64 = 15;

/// The model's tokens live so long, and are renewed in their last third.
const TOKEN: u64 = 1200;

fn name(number: usize) -> String {
    format!("app{number}")
}

fn leased(tenant: &Tenant, many: usize) {
    for name in (0..many).map(name) {
        tenant.role(&name, LEASE, LONGEST, true);
        tenant.apply_dynamic(&dynamic_secret(&name));
    }
}

fn count(requests: &[String], begin: &str) -> usize {
    let found = requests.iter().filter(|what| what.starts_with(begin));
    found.count()
}

/// Lives for so many seconds; answers with the requests of each.
async fn lived(world: &World, many: u64) -> Vec<Vec<String>> {
    let mut lived = Vec::new();
    for _ in 0..many {
        let before = world.requests.borrow().len();
        seconds(1).await;
        lived.push(world.requests.borrow()[before..].to_vec());
    }
    lived
}

/// The most that any so many seconds on end hold.
fn most_within(each: &[usize], window: u64) -> usize {
    let window = usize::try_from(window).unwrap();
    let (mut sum, mut most) = (0, 0);
    for (at, count) in each.iter().enumerate() {
        sum += count;
        sum -= at.checked_sub(window).map_or(0, |before| each[before]);
        most = most.max(sum);
    }
    most
}

#[test]
fn a_day_of_many_leases_costs_what_is_due_and_is_spread() {
    const MANY: usize = 500;
    let ended = run(5, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        // That makes most of the requests, and takes most of the time.
        world.looks.set(false);
        tenant.basics();
        leased(&tenant, MANY);
        let lived = lived(&world, DAY).await;
        let all: Vec<String> = lived.concat();

        assert_eq!(count(&all, "read db/creds/"), MANY, "credentials");
        assert_eq!(world.vault.borrow().leases.live.len(), MANY);
        // One token for all of it: it can be renewed without end.
        assert_eq!(count(&all, "login"), 1);
        let tokens = count(&all, "renew") as u64;
        let due = DAY / TOKEN..=DAY / (TOKEN * 2 / 3) + 1;
        assert!(
            due.contains(&tokens),
            "{tokens} renewals of the token, {due:?} due"
        );
        assert_eq!(count(&all, "LookUpToken") + count(&all, "RenewToken"), 0);

        // When each was renewed.
        let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let mut each = Vec::new();
        for (second, requests) in (0..).zip(&lived) {
            let renewed = requests
                .iter()
                .filter_map(|what| what.strip_prefix("RenewLease "));
            let renewed: Vec<&str> = renewed.collect();
            each.push(renewed.len());
            for lease in renewed {
                times.entry(lease).or_insert_with(|| vec![0]).push(second);
            }
        }
        assert_eq!(times.len(), MANY);
        for (lease, times) in &times {
            let gaps = times.windows(2).map(|two| two[1] - two[0]);
            let first = times[1];
            let early = gaps.clone().skip(1).min().unwrap();
            let late = gaps.max().unwrap().max(DAY - times.last().unwrap());
            let is_due =
                first + SLACK >= FIRST && early + SLACK >= EARLIEST && late <= LAST + SLACK;
            assert!(
                is_due,
                "{lease} is renewed first after {first} s, then after {early} to {late} s"
            );
        }

        // In any hundredth of the day, and of a lease's life, at most a twentieth of its
        // renewals; from the first hour on, though all came at once.
        let total: usize = each.iter().sum();
        let an_hour = total / 24;
        for (period, renewals) in [(DAY, total), (LEASE, an_hour)] {
            let busiest = most_within(&each, period / 100);
            println!("{busiest} of {renewals} renewals in {} s", period / 100);
            assert!(20 * busiest <= renewals, "{busiest} of {renewals}");
        }
        rest(&world).await;
    });
    ended.expect_right("a day");
}

/// So many that one prober and a spread can be told from all at once.
const DUE: usize = 200;

#[test]
fn an_outage_with_many_renewals_due_costs_no_lease_and_no_restart() {
    /// Resources that restart a workload of theirs, and the requests that a connection
    /// gets in a second (`sync.vaultRequestsPerSecond`).
    const WORKLOADS: usize = 20;
    const BUDGET: usize = 50;
    /// So that all are due for the first time while one token lives.
    const PERCENT: u64 = 10;
    const LAST: u64 = LEASE * (PERCENT + 10) / 100;
    const FIRST: u64 = LAST * 3 / 10;
    let ended = run(5, None, async |world: Rc<World>| {
        let tenant = Tenant(Rc::clone(&world));
        tenant.basics();
        leased(&tenant, DUE);
        for number in 0..DUE {
            let name = name(number);
            let mut manifest = dynamic_secret(&name);
            manifest["spec"]["renewalPercent"] = json!(PERCENT);
            if number < WORKLOADS {
                tenant.create_workload(&name, &[&name]);
                manifest["spec"]["rolloutRestartTargets"] =
                    json!([{ "kind": "Deployment", "name": name }]);
            }
            tenant.apply_dynamic(&manifest);
        }
        seconds(FIRST - 60).await;
        let made = count(&world.requests.borrow(), "read db/creds/");
        assert_eq!(made, DUE);

        // From before the first is due until after the last.
        tenant.set_sealed(true);
        let during = lived(&world, LAST - FIRST + 120).await;
        tenant.set_sealed(false);
        let asked: Vec<String> = during.concat();
        let probes = count(&asked, "health");
        assert!((20..=70).contains(&probes), "{probes} probes by one prober");
        // Who is under way when it begins to be told asks too.
        let others = asked.iter().filter(|what| to_vault(what)).count() - probes;
        assert!(others <= 4, "{others} requests to a Vault that is away");

        let after = lived(&world, 60).await;
        let most = after
            .iter()
            .map(|some| some.iter().filter(|what| to_vault(what)).count());
        let most = most.max().unwrap();
        assert!(most <= BUDGET / 2, "{most} requests in a second");
        let renewed = count(&after.concat(), "RenewLease");
        assert_eq!(renewed, DUE, "renewals within a minute");
        println!("{probes} probes, {others} other requests; then {most} in a second at most");

        rest(&world).await;
        assert_eq!(count(&world.requests.borrow(), "read db/creds/"), DUE);
        assert_eq!(world.vault.borrow().leases.live.len(), DUE);
        let restarts = |what: &&String| what.ends_with("(restart)");
        let restarts = world.requests.borrow().iter().filter(restarts).count();
        assert_eq!(restarts, 0);
    });
    ended.expect_right("an outage");
}

/// Whether a request goes to Vault.
fn to_vault(what: &str) -> bool {
    let begins = [
        "health",
        "login",
        "read ",
        "renew",
        "RenewLease",
        "LookUp",
        "RenewToken",
    ];
    begins.iter().any(|begin| what.starts_with(begin))
}
