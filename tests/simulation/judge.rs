//! What must hold at every effect of the operator, and what is remembered for
//! the verdict at the end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use vault_tenant_operator::reconcile::PREFIX;

use crate::objects::{Content, Field, Fields, Object, Secret, Workload};
use crate::paces::Paces;
use crate::vault::Source;
use crate::world::World;

/// The promises that are looked at (architecture.md, the table of invariants).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    EventuallyRight,
    NeverWiped,
    RestartForContent,
    NothingOfOthers,
    Quiet,
    NoneRecreated,
    StatusTrue,
    Calm,
    NeedlessMint,
    NothingLingers,
    /// No running pod holds a credential that was let die while there was a newer one.
    OldKept,
    /// Restarts keep to the policy: windows, distance, number, order, availability and hold.
    Paced,
}

/// The pods of a workload: what they got of each Secret.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// What they run; none while they wait for a Secret.
    pub run: BTreeMap<String, Option<Content>>,
    /// What pods run that a rollout takes away, and since when it does.
    pub ending: Vec<(Timestamp, Content)>,
    /// When the rollout that is under way began.
    pub rolls: Option<Timestamp>,
    /// Restarts that the operator may still make: one for each change of content
    /// after the first, and for each template that somebody else changed.
    due: usize,
    /// A template that waits until the Deployment is resumed.
    held: bool,
    pub restarts: usize,
}

#[derive(Debug, Default)]
pub struct Judge {
    pub violations: Vec<(Invariant, String)>,
    /// Contents that a source ever held, for any path.
    pub sources: Vec<Content>,
    /// What the operator wrote into a Secret, each different from the one before.
    pub written: BTreeMap<String, Vec<(Timestamp, Content)>>,
    /// What others last put into a Secret.
    pub others: BTreeMap<String, Fields>,
    /// Fields that somebody edited since the operator last wrote the Secret.
    edited: BTreeMap<String, BTreeSet<Field>>,
    /// A workload and a Secret that went while a restart for it was pending.
    gone_pending: BTreeSet<(String, String)>,
    pub pods: BTreeMap<String, Pods>,
    pub paces: Paces,
    /// When a resource was deleted, by uid.
    pub died: BTreeMap<String, Timestamp>,
    /// Uids of which the operator that runs can know that they had a Secret: it
    /// made that, or was shown a status that tells of it, or saw the resource go.
    /// (A list from before all that looks like a new resource, and a look at each
    /// new one would cost all of them a request. What such a list leads to is
    /// collected with its dead owner.)
    known: BTreeSet<String>,
    /// Whether that was ever so, see [`Judge::in_the_dark`].
    dark: bool,
}

/// What differs in each answer about credentials that Vault rotates.
pub const VOLATILE: [&str; 3] = ["last_vault_rotation", "rotation_period", "ttl"];

/// A source's fields as a Secret holds them.
pub fn content(source: &Source) -> Content {
    let bytes = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone().into_bytes(),
        // The chain of a certificate.
        serde_json::Value::Array(all) => {
            let all: Vec<&str> = all.iter().filter_map(|one| one.as_str()).collect();
            all.join("\n").into_bytes()
        }
        other => other.to_string().into_bytes(),
    };
    source
        .iter()
        .map(|(key, value)| (key.clone(), bytes(value)))
        .collect()
}

impl Judge {
    pub fn breach(&mut self, world: &World, invariant: Invariant, what: impl Into<String>) {
        let what = what.into();
        world.note(format!("  !! {invariant:?}: {what}"));
        self.violations.push((invariant, what));
    }

    /// The content that the operator last wrote into a Secret.
    pub fn last_written(&self, secret: &str) -> Option<&Content> {
        self.written.get(secret)?.last().map(|(_, content)| content)
    }

