//! When a resource whose Secret is as it should be needs its source again. Pure.

use super::decide::{Situation, Step, Why};
use super::grants::{Due, Terms};
use super::parents;
use super::state::State;

/// What is due for what Vault made, or when something will be.
pub(super) fn until_end(situation: &Situation<'_>, terms: Terms, state: &State) -> Step {
    let Some(grant) = &state.grant else {
        // Of another operator, or of a time when the kind was read only.
        return Step::Fetch(Why::Due);
    };
    if !grant.lease.is_empty() && situation.lost == Some(&grant.lease) {
        return Step::Fetch(Why::Lost);
    }
    let (step, latest) = parents::hangs(situation, terms, grant);
    if let Some(step) = step {
        return step;
    }
    let step = match terms.due(grant, situation.renewed, situation.started, situation.now) {
        Due::Nothing(until) => {
            let renewed = situation.renewed.map(|renewed| renewed.at);
            let seen = renewed.max(situation.looked);
            match terms.look(grant, seen, situation.started) {
                Some(at) if at <= situation.now => Step::Look(grant.clone()),
                Some(at) => Step::Wait(Some(until.map_or(at, |until| until.min(at)))),
                None => Step::Wait(until),
            }
        }
        Due::Renewal => Step::Renew(grant.clone()),
        Due::Replacement => Step::Fetch(Why::Due),
    };
    match (step, latest) {
        (Step::Wait(until), Some(latest)) => {
            Step::Wait(Some(until.map_or(latest, |until| until.min(latest))))
        }
        (step, _) => step,
    }
}

/// Whether a slot has passed since the last read, or when the next one does.
pub(super) fn until_due(situation: &Situation<'_>) -> Step {
    let Some(slots) = situation.slots else {
        return Step::Wait(None);
    };
    let (started, now, read) = (situation.started, situation.now, situation.last_read);
    let since = read.unwrap_or(started);
    // A clock that was set back would keep all slots waiting until then.
    if slots.last(now) > since || since > now {
        return Step::Fetch(Why::Due);
    }
    let missed = match (read, situation.absent_since) {
        (None, Some(absent_since)) => slots.missed(absent_since, started),
        _ => None,
    };
    match missed {
        Some(at) if at <= now => Step::Fetch(Why::Due),
        Some(at) => Step::Wait(Some(at.min(slots.next(now)))),
        None => Step::Wait(Some(slots.next(now))),
    }
}
