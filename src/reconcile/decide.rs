//! What to do next for a resource: pure, from what is known and the time. No
//! I/O and no clock of its own; asked again after every step. Every promise
//! about writes, drift and crashes is a row of a table test here.

use jiff::Timestamp;

use super::ports::Fence;
use super::slots::Slots;
use super::state::{State, state_annotation};
use super::view::SecretMeta;
use crate::problem::Problem;
use crate::render::{ContentHash, HashKey, Rendered, ResourceTag};

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
    /// Uid of the destination whose creating apply this process saw answered, and
    /// the hash that status last reported: either proves that the first write
    /// made the Secret, whoever edited it since.
    pub made: Option<&'a str>,
    /// See `made`.
    pub reported_hash: Option<&'a str>,
    /// Whether status says that this generation is synced and without error.
    pub reported_ready: bool,
    /// When this process last read the source for the resource.
    pub last_read: Option<Timestamp>,
    /// When this process began to work, or its present term as the leader.
    pub started: Timestamp,
    /// Until when an earlier leader certainly worked, if there was one: slots
    /// between then and `started` were missed.
    pub absent_since: Option<Timestamp>,
    /// Slots for reading the source again; `None`: never by itself.
    pub slots: Option<Slots>,
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
}

/// The next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is due. Look again at this time, or when something changes.
    Wait(Option<Timestamp>),
    /// Read the source.
    Fetch(Why),
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
    /// The last attempt did not end well, or its end is not known.
    Unsettled,
    /// A slot passed.
    Due,
}

/// A write that is due.
#[derive(Debug, PartialEq, Eq)]
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

/// What the destination is to this resource.
#[derive(Debug)]
enum Standing<'a> {
    Missing,
    /// Being deleted: wait until it is gone.
    Leaving,
    /// Ours, with what we know of the last write.
    Ours(&'a SecretMeta, Option<State>),
    /// May be written although it isn't ours: `create: false`, or `overwrite`.
    Open(&'a SecretMeta),
    Foreign(String),
}

/// The next step for a resource.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Step {
    let Situation { me, rendered, .. } = situation;
    let standing = standing(situation);
    match (standing, rendered) {
        (Standing::Leaving, _) => Step::Wait(None),
        (Standing::Foreign(why), _) => Step::Refuse(Problem::DestinationNotOwned {
            name: me.secret.clone(),
            why,
        }),
        (Standing::Missing, _) if !me.create => Step::Refuse(Problem::DestinationMissing {
            name: me.secret.clone(),
        }),
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
        (Standing::Ours(meta, state), None) => look_again(situation, meta, state),
        (Standing::Ours(meta, state), Some(rendered)) => compare(situation, meta, state, rendered),
    }
}

/// Without a fresh read: is one due?
fn look_again(situation: &Situation<'_>, meta: &SecretMeta, state: Option<State>) -> Step {
    let me = situation.me;
    let Some(state) = state else {
        return Step::Fetch(Why::Drift);
    };
    if drifted(me, meta, &state) {
        return Step::Fetch(Why::Drift);
    }
    if state.generation > me.generation {
        // The view of the resource is older than what wrote the Secret.
        return Step::Wait(None);
    }
    if state.generation < me.generation || !state.hash.is_of(situation.key) {
        return Step::Fetch(Why::Changed);
    }
    if !situation.reported_ready && situation.last_read.is_none() {
        return Step::Fetch(Why::Unsettled);
    }
    let Some(slots) = situation.slots else {
        return Step::Wait(None);
    };
    let (started, now) = (situation.started, situation.now);
    let read = situation.last_read.filter(|read| *read >= started);
    if slots.last(now) > read.unwrap_or(started) {
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
        return Step::Refuse(Problem::SourceDeleted {
            path: if rendered.version.is_empty() {
                "the source".to_owned()
            } else {
                format!("version {} of the source", rendered.version)
            },
            why: format!(
                "holds no data that the filters keep; the Secret {} keeps its {} keys",
                me.secret, state.keys
            ),
        });
    }
    let known = state.hash.is_of(situation.key);
    let held = match situation.live {
        None if !known => return Step::Rekey(state),
        Some(live) if !known => live,
        _ => &state.hash,
    };
    let content_changed = *held != rendered.hash;
    let same = known
        && !content_changed
        && state.raw == rendered.raw_hash
        && state.generation == me.generation
        && !drifted(me, meta, &state);
    if same {
        return Step::Wait(situation.slots.map(|slots| slots.next(situation.now)));
    }
    Step::Write(Plan {
        fence: fence(meta),
        content_changed,
        before: Some(state),
        first: false,
    })
}

