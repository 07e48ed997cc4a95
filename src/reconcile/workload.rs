//! A workload's turn: reads the hashes of all resources that name it and, when
//! a restart or a baseline is due, makes one merge patch.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::engine::{Engine, Memory, Next};
use super::overrides;
use super::ownership::state_of_tag;
use super::pace::{Said, Wait};
use super::pacing::DOUBT;
use super::ports::{Clock, Cluster, Note};
use super::queue::{Urgency, WorkKey};
use super::restart::{self, Standing, Wanted};
use super::sources::{self, SecretResource, destination_of};
use super::time::later;
use super::view::{Store, View, WorkloadKey};
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::render::ResourceTag;
use crate::vault::Vault;

/// What a restart waits for that nothing holds up, where its patch did not come through.
pub(super) const DUE: &str = "Due";

/// How the rollout target of a resource stands, or why that isn't known.
pub(super) enum TargetStanding {
    Known(Standing),
    Missing,
    /// The resource has not written its Secret yet.
    NotWritten,
    Off,
    Unseen(Problem),
    /// A patch of it was refused, so its next restart is in doubt.
    Refused(Problem),
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    pub(super) async fn reconcile_workload(&self, target: &WorkloadKey) -> Next {
        if !self.sees_all_of(target) || !self.restarts(target.kind) {
            return Next::Settled(None);
        }
        self.recall_failure(target);
        let counted = self.turns.counts(target);
        let decided = self.decide_workload(target).await;
        if decided.is_err() {
            // It is tried again after a while; in line it would be woken by its own failure at once.
            self.turns.waits(target, None, 0);
            // Only where a restart is due, it looks; what that waited for before is over.
            self.note_workload(target, |memory| {
                memory.waits = Some(DUE);
                memory.waits_by = None;
            });
        }
        let restarts = matches!(&decided, Ok(Some(one)) if !one.restarts.is_empty());
        if !restarts && self.turns.counts(target).is_some() && self.turns.count(target, counted) {
            self.wake_in_line();
        }
        let decided = match decided {
            Ok(Some(decided)) => decided,
            Ok(None) => {
                self.forget_workload(target);
                return Next::Settled(None);
            }
            Err(problem) => return Next::Failed(problem),
        };
        let wait = decided.waits.as_ref();
        let place = wait.map_or(0, |_| self.place_in_line(target));
        self.turns.waits(target, wait.map(|wait| &wait.why), place);
        let due = (!decided.restarts.is_empty()).then_some(DUE);
        let waits = wait.map(Wait::word).or(due);
        self.note_workload(target, |memory| {
            memory.waits = waits;
            memory.waits_by = wait.cloned().map(Box::new);
        });
        if let Some(patch) = &decided.patch {
            let asked = self.view.borrow().moment();
            let patched = self.cluster.patch_workload(target, patch).await;
            let outcome = patched.map(|meta| self.learn_workload(target, meta, asked));
            if restarts {
                let unknown = match &outcome {
                    Err(Problem::KubernetesUnavailable { .. }) => {
                        Some(later(self.clock.now(), DOUBT))
                    }
                    // What it is in conflict with may be the one before, whose answer was lost.
                    Err(Problem::Conflict { .. }) => counted,
                    _ => None,
                };
                self.turns.count(target, unknown);
                self.wake_in_line();
            }
            if let Err(problem) = outcome {
                return self.not_patched(target, &decided.restarts, problem).await;
            }
        }
        if due.is_some() {
            self.note_workload(target, |memory| {
                memory.waits = None;
                memory.restarts += 1;
            });
        }
        for resource in &decided.restarts {
            self.tell_restart(resource, target, decided.urgent, None)
                .await;
        }
        self.wake_reports(target);
        // What waits for the same moment comes in its order then.
        let after = Duration::from_millis(place as u64);
        Next::Settled(decided.again.map(|again| later(again, after)))
    }

