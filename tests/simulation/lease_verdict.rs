//! The verdict about credentials and certificates once faults and edits have stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use vault_tenant_operator::key::Kind;

use crate::api_server::resource;
use crate::judge::Invariant::{EventuallyRight, NothingLingers, Quiet, StatusTrue};
use crate::lease_judge::remembered;
use crate::living::living;
use crate::objects::{Object, mark};
use crate::verdict::{Breach, ready, rolled_out};
use crate::world::World;

/// A drain, a rollout, and what restarts of the operator and watches add.
const RELEASE: Duration = Duration::from_secs(360);

/// All that is not as it should be.
pub fn at_rest(world: &World, breaches: &mut Vec<Breach>) {
    let all: Vec<(String, Object)> = {
        let api = world.api.borrow();
        let leased = [Kind::VaultDynamicSecret, Kind::VaultPkiSecret];
        let of = api.resources.iter();
        let of = of.filter(|(key, _)| leased.contains(&key.kind));
        of.map(|(key, object)| (key.object.name.clone(), object.clone()))
            .collect()
    };
    for (name, object) in all {
        given(world, &name, &object, breaches);
    }
    lingering(world, breaches);
}

/// A resource whose Secret has its name.
fn given(world: &World, name: &str, object: &Object, breaches: &mut Vec<Breach>) {
    let path = match object {
        Object::Dynamic(found) => format!("{}/{}", found.spec.mount, found.spec.path),
        Object::Pki(found) => format!("{}/issue/{}", found.spec.mount, found.spec.role),
        _ => return,
    };
    let said = ready(object);
    if (said.0.as_str(), said.1.as_str()) != ("True", "Synced") {
        breaches.push((StatusTrue, format!("{name}: Ready is {said:?}")));
    }
    let api = world.api.borrow();
    let Some(secret) = api.secrets.get(name) else {
        breaches.push((EventuallyRight, format!("there is no Secret {name}")));
        return;
    };
    let data = secret.data_of(&format!("vto-{}", object.uid()));
    let holds = mark(&data).cloned().unwrap_or_default();
    let vault = world.vault.borrow();
    let right = match vault.leases.rotated.get(&path) {
        Some(_) => holds.starts_with(b"rotated-"),
        None => {
            let lease = vault.leases.of_mark(&holds);
            lease.is_some_and(|lease| vault.leases.live[lease].path == path)
        }
    };
    if !right {
        let holds = String::from_utf8_lossy(&holds);
        breaches.push((
            EventuallyRight,
            format!("the Secret {name} holds {holds}, which works for {path} no more"),
        ));
    }
    drop((api, vault));
    let targets = living(world, name).map(|found| found.targets);
    let targets = targets.iter().flatten();
    rolled_out(world, name, targets, name, breaches);
}

/// Whether a target of a resource is paused: what its pods use is kept.
fn waits(world: &World, name: &str) -> bool {
    let Some(found) = living(world, name) else {
        return false;
    };
    let api = world.api.borrow();
    found.targets.iter().any(|target| {
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
        // With `revoke: false` it is left to its end.
        if !entry.revoke || !vault.leases.live.contains_key(&entry.lease) {
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
    let held = api.secrets.values();
    let held: Vec<&[u8]> = held
        .filter_map(|secret| Some(secret.mark()?.as_slice()))
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
        let mark = lease.mark.as_bytes();
        if lease.is_last(world.now(), window) || !held.contains(&mark) {
            for what in [
                "read db/creds/",
                "read pki/issue/",
                "RenewLease",
                "RevokeCertificate",
                "write the status of VaultDynamicSecret",
                "write the status of VaultPKISecret",
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
    for what in ["LookUpToken", "RenewToken", "RevokeToken", "patch ledger"] {
        add(what, 30);
    }
    // A rollout that comes to its deadline is told of.
    for (workload, _) in api.workloads.iter().filter(|(_, one)| one.rolling) {
        for key in api.resources.keys() {
            let found = living(world, &key.object.name);
            let mut targets = found.iter().flat_map(|found| &found.targets);
            if targets.any(|target| target.name == *workload) {
                add("event", 1);
                add(
                    match key.kind {
                        Kind::VaultPkiSecret => "write the status of VaultPKISecret",
                        _ => "write the status of VaultDynamicSecret",
                    },
                    1,
                );
            }
        }
    }
    // One that came again, and that nothing has needed since.
    let auth = api.resources.get(&resource(Kind::VaultAuth, "default"));
    if auth.is_some_and(|auth| ready(auth).1 != "LoggedIn") {
        add("write the status of VaultAuth", 1);
    }
    // One that was deleted, or that no entry lay in before.
    add("make ledger", 2);
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