fn fence(meta: &SecretMeta) -> Fence {
    Fence::Update {
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
    }
}

/// Whether our manager owns other names than the last write said it would.
fn drifted(me: &Me, meta: &SecretMeta, state: &State) -> bool {
    meta.managers
        .iter()
        .find(|manager| manager.name == me.manager)
        .is_none_or(|ours| ours.fields != state.fields)
}

/// What this resource last wrote into the Secret, as its annotation says.
#[must_use]
pub fn state_of(me: &Me, meta: &SecretMeta) -> Option<State> {
    state_of_tag(&me.tag, &me.uid, meta)
}

/// The same for a resource of which only tag and uid are known.
#[must_use]
pub fn state_of_tag(tag: &ResourceTag, uid: &str, meta: &SecretMeta) -> Option<State> {
    let text = meta.states.get(&state_annotation(tag))?;
    State::parse(text).filter(|state| state.uid == uid)
}

/// Who, other than us, changed the Secret last: for the event about a repair.
#[must_use]
pub fn last_editor<'a>(me: &Me, meta: &'a SecretMeta) -> Option<&'a str> {
    meta.managers
        .iter()
        .filter(|manager| manager.name != me.manager)
        .max_by_key(|manager| manager.time)
        .map(|manager| manager.name.as_str())
}

/// What the destination is to the resource (product.md, promise 6).
fn standing<'a>(situation: &Situation<'a>) -> Standing<'a> {
    let me = situation.me;
    let Some(meta) = situation.destination else {
        return Standing::Missing;
    };
    if meta.deleting {
        return Standing::Leaving;
    }
    let ours = meta
        .managers
        .iter()
        .find(|manager| manager.name == me.manager);
    let state = state_of(me, meta);
    let owned = meta.owners.contains(&me.uid);
    let first_write_holds = state.as_ref().is_none_or(|state| {
        !state.first_write
            || situation.made == Some(meta.uid.as_str())
            || situation.reported_hash == Some(state.hash.as_str())
            || ours.is_some_and(|ours| made_by(meta, ours))
    });
    if (owned || ours.is_some()) && !first_write_holds && !me.overwrite {
        return Standing::Foreign(
            "it was there before the operator's first write, which merged into it; set spec.destination.overwrite to take it over".to_owned(),
        );
    }
    if owned || (ours.is_some() && (state.is_some() || !me.create)) {
        return Standing::Ours(meta, state);
    }
    if !me.create || me.overwrite {
        return Standing::Open(meta);
    }
    let whose = meta
        .managers
        .iter()
        .map(|manager| manager.name.as_str())
        .find(|name| *name != me.manager)
        .unwrap_or("somebody else");
    Standing::Foreign(format!(
        "it exists and was not made for this resource (field manager {:?}); to take it over set spec.destination.overwrite: true, to write into it as it is set spec.destination.create: false, or choose another spec.destination.name",
        crate::problem::printable(whose, 80)
    ))
}

/// Whether the Secret came into being by our manager's write: nobody else owns
/// its type, which whoever creates a Secret gets; or, where somebody applied the
/// type since, by the times: created no earlier than two seconds before our
/// entry, and nobody else's entry is as old.
pub(super) fn made_by(meta: &SecretMeta, ours: &super::view::Manager) -> bool {
    let others = || meta.managers.iter().filter(|other| other.name != ours.name);
    if ours.owns_type && !others().any(|other| other.owns_type) {
        return true;
    }
    let (Some(created), Some(wrote)) = (meta.created, ours.time) else {
        return false;
    };
    wrote.as_millisecond() - created.as_millisecond() <= 2000
        && others().all(|other| other.time.is_some_and(|time| time > wrote))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
