//! When a restart that is due may happen: pure, from the policy (`rollout` of the configuration), how the workload and
//! the others stand, and the time.

use std::time::Duration;

use jiff::Timestamp;

use super::overrides::Asked;
use super::state::RESTARTED_AT;
use super::time::later;
use super::view::{WorkloadKey, WorkloadMeta};
use crate::api::RolloutState;
use crate::config::{Rollout, window};

/// The longest that a rollout is waited for, whatever its own deadline says: a tenant may have turned that off.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// Within this a restart is seen to have begun.
const SEEN: Duration = Duration::from_secs(60);

/// Why a restart that is due does not happen yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Further changes are awaited (`rollout.debounce`).
    Debounce,
    /// A person has paused it.
    Paused,
    /// Nothing is restarted (`rollout.hold`).
    Held,
    /// Another workload does not get on with the same content (`rollout.haltOnFailure`).
    Failed(WorkloadKey),
    /// The last restart was too short ago (`rollout.minInterval`).
    Interval,
    /// It is closed (`rollout.windows`).
    Window,
    /// Its pods are not all there (`rollout.onlyWhenAvailable`).
    Unavailable,
    /// As many others roll as may (`rollout.maxConcurrent`).
    Busy,
    /// Another workload is the first to be restarted with the same content, and is not through (`rollout.haltOnFailure`).
    First(WorkloadKey),
}

impl Why {
    /// The key that has it wait: of the configuration, or else of resources (`spec.rollout`).
    #[must_use]
    pub const fn key(&self, said: Said) -> Option<&'static str> {
        Some(match (self, said) {
            (Self::Paused, _) => return None,
            (Self::Busy, _) => "rollout.maxConcurrent",
            (Self::Debounce, Said::Configuration) => "rollout.debounce",
            (Self::Debounce, _) => "spec.rollout.debounce",
            (Self::Held, Said::Configuration) => "rollout.hold",
            (Self::Held, _) => "spec.rollout.hold",
            (Self::Failed(_) | Self::First(_), Said::Configuration) => "rollout.haltOnFailure",
            (Self::Failed(_) | Self::First(_), _) => "spec.rollout.haltOnFailure",
            (Self::Interval, Said::Configuration) => "rollout.minInterval",
            (Self::Interval, _) => "spec.rollout.minInterval",
            (Self::Window, Said::Configuration) => "rollout.windows",
            (Self::Window, _) => "spec.rollout.windows",
            (Self::Unavailable, Said::Configuration) => "rollout.onlyWhenAvailable",
            (Self::Unavailable, _) => "spec.rollout.onlyWhenAvailable",
        })
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Debounce => "Debounce",
            Self::Paused => "Paused",
            Self::Held => "Hold",
            Self::Failed(_) => "HaltOnFailure",
            Self::Interval => "MinInterval",
            Self::Window => "Window",
            Self::Unavailable => "Unavailable",
            Self::Busy => "MaxConcurrent",
            Self::First(_) => "AwaitsFirst",
        }
    }
}

/// Whose word has a restart wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Said {
    /// The configuration's.
    #[default]
    Configuration,
    /// That of a resource whose content is due.
    Resource,
    /// That of another resource than the one that is told.
    Another,
}

/// A restart that is due and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Why.
    pub why: Why,
    /// Whose word that is.
    pub said: Said,
    /// When this ends, where time alone ends it; something else may follow.
    pub until: Option<Timestamp>,
    /// By when the restart happens whatever it waits for, so that pods don't lose what they use.
    pub latest: Option<Timestamp>,
}

impl Wait {
    /// What it waits for in a word, as status has it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (&self.why, self.until) {
            (Why::Window, None) => "NoWindow",
            (why, _) => why.word(),
        }
    }

    /// When to look again.
    #[must_use]
    pub fn again(&self) -> Option<Timestamp> {
        [self.until, self.latest].into_iter().flatten().min()
    }
}

/// How the last rollout of a workload gets on, if the operator began it and nobody holds it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Until when it is waited for, if it is under way.
    pub rolls_until: Option<Timestamp>,
    /// Whether it does not get on: as its controller says, or, where a kind's never says so, since no further pod was
    /// replaced for so long.
    pub stuck: bool,
    /// Whether it is that of the operator's last restart, as far as is known, and not over.
    pub ours: bool,
}

