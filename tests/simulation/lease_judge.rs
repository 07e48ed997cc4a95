//! What must hold of credentials that Vault leases, at every step: how many are
//! made, who still uses what ends, and that the ledger forgets none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use vault_tenant_operator::config::duration;

use crate::judge::Invariant;
use crate::leases::{End, Ended, Lease};
use crate::living::living;
use crate::objects::{Content, mark};
use crate::world::World;

/// So long after the last trouble, what happens may be its consequence.
const AFTERMATH: Duration = Duration::from_secs(300);

/// How long what another took the place of is kept at the least, once all pods run that
/// (`rotation.drain`), less what the way of a request takes.
const DRAIN: Duration = Duration::from_secs(25);

/// Within this another one is asked for and written, and a rollout begun.
const PROMPT: Duration = Duration::from_secs(15);

/// So long after an edit something may be under way that was asked for before it.
const EDITED: Duration = Duration::from_secs(60);

/// So often at the most a process renews a lease that Vault does not know: once, and
/// while its entry cannot be taken out of the ledger.
const IN_VAIN: usize = 10;

/// Longer than any outage, with what watches take to get over it.
const UNSEEN: Duration = Duration::from_secs(240);

/// A lease, and for whom it was made.
#[derive(Debug)]
struct Made {
    of: String,
    uid: String,
    mark: Vec<u8>,
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
    /// When a renewal gave less than was asked for, first.
    shortened: BTreeMap<String, Timestamp>,
    /// How often a renewal was asked for that Vault knew nothing of.
    unknown: BTreeMap<String, usize>,
    /// Leases whose renewal Vault's policy denied.
    refused: BTreeSet<String>,
    /// Offsets of certificates, as they were before an edit, and until when.
    offsets: BTreeMap<String, (Duration, Timestamp)>,
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

impl LeaseJudge {
    /// One more credential may be made for a resource.
    pub fn allow(&mut self, name: &str) {
        *self.allowed.entry(name.to_owned()).or_default() += 1;
    }

    pub fn retargeted(&mut self, name: &str, now: Timestamp) {
        self.retargeted.insert(name.to_owned(), now);
    }

