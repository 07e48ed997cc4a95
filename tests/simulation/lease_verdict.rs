//! The verdict about dynamic secrets once faults and edits have stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use vault_tenant_operator::api::VaultDynamicSecret;

use crate::judge::Invariant::{EventuallyRight, NothingLingers, Quiet, StatusTrue};
use crate::judge::VOLATILE;
use crate::lease_judge::{living, remembered};
use crate::lease_people::dynamics;
use crate::objects::{Field, Object};
use crate::verdict::{Breach, ready, rolled_out};
use crate::world::World;

/// A drain, a rollout, and what restarts of the operator and watches add.
const RELEASE: Duration = Duration::from_secs(360);

/// All that is not as it should be.
pub fn at_rest(world: &World, breaches: &mut Vec<Breach>) {
    for found in dynamics(world) {
        dynamic_secret(world, &found, breaches);
    }
    lingering(world, breaches);
}

fn dynamic_secret(world: &World, found: &VaultDynamicSecret, breaches: &mut Vec<Breach>) {
    let name = &found.spec.destination.name;
    let said = ready(&Object::Dynamic(std::rc::Rc::new(found.clone())));
    if (said.0.as_str(), said.1.as_str()) != ("True", "Synced") {
        breaches.push((StatusTrue, format!("{name}: Ready is {said:?}")));
    }
    let uid = found.metadata.uid.clone().unwrap_or_default();
    let api = world.api.borrow();
    let Some(secret) = api.secrets.get(name) else {
        breaches.push((EventuallyRight, format!("there is no Secret {name}")));
        return;
    };
    let mut data = secret.data_of(&format!("vto-{uid}"));
    data.retain(|key, _| !VOLATILE.contains(&key.as_str()));
    let password = data.get("password").cloned().unwrap_or_default();
    let vault = world.vault.borrow();
    let path = format!("{}/{}", found.spec.mount, found.spec.path);
    let right = match vault.leases.rotated.get(&path) {
        Some(_) => password.starts_with(b"rotated-"),
        None => {
            let lease = vault.leases.of_password(&password);
            lease.is_some_and(|lease| vault.leases.live[lease].path == path)
        }
    };
    if !right {
        let holds = String::from_utf8_lossy(&password);
        breaches.push((
            EventuallyRight,
            format!("the Secret {name} holds {holds}, which works for {path} no more"),
        ));
    }
    let targets = found.spec.rollout_restart_targets.iter().flatten();
    rolled_out(world, name, targets, name, breaches);
}

/// Whether a target of a resource is paused: what its pods use is kept.
fn waits(world: &World, name: &str) -> bool {
    let Some(found) = living(world, name) else {
        return false;
    };
    let api = world.api.borrow();
    let mut targets = found.spec.rollout_restart_targets.iter().flatten();
    targets.any(|target| {
        let workload = api.workloads.get(&target.name);
        workload.is_some_and(|workload| workload.paused || workload.rolling)
    })
}

fn lingering(world: &World, breaches: &mut Vec<Breach>) {
    let vault = world.vault.borrow();
    let judge = world.leases.borrow();
    let now = world.now();
    let mut live: BTreeMap<String, usize> = BTreeMap::new();
    for entry in remembered(world) {
        if !vault.leases.live.contains_key(&entry.lease) {
            continue;
        }
        if !world.api.borrow().lives(&entry.uid) {
            let what = format!("{} lives, and its resource is gone", entry.lease);
            breaches.push((NothingLingers, what));
            continue;
        }
        if waits(world, &entry.of) {
            continue;
        }
        *live.entry(entry.of.clone()).or_default() += 1;
        let since = judge.superseded_since(&entry.lease);
        let late = |since| Duration::try_from(now.duration_since(since)).unwrap() > RELEASE;
        if since.is_some_and(late) {
            let what = format!("{} lives, and {} holds another", entry.lease, entry.of);
            breaches.push((NothingLingers, what));
        }
    }
    for (of, count) in live.iter().filter(|(_, count)| **count > 2) {
        breaches.push((NothingLingers, format!("{count} live leases of {of}")));
    }
}

/// How many requests a while may see, by how they begin.
pub fn due(world: &World, window: Duration) -> BTreeMap<&'static str, u64> {
    let mut due: BTreeMap<&str, u64> = BTreeMap::new();
    let vault = world.vault.borrow();
    let api = world.api.borrow();
    let field = Field::Data("password".to_owned());
    let held = api.secrets.values();
    let held: Vec<&[u8]> = held
        .filter_map(|secret| Some(secret.fields.get(&field)?.as_slice()))
        .collect();
    let within =
        |period: Duration| u64::try_from(window.as_millis() / period.as_millis()).unwrap() + 1;
    let mut add = |what, count| *due.entry(what).or_default() += count;
    for lease in vault.leases.live.values() {
        // Some in use may be kept for pods; half of the shortest is between those.
        let renewals = within(lease.ttl() / 2);
        add("RenewLease", renewals);
        add("LookUpLease", within(Duration::from_secs(600)));
        add("write the status of VaultDynamicSecret", renewals);
        // What comes to its end is replaced, what was replaced is given back.
        let password = lease.password.as_bytes();
        if lease.is_last(world.now(), window) || !held.contains(&password) {
            for what in [
                "read db/creds/",
                "RenewLease",
                "write the status of VaultDynamicSecret",
                "patch",
                "apply Secret",
                "get",
                "RevokeLease",
                "event",
            ] {
                add(what, 6);
            }
        }
    }
    for entry in remembered(world) {
        // Of what ended by itself the ledger learns when that is given back.
        if !vault.leases.live.contains_key(&entry.lease) {
            add("RevokeLease", 2);
            add("RenewLease", 4);
            add("event", 1);
        }
    }
    for rotated in vault.leases.rotated.values() {
        for what in [
            "read db/static-creds",
            "apply Secret",
            "patch",
            "event",
            "get",
        ] {
            add(what, 4 * within(rotated.period));
        }
        add(
            "write the status of VaultDynamicSecret",
            within(rotated.period),
        );
    }
    for what in ["LookUpToken", "RenewToken", "patch ledger"] {
        add(what, 30);
    }
    due
}

/// What of these requests was not due.
pub fn quiet(due: &BTreeMap<&str, u64>, requests: &[String]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let is_due = |what: &str| due.keys().any(|begin| what.starts_with(begin));
    for (begin, most) in due {
        let count = requests
            .iter()
            .filter(|what| what.starts_with(begin))
            .count();
        if count as u64 > *most {
            breaches.push((Quiet, format!("{count} times {begin:?}, {most} due")));
        }
    }
    let login = ["token request", "login", "renew"];
    let stray = requests
        .iter()
        .find(|what| !is_due(what) && !login.iter().any(|login| what.starts_with(login)));
    breaches.extend(stray.map(|what| (Quiet, format!("{what} while nothing was due"))));
    breaches
}
