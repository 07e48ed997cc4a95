//! What must hold of credentials that Vault leases, at every step: how many are
//! made, who still uses what ends, and that the ledger forgets none.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use vault_tenant_operator::api::{RotationStrategy, VaultDynamicSecret};
use vault_tenant_operator::key::Kind;

use crate::api_server::resource;
use crate::judge::Invariant;
use crate::leases::{End, Ended};
use crate::objects::{Content, Object};
use crate::world::World;

/// So long after the last trouble, what happens may be its consequence.
const AFTERMATH: Duration = Duration::from_secs(300);

/// Longer than any outage, with what watches take to get over it.
const UNSEEN: Duration = Duration::from_secs(240);

/// A lease, and for whom it was made.
#[derive(Debug)]
struct Made {
    of: String,
    uid: String,
    password: Vec<u8>,
}

#[derive(Debug, Default)]
pub struct LeaseJudge {
    /// Credentials made, and those there may be, by resource.
    minted: BTreeMap<String, usize>,
    allowed: BTreeMap<String, usize>,
    made: BTreeMap<String, Made>,
    latest: BTreeMap<String, String>,
    /// What Secrets hold.
    held: BTreeMap<String, String>,
    /// Made, and in no Secret yet.
    unwritten: BTreeSet<String>,
    /// Those whose replacement is counted as due.
    excused: BTreeSet<String>,
    /// Since when a Secret holds a newer one.
    superseded: BTreeMap<String, Timestamp>,
    /// When the targets of a resource changed last.
    retargeted: BTreeMap<String, Timestamp>,
    /// Until when something was wrong with the world.
    trouble: Option<Timestamp>,
}

fn since(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// The resource that a path of the engine is of.
fn name_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches("-2").to_owned()
}

/// The living resource of a name.
pub fn living(world: &World, name: &str) -> Option<Rc<VaultDynamicSecret>> {
    let api = world.api.borrow();
    match api.resources.get(&resource(Kind::VaultDynamicSecret, name)) {
        Some(Object::Dynamic(found)) => Some(Rc::clone(found)),
        _ => None,
    }
}

fn uid_of(found: &VaultDynamicSecret) -> &str {
    found.metadata.uid.as_deref().unwrap_or_default()
}

impl LeaseJudge {
    /// One more credential may be made for a resource.
    pub fn allow(&mut self, name: &str) {
        *self.allowed.entry(name.to_owned()).or_default() += 1;
    }

    pub fn retargeted(&mut self, name: &str, now: Timestamp) {
        self.retargeted.insert(name.to_owned(), now);
    }

    /// Something goes wrong until then.
    pub fn trouble(&mut self, until: Timestamp) {
        self.trouble = self.trouble.max(Some(until));
    }

    /// A Secret is gone with what it held.
    pub fn secret_gone(&mut self, name: &str) {
        self.held.remove(name);
    }

    /// The one that is in use, or will be, may be replaced, once.
    fn excuse(&mut self, lease: &str) {
        let Some(made) = self.made.get(lease) else {
            return;
        };
        let of = made.of.clone();
        let current = [self.latest.get(&of), self.held.get(&of)];
        if current.contains(&Some(&lease.to_owned())) && self.excused.insert(lease.to_owned()) {
            self.allow(&of);
        }
    }

    /// The policy denies keeping the token of an earlier login alive: whatever hangs
    /// on it is replaced before it ends.
    pub fn accessors_denied(&mut self) {
        let current: Vec<String> = self
            .latest
            .values()
            .chain(self.held.values())
            .cloned()
            .collect();
        for lease in current {
            self.excuse(&lease);
        }
    }

    /// Vault made a credential.
    pub fn minted(&mut self, world: &World, lease: &str) {
        let (path, password, renewable) = {
            let vault = world.vault.borrow();
            let found = &vault.leases.live[lease];
            let renewable = vault.leases.roles[&found.path].renewable;
            (found.path.clone(), found.password.clone(), renewable)
        };
        let of = name_of(&path);
        let uid = living(world, &of).map(|found| uid_of(&found).to_owned());
        let made = Made {
            of: of.clone(),
            uid: uid.unwrap_or_default(),
            password: password.into_bytes(),
        };
        self.made.insert(lease.to_owned(), made);
        self.latest.insert(of.clone(), lease.to_owned());
        self.unwritten.insert(lease.to_owned());
        if !renewable {
            self.excuse(lease);
        }
        let count = self.minted.entry(of.clone()).or_default();
        *count += 1;
        let (count, allowed) = (*count, self.allowed.get(&of).copied().unwrap_or_default());
        if count > allowed {
            let what = format!("{count} credentials were made for {of}, and {allowed} needed");
            breach(world, Invariant::NeedlessMint, what);
        }
    }

    /// Nobody got the answer with a credential.
    pub fn lost(&mut self, lease: &str) {
        if self.unwritten.remove(lease) {
            let of = self.made[lease].of.clone();
            self.allow(&of);
        }
    }

    /// The operator ended, and with it what it had not written.
    pub fn operator_ended(&mut self) {
        for lease in std::mem::take(&mut self.unwritten) {
            let of = self.made[&lease].of.clone();
            self.allow(&of);
        }
    }

    fn of_content(&self, content: &Content) -> Option<&String> {
        let password = content.get("password")?;
        let mut made = self.made.iter();
        let made = made.find(|(_, made)| made.password == *password);
        made.map(|(lease, _)| lease)
    }