    /// The offset of a certificate is another now than this one.
    pub fn offset_was(&mut self, name: &str, offset: &str, now: Timestamp) {
        let offset = duration::parse(offset).unwrap();
        let until = now + jiff::SignedDuration::from_secs(60);
        self.offsets.insert(name.to_owned(), (offset, until));
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

    /// Vault made a credential; in vain where who asked for it can write no more.
    pub fn minted(&mut self, world: &World, lease: &str, in_vain: bool) {
        let (path, mark, renewable) = {
            let vault = world.vault.borrow();
            let found = &vault.leases.live[lease];
            // A certificate is replaced at a time of its own.
            let role = vault.leases.roles.get(&found.path);
            let renewable = role.is_none_or(|role| role.renewable);
            (found.path.clone(), found.mark.clone(), renewable)
        };
        let of = name_of(&path);
        self.excuse_due(world, &of);
        if self.went_just_now(world, &of) {
            // It was due, or lost, before.
            self.allow(&of);
        }
        let uid = living(world, &of).map(|found| found.uid);
        let made = Made {
            of: of.clone(),
            uid: uid.unwrap_or_default(),
            mark: mark.into_bytes(),
        };
        self.made.insert(lease.to_owned(), made);
        self.latest.insert(of.clone(), lease.to_owned());
        if in_vain {
            self.allow(&of);
        } else {
            self.unwritten.insert(lease.to_owned());
        }
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

    /// Whether the resource that the present one was made for is gone since a moment.
    fn went_just_now(&self, world: &World, of: &str) -> bool {
        let present = self.latest.get(of).and_then(|lease| self.made.get(lease));
        let judge = world.judge.borrow();
        let died = present.and_then(|made| judge.died.get(&made.uid));
        let just = died.is_some_and(|died| since(world.now(), *died) < EDITED);
        just && living(world, of).is_none()
    }

    /// Certificates near their end may be replaced.
    fn excuse_due(&mut self, world: &World, of: &str) {
        let Some(found) = living(world, of) else {
            return;
        };
        let now = world.now();
        let current = [self.latest.get(of), self.held.get(of)];
        let before = self.offsets.get(of).filter(|(_, until)| *until > now);
        let before = before.map(|(offset, _)| *offset);
        let retargeted = self.retargeted.get(of);
        let had_targets = retargeted.is_some_and(|at| since(now, *at) < EDITED);
        let due: Vec<String> = {
            let leases = &world.vault.borrow().leases;
            let is_due = |id: &&&String| {
                let certificate = leases.live.get(**id);
                let certificate = certificate.filter(|l| leases.issues.contains_key(&l.path));
                certificate.is_some_and(|certificate| {
                    since(now, certificate.issued)
                        >= found.replaced_from(certificate.ttl(), before, had_targets)
                })
            };
            let due = current.iter().flatten().filter(is_due);
            due.map(|id| (*id).clone()).collect()
        };
        due.iter().for_each(|id| self.excuse(id));
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
        self.unknown.clear();
        for lease in std::mem::take(&mut self.unwritten) {
            let of = self.made[&lease].of.clone();
            self.allow(&of);
        }
    }

    fn of_content(&self, content: &Content) -> Option<&String> {
        let mark = mark(content)?;
        let mut made = self.made.iter();
        let made = made.find(|(_, made)| made.mark == *mark);
        made.map(|(lease, _)| lease)
    }

    /// When something ends that somebody was given; at once, where it has.
    pub fn end_of(&self, world: &World, content: &Content) -> Option<Timestamp> {
        let lease = self.of_content(content)?;
        let leases = &world.vault.borrow().leases;
        let found = leases.live.get(lease);
        found.map_or(Some(world.now()), Lease::last_end)
    }

    /// When the first ends of what a resource had before.
    pub fn end_of_former(&self, world: &World, name: &str) -> Option<Timestamp> {
        let leases = &world.vault.borrow().leases;
        let held = self.held.get(name);
        let all = remembered(world).into_iter();
        let former = all.filter(|one| one.of == name && Some(&one.lease) != held);
        let ends = former.filter_map(|one| {
            let found = leases.live.get(&one.lease);
            found.map_or(Some(world.now()), Lease::last_end)
        });
        ends.min()
    }

    /// The operator wrote a Secret.
    pub fn written(&mut self, world: &World, secret: &str, content: &Content) {
        let Some(lease) = self.of_content(content).cloned() else {
            return;
        };
        self.unwritten.remove(&lease);
        self.superseded.remove(&lease);
        // Of a resource that is gone, and the next one of its name asks for the same.
        if let Some(made) = self.made.get_mut(&lease)
            && let Some(found) = living(world, &made.of)
        {
            made.uid = found.uid;
        }
        let before = self.held.insert(secret.to_owned(), lease.clone());
        if let Some(before) = before.filter(|before| *before != lease) {
            self.superseded.insert(before, world.now());
        }
        if !remembers(world, &lease) {
            let what = format!("{secret} holds {lease}, which the ledger does not know");
            breach(world, Invariant::NothingLingers, what);
        }
    }

    /// Vault answered a renewal.
    pub fn renewed(&mut self, world: &World, lease: &str, shortened: bool) {
        if shortened {
            self.excuse(lease);
            let now = world.now();
            self.shortened.entry(lease.to_owned()).or_insert(now);
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

    /// Vault was asked to renew what it does not know.
    pub fn renewed_in_vain(&mut self, world: &World, lease: &str) {
        let times = self.unknown.entry(lease.to_owned()).or_default();
        *times += 1;
        if *times > IN_VAIN {
            let what = format!("{lease} was renewed {times} times although Vault does not know it");
            breach(world, Invariant::NothingLingers, what);
        }
    }

    /// Vault's policy denied a renewal.
    pub fn denied(&mut self, lease: &str) {
        self.excuse(lease);
        self.refused.insert(lease.to_owned());
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
        let Some(found) = living(world, &made.of).filter(|found| found.uid == made.uid) else {
            return;
        };
        let is_held = self.held.get(&made.of) == Some(&ended.id);
        if ended.why == End::GivenBack && is_held {
            let what = format!("{} was given back, and {} holds it", ended.id, made.of);
            breach(world, Invariant::OldKept, what);
        }
        let newer = self.superseded.get(&ended.id);
        let Some(newer) = newer.filter(|newer| **newer <= ended.at) else {
            return;
        };
        if found.replaces || ended.why == End::Taken {
            return;
        }
        if ended.why == End::GivenBack && since(ended.at, *newer) < DRAIN {
            let what = format!("{} was given back before the drain passed", ended.id);
            breach(world, Invariant::OldKept, what);
        }
        let recent = |at: Option<&Timestamp>| {
            at.is_some_and(|at| *at > ended.at || since(ended.at, *at) < AFTERMATH)
        };
        let troubled = ended.why != End::GivenBack && recent(self.trouble.as_ref());
        // Nobody could keep that alive.
        let refused = ended.why != End::GivenBack && self.refused.contains(&ended.id);
        // What was left when Vault first said so was less than a rollout takes.
        let told = self.shortened.get(&ended.id);
        let brief = told.is_some_and(|told| {
            since(*newer, *told) < PROMPT
                && since(ended.at, *newer) < world.rollout.get() + DRAIN + PROMPT
        });
        let brief = brief && ended.why != End::GivenBack;
        if troubled || refused || brief || recent(self.retargeted.get(&made.of)) {
            return;
        }
        for target in &found.targets {
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
                contents.any(|content| mark(&content) == Some(&made.mark))
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
        let (lives, forgotten) = {
            let leases = &world.vault.borrow().leases;
            // What a certificate says of its end has whole seconds.
            let soon = world.now() + SignedDuration::from_secs(1);
            let found = leases.live.get(&entry.lease);
            let ends = |lease: &Lease| lease.last_end().is_some_and(|end| end <= soon);
            (
                found.is_some_and(|lease| !ends(lease)),
                leases.forgets(&entry.lease),
            )
        };
        if lives && entry.revoke && !forgotten {
            let what = format!("the ledger forgets {}, which lives on", entry.lease);
            breach(world, Invariant::NothingLingers, what);
        }
    }

    /// Since when a Secret holds a newer one than this.
    pub fn superseded_since(&self, lease: &str) -> Option<Timestamp> {
        self.superseded.get(lease).copied()
    }
}

fn breach(world: &World, invariant: Invariant, what: String) {
    let mut judge = world.judge.borrow_mut();
    judge.breach(world, invariant, what);
}

/// A lease or a certificate as the ledger remembers it.
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
            lease: text("lease")
                .filter(|id| !id.is_empty())
                .or(text("serial"))?,
            revoke: found["revoke"].as_bool()?,
        })
    }
}

/// Whether the ledger remembers a lease.
fn remembers(world: &World, lease: &str) -> bool {
    let api = world.api.borrow();
    let mut entries = api.ledger.values().flat_map(BTreeMap::values);
    let named = |text: &[u8]| {
        text.windows(lease.len())
            .any(|some| some == lease.as_bytes())
    };
    entries.any(|text| {
        named(text) && Remembered::parse(text).is_some_and(|entry| entry.lease == lease)
    })
}

/// All leases that the ledger remembers.
pub fn remembered(world: &World) -> Vec<Remembered> {
    let api = world.api.borrow();
    let entries = api.ledger.values().flat_map(BTreeMap::values);
    entries.filter_map(|text| Remembered::parse(text)).collect()
}
