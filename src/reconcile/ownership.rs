//! Whose a Secret is, as its metadata proves it: pure. What annotations say is
//! input; the entries of field managers and owner references decide.

use super::decide::{Me, Situation};
use super::parting::manager_of;
use super::state::{State, state_annotation};
use super::view::SecretMeta;
use crate::render::ResourceTag;

/// Who wrote the Secret for the same resource before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Former {
    /// The Vault Secrets Operator.
    Vso,
    /// A resource of the same name that is gone, by its uid; its Secret was kept.
    Resource(String),
}

/// What the destination is to this resource.
#[derive(Debug)]
pub enum Standing<'a> {
    Missing,
    /// Being deleted: wait until it is gone.
    Leaving,
    /// Of the same resource, but written under another field manager.
    Former(Former),
    /// Ours, with what we know of the last write.
    Ours(&'a SecretMeta, Option<Box<State>>),
    /// May be written although it isn't ours: `create: false`, or `overwrite`.
    Open(&'a SecretMeta),
    Foreign(String),
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

/// The state of a resource of the same name that is gone, whose Secret was kept
/// or is shared with others.
fn kept_state(me: &Me, meta: &SecretMeta) -> Option<State> {
    let text = meta.states.get(&state_annotation(&me.tag))?;
    let state = State::parse(text)?;
    let stays = state.retain && meta.owners.is_empty() || state.shares.is_some() && me.share;
    let kept = state.uid != me.uid && stays;
    // Generations of another resource say nothing about this one's.
    kept.then_some(State {
        generation: 0,
        ..state
    })
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
pub fn standing<'a>(situation: &Situation<'a>) -> Standing<'a> {
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
    let owned = meta.owners.contains(&me.uid);
    if owned && me.create && meta.vso_owns {
        return Standing::Former(Former::Vso);
    }
    let kept = kept_state(me, meta).filter(|_| me.create);
    if let Some(kept) = &kept {
        let theirs = manager_of(&kept.uid);
        if meta.managers.iter().any(|manager| manager.name == theirs) {
            return Standing::Former(Former::Resource(kept.uid.clone()));
        }
    }
    let state = state_of(me, meta).or(kept);
    // Who creates a Secret sends its type, and who only writes into one does not:
    // no annotation and no edit of the spec turns the one into the other.
    let wrote = ours.is_some_and(|ours| !me.create || ours.owns_type);
    if owned || (wrote && (state.is_some() || me.retain || !me.create)) {
        return Standing::Ours(meta, state.map(Box::new));
    }
    if !me.create || me.joins {
        return Standing::Open(meta);
    }
    // The Vault Secrets Operator refuses such a one too, whatever the spec says: it
    // would be two resources', and go with the other one.
    if let Some(owner) = meta.owners.first().filter(|_| meta.vso_made) {
        return Standing::Foreign(made_for_another(owner));
    }
    if me.overwrite {
        return Standing::Open(meta);
    }
    Standing::Foreign(foreign(me, meta))
}

/// What the Vault Secrets Operator made for another resource; the way out is there
/// also where that resource is gone and nobody collects the Secret.
fn made_for_another(owner: &str) -> String {
    format!(
        "the Vault Secrets Operator made it for another resource (uid {:?} in its ownerReferences), and overwrite takes nothing from that one; to write into it as it is set spec.destination.create: false, or choose another spec.destination.name; if that resource is gone or should lose it, delete the Secret, which is made anew, or remove its ownerReferences and set spec.destination.overwrite: true",
        crate::problem::printable(owner, 80)
    )
}

/// Whose the Secret seems to be, and what would let the resource use it.
fn foreign(me: &Me, meta: &SecretMeta) -> String {
    let whose = meta
        .managers
        .iter()
        .map(|manager| manager.name.as_str())
        .find(|name| *name != me.manager)
        .unwrap_or("somebody else");
    format!(
        "it exists and was not made for this resource (field manager {:?}); to take it over set spec.destination.overwrite: true, to write into it as it is set spec.destination.create: false, or choose another spec.destination.name",
        crate::problem::printable(whose, 80)
    )
}