    /// Whether all is seen that a workload's turn needs; whatever is not seen yet
    /// wakes it when it is. A Secret that cannot be seen keeps no other waiting.
    fn sees_all_of(&self, target: &WorkloadKey) -> bool {
        let view = self.view.borrow();
        let stores = &view.stores;
        let further = [Store::Secrets, Store::Workloads(target.kind)];
        let kinds = sources::KINDS.into_iter().map(Store::Resource);
        let whole: Vec<Store> = kinds.chain(further).collect();
        let mut users = view
            .resources_of_workload(target)
            .filter_map(|key| view.writer(key));
        let namespace = &target.object.namespace;
        stores.incomplete(&whole, namespace).is_none()
            && stores.sees(Store::Workloads(target.kind), &target.object)
            && users.all(|user| stores.settled(Store::Secrets, &destination_of(&*user)))
    }

    /// What is to be done for a workload. No restart is decided on an old view of
    /// a Secret: after a restart of the operator, or while a write of one that
    /// ended is still on its way, the workload may run newer content than that.
    async fn decide_workload(
        &self,
        target: &WorkloadKey,
    ) -> Result<Option<restart::Verdict>, Problem> {
        let mut looked = BTreeSet::new();
        loop {
            let (decided, secrets) = {
                let view = self.view.borrow();
                let Some(workload) = view.workloads.get(target).filter(|w| !w.deleting) else {
                    return Ok(None);
                };
                let wanted = self.wanted_of(&view, target);
                let now = self.clock.now();
                let decided = restart::decide(
                    workload,
                    &wanted,
                    &self.key,
                    &self.config.rollout,
                    |behind| self.scene(&view, target, behind, now),
                    now,
                );
                let secrets = decided
                    .restarts
                    .iter()
                    .filter_map(|key| view.writer(key))
                    .map(|resource| destination_of(&*resource))
                    .filter(|secret| !looked.contains(secret))
                    .collect::<Vec<_>>();
                if !decided.restarts.is_empty() {
                    // Before a look takes time, in which others are decided.
                    let ends = later(now, self.config.sync.reconcile_deadline);
                    self.turns.count(target, Some(later(ends, DOUBT)));
                }
                (decided, secrets)
            };
            if secrets.is_empty() {
                return Ok(Some(decided));
            }
            for secret in secrets {
                self.look_at(&secret).await?;
                looked.insert(secret);
            }
        }
    }

    async fn not_patched(
        &self,
        target: &WorkloadKey,
        restarts: &[ResourceKey],
        problem: Problem,
    ) -> Next {
        let known = self.refused(target).map(|known| known.reason());
        if matches!(problem, Problem::Conflict { .. }) || known == Some(problem.reason()) {
            return Next::Failed(problem);
        }
        let problem = self.explained(problem).await;
        for resource in restarts {
            self.tell_restart(resource, target, None, Some(&problem))
                .await;
        }
        self.note_workload(target, |memory| {
            memory.refused = Some(Box::new(problem.clone()));
        });
        self.wake_reports(target);
        Next::Failed(problem)
    }

    /// It is not there any more, or nobody's target.
    pub(super) fn forget_workload(&self, target: &WorkloadKey) {
        self.turns.waits(target, None, 0);
        let key = WorkKey::Workload(target.clone());
        self.memory.borrow_mut().remove(&key);
    }

    fn note_workload(&self, target: &WorkloadKey, note: impl FnOnce(&mut Memory)) {
        let key = WorkKey::Workload(target.clone());
        note(self.memory.borrow_mut().entry(key).or_default());
    }

    /// Why the last patch of a workload was refused, if it was.
    fn refused(&self, target: &WorkloadKey) -> Option<Problem> {
        let key = WorkKey::Workload(target.clone());
        self.memory.borrow().get(&key)?.refused.as_deref().cloned()
    }

