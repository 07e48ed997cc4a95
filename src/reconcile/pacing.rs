//! Restarts among each other: who rolls, who waits for whom, and by when one must
//! have begun.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::engine::Engine;
use super::grants::capped;
use super::ledger::LeaseEntry;
use super::overrides::{self, Asked};
use super::pace::{self, Progress, Said, Scene, Why};
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::report::{Finding, Truth};
use super::restart::{Wanted, runs};
use super::rotation::rotation_of;
use super::sources::{SecretResource, named_targets, uid_of};
use super::state::{RESTARTED_AT, State};
use super::time::{earlier, later, whole_seconds};
use super::view::{Moment, View, WorkloadKey, WorkloadMeta};
use crate::api::RolloutState;
use crate::key::ResourceKey;
use crate::vault::Vault;

/// How long a restart counts whose answer was lost, unless a watch shows it.
pub(super) const DOUBT: Duration = Duration::from_secs(30);

/// The last place in the line of those that wait.
const LAST: usize = 1000;

/// The restarts of this process that nothing in the cluster shows yet, and those
/// that wait for others.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Until when those count that are being written, or of which nobody knows whether
    /// they took effect.
    restarting: RefCell<BTreeMap<WorkloadKey, Timestamp>>,
    /// Those that wait, with their place among the targets of a resource.
    waiting: RefCell<BTreeMap<WorkloadKey, usize>>,
}

impl Turns {
    /// Until when a restart counts of which nobody knows what became of it.
    pub(super) fn counts(&self, target: &WorkloadKey) -> Option<Timestamp> {
        self.restarting.borrow().get(target).copied()
    }

    /// Has a restart count so long, or no longer; whether it counts otherwise than before.
    pub(super) fn count(&self, target: &WorkloadKey, until: Option<Timestamp>) -> bool {
        let mut restarting = self.restarting.borrow_mut();
        let before = match until {
            Some(until) => restarting.insert(target.clone(), until),
            None => restarting.remove(target),
        };
        before != until
    }

