//! What the status of a resource says of the workloads that take a new rollout: a row
//! for each, the worst of them in a word, and the condition `RolloutRestart`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::discovery::Unfound;
use super::engine::Engine;
use super::overrides;
use super::pace::{Progress, Said, Wait, Why, restarted_at};
use super::ports::{Clock, Cluster, Note};
use super::queue::{Urgency, WorkKey};
use super::report::{Finding, Truth};
use super::restart::{Standing, runs};
use super::selection::query_of;
use super::sources::{SecretResource, uid_of};
use super::time::whole_seconds;
use super::view::{WorkloadKey, WorkloadMeta};
use super::workload::{DUE, TargetStanding};
use crate::api::{RolloutState, RolloutTargetStatus, Rollouts};
use crate::config::RolloutKey;
use crate::key::ResourceKey;
use crate::problem::{Problem, printable};
use crate::vault::Vault;

/// So many rows a status has at most; a spec may name more workloads than an object has room for.
const ROWS: usize = 100;

/// The longest name that an object has.
const NAME_LIMIT: usize = 253;

/// Reason of the condition where new pods of a workload don't come up.
const ROLLOUT_FAILED: &str = "RolloutFailed";

/// What status and event say of it.
const DOES_NOT_GET_ON: &str = "restarted, and its rollout does not get on: look at its new pods";

/// How a target stands, in the words of status and condition.
struct Row {
    state: RolloutState,
    truth: Truth,
    /// Of the condition.
    reason: &'static str,
    message: String,
    /// Why the state is what it is, where that isn't plain.
    why: Option<&'static str>,
    until: Option<Timestamp>,
    restarted_at: Option<Timestamp>,
}

