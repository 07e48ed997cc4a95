//! Credentials that take the place of others: when the old ones are of no use to
//! anybody any more, and how long before their end the new ones must be there.

use std::time::Duration;

use jiff::Timestamp;

use super::engine::Engine;
use super::grants::Terms;
use super::pace::{LONGEST, restarted_at};
use super::ports::{Clock, Cluster};
use super::queue::WorkKey;
use super::report::{Finding, Truth};
use super::resolve::positive_duration;
use super::restart::{Standing, runs};
use super::secret::Work;
use super::sources::{SecretResource, uid_of};
use super::state::RESTARTED_AT;
use super::time::{fraction, later};
use super::view::{Rollout, WorkloadKey, WorkloadMeta};
use super::workload::TargetStanding;
use crate::api::RotationStrategy;
use crate::config;
use crate::key::ResourceKey;
use crate::problem::{Problem, printable};
use crate::vault::Vault;

/// How the credentials of a resource take the place of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Whether the old ones stay alive until every target runs the new ones.
    pub overlap: bool,
    /// How long they stay after that.
    pub drain: Duration,
    /// How long they stay at most while targets do not finish; `None`: as long as
    /// their lease can be renewed.
    pub timeout: Option<Duration>,
}

impl Rotation {
    /// When credentials are given back that others took the place of at `changed_at`, whether
    /// the targets have finished or not.
    #[must_use]
    pub fn limit(self, changed_at: Timestamp) -> Option<Timestamp> {
        match self.overlap {
            true => self.timeout.map(|timeout| later(changed_at, timeout)),
            false => Some(changed_at),
        }
    }
}