    /// Notes what a workload at this place waits for.
    pub(super) fn waits(&self, target: &WorkloadKey, why: Option<&Why>, place: usize) {
        let mut waiting = self.waiting.borrow_mut();
        match why {
            Some(Why::Busy | Why::Failed(_) | Why::First(_)) => {
                waiting.insert(target.clone(), place)
            }
            _ => waiting.remove(target),
        };
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// What a restart of a workload is judged by, on behalf of those that are behind.
    pub(super) fn scene(
        &self,
        view: &View,
        target: &WorkloadKey,
        behind: &[&Wanted],
        now: Timestamp,
    ) -> Scene {
        let progress = |key: &WorkloadKey| self.progress(key, view, now);
        let mut scene = Scene {
            own: progress(target).unwrap_or_default(),
            ..Scene::default()
        };
        let restarting = self.turns.restarting.borrow();
        // Of many that are due, few roll: only these are looked at.
        let rolling = || view.rolling.iter().filter(|key| *key != target);
        if self.config.rollout.max_concurrent > 0 {
            let others: BTreeSet<&WorkloadKey> = rolling().chain(restarting.keys()).collect();
            let is_one = |key: &WorkloadKey| {
                let restarted = view.resources_of_workload(key).next().is_some();
                key != target && restarted && view.workloads.contains_key(key)
            };
            for key in others.into_iter().filter(|key| is_one(key)) {
                let counts = restarting.get(key).filter(|until| **until > now).copied();
                let rolls = progress(key).and_then(|progress| progress.rolls_until);
                if let Some(until) = rolls.or(counts) {
                    scene.rolling += 1;
                    scene.free_at = scene.free_at.into_iter().chain([until]).min();
                }
            }
        }
        for one in behind {
            let Some(resource) = view.writer(&one.resource) else {
                continue;
            };
            let latest = self.latest_restart(&one.resource, &*resource, &one.state);
            scene.latest = scene.latest.into_iter().chain(latest).min();
            let is_target =
                |key: &WorkloadKey| (view.resources_of_workload(key)).any(|by| *by == one.resource);
            let runs = |key: &WorkloadKey| {
                let found = view.workloads.get(key).filter(|found| !found.deleting);
                found.is_some_and(|found| runs(found, one)) && is_target(key)
            };
            let has_failed = |key: &&WorkloadKey| {
                runs(key) && progress(key).is_some_and(|progress| progress.stuck)
            };
            scene.failed = scene.failed.or_else(|| rolling().find(has_failed).cloned());
            if scene.first.is_some() || self.is_proven(one) {
                continue;
            }
            let rolls = rolling().filter(|key| runs(key));
            let rolls = rolls.filter_map(|key| Some((key, progress(key)?.rolls_until?)));
            let begins = restarting.iter().map(|(key, until)| (key, *until));
            let begins =
                begins.filter(|(key, until)| *key != target && *until > now && is_target(key));
            let mut first = rolls.chain(begins);
            scene.first = first.next().map(|(key, until)| (key.clone(), until));
        }
        scene
    }

    /// Whether a workload was restarted with what a resource wants, and is through.
    fn is_proven(&self, one: &Wanted) -> bool {
        let work = WorkKey::Resource(one.resource.clone());
        let memory = self.memory.borrow();
        let proven = memory.get(&work).and_then(|known| known.proven.as_deref());
        proven == Some(one.state.hash.as_str())
    }

    /// How the last rollout of a workload gets on, if it is there.
    pub(super) fn progress(
        &self,
        key: &WorkloadKey,
        view: &View,
        now: Timestamp,
    ) -> Option<Progress> {
        let workload = view.workloads.get(key)?;
        let work = WorkKey::Workload(key.clone());
        let began = self.memory.borrow().get(&work).and_then(|one| one.rolls);
        let told = match began {
            None if workload.rollout.under_way => told_before(key, workload, view, now),
            _ => None,
        };
        Some(pace::progress(workload, began, told.as_ref(), now))
    }

    /// Keeps in mind that another process saw a rollout fail: the status that says so
    /// is written anew once other content is due.
    pub(super) fn recall_failure(&self, key: &WorkloadKey) {
        let view = self.view.borrow();
        let now = self.clock.now();
        let Some(workload) = view.workloads.get(key).filter(|one| one.rollout.under_way) else {
            return;
        };
        let mut memory = self.memory.borrow_mut();
        let memory = memory.entry(WorkKey::Workload(key.clone())).or_default();
        let failed = || told_before(key, workload, &view, now) == Some(RolloutState::Failed);
        if memory.rolls.is_none() && failed() {
            memory.rolls = pace::restarted_at(workload, now);
        }
    }

    /// Whether the rollout that the operator began does not get on. Where a kind's controller
    /// says so itself, one that is slow is none.
    pub(super) fn has_failed(&self, key: &WorkloadKey, view: &View, now: Timestamp) -> bool {
        let Some(progress) = self.progress(key, view, now) else {
            return false;
        };
        let says_so = view
            .workloads
            .get(key)
            .is_some_and(|one| one.rollout.failing);
        progress.ours && progress.stuck && (says_so || !key.kind.tells_failure())
    }

    /// Stores what a request that was sent at `asked` answered about a workload; the
    /// watch may show nothing new then.
    pub(super) fn learn_workload(
        &self,
        target: &WorkloadKey,
        mut meta: WorkloadMeta,
        asked: Moment,
    ) {
        let mut view = self.view.borrow_mut();
        let old = view.workloads.get(target).cloned();
        meta.note_progress(old.as_ref(), self.clock.now());
        let moved = view.put_workload_answer(target, meta, asked);
        let now = view.workloads.get(target).cloned();
        drop(view);
        self.workload_moved(target, old.as_ref(), now.as_ref());
        // Somebody else changed what decides whose target it is.
        for resource in moved {
            self.queue
                .wake(WorkKey::Resource(resource), Urgency::Routine);
            let work = WorkKey::Workload(target.clone());
            self.queue.wake(work, Urgency::Routine);
        }
    }

    /// A workload is another than before, or gone.
    pub(super) fn workload_moved(
        &self,
        target: &WorkloadKey,
        old: Option<&WorkloadMeta>,
        now: Option<&WorkloadMeta>,
    ) {
        self.consumer_moved(target, old, now);
        if let (Some(old), Some(now)) = (old, now) {
            self.note_rollout(target, old, now);
            if old.annotations.get(RESTARTED_AT) != now.annotations.get(RESTARTED_AT) {
                self.turns.count(target, None);
            }
        }
        self.wake_in_line();
    }

    /// Has those looked at again that wait for others, in the order of the spec.
    pub(super) fn wake_in_line(&self) {
        let waiting = self.turns.waiting.borrow();
        let mut waiting: Vec<_> = waiting.iter().collect();
        waiting.sort_by_key(|(_, place)| **place);
        for (target, _) in waiting {
            let key = WorkKey::Workload(target.clone());
            self.queue.wake(key, Urgency::Routine);
        }
    }

    /// Its place among the targets that a resource names, the first if several do; those that are only found come
    /// after them, and last those that lack pods already: they would fail whatever they get.
    pub(super) fn place_in_line(&self, target: &WorkloadKey) -> usize {
        let view = self.view.borrow();
        let now = self.clock.now();
        let is_well = |workload: &WorkloadMeta| {
            let progress = || self.progress(target, &view, now);
            !workload.rollout.under_way || progress().is_some_and(|one| one.rolls_until.is_some())
        };
        if !view.workloads.get(target).is_some_and(is_well) {
            return LAST;
        }
        let place = |key| named_targets(&*view.writer(key)?).position(|one| one == *target);
        let places = view.resources_of_workload(target).filter_map(place);
        places.min().unwrap_or(LAST).min(LAST - 1)
    }

    /// Has the workloads looked at whose time may have become short.
    pub(super) fn wake_targets(&self, key: &ResourceKey) {
        let view = self.view.borrow();
        let Some(resource) = view.writer(key) else {
            return;
        };
        for target in view.targets_of(&*resource) {
            self.queue.wake(WorkKey::Workload(target), Urgency::Routine);
        }
    }

    /// By when a restart for what the Secret holds must have begun, so that no pod
    /// loses what it held before; `None` where that does not end, as far as is known.
    pub(super) fn latest_restart(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        state: &State,
    ) -> Option<Timestamp> {
        let terms = self.terms_of(resource)?;
        let rotation = rotation_of(resource, &self.config.rotation).ok()?;
        if !self.ledger.is_loaded() {
            return None;
        }
        let grant = state.grant.as_ref()?;
        let leased = !grant.lease.is_empty();
        // An edit of what becomes of the data ends nothing.
        let came_with = state.replaces;
        let others = self.ledger.others(key, uid_of(resource), grant);
        let ends = match terms.lead {
            _ if !others.is_empty() => {
                let ends = others
                    .iter()
                    .filter_map(|one| self.end_of_superseded(key, one));
                ends.min()
            }
            Some(lead) if came_with => {
                Some(later(state.changed_at, capped(lead, grant.duration())))
            }
            // Given back, at its end, or of a kind that Vault keeps one of alone.
            None if came_with && (leased || grant.rotated.is_some()) => Some(state.changed_at),
            _ => None,
        };
        let given_back = (leased || resource.revokes()) && came_with;
        let limit = rotation.limit(state.changed_at);
        let ends = ends.into_iter().chain(limit.filter(|_| given_back)).min()?;
        Some(earlier(ends, self.margin(resource, rotation)))
    }

    /// When a lease or a certificate that was replaced ends, where no renewal puts that off.
    fn end_of_superseded(&self, key: &ResourceKey, one: &LeaseEntry) -> Option<Timestamp> {
        let known = self.remembered(key);
        if known.lost.as_ref().is_some_and(|lost| *lost == one.lease) {
            return Some(one.since);
        }
        let by_itself = match one.renewable {
            _ if one.seconds == 0 => None,
            false => Some(later(one.since, one.lasts())),
            true => known
                .kept_alive
                .get(&one.lease)
                .and_then(|kept| kept.last_end()),
        };
        let with_its_token = self.ledger.certain_end(&one.token);
        by_itself.into_iter().chain(with_its_token).min()
    }

    /// Told in advance: no window opens between the next credentials and the end of
    /// the present ones, so that the restart will be outside of all.
    pub(super) fn window_finding(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
    ) -> Option<Finding> {
        let policy = &self.config.rollout;
        let mut asked = Asked::default();
        let now = self.clock.now();
        if let Some(spec) = resource.rollout() {
            asked.add(&Rc::new(overrides::read(spec, policy).stricter), now);
        }
        let terms = self.terms_of(resource)?;
        let rotation = rotation_of(resource, &self.config.rotation).ok()?;
        let restarted = !self.targets(resource).is_empty();
        let windows = !policy.windows.is_empty() || !asked.windows.is_empty();
        if !windows || !restarted {
            return None;
        }
        let grant = self.grant_of(key, resource)?;
        // The end of one that can be renewed is put off; what Vault rotates by itself is told nowhere before.
        if grant.renewable || grant.rotated.is_some() {
            return None;
        }
        let (next, expiry) = self.next_and_expiry(key, resource, terms, &grant);
        let (next, expiry) = next.zip(expiry)?;
        let due = next.max(now);
        let given_back = !grant.lease.is_empty() || resource.revokes();
        let end = |next| {
            let limit = rotation.limit(next).filter(|_| given_back);
            limit.map_or(expiry, |limit| limit.min(expiry))
        };
        let latest = earlier(end(due), self.margin(resource, rotation));
        let opens = |asked: &Asked| pace::opening(policy, asked, due);
        let opening = opens(&asked);
        let in_time = |opening: Option<Timestamp>| {
            opening.is_some_and(|opening| opening == due || opening <= latest)
        };
        if in_time(opening) {
            return None;
        }
        let said = match in_time(opens(&Asked::default())) {
            true => Said::Resource,
            false => Said::Configuration,
        };
        let key = Why::Window.key(said).unwrap_or_default();
        let opens = opening.map_or_else(String::new, |at| {
            format!(", and the next one opens at {at:.0}")
        });
        let message = format!(
            "what it holds ends at {:.0}, its next credentials are due at {next:.0}{opens}: the restart will be outside of {key}; were it kept longer, or replaced earlier, it could be inside",
            // Where that is overdue, no moment that moves.
            end(next)
        );
        Some(Finding::new(
            "Overlap",
            Truth::False,
            "WindowAfterExpiry",
            message,
        ))
    }
}

/// How a workload stood after its last restart, as the status of a resource has it that restarts it: what another
/// process of the operator has seen. Where its controller says itself that it has failed, no status is asked.
fn told_before(
    key: &WorkloadKey,
    workload: &WorkloadMeta,
    view: &View,
    now: Timestamp,
) -> Option<RolloutState> {
    let restarted = whole_seconds(pace::restarted_at(workload, now)?);
    let resources = view.resources_of_workload(key);
    let told = resources.filter_map(|resource| {
        let resource = view.writer(resource)?;
        let mut rows = resource.told().targets.iter();
        let row = rows.find(|row| {
            row.kind == key.kind.as_str()
                && row.name == key.object.name
                && (row.restarted_at.as_ref()).is_some_and(|at| at.0 == restarted)
        });
        row.map(|row| row.state.clone())
    });
    let can_tell = |state: &RolloutState| match state {
        RolloutState::Rolled => true,
        RolloutState::Failed => !key.kind.tells_failure(),
        _ => false,
    };
    // Some may not have been written since it was through.
    told.filter(can_tell)
        .min_by_key(|state| *state != RolloutState::Rolled)
}

#[cfg(test)]
#[path = "pacing_tests.rs"]
mod tests;
