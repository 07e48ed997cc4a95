//! What to do next for a resource: pure, from what is known and the time. No
//! I/O and no clock of its own; asked again after every step. Every promise
//! about writes, drift and crashes is a row of a table test here.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::drift::{Repairs, fight};
use super::due::{until_due, until_end};
use super::grants::{Renewed, Terms, after_rotation};
pub use super::ownership::Former;
use super::ownership::{Standing, standing};
use super::parents::{self, Parent};
use super::ports::Fence;
use super::slots::Slots;
use super::state::State;
use super::time::later;
use super::view::SecretMeta;
use crate::problem::Problem;
use crate::render::{ContentHash, Grant, HashKey, Rendered, ResourceTag, Rotated};

/// The most between two looks at a rotation of Vault's own that is overdue.
const ROTATION_PAUSE: Duration = Duration::from_secs(60);

/// What is known when a decision is due.
#[derive(Debug)]
pub struct Situation<'a> {
    /// Who asks.
    pub me: &'a Me,
    /// The destination as last seen, if there is one.
    pub destination: Option<&'a SecretMeta>,
    /// What the source gave in this reconcile, if it was asked.
    pub rendered: Option<&'a Rendered>,
    /// Hash of the live content under the current key, once a lost key made us
    /// read it ([`Step::Rekey`]).
    pub live: Option<&'a ContentHash>,
    /// Whether status says that this generation is synced and without error.
    pub reported_ready: bool,
    /// Whether status does not speak of this generation yet.
    pub edited: bool,
    /// Whether somebody asked for a read that status does not tell of yet.
    pub resync: bool,
    /// When this process last read the source for the resource.
    pub last_read: Option<Timestamp>,
    /// When this process began to work, or its present term as the leader.
    pub started: Timestamp,
    /// The times of this process's last repairs of the destination.
    pub repairs: &'a Repairs,
    /// Until when an earlier leader certainly worked, if there was one: slots
    /// between then and `started` were missed.
    pub absent_since: Option<Timestamp>,
    /// Slots for reading the source again; `None`: never by itself.
    pub slots: Option<Slots>,
    /// When what Vault made is renewed or replaced; `None` where the source is
    /// only read.
    pub terms: Option<Terms>,
    /// The last renewal that is known of.
    pub renewed: Option<Renewed>,
    /// What the ledger knows of the lease that the state names; `None` while the
    /// ledger is not read.
    pub parent: Option<Parent>,
    /// The lease that another operator left, as status tells.
    pub inherited: Option<Renewed>,
    /// Over what time those are replaced whose token nobody keeps alive.
    pub spread: Duration,
    /// The lease that Vault said it does not know.
    pub lost: Option<&'a str>,
    /// When Vault last said that it knows the lease, beside renewals.
    pub looked: Option<Timestamp>,
    /// The operator's key, to tell which hashes it can compare.
    pub key: &'a HashKey,
    /// Now.
    pub now: Timestamp,
}

/// The resource, as far as decisions need it.
#[derive(Clone, Debug)]
pub struct Me {
    /// Uid.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Stands for kind, namespace and name.
    pub tag: ResourceTag,
    /// Field manager of its writes.
    pub manager: String,
    /// Name of the destination Secret.
    pub secret: String,
    /// `spec.destination.create`.
    pub create: bool,
    /// `spec.destination.overwrite`.
    pub overwrite: bool,
    /// `spec.destination.share`.
    pub share: bool,
    /// Whether the Secret stays when the resource goes; only with `create`.
    pub retain: bool,
    /// Whether its keys go with it, although it did not make the Secret.
    pub clear: bool,
    /// Whether the Secret is already one of others that share it.
    pub joins: bool,
    /// Fingerprint of where the source is, where a deletion there is one here too.
    pub source: Option<String>,
    /// Fingerprint of how the content is made of what Vault made; `None` where the
    /// source is only read.
    pub rendering: Option<String>,
    /// Hash of the request to Vault, where each one makes something new.
    pub request: Option<ContentHash>,
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due. Look again at this time, or when something changes.
    Wait(Option<Timestamp>),
    /// Take over what another wrote for the same resource.
    Adopt(Former),
    /// Read the source.
    Fetch(Why),
    /// Renew the lease.
    Renew(Grant),
    /// See whether the lease is still there.
    Look(Grant),
    /// Write the destination.
    Write(Plan),
    /// The destination carries hashes of a key that is gone: make its live
    /// content the baseline of its workloads before anything is written.
    Rekey(State),
    /// It cannot be done.
    Refuse(Problem),
}