    /// The operator wrote a Secret.
    pub fn written(&mut self, world: &World, secret: &str, content: &Content) {
        let Some(lease) = self.of_content(content).cloned() else {
            return;
        };
        self.unwritten.remove(&lease);
        self.superseded.remove(&lease);
        let before = self.held.insert(secret.to_owned(), lease.clone());
        if let Some(before) = before.filter(|before| *before != lease) {
            self.superseded.insert(before, world.now());
        }
        if !remembered(world)
            .iter()
            .any(|entry| entry.lease.as_str() == lease)
        {
            let what = format!("{secret} holds {lease}, which the ledger does not know");
            breach(world, Invariant::NothingLingers, what);
        }
    }

    /// Vault answered a renewal.
    pub fn renewed(&mut self, world: &World, lease: &str, shortened: bool) {
        if shortened {
            self.excuse(lease);
        }
        let Some(made) = self.made.get(lease) else {
            return;
        };
        let died = world.judge.borrow().died.get(&made.uid).copied();
        let now = world.now();
        if died.is_some_and(|died| since(now, died) > UNSEEN) {
            let what = format!("{lease} was renewed, whose resource {} is gone", made.of);
            breach(world, Invariant::NothingLingers, what);
        }
    }

    /// Vault's policy denied a renewal.
    pub fn denied(&mut self, lease: &str) {
        self.excuse(lease);
    }

    /// A lease ended.
    pub fn ended(&mut self, world: &World, ended: &Ended) {
        world.note(format!("     {} ends: {:?}", ended.id, ended.why));
        if ended.why != End::GivenBack {
            self.excuse(&ended.id);
        }
        let Some(made) = self.made.get(&ended.id) else {
            return;
        };
        let Some(found) = living(world, &made.of).filter(|found| uid_of(found) == made.uid) else {
            return;
        };
        let is_held = self.held.get(&made.of) == Some(&ended.id);
        if ended.why == End::GivenBack && is_held {
            let what = format!("{} was given back, and {} holds it", ended.id, made.of);
            breach(world, Invariant::OldKept, what);
        }
        let newer = self.superseded.get(&ended.id);
        if newer.is_none_or(|newer| *newer > ended.at) || is_excused(&found, ended) {
            return;
        }
        let recent = |at: Option<&Timestamp>| {
            at.is_some_and(|at| *at > ended.at || since(ended.at, *at) < AFTERMATH)
        };
        let troubled = ended.why != End::GivenBack && recent(self.trouble.as_ref());
        if troubled || recent(self.retargeted.get(&made.of)) {
            return;
        }
        for target in found.spec.rollout_restart_targets.iter().flatten() {
            let paused = {
                let api = world.api.borrow();
                let workload = api.workloads.get(&target.name);
                workload.is_none_or(|workload| workload.paused)
            };
            let runs = {
                let judge = world.judge.borrow();
                let pods = judge.pods.get(&target.name);
                let contents = pods.into_iter().flat_map(|pods| {
                    let run = pods.run.get(&made.of).into_iter().flatten();
                    let ending = pods.ending.iter().map(|(_, content)| content);
                    run.chain(ending).cloned().collect::<Vec<_>>()
                });
                let mut contents = contents;
                contents.any(|content| content.get("password") == Some(&made.password))
            };
            if runs && !paused {
                let what = format!(
                    "{} ended ({:?}), and pods of {} use it still",
                    ended.id, ended.why, target.name
                );
                breach(world, Invariant::OldKept, what);
            }
        }
    }

    /// An entry was taken out of the ledger.
    pub fn forgotten(&self, world: &World, entry: &Remembered) {
        let lives = world.vault.borrow().leases.live.contains_key(&entry.lease);
        if lives && entry.revoke {
            let what = format!("the ledger forgets {}, which lives on", entry.lease);
            breach(world, Invariant::NothingLingers, what);
        }
    }

    /// Since when a Secret holds a newer one than this.
    pub fn superseded_since(&self, lease: &str) -> Option<Timestamp> {
        self.superseded.get(lease).copied()
    }
}

/// Whether the resource asked for an end without overlap.
fn is_excused(found: &VaultDynamicSecret, ended: &Ended) -> bool {
    let rotation = found.spec.rotation.as_ref();
    let replaces = rotation.is_some_and(|r| r.strategy == Some(RotationStrategy::Replace));
    replaces || ended.why == End::Taken
}

fn breach(world: &World, invariant: Invariant, what: String) {
    let mut judge = world.judge.borrow_mut();
    judge.breach(world, invariant, what);
}

/// A lease as the ledger remembers it.
#[derive(Clone, Debug)]
pub struct Remembered {
    pub uid: String,
    pub of: String,
    pub lease: String,
    pub revoke: bool,
}

impl Remembered {
    /// An entry's text; `None` for one of a token.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let entry: Value = serde_json::from_slice(text).ok()?;
        let found = entry.get("lease")?;
        let text = |field: &str| found[field].as_str().map(str::to_owned);
        Some(Self {
            uid: text("uid")?,
            of: text("of")?.rsplit('/').next()?.to_owned(),
            lease: text("lease")?,
            revoke: found["revoke"].as_bool()?,
        })
    }
}

/// All leases that the ledger remembers.
pub fn remembered(world: &World) -> Vec<Remembered> {
    let api = world.api.borrow();
    let entries = api.ledger.values().flat_map(BTreeMap::values);
    entries.filter_map(|text| Remembered::parse(text)).collect()
}