/// What a resource says of its rotation, over what the configuration says.
///
/// # Errors
/// [`Problem::InvalidSpec`].
pub fn rotation_of(
    resource: &dyn SecretResource,
    config: &config::Rotation,
) -> Result<Rotation, Problem> {
    let mut rotation = Rotation {
        overlap: config.strategy == config::RotationStrategy::Overlap,
        drain: config.drain,
        timeout: (!config.timeout.is_zero()).then_some(config.timeout),
    };
    let Some(spec) = resource.rotation() else {
        return Ok(rotation);
    };
    match &spec.strategy {
        None => {}
        Some(RotationStrategy::Overlap) => rotation.overlap = true,
        Some(RotationStrategy::Replace) => rotation.overlap = false,
        Some(RotationStrategy::Unknown(other)) => {
            return Err(Problem::InvalidSpec {
                field: "spec.rotation.strategy".to_owned(),
                why: format!("{:?} is neither overlap nor replace", printable(other, 40)),
            });
        }
    }
    if let Some(text) = &spec.drain {
        rotation.drain = positive_duration("spec.rotation.drain", text)?;
    }
    if let Some(text) = &spec.timeout {
        rotation.timeout = Some(positive_duration("spec.rotation.timeout", text)?);
    }
    Ok(rotation)
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// The terms of a resource, with the margin that a rollout needs; `None` where its
    /// source is only read.
    pub(super) fn terms_of(&self, resource: &dyn SecretResource) -> Option<Terms> {
        let terms = resource.terms(fraction(uid_of(resource))).ok().flatten()?;
        let rotation = rotation_of(resource, &self.config.rotation).ok();
        let margin = rotation.map(|rotation| self.margin(resource, rotation));
        Some(Terms {
            margin: margin.unwrap_or_default(),
            ..terms
        })
    }

    /// How long before the end of a lease the next one is needed.
    pub(super) fn margin(&self, resource: &dyn SecretResource, rotation: Rotation) -> Duration {
        let view = self.view.borrow();
        let targets = self.targets(resource);
        let found = targets.iter().filter_map(|target| {
            let rollout = view.workloads.get(target)?.rollout;
            Some((self.took(target), rollout))
        });
        margin(rotation, found)
    }

    /// When the credentials of before the present ones are given back: `None` while
    /// that is not to be told yet.
    pub(super) fn free_at(&self, work: &Work, changed_at: Timestamp) -> Option<Timestamp> {
        let rotation = work.rotation;
        if !rotation.overlap {
            return Some(changed_at);
        }
        let limit = rotation.limit(changed_at);
        let rolled = self.rolled_since(work, changed_at);
        let free = rolled.map(|since| {
            let view = self.view.borrow();
            let targets = self.targets(&*work.resource);
            let rollouts = targets
                .iter()
                .filter_map(|target| Some(view.workloads.get(target)?.rollout));
            later(since, drain(rotation, rollouts))
        });
        match (free, limit) {
            (Some(free), Some(limit)) => Some(free.min(limit)),
            (free, limit) => free.or(limit),
        }
    }

    /// Since when every target is known to have finished its rollout of what the
    /// Secret holds since `changed_at`. This process's knowledge: another one looks
    /// anew, and gives back later, never earlier.
    pub(super) fn rolled_since(&self, work: &Work, changed_at: Timestamp) -> Option<Timestamp> {
        // Where some cannot be found, nobody can tell.
        let mut rolled = self.finds_all(&*work.resource);
        rolled &= self.targets(&*work.resource).iter().all(|target| {
            let standing = self.target_standing(&work.key, &*work.resource, target);
            match standing {
                TargetStanding::Known(Standing::Current | Standing::Stripped) => {
                    !self.is_rolling(target)
                }
                TargetStanding::Missing | TargetStanding::Off => true,
                _ => false,
            }
        });
        let known = self.remembered(&work.key).rolled;
        let known = known.filter(|(change, _)| *change == changed_at);
        let since = rolled.then(|| known.map_or_else(|| self.clock.now(), |(_, since)| since));
        let rolled = since.map(|since| (changed_at, since));
        self.keep_in_memory(&work.key, |memory| memory.rolled = rolled);
        since
    }

    fn is_rolling(&self, target: &WorkloadKey) -> bool {
        let view = self.view.borrow();
        let found = view.workloads.get(target);
        found.is_some_and(|found| found.rollout.under_way)
    }

    fn took(&self, target: &WorkloadKey) -> Option<Duration> {
        let key = WorkKey::Workload(target.clone());
        self.memory.borrow().get(&key)?.took
    }

    /// Notes of a rollout whose end a watch has just shown with what content it got
    /// through, and how long it took: since that was seen to begin, or since this process's
    /// restart where that came later. Others roll workloads too, long after the last restart
    /// of ours.
    pub(super) fn note_rollout(
        &self,
        target: &WorkloadKey,
        before: &WorkloadMeta,
        now: &WorkloadMeta,
    ) {
        let (was, is) = (before.rollout.under_way, now.rollout.under_way);
        let view = self.view.borrow();
        if was == is || view.resources_of_workload(target).next().is_none() {
            return;
        }
        let proves = |resource: &ResourceKey| {
            let wanted = self.wanted_by(&view, resource, &*view.writer(resource)?)?;
            let hash = wanted.state.hash.as_str().to_owned();
            runs(now, &wanted).then(|| (resource.clone(), hash))
        };
        // Without a pod nothing is proven.
        let proves_something = !is && now.rollout.pods > 0;
        let resources = view
            .resources_of_workload(target)
            .filter(|_| proves_something);
        let proven: Vec<_> = resources.filter_map(proves).collect();
        drop(view);
        let time = self.clock.now();
        let restarted = restarted_at(now, time);
        let started = self.term.borrow().started;
        let by_this_process = |at: &Timestamp| *at >= started;
        let mut memory = self.memory.borrow_mut();
        for (resource, hash) in proven {
            let resource = WorkKey::Resource(resource);
            memory.entry(resource).or_default().proven = Some(hash);
        }
        let memory = memory.entry(WorkKey::Workload(target.clone())).or_default();
        if is {
            // Shown together with the restart, it began with that, however late it is shown.
            let begins = before.annotations.get(RESTARTED_AT) != now.annotations.get(RESTARTED_AT);
            memory.rolls = Some(restarted.filter(|_| begins).unwrap_or(time));
        } else if let Some(began) = memory.rolls.take().max(restarted.filter(by_this_process)) {
            memory.took = Duration::try_from(time.duration_since(began)).ok();
        }
    }

    /// Told in advance: targets whose pods nothing replaces before their
    /// credentials end.
    pub(super) fn overlap_finding(&self, resource: &dyn SecretResource) -> Option<Finding> {
        let rotation = rotation_of(resource, &self.config.rotation).ok()?;
        let terms = resource.terms(0.0).ok().flatten()?;
        // Unless it is revoked, a certificate lives to its end.
        let lives_on = terms.lead.is_some() && !resource.revokes();
        if !rotation.overlap || lives_on {
            return None;
        }
        let view = self.view.borrow();
        let why = |target: WorkloadKey| {
            if !self.restarts(target.kind) {
                return Some(format!(
                    "{target} is not restarted by this operator (rollout.enabled, rollout.kinds), and what its pods hold is given back after rotation.drain: restart it within that time after a rotation"
                ));
            }
            // It is revoked only once none of its pods uses it.
            let found = view
                .workloads
                .get(&target)
                .filter(|_| terms.lead.is_none())?;
            if found.paused {
                return Some(format!("{target} is paused: resume it"));
            }
            if found.rollout.by_hand {
                return Some(format!(
                    "{target} leaves pods to be replaced by hand (updateStrategy OnDelete, or a partition): delete them after a rotation"
                ));
            }
            if found.rollout.failing {
                return Some(format!(
                    "the rollout of {target} does not get on: look at its new pods"
                ));
            }
            None
        };
        let targets = view.targets_of(resource).into_iter();
        let cut: Vec<String> = targets.filter_map(why).collect();
        (!cut.is_empty()).then(|| {
            let message = format!(
                "pods may lose their credentials before they have others: {}",
                cut.join("; ")
            );
            Finding::new("Overlap", Truth::False, "OverlapCut", message)
        })
    }
}