/// Why the source is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The Secret is not there.
    Missing,
    /// Somebody changed what is ours.
    Drift,
    /// The spec changed since the last write.
    Changed,
    /// The Secret was taken over from another operator and not written since.
    Adopted,
    /// The last attempt did not end well, or its end is not known.
    Unsettled,
    /// Somebody asked for it.
    Asked,
    /// A slot passed, or what Vault made comes to its end.
    Due,
    /// Vault does not know the lease any more.
    Lost,
}

/// A write that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it may touch.
    pub fence: Fence,
    /// Whether the content differs from what this resource wrote last: then
    /// targets are restarted, and their baselines come first.
    pub content_changed: bool,
    /// The state before this write.
    pub before: Option<State>,
    /// Whether nothing of the resource was in the Secret before: a state that
    /// somebody stripped leaves that open, and then this is false.
    pub first: bool,
}

/// The next step for a resource.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Step {
    let Situation { me, rendered, .. } = situation;
    let standing = standing(situation);
    match (standing, rendered) {
        (Standing::Leaving, _) => Step::Refuse(Problem::DestinationLeaving {
            name: me.secret.clone(),
        }),
        (Standing::Former(former), _) => Step::Adopt(former),
        (Standing::Foreign(why), _) => Step::Refuse(Problem::DestinationNotOwned {
            name: me.secret.clone(),
            why,
        }),
        (Standing::Missing, _) if !me.create => Step::Refuse(Problem::DestinationMissing {
            name: me.secret.clone(),
        }),
        (Standing::Missing, _) if situation.fights() && !situation.edited && !situation.resync => {
            Step::Refuse(fight(me, None))
        }
        (Standing::Missing, None) => Step::Fetch(Why::Missing),
        (Standing::Missing, Some(_)) => Step::Write(Plan {
            fence: Fence::Create,
            content_changed: false,
            before: None,
            first: true,
        }),
        (Standing::Open(_), None) => Step::Fetch(Why::Missing),
        (Standing::Open(meta), Some(_)) => Step::Write(Plan {
            fence: fence(meta),
            content_changed: false,
            before: None,
            first: true,
        }),
        (Standing::Ours(meta, state), None) => look_again(situation, meta, state.as_deref()),
        (Standing::Ours(meta, state), Some(rendered)) => {
            compare(situation, meta, state.map(|state| *state), rendered)
        }
    }
}

/// Without a fresh read: is one due?
fn look_again(situation: &Situation<'_>, meta: &SecretMeta, state: Option<&State>) -> Step {
    let me = situation.me;
    let Some(state) = state else {
        return match situation.fights() {
            _ if meta.vso_made => match parents::inherited_until(situation) {
                Some(until) if !situation.resync => Step::Wait(Some(until)),
                _ => Step::Fetch(Why::Adopted),
            },
            true => Step::Refuse(fight(me, Some(meta))),
            false => Step::Fetch(Why::Drift),
        };
    };
    let drifted = drifted(me, meta, state);
    if drifted && !situation.fights() {
        return Step::Fetch(Why::Drift);
    }
    if state.generation > me.generation {
        // The view of the resource is older than what wrote the Secret.
        return Step::Wait(None);
    }
    if state.generation < me.generation
        || !is_as_asked(me, state)
        || answers_another(me, state, situation.key)
        || !state.hash.is_of(situation.key)
    {
        return Step::Fetch(Why::Changed);
    }
    if situation.resync {
        return Step::Fetch(Why::Asked);
    }
    // What Vault made is in the Secret; asking again would make another.
    let unsettled = !situation.reported_ready && situation.last_read.is_none();
    if unsettled && !situation.terms.is_some_and(|terms| terms.mints) {
        return Step::Fetch(Why::Unsettled);
    }
    let due = match situation.terms {
        Some(terms) => until_end(situation, terms, state),
        None => until_due(situation),
    };
    match due {
        // New content is written all the same.
        Step::Wait(_) if drifted => Step::Refuse(fight(me, Some(meta))),
        step => step,
    }
}