/// What a restart that is due is judged by, beside the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// How the workload's own last rollout gets on.
    pub own: Progress,
    /// By when it must have begun, so that pods don't lose what they use; `None` where that has no end.
    pub latest: Option<Timestamp>,
    /// How many other workloads that the operator restarted are rolling.
    pub rolling: usize,
    /// When the first of them is no longer waited for, whether it got on or not.
    pub free_at: Option<Timestamp>,
    /// Another one that runs the content that is due here, and does not get on.
    pub failed: Option<WorkloadKey>,
    /// Another one that rolls with the content that is due here, and until when it is waited for, where none is through
    /// with that.
    pub first: Option<(WorkloadKey, Timestamp)>,
    /// What those say themselves on whose behalf it restarts.
    pub asked: Asked,
}

/// Whether a restart may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may; where it happens against the policy, since what the pods use would end while it waits, with the key that
    /// it overrules.
    Open(Option<&'static str>),
    /// It may not yet.
    Closed(Wait),
}

/// Judges a restart that has been due since the content changed at `changed_at`, the last time.
#[must_use]
pub fn gate(
    workload: &WorkloadMeta,
    changed_at: Timestamp,
    policy: &Rollout,
    scene: &Scene,
    now: Timestamp,
) -> Gate {
    let asked = &scene.asked;
    let closed = |why: Why, until, latest| {
        Gate::Closed(Wait {
            said: said((&why, until), changed_at, policy, asked, now),
            why,
            until,
            latest,
        })
    };
    // Nothing beats what a person decided, nor what shows that the content is no good.
    if workload.paused {
        return closed(Why::Paused, None, None);
    }
    if policy.hold || asked.hold {
        return closed(Why::Held, None, None);
    }
    let settled = later(changed_at, policy.debounce);
    if settled > now {
        return closed(Why::Debounce, Some(settled), None);
    }
    if let Some(failed) = scene.failed.clone().filter(|_| halts(policy, asked)) {
        return closed(Why::Failed(failed), None, None);
    }
    let overrules = |why: Why, until| {
        let said = said((&why, until), changed_at, policy, asked, now);
        Gate::Open(why.key(said))
    };
    let Some((why, until)) = wait(workload, policy, scene, now) else {
        return match opening(policy, asked, now) {
            Some(opening) if opening == now => Gate::Open(None),
            opening => overrules(Why::Window, opening),
        };
    };
    match scene.latest {
        Some(latest) if latest <= now && too_late(until, scene) => overrules(why, until),
        latest => closed(why, until, latest),
    }
}

/// Whether what the pods use would end while something is waited for.
fn too_late(until: Option<Timestamp>, scene: &Scene) -> bool {
    let ends = |latest| until.is_none_or(|until| until > latest);
    scene.latest.is_some_and(ends)
}

/// Whose word it is: that of resources only where the configuration alone would not have it wait.
fn said(
    (why, until): (&Why, Option<Timestamp>),
    changed_at: Timestamp,
    policy: &Rollout,
    asked: &Asked,
    now: Timestamp,
) -> Said {
    let configured = match why {
        Why::Paused | Why::Busy => true,
        Why::Held => policy.hold,
        Why::Debounce => later(changed_at, policy.debounce) > now,
        Why::Failed(_) | Why::First(_) => policy.halt_on_failure,
        Why::Interval => asked.min_interval <= policy.min_interval,
        // Those of the configuration alone open every week.
        Why::Window if until.is_none() => asked.windows.is_empty(),
        Why::Window => window::opening(&policy.windows, now) != Some(now),
        Why::Unavailable => policy.only_when_available,
    };
    match configured {
        true => Said::Configuration,
        false => Said::Resource,
    }
}

