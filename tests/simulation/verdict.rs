//! The verdict once faults and edits have stopped: is everything as the specs
//! say, and is it said truly?

use std::time::Duration;

use serde_json::Value;
use vault_tenant_operator::api::{RolloutRestartTarget, VaultStaticSecret};
use vault_tenant_operator::key::{Kind, ResourceKey};

use crate::judge::Invariant::{
    self, Calm, EventuallyRight, NeverWiped, NoneRecreated, NothingOfOthers, Quiet,
    RestartForContent, StatusTrue,
};
use crate::judge::content;
use crate::objects::{Field, Object, Secret};
use crate::world::World;
use crate::{lease_people, lease_verdict};

pub type Breach = (Invariant, String);

/// Ready's status and reason, for this generation; of a VaultAuth, which can be ready before
/// anything logged in, those of the condition that tells of a login.
pub fn ready(object: &Object) -> (String, String) {
    let (status, generation) = match object {
        Object::Connection(one) => (serde_json::to_value(&one.status), one.metadata.generation),
        Object::Auth(one) => (serde_json::to_value(&one.status), one.metadata.generation),
        Object::Static(one) => (serde_json::to_value(&one.status), one.metadata.generation),
        Object::Dynamic(one) => (serde_json::to_value(&one.status), one.metadata.generation),
        Object::Pki(one) => (serde_json::to_value(&one.status), one.metadata.generation),
        Object::Secret(_) | Object::Workload(_) => return Default::default(),
    };
    let type_ = match object {
        Object::Auth(_) => "Healthy",
        _ => "Ready",
    };
    let status = status.unwrap();
    let found = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["type"] == type_);
    let Some(found) = found else {
        return ("missing".to_owned(), String::new());
    };
    if found["observedGeneration"].as_i64() != generation {
        return ("of an old generation".to_owned(), String::new());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found["status"]), text(&found["reason"]))
}

/// Whether all is as it should be now, whatever was broken before: what was counts in
/// the end, and is no reason to look at another moment than without it.
pub fn is_settled(world: &World) -> bool {
    at_rest(world).len() == world.judge.borrow().violations.len()
}

/// Everything that is not as it should be, or was not.
pub fn at_rest(world: &World) -> Vec<Breach> {
    let mut breaches = world.judge.borrow().violations.clone();
    let api = world.api.borrow();
    for (key, object) in &api.resources {
        match object {
            Object::Static(one) => static_secret(world, key, one, &mut breaches),
            Object::Dynamic(_) | Object::Pki(_) => {}
            other => {
                let (truth, reason) = ready(other);
                // A VaultAuth tells of the last login. Where no resource needs one
                // any more, there was none, or the last one failed.
                let told = match world.logged_in.get() {
                    Some(true) => false,
                    Some(false) => key.kind == Kind::VaultAuth,
                    None => reason == "NotUsedYet",
                };
                if truth != "True" && !told {
                    breaches.push((StatusTrue, format!("{key}: Ready is {:?}", (truth, reason))));
                }
            }
        }
    }
    for (name, secret) in &api.secrets {
        let owners = secret.fields.keys().filter_map(|field| match field {
            Field::Owner(uid) => Some(uid),
            _ => None,
        });
        for uid in owners {
            let owner = api.resources.values().find(|object| object.uid() == *uid);
            match owner {
                None => breaches.push((
                    NoneRecreated,
                    format!("the Secret {name} belongs to {uid}, which is gone"),
                )),
                Some(Object::Static(one)) if one.spec.destination.name != *name => breaches.push((
                    EventuallyRight,
                    format!("the Secret {name} is left behind by {uid}, which moved on"),
                )),
                Some(_) => {}
            }
        }
    }
    for (name, fields) in &world.judge.borrow().others {
        let Some(secret) = api.secrets.get(name) else {
            continue;
        };
        for (field, value) in fields
            .iter()
            .filter(|(field, value)| secret.fields.get(field) != Some(value))
        {
            let was = String::from_utf8_lossy(value);
            breaches.push((
                NothingOfOthers,
                format!("{field:?} of the Secret {name} is no longer {was}"),
            ));
        }
    }
    lease_verdict::at_rest(world, &mut breaches);
    let load = world.load.borrow();
    if let Some(limit) = load.limit.filter(|limit| load.most > *limit) {
        let most = load.most;
        breaches.push((
            Calm,
            format!("{most} requests to Vault in a second, not {limit}"),
        ));
    }
    breaches
}