    async fn tell_restart(
        &self,
        resource: &ResourceKey,
        target: &WorkloadKey,
        urgent: Option<&'static str>,
        problem: Option<&Problem>,
    ) {
        let uid = {
            let view = self.view.borrow();
            let found = view.writer(resource);
            found.and_then(|found| found.metadata().uid.clone())
        };
        let Some(uid) = uid else { return };
        let (reason, message) = match problem {
            None => (
                "RolloutRestartTriggered",
                match urgent {
                    None => format!("{target} restarts with the new content"),
                    Some(key) => format!(
                        "{target} restarts with the new content, against {key}, since what its pods hold would end before"
                    ),
                },
            ),
            Some(problem) => (
                "RolloutRestartFailed",
                format!("{target} is still to be restarted: {problem}"),
            ),
        };
        let about = resource.clone();
        let note = Note {
            about,
            uid,
            warning: problem.is_some(),
            reason,
            message,
            action: "Restart",
            at: self.clock.now(),
        };
        self.publish(note).await;
    }

    /// The resources whose status speaks of this workload.
    pub fn wake_reports(&self, target: &WorkloadKey) {
        let view = self.view.borrow();
        for resource in view.resources_of_workload(target) {
            self.queue
                .wake(WorkKey::Resource(resource.clone()), Urgency::Routine);
        }
    }

    /// How a target of a resource stands, from the view alone.
    pub(super) fn target_standing(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        target: &WorkloadKey,
    ) -> TargetStanding {
        if !self.restarts(target.kind) {
            return TargetStanding::Off;
        }
        let view = self.view.borrow();
        let store = Store::Workloads(target.kind);
        if let Some(why) = self.refused(target) {
            return TargetStanding::Refused(why);
        }
        if let Some(why) = view.stores.failure(store, &target.object) {
            return TargetStanding::Unseen(why.clone());
        }
        let Some(workload) = view.workloads.get(target) else {
            return TargetStanding::Missing;
        };
        let Some(wanted) = self.wanted_by(&view, key, resource) else {
            return TargetStanding::NotWritten;
        };
        let now = self.clock.now();
        let standing = restart::standing(
            workload,
            &wanted,
            &self.key,
            &self.config.rollout,
            |behind| self.scene(&view, target, behind, now),
            now,
        );
        TargetStanding::Known(match standing {
            Standing::Due => self
                .last_wait(target, None)
                .map_or(Standing::Due, Standing::Waiting),
            Standing::Waiting(own) => {
                Standing::Waiting(self.last_wait(target, Some(&own)).unwrap_or(own))
            }
            other => other,
        })
    }

    /// What a workload waited for on its last turn, as one resource is told that alone would wait for `own`: the
    /// restart is that of all whose content is due, and others may be stricter.
    fn last_wait(&self, target: &WorkloadKey, own: Option<&Wait>) -> Option<Wait> {
        let key = WorkKey::Workload(target.clone());
        let memory = self.memory.borrow();
        let mut wait = Wait::clone(memory.get(&key)?.waits_by.as_deref()?);
        let says_so = own.is_some_and(|own| own.why == wait.why && own.said == Said::Resource);
        if wait.said == Said::Resource && !says_so {
            wait.said = Said::Another;
        }
        Some(wait)
    }

    fn wanted_of(&self, view: &View, target: &WorkloadKey) -> Vec<Wanted> {
        view.resources_of_workload(target)
            .filter_map(|key| self.wanted_by(view, key, &*view.writer(key)?))
            .collect()
    }

    /// What a resource wants its workloads to run; `None` until it wrote its Secret.
    pub(super) fn wanted_by(
        &self,
        view: &View,
        key: &ResourceKey,
        resource: &dyn SecretResource,
    ) -> Option<Wanted> {
        if resource.metadata().deletion_timestamp.is_some() {
            return None;
        }
        let tag = ResourceTag::of(key);
        let uid = resource.metadata().uid.as_deref()?;
        let state = state_of_tag(&tag, uid, view.secrets.get(&destination_of(resource))?)?;
        let supersedes =
            (state.grant.as_ref()).is_some_and(|present| self.ledger.has_others(key, uid, present));
        Some(Wanted {
            resource: key.clone(),
            tag,
            state,
            supersedes,
            rollout: resource
                .rollout()
                .map(|spec| Rc::new(overrides::read(spec, &self.config.rollout).stricter)),
        })
    }
}