/// What the policy has it wait for, and until when.
fn wait(
    workload: &WorkloadMeta,
    policy: &Rollout,
    scene: &Scene,
    now: Timestamp,
) -> Option<(Why, Option<Timestamp>)> {
    let asked = &scene.asked;
    // A resource's own may be long, and is overruled as all that follows.
    if let Some(settled) = asked.settled.filter(|settled| *settled > now) {
        return Some((Why::Debounce, Some(settled)));
    }
    if let Some(last) = restarted_at(workload, now) {
        let next = later(last, policy.min_interval.max(asked.min_interval));
        if next > now {
            return Some((Why::Interval, Some(next)));
        }
    }
    match opening(policy, asked, now) {
        Some(opening) if opening <= now => {}
        // It needn't be waited for at all; what follows need.
        opening if too_late(opening, scene) => {}
        opening => return Some((Why::Window, opening)),
    }
    let rollout = workload.rollout;
    // One that has failed is mended by nothing but another rollout, and where pods are replaced by hand, none is touched.
    let only_when_available = policy.only_when_available || asked.only_when_available;
    if only_when_available && rollout.under_way && !rollout.awaits_hand() && !scene.own.stuck {
        return Some((Why::Unavailable, scene.own.rolls_until));
    }
    let most = usize::from(policy.max_concurrent);
    if most > 0 && scene.rolling >= most {
        return Some((Why::Busy, scene.free_at));
    }
    let first = scene.first.clone().filter(|_| halts(policy, asked));
    first.map(|(first, until)| (Why::First(first), Some(until)))
}

/// Whether content that fails in one workload is kept from the others.
const fn halts(policy: &Rollout, asked: &Asked) -> bool {
    policy.halt_on_failure || asked.halt_on_failure
}

/// When a window of the configuration is open, and one of each resource that has some.
pub(super) fn opening(policy: &Rollout, asked: &Asked, now: Timestamp) -> Option<Timestamp> {
    let configured = Some(policy.windows.as_slice()).filter(|windows| !windows.is_empty());
    let sets: Vec<_> = configured.into_iter().chain(asked.sets()).collect();
    window::opening_of_all(&sets, now)
}

/// When the operator last restarted it; a time that is still to come is nobody's.
pub(super) fn restarted_at(workload: &WorkloadMeta, now: Timestamp) -> Option<Timestamp> {
    let at = workload.annotations.get(RESTARTED_AT)?.parse().ok();
    at.filter(|at| *at <= now)
}

/// How a rollout gets on that was seen to begin at `began`, or, without, that was under way when this process first saw
/// it: then `told` is how it stood by a status that was written before. One that others began is neither waited for nor
/// found stuck by time.
#[must_use]
pub fn progress(
    workload: &WorkloadMeta,
    began: Option<Timestamp>,
    told: Option<&RolloutState>,
    now: Timestamp,
) -> Progress {
    let rollout = workload.rollout;
    let restarted = restarted_at(workload, now).filter(|_| rollout.under_way);
    let with_it = |restarted, began| later(restarted, SEEN) >= began;
    // Of one that this process did not see begin, a status alone can tell that it had come to its end before.
    let told = told.filter(|_| began.is_none());
    let goes_on = told != Some(&RolloutState::Rolled);
    let ours = restarted.is_some_and(|at| began.map_or(goes_on, |began| with_it(at, began)));
    let of_it = Progress {
        ours,
        ..Progress::default()
    };
    if rollout.awaits_hand() || workload.paused {
        return of_it;
    }
    let failed = ours && told == Some(&RolloutState::Failed) && rollout.got_on.is_none();
    if rollout.failing || failed {
        return Progress {
            stuck: true,
            ..of_it
        };
    }
    // A pod is replaced once the one before it has ended.
    let takes = Duration::from_secs(u64::from(rollout.deadline) + u64::from(rollout.grace));
    let takes = takes.min(LONGEST);
    // One that this process did not see begin has the whole time again: nobody knows whether it stood still. Long after
    // the restart it is that one's if it leaves pods of before; else some of its pods may be away for another reason.
    let is_its = |seen: &Timestamp| {
        rollout.leaves_old || restarted.is_some_and(|at| *seen <= later(at, LONGEST))
    };
    let began = began.or(rollout.seen.filter(is_its));
    // Many pods that are replaced one by one take longer than any of them may.
    let since = |at: Timestamp| began.max(rollout.got_on).map_or(at, |since| since.max(at));
    let deadline = restarted.filter(|_| ours).map(|at| later(since(at), takes));
    let deadline = deadline.filter(|until| began.is_some() || *until > now);
    Progress {
        rolls_until: deadline.filter(|until| *until > now),
        stuck: deadline.is_some_and(|until| until <= now),
        ours,
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