/// With a fresh read: does the Secret hold it?
fn compare(
    situation: &Situation<'_>,
    meta: &SecretMeta,
    state: Option<State>,
    rendered: &Rendered,
) -> Step {
    let me = situation.me;
    let Some(state) = state else {
        return Step::Write(Plan {
            fence: fence(meta),
            content_changed: false,
            before: None,
            first: false,
        });
    };
    // Newer than the view of the resource; or just written there by somebody.
    if state.generation > me.generation && !drifted(me, meta, &state) {
        return Step::Wait(None);
    }
    if rendered.keys == 0 && state.keys > 0 {
        return Step::Refuse(wiped(me, rendered, state.keys));
    }
    let known = state.hash.is_of(situation.key);
    let held = match situation.live {
        None if !known => return Step::Rekey(state),
        Some(live) if !known => live,
        _ => &state.hash,
    };
    let content_changed = *held != rendered.hash;
    // The same rotation as before: only the time to the next one is another.
    let stands = rotation(state.grant.as_ref()).filter(|was| {
        let is = rotation(rendered.grant.as_ref());
        is == Some(was) && state.raw.is_some() == rendered.raw_hash.is_some()
    });
    let same_answer = state.raw == rendered.raw_hash && state.grant == rendered.grant;
    let same = known
        && !content_changed
        && (same_answer || stands.is_some())
        && state.generation == me.generation
        && is_as_asked(me, &state)
        && !drifted(me, meta, &state);
    let repair = known && !content_changed && state.generation == me.generation;
    if repair && drifted(me, meta, &state) && situation.fights() && !situation.resync {
        return Step::Refuse(fight(me, Some(meta)));
    }
    if same && let (Some(_), Some(was), Some(is)) = (stands, &state.grant, &rendered.grant) {
        // Where Vault cannot rotate, it is asked ever more rarely.
        let overdue = situation.now.duration_since(after_rotation(was));
        let overdue = overdue.max(SignedDuration::ZERO).unsigned_abs();
        let pause = later(situation.now, overdue.min(ROTATION_PAUSE));
        return Step::Wait(Some(after_rotation(is).max(pause)));
    }
    if same {
        return match situation.terms {
            Some(terms) => match until_end(situation, terms, &state) {
                wait @ Step::Wait(_) => wait,
                _ => Step::Wait(Some(situation.now)),
            },
            None => Step::Wait(situation.slots.map(|slots| slots.next(situation.now))),
        };
    }
    Step::Write(Plan {
        fence: fence(meta),
        content_changed,
        before: Some(state),
        first: false,
    })
}

fn rotation(grant: Option<&Grant>) -> Option<&Rotated> {
    grant?.rotated.as_ref()
}

impl Situation<'_> {
    /// Whether what would be repaired now has been repaired too often.
    fn fights(&self) -> bool {
        self.repairs.are_a_fight(self.now)
    }
}

/// Refuses to replace data by nothing.
pub(super) fn wiped(me: &Me, rendered: &Rendered, keys: usize) -> Problem {
    Problem::SourceDeleted {
        path: if rendered.version.is_empty() {
            "the source".to_owned()
        } else {
            format!("version {} of the source", rendered.version)
        },
        why: format!(
            "holds no data that the filters keep; the Secret {} keeps its {keys} keys: write data, or correct includes and excludes",
            me.secret
        ),
        deleted: false,
    }
}

pub(super) fn fence(meta: &SecretMeta) -> Fence {
    Fence::Update {
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
    }
}

/// Whether the state is of this very resource and says what the spec and the
/// configuration say of its end.
fn is_as_asked(me: &Me, state: &State) -> bool {
    state.uid == me.uid
        && state.shares.is_some() == me.share
        && state.retain == me.retain
        && state.clear == me.clear
        && state.source == me.source
        && state.rendering == me.rendering
}

/// Whether what the Secret holds answers another request: also what the resource
/// refers to decides it.
fn answers_another(me: &Me, state: &State, key: &HashKey) -> bool {
    let answered = state
        .grant
        .as_ref()
        .and_then(|grant| grant.request.as_ref());
    let both = me.request.as_ref().zip(answered);
    both.is_some_and(|(asked, answered)| answered.is_of(key) && asked != answered)
}

/// Whether our manager owns other names than the last write said it would.
fn drifted(me: &Me, meta: &SecretMeta, state: &State) -> bool {
    meta.managers
        .iter()
        .find(|manager| manager.name == me.manager)
        .is_none_or(|ours| ours.fields != state.fields)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
