//! Deliberate defects about leases, in wrappers around the ports.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vault_tenant_operator::key::Redacted;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::ports::Life;
use vault_tenant_operator::vault::{Lease, Reply, Task, Upkeep};

use crate::defects::Defect;
use crate::leases::form;
use crate::line::Line;
use crate::objects::{Field, Secret};
use crate::world::World;

/// Those that the random runs of leases must catch, each with a seed from which on
/// it is looked for: shortly before one that shows it, to save time.
pub const LEASE_DEFECTS: [(Defect, u64); 10] = [
    (Defect::ReleaseFirst, 0),
    (Defect::MintOnFailedRenewal, 0),
    (Defect::LedgerLate, 0),
    (Defect::LedgerReplaced, 0),
    (Defect::RenewGone, 0),
    (Defect::NotKeptAlive, 0),
    (Defect::MintAfterFailedWrite, 0),
    (Defect::GoneOnForbidden, 0),
    (Defect::RevokeCurrent, 0),
    (Defect::MintAfterRestart, 0),
];

type Entries = BTreeMap<String, Vec<u8>>;

/// One of the ledger's Secrets after a merge.
pub fn merged(
    world: &World,
    before: &Entries,
    changes: &BTreeMap<String, Option<Redacted<Vec<u8>>>>,
) -> Entries {
    let mut after = before.clone();
    for (entry, value) in changes {
        let Some(value) = value else {
            after.remove(entry);
            continue;
        };
        match world.defect {
            Some(Defect::LedgerReplaced) => after.retain(|name, _| name.starts_with("token.")),
            Some(Defect::LedgerLate) if entry.starts_with("lease.") => {
                let late = (entry.clone(), value.expose().clone());
                world.late_entries.borrow_mut().push(late);
                continue;
            }
            _ => {}
        }
        after.insert(entry.clone(), value.expose().clone());
    }
    after
}

/// After a Secret was written: what should have been done before, or later.
pub fn after_write(world: &World, before: Option<&Secret>, after: &Secret) {
    match world.defect {
        Some(Defect::LedgerLate) => {
            let mut api = world.api.borrow_mut();
            if let Some(ledger) = api.ledger.values_mut().next() {
                ledger.extend(world.late_entries.take());
            }
        }
        Some(Defect::ReleaseFirst) => {
            let field = Field::Data("password".to_owned());
            let password = |secret: &Secret| secret.fields.get(&field).cloned();
            let was = before.and_then(password);
            if let Some(was) = was.filter(|was| Some(was) != password(after).as_ref()) {
                end_of(world, &was);
            }
        }
        _ => {}
    }
}

fn end_of(world: &World, password: &[u8]) {
    let now = world.now();
    {
        let leases = &mut world.vault.borrow_mut().leases;
        if let Some(id) = leases.of_password(password).cloned() {
            leases.give_back(&id, now);
        }
    }
    world.see_ends();
}

/// A write failed, after which the credentials are asked for again.
pub fn after_failed_write(world: &World, secret: &str) {
    if world.defect != Some(Defect::MintAfterFailedWrite) {
        return;
    }
    let now = world.now();
    let made = {
        let leases = &mut world.vault.borrow_mut().leases;
        leases.read("hvs.1", &format!("db/creds/{secret}"), now)
    };
    if let Some(reply) = made {
        let mut leases = world.leases.borrow_mut();
        leases.minted(world, &reply.lease.id);
    }
}

/// What is known of a resource's life.
pub fn in_life(world: &World, answer: Result<Life, Problem>) -> Result<Life, Problem> {
    match answer {
        Err(Problem::KubernetesForbidden { .. })
            if world.defect == Some(Defect::GoneOnForbidden) =>
        {
            Ok(Life::Gone)
        }
        answer => answer,
    }
}

/// The request that is sent in place of one, or the answer without any.
pub fn in_request(
    line: &Line,
    id: &str,
    request: &Upkeep,
) -> (Upkeep, Option<Result<Reply, Problem>>) {
    let world = &line.world;
    let mut request = request.clone();
    let lost = || {
        Err(Problem::LeaseNotFound {
            what: form(Task::RenewLease).to_owned(),
            why: "HTTP 400: lease not found".to_owned(),
        })
    };
    let answer = match (world.defect, request.task) {
        (Some(Defect::NotKeptAlive), Task::RenewLease) if !is_held(world, id) => {
            let increment = request.body.get("increment").and_then(Value::as_u64);
            Some(Ok(Reply {
                status: 200,
                lease: Lease {
                    id: id.to_owned(),
                    duration: Duration::from_secs(increment.unwrap_or_default()),
                    renewable: true,
                },
                ..Reply::default()
            }))
        }
        (Some(Defect::MintAfterRestart), Task::RenewLease)
            if issued(world, id).is_some_and(|at| at < line.born) =>
        {
            Some(lost())
        }
        (Some(Defect::RenewGone), Task::RevokeLease) => {
            request.task = Task::RenewLease;
            request.path = request.path.replace("revoke", "renew");
            None
        }
        (Some(Defect::RevokeCurrent), Task::RevokeLease) => {
            if let Some(current) = held_beside(world, id) {
                request.path = format!("{}/{current}", form(Task::RevokeLease));
            }
            None
        }
        _ => None,
    };
    (request, answer)
}

/// The answer as the operator sees it.
pub fn in_answer(
    world: &World,
    request: &Upkeep,
    answer: Result<Reply, Problem>,
) -> Result<Reply, Problem> {
    match (world.defect, request.task, answer) {
        (
            Some(Defect::MintOnFailedRenewal),
            Task::RenewLease,
            Err(Problem::VaultUnavailable { why, .. } | Problem::VaultUnreachable { why, .. }),
        ) => Err(Problem::LeaseNotFound {
            what: form(Task::RenewLease).to_owned(),
            why,
        }),
        (Some(Defect::RenewGone), Task::RenewLease, answer) => {
            renew_all(world);
            answer
        }
        (.., answer) => answer,
    }
}

/// Renews all that there is.
fn renew_all(world: &World) {
    let now = world.now();
    let ids: Vec<String> = {
        let leases = &mut world.vault.borrow_mut().leases;
        leases.renew_all(now);
        leases.live.keys().cloned().collect()
    };
    for id in ids {
        world.leases.borrow_mut().renewed(world, &id, false);
    }
}

fn issued(world: &World, id: &str) -> Option<jiff::Timestamp> {
    let vault = world.vault.borrow();
    Some(vault.leases.live.get(id)?.issued)
}

fn passwords(world: &World) -> Vec<Vec<u8>> {
    let field = Field::Data("password".to_owned());
    let api = world.api.borrow();
    let held = api.secrets.values();
    held.filter_map(|secret| secret.fields.get(&field).cloned())
        .collect()
}

/// Whether a Secret holds what the lease is of.
fn is_held(world: &World, id: &str) -> bool {
    let held = passwords(world);
    let vault = world.vault.borrow();
    let lease = vault.leases.live.get(id);
    lease.is_none_or(|lease| held.contains(&lease.password.clone().into_bytes()))
}

/// The lease that the Secret holds for whose resource another was made.
fn held_beside(world: &World, id: &str) -> Option<String> {
    let held = passwords(world);
    let vault = world.vault.borrow();
    let of = |path: &str| path.trim_end_matches("-2").to_owned();
    let path = of(&vault.leases.live.get(id)?.path);
    let mut live = vault.leases.live.iter();
    let found = live.find(|(_, lease)| {
        of(&lease.path) == path && held.contains(&lease.password.clone().into_bytes())
    });
    found.map(|(id, _)| id.clone())
}
