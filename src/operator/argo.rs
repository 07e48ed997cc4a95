//! Rollouts of Argo Rollouts: how a restart is asked of their controller, and how its status is read. A restart is
//! `spec.restartAt`: the controller evicts each pod that is older, and then repeats that time in `status.restartedAt`
//! (Argo Rollouts, "Restarting Rollout Pods"). The pod template stays as it is: another one would be a new revision.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde_json::Value;

/// Whether a controller has seen this generation, by its `status.observedGeneration`: a number of the kinds of `apps/v1`,
/// and a text of a Rollout. Argo's controllers before version 0.10 wrote a hash there: what is no number counts as seen,
/// as Argo's own tool has it.
pub fn has_seen(observed: &Value, generation: i64) -> bool {
    match observed {
        Value::String(text) => text.parse::<i64>().map_or(true, |seen| seen >= generation),
        other => other.as_i64().unwrap_or_default() >= generation,
    }
}

/// The time to ask for in a restart at `at`. Pods have whole seconds, and one of that very second is not replaced: the
/// next one, so that none is left that began before.
pub fn restart_at(at: Timestamp) -> Timestamp {
    let up = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    at.round(up).unwrap_or(at)
}

/// What of a Rollout tells how its last restart and its last update stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When the operator last restarted it.
    pub restarted: Option<Timestamp>,
    /// `spec.restartAt`.
    pub asked: Option<&'a str>,
    /// `status.restartedAt`.
    pub done: Option<&'a str>,
    /// `status.phase`.
    pub phase: &'a str,
}

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether pods from before the restart, or of an older template, may be there.
    pub under_way: bool,
    /// [`crate::reconcile::view::Rollout::undone`].
    pub undone: bool,
}

impl Seen<'_> {
    /// Judges it. A restart that others ask for is none of ours: they may plan one for next week.
    pub fn standing(self) -> Standing {
        let time = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
        let wanted = self.restarted.map(restart_at);
        // A copy of another one may bring the annotation of that one along.
        let wanted = wanted.filter(|wanted| self.created.is_none_or(|at| at < *wanted));
        let before = |time: Option<Timestamp>| {
            wanted.is_some_and(|wanted| time.is_none_or(|time| time < wanted))
        };
        let pending = before(time(self.done));
        // Also in the middle of an update, and of one that begins meanwhile, its time comes once no pod is older, of
        // whatever revision (rollout/restart.go; tried with version 1.10). `resetRolloutStatus` means to set it where an
        // update begins, on a copy that is not written (rollout/sync.go, versions 1.8 to 1.10): look again with a later one.
        Standing {
            under_way: pending || self.phase == "Progressing",
            undone: pending && before(time(self.asked)),
        }
    }
}

#[cfg(test)]
#[path = "argo_tests.rs"]
mod tests;
