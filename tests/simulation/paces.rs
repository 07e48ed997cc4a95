//! What must hold of each restart under a policy: windows, distance, number, order, availability and hold, by what the
//! operator that runs was shown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use vault_tenant_operator::config::{Rollout, window};
use vault_tenant_operator::reconcile::PREFIX;

use crate::judge::{Invariant, Pods};
use crate::living::margin;
use crate::objects::{Content, Object, Workload, tags};
use crate::world::World;

/// What is decided may take effect so much later: the way of a request, and a look before it.
const LATE: Duration = Duration::from_secs(10);

/// The same where nothing is looked at between.
const FLIGHT: Duration = Duration::from_secs(2);

/// Watches may tell of the begin of a rollout so much apart.
const UNSURE: Duration = Duration::from_secs(20);

/// What the operator that runs was shown of an object, never one older than before.
#[derive(Clone, Debug)]
struct Seen {
    version: u64,
    /// Since when that version.
    at: Timestamp,
    /// Since when a workload rolls, or a resource holds, without a break.
    since: Option<Timestamp>,
    /// Since when a workload does not get on.
    failing: Option<Timestamp>,
}

/// What the judge remembers of restarts.
#[derive(Debug, Default)]
pub struct Paces {
    /// When each workload was restarted last, as the operator wrote it, and to which version.
    last: BTreeMap<String, (Timestamp, u64)>,
    /// Those that roll since a restart, and whether the operator that runs now did that.
    ours: BTreeMap<String, bool>,
    workloads: BTreeMap<String, Seen>,
    resources: BTreeMap<String, Seen>,
    /// Entries of templates that the operator that runs was shown on a workload that does not roll.
    through: BTreeSet<(String, String)>,
}

/// When the first ends of what pods hold of a Secret, or what was given out for it before.
fn first_end(world: &World, secret: &str, runs: Option<&Content>) -> Option<Timestamp> {
    let leases = world.leases.borrow();
    let own = runs.and_then(|content| leases.end_of(world, content));
    let former = leases.end_of_former(world, secret);
    own.into_iter().chain(former).min()
}

fn longer(now: Timestamp, since: Timestamp, than: Duration) -> bool {
    now.duration_since(since) > SignedDuration::try_from(than).unwrap()
}

impl Paces {
    /// The operator ended: what the next one knows is what it is shown.
    pub fn operator_ended(&mut self) {
        self.ours
            .values_mut()
            .for_each(|this_one| *this_one = false);
        self.workloads.clear();
        self.resources.clear();
        self.through.clear();
    }

    /// Somebody else rolls it, or holds it up, which the operator may not know yet.
    pub fn stirred(&mut self, name: &str) {
        self.ours.remove(name);
    }

    /// When a workload was restarted last.
    pub fn last(&self, name: &str) -> Option<Timestamp> {
        self.last.get(name).map(|(at, _)| *at)
    }

    /// The operator that runs is shown an object.
    pub fn shown(&mut self, name: &str, object: &Object, now: Timestamp) {
        let (all, marked, failing) = match object {
            Object::Workload(found) => {
                let failing = found.failing && !found.paused;
                if !found.rolling && found.pods > 0 {
                    self.through.extend(found.template.clone());
                }
                (&mut self.workloads, found.rolling, failing)
            }
            Object::Static(found) => {
                let rollout = found.spec.rollout.as_ref();
                let holds = rollout.and_then(|rollout| rollout.hold);
                (&mut self.resources, holds == Some(true), false)
            }
            _ => return,
        };
        let version = object.version().parse().unwrap();
        let before = all.get(name).cloned();
        if before
            .as_ref()
            .is_some_and(|before| before.version >= version)
        {
            return;
        }
        let since = |is: bool, was: Option<Timestamp>| is.then(|| was.unwrap_or(now));
        let seen = Seen {
            version,
            at: now,
            since: since(marked, before.as_ref().and_then(|before| before.since)),
            failing: since(failing, before.and_then(|before| before.failing)),
        };
        all.insert(name.to_owned(), seen);
    }