impl Row {
    fn new(
        state: RolloutState,
        truth: Truth,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            state,
            truth,
            reason,
            message: message.into(),
            why: None,
            until: None,
            restarted_at: None,
        }
    }

    /// Where the reason of the condition is that of the row.
    fn because(self) -> Self {
        Self {
            why: Some(self.reason),
            ..self
        }
    }

    fn pending(message: impl Into<String>) -> Self {
        Self::new(RolloutState::Pending, Truth::False, "Pending", message)
    }

    /// Of a restart that waits.
    fn waiting(wait: &Wait) -> Self {
        // When others are through is nothing to rely on.
        let until = match wait.why {
            Why::Debounce | Why::Interval | Why::Window => wait.until,
            _ => None,
        };
        Self {
            why: Some(wait.word()),
            until,
            ..Self::pending(pending(wait))
        }
    }

    /// Of a workload that was restarted with what the Secret holds.
    fn restarted(
        workload: &WorkloadMeta,
        progress: Progress,
        failed: bool,
        now: Timestamp,
    ) -> Self {
        let row = if failed {
            Self::new(
                RolloutState::Failed,
                Truth::False,
                ROLLOUT_FAILED,
                DOES_NOT_GET_ON,
            )
        } else if progress.ours {
            Self::new(RolloutState::Rolling, Truth::True, "Rolling", "rolling")
        } else {
            Self::new(RolloutState::Rolled, Truth::True, "Current", "current")
        };
        let held = match workload.rollout.awaits_hand() {
            true => Some("ByHand"),
            false => workload.paused.then_some("Paused"),
        };
        Self {
            why: held.filter(|_| progress.ours),
            restarted_at: restarted_at(workload, now),
            ..row
        }
    }

    fn status(self, target: &WorkloadKey) -> RolloutTargetStatus {
        let time = |at: Timestamp| Time(whole_seconds(at));
        RolloutTargetStatus {
            kind: target.kind.as_str().to_owned(),
            name: printable(&target.object.name, NAME_LIMIT),
            state: self.state,
            reason: self.why.map(str::to_owned),
            until: self.until.map(time),
            restarted_at: self.restarted_at.map(time),
        }
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// How the targets of a resource stand: for its status, and as a condition.
    pub(super) async fn rollouts(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
    ) -> (Rollouts, Option<Finding>) {
        let (mut all, mut rows) = (Rollouts::default(), Vec::new());
        // Of the worst, and of these of the first that is not plain.
        let mut worst = (RolloutState::Current, false);
        let (mut truth, mut reason) = (Truth::True, "Current");
        let mut tell = |row: &Row, message: String| {
            let this = (row.state.clone(), row.reason != "Current");
            if this > worst {
                (truth, reason) = (row.truth, row.reason);
                worst = this.clone();
            }
            rows.push((this, message));
        };
        for unfound in self.unfound(resource) {
            let row = self.unfound_row(unfound).await;
            tell(&row, row.message.clone());
        }
        let targets = self.view.borrow().targets_of(resource);
        for target in targets {
            let row = self.row(key, resource, &target).await;
            tell(&row, format!("{target} {}", row.message));
            if all.rollout_targets.len() < ROWS {
                all.rollout_targets.push(row.status(&target));
            }
        }
        all.rollout = (!rows.is_empty()).then_some(worst.0);
        // The worst first, since a long message is cut.
        rows.sort_by(|(one, _), (other, _)| other.cmp(one));
        let mut rows: Vec<String> = rows.into_iter().map(|(_, message)| message).collect();
        let own = resource
            .rollout()
            .map(|spec| overrides::read(spec, &self.config.rollout))
            .unwrap_or_default();
        let looks = query_of(resource).is_ok_and(|query| query.is_some());
        if rows.is_empty() && looks {
            rows.push("spec.rollout finds no workload, and nothing is to be restarted".to_owned());
        }
        let mut notes = own.looser;
        if let Some(denial) = denial(&own.denied) {
            notes.insert(0, denial);
            // What stands worse is told in the reason.
            if truth != Truth::False {
                (truth, reason) = (Truth::False, "PolicyDenied");
            }
        }
        rows.splice(0..0, notes);
        let finding = (!rows.is_empty())
            .then(|| Finding::new("RolloutRestart", truth, reason, rows.join("; ")));
        (all, finding)
    }

    /// An event for each target of which status did not say yet that its rollout does not
    /// get on.
    pub(super) async fn warn_of_failed(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        rows: &[RolloutTargetStatus],
    ) {
        let told = resource.told().targets;
        let is_told = |row: &RolloutTargetStatus| {
            let restart = (&row.state, &row.kind, &row.name, &row.restarted_at);
            told.iter()
                .any(|one| (&one.state, &one.kind, &one.name, &one.restarted_at) == restart)
        };
        let failed = rows.iter().filter(|row| row.state == RolloutState::Failed);
        for row in failed.filter(|row| !is_told(row)) {
            let note = Note {
                about: key.clone(),
                uid: uid_of(resource).to_owned(),
                warning: true,
                reason: ROLLOUT_FAILED,
                message: format!("{}/{} {DOES_NOT_GET_ON}", row.kind, row.name),
                action: "Restart",
                at: self.clock.now(),
            };
            self.publish(note).await;
        }
    }

    /// Of workloads that would be targets, were they found.
    async fn unfound_row(&self, unfound: Unfound) -> Row {
        use RolloutState::NotKnown;
        match unfound {
            Unfound::NotListed => Row::new(
                NotKnown,
                Truth::False,
                "TargetsNotListed",
                "spec.rollout finds no workload, since an operator with secretAccess: named may not list them: name them in spec.rolloutRestartTargets, or give it secretAccess: namespace with the Role for it",
            ),
            Unfound::Off => Row::new(
                NotKnown,
                Truth::False,
                "RolloutDisabled",
                format!("spec.rollout finds no workload: {}", self.off("any")),
            ),
            Unfound::Unseen(kind, why) => {
                let why = self.explained(why).await;
                Row::new(
                    NotKnown,
                    Truth::Unknown,
                    "TargetsNotVisible",
                    format!(
                        "spec.rollout finds no {}, since they cannot be watched: {why}",
                        kind.as_str()
                    ),
                )
            }
        }
    }

    async fn row(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        target: &WorkloadKey,
    ) -> Row {
        use RolloutState::{Current, NotKnown};
        match self.target_standing(key, resource, target) {
            TargetStanding::Known(Standing::Current) => self
                .restarted_row(key, resource, target)
                .unwrap_or_else(|| Row::new(Current, Truth::True, "Current", "current")),
            TargetStanding::Known(Standing::Stripped) if self.is_undone(target) => Row::new(NotKnown, Truth::False, "RestartUndone", "restarted, but something took spec.restartAt back before all its pods were replaced: leave that field to the operator, and restart the Rollout").because(),
            TargetStanding::Known(Standing::Stripped) => Row::new(Current, Truth::True, "AnnotationStripped", "current, but something took the operator's annotations off its pod template after the last restart: the next one will be undone like it").because(),
            TargetStanding::Known(Standing::Due) => Row {
                why: Some(DUE),
                ..Row::pending("pending, restart due")
            },
            TargetStanding::Known(Standing::Waiting(wait)) => Row::waiting(&wait),
            TargetStanding::Missing => Row::new(NotKnown, Truth::False, "TargetMissing", "does not exist: create it, or correct spec.rolloutRestartTargets").because(),
            TargetStanding::NotWritten => Row::new(NotKnown, Truth::Unknown, "NotWritten", "runs what it may: the Secret has not been written yet").because(),
            TargetStanding::Off => Row::new(NotKnown, Truth::False, "RolloutDisabled", format!("not restarted: {}", self.off(target.kind.as_str()))).because(),
            TargetStanding::Refused(why) => self.refused_row(target, &why),
            TargetStanding::Unseen(why) => {
                let why = self.explained(why).await;
                Row::new(NotKnown, Truth::Unknown, "TargetsNotVisible", format!("cannot be watched: {why}")).because()
            }
        }
    }

    /// Why the operator restarts none of a kind.
    fn off(&self, kind: &str) -> String {
        let key = match self.config.rollout.enabled {
            true => format!("rollout.kinds does not list {kind}"),
            false => "rollout.enabled is false".to_owned(),
        };
        format!("{key} in the operator's configuration")
    }

    /// Whether somebody took its last restart back.
    fn is_undone(&self, target: &WorkloadKey) -> bool {
        let view = self.view.borrow();
        let found = view.workloads.get(target);
        found.is_some_and(|found| found.rollout.undone)
    }

    /// Of a target whose last patch was refused: that of a restart, or only of a baseline.
    fn refused_row(&self, target: &WorkloadKey, why: &Problem) -> Row {
        let work = WorkKey::Workload(target.clone());
        let memory = self.memory.borrow();
        let is_due = memory.get(&work).is_some_and(|known| known.waits.is_some());
        let state = match is_due {
            true => RolloutState::Pending,
            false => RolloutState::NotKnown,
        };
        let message = format!("pending, its patch was refused: {why}");
        Row::new(state, Truth::False, "RolloutRestartFailed", message).because()
    }

    /// Of a target that was restarted for what the Secret holds now.
    fn restarted_row(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        target: &WorkloadKey,
    ) -> Option<Row> {
        let view = self.view.borrow();
        let wanted = self.wanted_by(&view, key, resource)?;
        let workload = view.workloads.get(target)?;
        if !runs(workload, &wanted) {
            return None;
        }
        let now = self.clock.now();
        let progress = self.progress(target, &view, now)?;
        // A controller that never says that it is stuck makes no event of it.
        if let Some(until) = progress.rolls_until {
            let work = WorkKey::Resource(key.clone());
            self.queue.wake_at(work, until, Urgency::Routine);
        }
        let failed = self.has_failed(target, &view, now);
        Some(Row::restarted(workload, progress, failed, now))
    }
}