fn static_secret(
    world: &World,
    key: &ResourceKey,
    resource: &VaultStaticSecret,
    breaches: &mut Vec<Breach>,
) {
    let api = world.api.borrow();
    let spec = &resource.spec;
    let name = &spec.destination.name;
    let manager = format!(
        "vto-{}",
        resource.metadata.uid.as_deref().unwrap_or_default()
    );
    let vault = world.vault.borrow();
    let source = vault.current(&spec.mount, &spec.path);
    let said = ready(&Object::Static(std::rc::Rc::new(resource.clone())));
    let mut is = |truth: &str, reasons: &[&str]| {
        if said.0 != truth || !reasons.contains(&said.1.as_str()) {
            breaches.push((
                StatusTrue,
                format!("{key}: Ready is {said:?} instead of {truth} {reasons:?}"),
            ));
        }
    };
    let secret = api.secrets.get(name);
    match (secret, source) {
        (Some(secret), _)
            if secret.creator != manager && !secret.fields.contains_key(&owner(resource)) =>
        {
            is("False", &["DestinationNotOwned"]);
            if secret.managers.contains_key(&manager) {
                breaches.push((
                    NothingOfOthers,
                    format!(
                        "the Secret {name} is another's and still holds what {manager} merged in"
                    ),
                ));
            }
        }
        (None, Some(_)) => {
            breaches.push((EventuallyRight, format!("{key}: there is no Secret {name}")))
        }
        (found, None) => {
            is("False", &["SecretDeleted", "SecretNotFound"]);
            if let Some(found) = found {
                let judge = world.judge.borrow();
                let lost = judge.kept(name).find(|(key, value)| {
                    found.fields.get(&Field::Data((*key).clone())) != Some(*value)
                });
                if let Some((lost, _)) = lost {
                    breaches.push((
                        NeverWiped,
                        format!("{key}: the Secret {name} lost its key {lost}"),
                    ));
                }
            }
        }
        (Some(secret), Some(source)) => {
            is("True", &["Synced"]);
            let mut holds = secret.data_of(&manager);
            let raw = holds.remove("_raw");
            if holds != content(source) {
                breaches.push((
                    EventuallyRight,
                    format!("{key}: the Secret {name} holds {holds:?} instead of {source:?}"),
                ));
            }
            raw_and_meta(key, resource, secret, raw.as_deref(), breaches);
            drop(vault);
            let targets = resource.spec.rollout_restart_targets.iter().flatten();
            rolled_out(world, &key.to_string(), targets, name, breaches);
        }
    }
}

fn owner(resource: &VaultStaticSecret) -> Field {
    Field::Owner(resource.metadata.uid.clone().unwrap_or_default())
}

fn raw_and_meta(
    key: &ResourceKey,
    resource: &VaultStaticSecret,
    secret: &Secret,
    raw: Option<&[u8]>,
    breaches: &mut Vec<Breach>,
) {
    let asked = &resource.spec.destination;
    let transformation = asked.transformation.as_ref();
    let raw_wanted = transformation.and_then(|one| one.exclude_raw) != Some(true);
    if raw.is_some() != raw_wanted {
        breaches.push((
            EventuallyRight,
            format!("{key}: _raw is there: {}", raw.is_some()),
        ));
    }
    for (label, value) in asked.labels.iter().flatten() {
        if secret
            .fields
            .get(&Field::Label(label.clone()))
            .map(Vec::as_slice)
            != Some(value.as_bytes())
        {
            breaches.push((
                EventuallyRight,
                format!("{key}: the label {label} is not {value}"),
            ));
        }
    }
    if !secret.fields.contains_key(&owner(resource)) {
        breaches.push((
            EventuallyRight,
            format!("{key}: its Secret has no owner reference to it"),
        ));
    }
}

/// The pods run what the Secret holds.
pub fn rolled_out<'a>(
    world: &World,
    key: &str,
    targets: impl Iterator<Item = &'a RolloutRestartTarget>,
    secret: &str,
    breaches: &mut Vec<Breach>,
) {
    let judge = world.judge.borrow();
    let api = world.api.borrow();
    for target in targets {
        let paused = api
            .workloads
            .get(&target.name)
            .is_none_or(|workload| workload.paused);
        let run = judge
            .pods
            .get(&target.name)
            .and_then(|pods| pods.run.get(secret))
            .cloned();
        if !paused && run.flatten().as_ref() != judge.last_written(secret) {
            breaches.push((
                RestartForContent,
                format!(
                    "{key}: the pods of {} do not run what the Secret {secret} holds",
                    target.name
                ),
            ));
        }
    }
}

/// Whether all resources are well: only then is nothing due but slots.
pub fn all_well(world: &World) -> bool {
    let api = world.api.borrow();
    api.resources.iter().all(|(key, object)| {
        matches!(key.kind, Kind::VaultConnection | Kind::VaultAuth)
            || ready(object).0 == "True"
            || ready(object).1 == "DestinationNotOwned"
    })
}

/// Watches a while in which nothing happens: reads of the slots, and what keeps
/// the login alive, and nothing else.
pub async fn quiet(world: &World, window: Duration) -> Vec<Breach> {
    let before = world.requests.borrow().len();
    let due = lease_verdict::due(world, window);
    let leases = !lease_people::dynamics(world).is_empty();
    tokio::time::sleep(window).await;
    let requests = world.requests.borrow()[before..].to_vec();
    if leases {
        return lease_verdict::quiet(&due, &requests);
    }
    let of_login =
        |what: &str| what.starts_with("token request") || what == "login" || what == "renew";
    let mut breaches = Vec::new();
    let api = world.api.borrow();
    let reads: usize = requests
        .iter()
        .filter(|what| what.starts_with("read "))
        .count();
    let slots: u64 = api
        .resources
        .values()
        .map(|object| match object {
            Object::Static(one) => {
                let text = one
                    .spec
                    .refresh_after
                    .clone()
                    .unwrap_or_else(|| "1m".to_owned());
                let period =
                    vault_tenant_operator::config::duration::parse(&text).unwrap() * 9 / 10;
                u64::try_from(window.as_millis() / period.as_millis()).unwrap() + 1
            }
            _ => 0,
        })
        .sum();
    if reads as u64 > slots {
        breaches.push((
            Quiet,
            format!("{reads} reads in {window:?} for {slots} slots"),
        ));
    }
    let allowed = |what: &String| what.starts_with("read ") || of_login(what);
    if let Some(other) = requests.iter().find(|what| !allowed(what)) {
        breaches.push((Quiet, format!("{other} while nothing was due")));
    }
    breaches
}
