//! When a workload restarts: pure, from the hashes of all resources that name
//! it, its annotations and the time (product.md, "When a workload restarts").

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::overrides::{Asked, Stricter};
use super::pace::{self, Gate, Scene, Wait, Why};
use super::ports::WorkloadPatch;
use super::state::{RESTARTED_AT, State, baseline_annotation, template_annotation};
use super::time::later;
use super::view::WorkloadMeta;
use crate::config::Rollout;
use crate::key::ResourceKey;
use crate::render::{ContentHash, HashKey, ResourceTag};

/// A workload that came into being this soon after a change of content may have
/// started its pods with the old one.
const CREATION_DOUBT: Duration = Duration::from_secs(5);

/// One that came into being before a change got a baseline before that was
/// written, unless the view did not show it yet. A view gets about this old where
/// the API server could not be reached for minutes before.
const VIEW_DOUBT: Duration = Duration::from_secs(180);

/// Until windows are asked again of which none opens within the time that they are asked for.
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// What one resource wants a workload to run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The resource.
    pub resource: ResourceKey,
    /// Its tag.
    pub tag: ResourceTag,
    /// What its destination holds.
    pub state: State,
    /// Whether what was there before is still alive for those who run it: pods of
    /// before the change have to be restarted, recorded or not.
    pub supersedes: bool,
    /// What it says itself of when they restart.
    pub rollout: Option<Rc<Stricter>>,
}

/// How a target stands, for the status of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its pods run the current content, or are about to start with it.
    Current,
    /// The same, but its pod template lost our annotations after a restart. Who
    /// took them off rolled the pods, and will do so after the next restart too.
    Stripped,
    /// A restart is due and happens.
    Due,
    /// A restart is due and waits.
    Waiting(Wait),
}

/// What to do with a workload.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The patch that is due now, if any.
    pub patch: Option<WorkloadPatch>,
    /// The resources on whose behalf the patch restarts the workload.
    pub restarts: Vec<ResourceKey>,
    /// The key that the restart would have waited for, were there time.
    pub urgent: Option<&'static str>,
    /// What a restart waits for that is due.
    pub waits: Option<Wait>,
    /// When to look again.
    pub again: Option<Timestamp>,
}

/// What stands on a workload about one resource, in the light of what it wants.
enum Row {
    /// Nothing was recorded: the current content becomes the baseline.
    New,
    Current,
    Behind,
}

fn row(workload: &WorkloadMeta, wanted: &Wanted, key: &HashKey) -> Row {
    if !wanted.state.hash.is_of(key) {
        // The Secret itself is still to be written under the new key.
        return Row::Current;
    }
    let recorded = recorded(workload, &wanted.tag);
    // A hash of a key that is gone cannot be compared. Where it was the current
    // content, the baseline was rewritten under the new key; else a restart was
    // pending, and it stays so.
    let mut comparable = recorded.iter().filter(|hash| hash.is_of(key)).peekable();
    if comparable.peek().is_some() {
        if comparable.all(|hash| *hash == wanted.state.hash) {
            Row::Current
        } else {
            Row::Behind
        }
    } else if !recorded.is_empty() || in_doubt(workload, &wanted.state) || missed(workload, wanted)
    {
        Row::Behind
    } else {
        Row::New
    }
}

/// What its pods may have started with: template and baseline are written
/// together, and differ only after an undone rollout, or where the content
/// changed and changed back before a restart ([`baseline_before_change`]).
fn recorded(workload: &WorkloadMeta, tag: &ResourceTag) -> Vec<ContentHash> {
    let template = workload.template.get(&template_annotation(tag));
    let baseline = workload.annotations.get(&baseline_annotation(tag));
    [template, baseline]
        .into_iter()
        .flatten()
        .map(|text| ContentHash::from_annotation(text))
        .collect()
}

/// Created around a change of content that wasn't the first write: the pods may
/// run what was there before.
fn in_doubt(workload: &WorkloadMeta, state: &State) -> bool {
    let Some(created) = workload.created else {
        return false;
    };
    let doubtful = created <= later(state.changed_at, CREATION_DOUBT)
        && state.changed_at <= later(created, VIEW_DOUBT);
    !state.initial && doubtful
}

/// There when the content changed, which could not be recorded on it then; or
/// named only since, where its pods may run what is about to end.
fn missed(workload: &WorkloadMeta, wanted: &Wanted) -> bool {
    let state = &wanted.state;
    (state.unrecorded || wanted.supersedes)
        && workload
            .created
            .is_some_and(|created| created <= state.changed_at)
}

/// Whether something took our annotations off the pod template: a restart wrote
/// at least one there, with its time on the workload itself.
fn is_stripped(workload: &WorkloadMeta) -> bool {
    workload.annotations.contains_key(RESTARTED_AT) && workload.template.is_empty()
}

/// How one resource's target stands; the scene matters where a restart is due.
#[must_use]
pub fn standing(
    workload: &WorkloadMeta,
    wanted: &Wanted,
    key: &HashKey,
    policy: &Rollout,
    scene: impl FnOnce(&[&Wanted]) -> Scene,
    now: Timestamp,
) -> Standing {
    match row(workload, wanted, key) {
        Row::New | Row::Current if is_stripped(workload) => Standing::Stripped,
        Row::New | Row::Current => Standing::Current,
        Row::Behind => match gate(workload, &[wanted], policy, scene, now) {
            Gate::Open(_) => Standing::Due,
            Gate::Closed(wait) => Standing::Waiting(wait),
        },
    }
}