/// What `rollout.overrides` keeps a resource from saying.
fn denial(fields: &[RolloutKey]) -> Option<String> {
    let (first, more) = fields.split_first()?;
    let more: String = more.iter().map(|key| format!(", {key}")).collect();
    Some(format!(
        "spec.rollout.{first}{more} without effect, since rollout.overrides of the operator's configuration does not list it: take it out, or ask the platform team to list it"
    ))
}

/// What a restart waits for that is due.
fn pending(wait: &Wait) -> String {
    let key = wait.why.key(wait.said).unwrap_or_default();
    let key = match wait.said {
        Said::Another => format!("{key} of another resource that restarts it"),
        Said::Configuration | Said::Resource => key.to_owned(),
    };
    let until =
        |at: Option<Timestamp>| at.map_or_else(String::new, |at| format!(", not before {at:.0}"));
    let why = match &wait.why {
        Why::Debounce if wait.said == Said::Configuration => {
            return wait
                .until
                .map_or_else(String::new, |at| format!("pending, restart due at {at:.0}"));
        }
        Why::Debounce => format!("further changes are awaited{} ({key})", until(wait.until)),
        Why::Paused => "it is paused: resume it".to_owned(),
        Why::Held if wait.said == Said::Configuration => {
            format!("nothing is restarted until {key} is taken out of the operator's configuration")
        }
        Why::Held => format!("nothing is restarted until {key} is taken away"),
        Why::Failed(other) => {
            format!("{other} does not get on with the same content: look at its new pods ({key})")
        }
        Why::Interval => format!(
            "its last restart was too short ago{} ({key})",
            until(wait.until)
        ),
        Why::Window if wait.until.is_none() => {
            format!(
                "no time for restarts comes within two weeks: correct {key}, of which one must be open together with those of the configuration, and of other resources that restart it"
            )
        }
        Why::Window => format!(
            "outside of the times for restarts{} ({key})",
            until(wait.until)
        ),
        Why::Unavailable => format!("its pods are not all available ({key})"),
        Why::Busy => format!("as many others roll as may at once ({key})"),
        Why::First(other) => {
            format!("{other} is the first with the same content, and has to be through ({key})")
        }
    };
    let latest = wait.latest.map_or_else(String::new, |at| {
        format!("; at {at:.0} at the latest, before its pods lose what they use")
    });
    format!("pending, {why}{latest}")
}