/// Twice what the slowest target takes to roll, as was seen or as its deadline says, and the drain. No more is taken
/// than a rollout is waited for: a deadline that somebody turned off, or a rollout that hung for a day, would have each
/// restart happen at once.
fn margin(
    rotation: Rotation,
    targets: impl Iterator<Item = (Option<Duration>, Rollout)>,
) -> Duration {
    let (took, rollouts): (Vec<_>, Vec<_>) = targets.unzip();
    let takes = took.into_iter().zip(&rollouts);
    let takes = takes.map(|(took, rollout)| took.unwrap_or_else(|| seconds(rollout.deadline)));
    let slowest = takes.max().unwrap_or_default().min(LONGEST);
    2 * slowest + drain(rotation, rollouts.into_iter())
}

/// The drain, where the end of pods is not seen at least as long as they are given
/// to end.
fn drain(rotation: Rotation, rollouts: impl Iterator<Item = Rollout>) -> Duration {
    let unseen = rollouts.filter(|rollout| !rollout.sees_ends);
    let grace = unseen.map(|rollout| rollout.grace).max();
    rotation.drain.max(seconds(grace.unwrap_or_default()))
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_twice_the_slowest_rollout_and_has_an_end() {
        let rotation = Rotation {
            overlap: true,
            drain: seconds(30),
            timeout: None,
        };
        let one = |took: Option<u32>, deadline| {
            let rollout = Rollout {
                deadline,
                sees_ends: true,
                ..Rollout::default()
            };
            (took.map(seconds), rollout)
        };
        for (targets, expected) in [
            (vec![], 30),
            (vec![one(None, 600)], 1_230),
            (vec![one(Some(60), 600), one(Some(90), 600)], 210),
            (vec![one(Some(60), 600), one(None, 100)], 230),
            // Turned off, and one that hung.
            (vec![one(None, u32::MAX)], 7_230),
            (vec![one(Some(86_400), 600)], 7_230),
        ] {
            let told = margin(rotation, targets.clone().into_iter());
            assert_eq!(told, seconds(expected), "{targets:?}");
        }
        // Where ends of pods aren't seen, their grace counts.
        let unseen = Rollout {
            grace: 300,
            ..Rollout::default()
        };
        let told = margin(rotation, [(Some(seconds(1)), unseen)].into_iter());
        assert_eq!(told, seconds(302));
    }
}