    /// What is wrong with a restart that takes effect now.
    pub fn restarted(
        &mut self,
        world: &World,
        name: &str,
        (before, after): (&Workload, &Workload),
        pods: &BTreeMap<String, Pods>,
    ) -> Vec<(Invariant, String)> {
        let policy = world.policy.borrow();
        let stricter = world.stricter.borrow();
        // On whose behalf it was.
        let used = &pods[name].run;
        let content = |tag| format!("{PREFIX}c-{tag}");
        let due = used.keys().flat_map(|secret| {
            let keys = tags(secret).map(content);
            keys.map(move |key| (secret, key))
        });
        let due: Vec<_> = due
            .filter(|(_, key)| before.template.get(key) != after.template.get(key))
            .collect();
        let stricter: Vec<_> = due
            .iter()
            .filter_map(|(secret, _)| stricter.get_key_value(*secret))
            .collect();
        let any =
            |says: fn(&Rollout) -> bool| says(&policy) || stricter.iter().any(|(_, own)| says(own));
        let now = world.now();
        let mut wrong = Vec::new();
        let earlier = now - SignedDuration::try_from(LATE).unwrap();
        let outside = |policy: &Rollout| {
            window::opening(&policy.windows, earlier).is_none_or(|opening| opening > now)
        };
        // Where what the pods hold ends before, nothing is waited for.
        let latest = due
            .iter()
            .filter_map(|(secret, _)| first_end(world, secret, used[*secret].as_ref()))
            .min()
            .map(|end| end - SignedDuration::try_from(margin(world.rollout.get()) + LATE).unwrap());
        let too_late = |until: Option<Timestamp>| {
            latest.is_some_and(|latest| until.is_none_or(|until| until > latest))
        };
        let urgent = |until| too_late(until) && latest <= Some(now);
        let outside =
            |policy: &Rollout| outside(policy) && !too_late(window::opening(&policy.windows, now));
        if outside(&policy) {
            wrong.push(format!("{name} was restarted outside of the windows"));
        }
        for (secret, own) in &stricter {
            if outside(own) {
                wrong.push(format!("{name} was restarted outside of those of {secret}"));
            }
        }
        let known = |since: Option<Timestamp>| since.is_some_and(|at| longer(now, at, FLIGHT));
        let holds = |secret: &str| {
            self.resources
                .get(secret)
                .is_some_and(|one| known(one.since))
        };
        if policy.hold {
            wrong.push(format!("{name} was restarted although all is held"));
        }
        for (secret, _) in due.iter().filter(|(secret, _)| holds(secret)) {
            wrong.push(format!("{name} was restarted although {secret} holds"));
        }
        let all = &world.api.borrow().workloads;
        let same = |other: &Workload| {
            let same = |key: &String| other.template.get(key) == after.template.get(key);
            due.iter().any(|(_, key)| same(key))
        };
        let failed = all.iter().find(|(other, found)| {
            let seen = self.workloads.get(*other);
            let seen = seen.is_some_and(|seen| known(seen.failing));
            *other != name && seen && found.failing && !found.paused && same(found)
        });
        if let Some((other, _)) = failed.filter(|_| any(|policy| policy.halt_on_failure)) {
            wrong.push(format!(
                "{name} was restarted although {other} does not get on with the same"
            ));
        }
        let takes = Duration::from_secs(before.deadline.into()).saturating_sub(UNSURE);
        let own = self.workloads.get(name).and_then(|seen| seen.since);
        let rolls = known(own) && own.is_some_and(|since| !longer(now, since, takes));
        if rolls
            && !urgent(None)
            && before.rolling
            && !before.failing
            && any(|policy| policy.only_when_available)
        {
            wrong.push(format!("{name} was restarted while it rolls itself"));
        }
        let rolling: Vec<_> = self
            .ours
            .iter()
            .filter(|(other, this_one)| {
                let (Some(found), Some((at, version))) = (all.get(*other), self.last.get(*other))
                else {
                    return false;
                };
                let seen = self.workloads.get(*other);
                let seen =
                    seen.is_some_and(|seen| seen.version >= *version && known(Some(seen.at)));
                let rolls = pods[*other].rolls.is_some() && !found.failing;
                *other != name && rolls && !longer(now, *at, takes) && (**this_one || seen)
            })
            .collect();
        let most = usize::from(policy.max_concurrent);
        if most > 0 && !urgent(None) && rolling.len() >= most {
            let before = match rolling.iter().all(|(_, this_one)| **this_one) {
                true => "",
                false => ", since an operator before",
            };
            wrong.push(format!(
                "{name} was restarted while {rolling:?} roll{before}"
            ));
        }
        let unproven = |(_, key): &(&String, String)| {
            let entry =
                |workload: &Workload| Some((key.clone(), workload.template.get(key)?.clone()));
            let due = entry(after);
            let first = |(other, _): &(&String, &bool)| {
                let found = &all[*other];
                !found.paused && entry(found) == due
            };
            let is_through = |due| self.through.contains(due);
            !due.as_ref().is_some_and(is_through) && rolling.iter().any(first)
        };
        if any(|policy| policy.halt_on_failure) && !urgent(None) && due.iter().any(unproven) {
            wrong.push(format!(
                "{name} was restarted while {rolling:?} roll, the first with the same"
            ));
        }
        let written = after.annotations.get(&format!("{PREFIX}restarted-at"));
        match written.and_then(|at| at.parse::<Timestamp>().ok()) {
            None => wrong.push(format!("{name} was restarted and doesn't say when")),
            Some(at) => {
                let last = self.last.insert(name.to_owned(), (at, after.version));
                let too_early = |policy: &Rollout| {
                    let least = SignedDuration::try_from(policy.min_interval).unwrap();
                    last.is_some_and(|(last, _)| at < last + least && !urgent(Some(last + least)))
                };
                if too_early(&policy) {
                    wrong.push(format!("{name} was restarted again after {last:?}"));
                }
                for (secret, own) in &stricter {
                    if too_early(own) {
                        wrong.push(format!("{name} was restarted too early for {secret}"));
                    }
                }
            }
        }
        self.ours.insert(name.to_owned(), true);
        wrong
            .into_iter()
            .map(|what| (Invariant::Paced, what))
            .collect()
    }
}