    /// What a Secret must still hold when its source has gone: all that the
    /// operator wrote and nobody else edited since.
    pub fn kept(&self, secret: &str) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        let edited = self.edited.get(secret);
        let by_hand = move |key: &str| {
            edited.is_some_and(|edited| edited.contains(&Field::Data(key.to_owned())))
        };
        self.last_written(secret)
            .into_iter()
            .flatten()
            .filter(move |(key, _)| !by_hand(key))
    }

    /// Somebody else set or removed a field of a Secret.
    pub fn edited(&mut self, secret: &str, field: &Field) {
        let edited = self.edited.entry(secret.to_owned()).or_default();
        edited.insert(field.clone());
    }

    pub fn secret_applied(
        &mut self,
        world: &World,
        name: &str,
        manager: &str,
        before: Option<&Secret>,
        after: &Secret,
    ) {
        let mut wrote = after.data_of(manager);
        wrote.remove("_raw");
        wrote.retain(|key, _| !VOLATILE.contains(&key.as_str()));
        let merged = before.is_some_and(|before| before.creator != manager);
        let held = before
            .map(|before| before.data_of(manager))
            .unwrap_or_default();
        let leaves = self
            .died
            .contains_key(manager.strip_prefix("vto-").unwrap_or_default());
        if !merged && !leaves && wrote.is_empty() && !held.is_empty() {
            self.breach(
                world,
                Invariant::NeverWiped,
                format!("the Secret {name} held data and holds none"),
            );
        } else if !wrote.is_empty() && !self.sources.contains(&wrote) {
            self.breach(
                world,
                Invariant::NeverWiped,
                format!(
                    "the Secret {name} holds what no source ever held: {:?}",
                    wrote.keys()
                ),
            );
        }
        if let Some(before) = before {
            self.others_untouched(world, name, manager, before, after);
        } else {
            self.created(world, name, after);
            if !merged {
                self.changed_back(world, name, after, &wrote);
            }
        }
        self.edited.remove(name);
        if !wrote.is_empty() && !merged {
            self.content_written(world.now(), name, wrote);
        }
    }

    fn others_untouched(
        &mut self,
        world: &World,
        name: &str,
        manager: &str,
        before: &Secret,
        after: &Secret,
    ) {
        let others = self.others.get(name).cloned().unwrap_or_default();
        for (field, value) in others {
            let was = before.fields.get(&field) == Some(&value);
            if was && after.fields.get(&field) != Some(&value) {
                self.breach(
                    world,
                    Invariant::NothingOfOthers,
                    format!("{manager} changed {field:?} of the Secret {name}, which is another's"),
                );
            }
        }
        for (other, owned) in before.managers.iter().filter(|(other, _)| {
            *other != manager && before.creator != manager && !other.starts_with("vto-")
        }) {
            if after
                .managers
                .get(other)
                .is_none_or(|now| now.fields != owned.fields)
            {
                self.breach(
                    world,
                    Invariant::NothingOfOthers,
                    format!("{manager} took fields of {other} in the Secret {name}"),
                );
            }
        }
    }

    fn created(&mut self, world: &World, name: &str, after: &Secret) {
        let owner = after.fields.keys().find_map(|field| match field {
            Field::Owner(uid) => Some(uid.clone()),
            _ => None,
        });
        let Some(uid) = owner else { return };
        let again = !self.known.insert(uid.clone());
        let since = |died: &Timestamp| world.now().as_millisecond() - died.as_millisecond();
        // As long as the look at the resource and the apply may take together.
        if again && self.died.get(&uid).is_some_and(|died| since(died) > 4000) {
            self.breach(
                world,
                Invariant::NoneRecreated,
                format!("the Secret {name} was made again for {uid}, which was deleted"),
            );
        }
    }

    /// The operator knows from now on that a resource had a Secret.
    pub fn knows(&mut self, uid: String) {
        self.known.insert(uid);
    }

    /// The operator ended: it remembers nothing.
    pub fn operator_ended(&mut self) {
        self.known.clear();
        self.paces.operator_ended();
    }

    /// A Secret goes. If a workload had no baseline for it, what its pods run
    /// cannot be known any more.
    pub fn secret_gone(&mut self, world: &World, secret: &Secret, name: &str) {
        let api = world.api.borrow();
        for (workload, pods) in &mut self.pods {
            let Some(run) = pods.run.get_mut(name) else {
                continue;
            };
            let recorded = api
                .workloads
                .get(workload)
                .map(|found| found.recorded(name));
            let recorded = recorded.unwrap_or_default();
            if recorded.is_empty() {
                *run = None;
            } else if recorded.iter().any(|hash| *hash != secret.hash(name)) {
                self.gone_pending
                    .insert((workload.clone(), name.to_owned()));
            }
        }
    }

    /// A Secret that went while a restart was pending is made again with what the
    /// workload's record says. What it held between was known to its annotations
    /// alone: that pods which started meanwhile run that cannot be known any more.
    fn changed_back(&mut self, world: &World, name: &str, after: &Secret, wrote: &Content) {
        let api = world.api.borrow();
        for (workload, pods) in &mut self.pods {
            let pending = self
                .gone_pending
                .remove(&(workload.clone(), name.to_owned()));
            let Some(found) = api.workloads.get(workload).filter(|_| pending) else {
                continue;
            };
            let current = found
                .recorded(name)
                .iter()
                .all(|hash| *hash == after.hash(name));
            if current && let Some(run) = pods.run.get_mut(name) {
                *run = Some(wrote.clone());
            }
        }
    }

    /// What decides was taken away: a lost key or a stripped state, together with
    /// another fault, may cost a restart for each Secret.
    pub fn in_the_dark(&mut self) {
        self.dark = true;
        for pods in self.pods.values_mut() {
            pods.due += pods.run.len();
        }
    }

    fn content_written(&mut self, now: Timestamp, name: &str, wrote: Content) {
        let history = self.written.entry(name.to_owned()).or_default();
        let (first, changed) = (
            history.is_empty(),
            history.last().is_none_or(|(_, last)| *last != wrote),
        );
        if changed {
            history.push((now, wrote.clone()));
        }
        for pods in self.pods.values_mut() {
            let Some(run) = pods.run.get_mut(name) else {
                continue;
            };
            run.get_or_insert(wrote.clone());
            pods.due += usize::from(changed && !first);
        }
    }

    pub fn workload_patched(
        &mut self,
        world: &World,
        name: &str,
        before: Option<&Workload>,
        after: &Workload,
    ) {
        let Some(before) = before else { return };
        for (was, is) in [
            (&before.annotations, &after.annotations),
            (&before.template, &after.template),
        ] {
            let theirs = |all: &BTreeMap<String, String>| {
                let mut all = all.clone();
                all.retain(|name, _| !name.starts_with(PREFIX));
                all
            };
            if theirs(was) != theirs(is) && world.defect.is_none() {
                self.breach(
                    world,
                    Invariant::NothingOfOthers,
                    format!("annotations of others on {name} changed"),
                );
            }
        }
        if before.template == after.template {
            return;
        }
        let pods = self.pods.entry(name.to_owned()).or_default();
        let needed = pods.due > 0;
        pods.due = pods.due.saturating_sub(1);
        pods.restarts += 1;
        if !needed {
            self.breach(
                world,
                Invariant::RestartForContent,
                format!("{name} was restarted for the content that it runs"),
            );
        }
        let restart = (before, after);
        for (invariant, what) in self.paces.restarted(world, name, restart, &self.pods) {
            self.breach(world, invariant, what);
        }
        self.roll(world, name, after.paused);
    }

    /// The contents that the operator last wrote for a workload.
    fn latest(&self, workload: &str) -> BTreeMap<String, Option<Content>> {
        let used = self
            .pods
            .get(workload)
            .into_iter()
            .flat_map(|pods| pods.run.keys());
        used.map(|secret| (secret.clone(), self.last_written(secret).cloned()))
            .collect()
    }

    /// Pods start anew with what the Secrets hold, or wait for those that aren't there.
    fn roll(&mut self, world: &World, name: &str, paused: bool) {
        let mut now = self.latest(name);
        let api = world.api.borrow();
        for (secret, content) in &mut now {
            content.take_if(|_| !api.secrets.contains_key(secret));
        }
        let pods = self.pods.entry(name.to_owned()).or_default();
        pods.held = paused;
        if !paused {
            let before = std::mem::replace(&mut pods.run, now);
            if !world.rollout.get().is_zero() {
                let (now, before) = (world.now(), before.into_values().flatten());
                pods.ending.extend(before.map(|content| (now, content)));
                pods.rolls = Some(now);
            }
        }
    }

    /// Somebody else changed the template.
    pub fn stirred(&mut self, world: &World, name: &str, paused: bool) {
        self.pods.entry(name.to_owned()).or_default().due += 1;
        self.paces.stirred(name);
        self.roll(world, name, paused);
    }

    /// A Deployment goes on: what waited is rolled out.
    pub fn resumed(&mut self, world: &World, name: &str) {
        if self.is_held(name) {
            self.roll(world, name, false);
        }
    }

    /// Whether a template waits until its Deployment is resumed.
    pub fn is_held(&self, name: &str) -> bool {
        self.pods.get(name).is_some_and(|pods| pods.held)
    }

    /// A workload came into being that uses these Secrets.
    pub fn workload_created(&mut self, world: &World, name: &str, uses: &[&str]) {
        let restarts = self.pods.get(name).map_or(0, |pods| pods.restarts);
        let run = uses
            .iter()
            .map(|secret| ((*secret).to_owned(), None))
            .collect();
        self.pods.insert(
            name.to_owned(),
            Pods {
                run,
                restarts,
                ..Pods::default()
            },
        );
        self.roll(world, name, false);
        if let Some(pods) = self.pods.get_mut(name) {
            // Its first pods, which take nobody's place.
            (pods.ending, pods.rolls) = Default::default();
        }
        let now = world.now().as_millisecond();
        let recent = |secret: &&&str| {
            let last = self
                .written
                .get(**secret)
                .and_then(|history| history.last());
            last.is_some_and(|(at, _)| now - at.as_millisecond() <= 6000)
        };
        let in_doubt = uses.iter().find(recent).is_some();
        let due = if self.dark {
            uses.len()
        } else {
            usize::from(in_doubt)
        };
        self.pods.entry(name.to_owned()).or_default().due = due;
    }

    /// A resource was deleted.
    pub fn died(&mut self, object: &Object, now: Timestamp) {
        self.died.insert(object.uid(), now);
    }
}