/// Judges a restart on behalf of those whose content changed: the debounce counts
/// from the last of them, and the first that would end decides how long it can wait.
fn gate(
    workload: &WorkloadMeta,
    behind: &[&Wanted],
    policy: &Rollout,
    scene: impl FnOnce(&[&Wanted]) -> Scene,
    now: Timestamp,
) -> Gate {
    let changed = behind.iter().map(|one| one.state.changed_at).max();
    let mut asked = Asked::default();
    for one in behind {
        if let Some(rollout) = &one.rollout {
            asked.add(rollout, one.state.changed_at);
        }
    }
    let scene = Scene {
        asked,
        ..scene(behind)
    };
    pace::gate(workload, changed.unwrap_or(now), policy, &scene, now)
}

/// Decides for a workload, over all resources that name it. Several changes are
/// one restart.
#[must_use]
pub fn decide(
    workload: &WorkloadMeta,
    wanted: &[Wanted],
    key: &HashKey,
    policy: &Rollout,
    scene: impl FnOnce(&[&Wanted]) -> Scene,
    now: Timestamp,
) -> Verdict {
    let mut patch = WorkloadPatch {
        uid: workload.uid.clone(),
        resource_version: workload.resource_version.clone(),
        ..WorkloadPatch::default()
    };
    let mut behind = Vec::new();
    for one in wanted {
        match row(workload, one, key) {
            Row::Current => {}
            Row::New => {
                patch.annotations.insert(
                    baseline_annotation(&one.tag),
                    one.state.hash.as_str().to_owned(),
                );
            }
            Row::Behind => behind.push(one),
        }
    }
    let mut verdict = Verdict::default();
    if !behind.is_empty() {
        match gate(workload, &behind, policy, scene, now) {
            Gate::Closed(wait) => {
                // Windows that never open together may do so once clocks have changed.
                let later = (wait.why == Why::Window).then(|| later(now, A_DAY));
                verdict.again = wait.again().or(later);
                verdict.waits = Some(wait);
            }
            Gate::Open(urgent) => {
                // It ran this content before, and what came between was started by others: hashes alone would change
                // nothing, and so roll nothing.
                if behind.iter().all(|one| runs(workload, one)) {
                    patch
                        .template
                        .insert(RESTARTED_AT.to_owned(), now.to_string());
                }
                for one in &behind {
                    let hash = one.state.hash.as_str().to_owned();
                    patch
                        .annotations
                        .insert(baseline_annotation(&one.tag), hash.clone());
                    patch.template.insert(template_annotation(&one.tag), hash);
                }
                patch
                    .annotations
                    .insert(RESTARTED_AT.to_owned(), now.to_string());
                verdict.restarts = behind.iter().map(|one| one.resource.clone()).collect();
                verdict.urgent = urgent;
            }
        }
    }
    if !patch.annotations.is_empty() {
        verdict.patch = Some(patch);
    }
    verdict
}

/// Whether a workload's pods run, or are about to, what a resource wants.
#[must_use]
pub fn runs(workload: &WorkloadMeta, wanted: &Wanted) -> bool {
    let found = workload.template.get(&template_annotation(&wanted.tag));
    found.is_some_and(|text| text == wanted.state.hash.as_str())
}

/// The patch that records `held`, which the Secret holds until `new` is written:
/// due where nothing is recorded yet, and where `new` is what is recorded. There
/// a restart is pending, pods that started meanwhile run `held`, and without it
/// nothing would show that they have to be restarted.
#[must_use]
pub fn baseline_before_change(
    workload: &WorkloadMeta,
    tag: &ResourceTag,
    held: &ContentHash,
    new: &ContentHash,
) -> Option<WorkloadPatch> {
    let due = recorded(workload, tag).is_empty() || held != new;
    (due && lacks_a_baseline(workload, tag, new))
        .then(|| baseline(workload, baseline_annotation(tag), held))
}

/// Whether the workload's record would not show that `new` is a change.
#[must_use]
pub fn lacks_a_baseline(workload: &WorkloadMeta, tag: &ResourceTag, new: &ContentHash) -> bool {
    recorded(workload, tag).iter().all(|hash| hash == new)
}

/// The patch that replaces a hash of a lost key: only where the workload ran
/// just what the Secret held (`old`) is `new` its baseline; otherwise a restart
/// is pending and stays so. What a key before that one left is out of date.
#[must_use]
pub fn rekeyed_baseline(
    workload: &WorkloadMeta,
    tag: &ResourceTag,
    old: &ContentHash,
    new: &ContentHash,
) -> Option<WorkloadPatch> {
    let ran = recorded(workload, tag);
    let mut ran = ran.iter().filter(|hash| hash.has_key_of(old)).peekable();
    (ran.peek().is_some() && ran.all(|hash| hash == old))
        .then(|| baseline(workload, baseline_annotation(tag), new))
}

fn baseline(workload: &WorkloadMeta, name: String, hash: &ContentHash) -> WorkloadPatch {
    WorkloadPatch {
        uid: workload.uid.clone(),
        resource_version: workload.resource_version.clone(),
        annotations: BTreeMap::from([(name, hash.as_str().to_owned())]),
        template: BTreeMap::new(),
    }
}

#[cfg(test)]
#[path = "restart_tests.rs"]
mod tests;
