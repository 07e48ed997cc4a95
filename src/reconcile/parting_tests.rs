//! What becomes of a Secret that its writer no longer names, as rows.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::key::Kind;
use crate::reconcile::view::Manager;
use crate::render::ContentHash;

fn tag(name: &str) -> ResourceTag {
    ResourceTag::of(&ResourceKey {
        kind: Kind::VaultStaticSecret,
        object: ObjectKey::new("team", name),
    })
}

fn state(uid: &str) -> String {
    written(uid).to_annotation()
}

fn written(uid: &str) -> State {
    State {
        uid: uid.into(),
        generation: 1,
        hash: ContentHash::from_annotation("id:hash"),
        raw: None,
        fields: "fields".into(),
        keys: 1,
        version: "1".into(),
        source: None,
        changed_at: jiff::Timestamp::UNIX_EPOCH,
        initial: true,
        unrecorded: false,
        replaces: false,
        of: None,
        shares: None,
        retain: false,
        clear: false,
        grant: None,
        rendering: None,
    }
}

fn manager(name: &str) -> Manager {
    Manager {
        name: name.into(),
        time: None,
        fields: "fields".into(),
        owns_type: false,
        owns_data: false,
    }
}

/// A Secret that `app`, of the uid `u`, made.
fn made(change: impl FnOnce(&mut SecretMeta)) -> SecretMeta {
    let mut meta = SecretMeta {
        uid: "s".into(),
        resource_version: "7".into(),
        deleting: false,
        owners: vec!["u".into()],
        states: [(state_annotation(&tag("app")), state("u"))]
            .into_iter()
            .collect(),
        managers: vec![manager("vto-u")],
        vso_made: false,
        vso_owns: false,
    };
    change(&mut meta);
    meta
}

fn parts(change: impl FnOnce(&mut SecretMeta)) -> Parting {
    parting(&made(change), &tag("app"), "u")
}

#[test]
fn what_the_resource_made_for_itself_goes() {
    assert_eq!(parts(|_| {}), Parting::Delete);
    // A label by hand makes nobody an owner.
    assert_eq!(
        parts(|meta| meta.managers.push(manager("kubectl-edit"))),
        Parting::Delete
    );
}

#[test]
fn what_is_somebody_elses_too_only_loses_our_keys() {
    for shared in [
        // `create: false`, or the owner reference was taken away.
        |meta: &mut SecretMeta| meta.owners.clear(),
        |meta: &mut SecretMeta| meta.owners.push("another".into()),
        |meta: &mut SecretMeta| meta.managers.push(manager("vto-another")),
        // Keys of others survive.
        |meta: &mut SecretMeta| {
            meta.managers.push(Manager {
                owns_data: true,
                ..manager("kubectl-edit")
            });
        },
        |meta: &mut SecretMeta| {
            meta.states
                .insert(state_annotation(&tag("other")), state("another"));
        },
    ] {
        assert_eq!(parts(shared), Parting::TakeOut);
    }
}

#[test]
fn an_annotation_or_an_owner_reference_alone_proves_nothing() {
    for forged in [
        |meta: &mut SecretMeta| meta.managers = vec![manager("kubectl")],
        |meta: &mut SecretMeta| meta.managers = vec![manager("vto-another")],
        |meta: &mut SecretMeta| meta.states.clear(),
        |meta: &mut SecretMeta| {
            meta.states
                .insert(state_annotation(&tag("app")), state("another"));
        },
    ] {
        assert_eq!(parts(forged), Parting::Nothing);
    }
}

#[test]
fn what_is_being_deleted_already_is_left_alone() {
    assert_eq!(parts(|meta| meta.deleting = true), Parting::Nothing);
}

/// A Secret of a resource that is gone, whose state says how it is to end.
fn left(end: impl FnOnce(&mut State), change: impl FnOnce(&mut SecretMeta)) -> Parting {
    let mut state = written("u");
    end(&mut state);
    let meta = made(|meta| {
        meta.states
            .insert(state_annotation(&tag("app")), state.to_annotation());
        change(meta);
    });
    parting_of_gone(&meta, &tag("app"), "u")
}

#[test]
fn of_a_resource_that_is_gone_only_what_was_shared_is_taken_out() {
    let shared = |state: &mut State| state.shares = Some(Default::default());
    let beside = |meta: &mut SecretMeta| meta.owners.push("another".into());
    assert_eq!(left(shared, beside), Parting::TakeOut);
    assert_eq!(left(shared, |meta| meta.owners.clear()), Parting::TakeOut);
    // The garbage collector does the rest, and what was never shared stays.
    assert_eq!(left(shared, |_| {}), Parting::Nothing);
    assert_eq!(left(|_| {}, beside), Parting::Nothing);
    assert_eq!(left(|_| {}, |meta| meta.owners.clear()), Parting::Nothing);
}

#[test]
fn what_was_to_be_kept_is_marked_once() {
    let kept = |state: &mut State| state.retain = true;
    let ownerless = |meta: &mut SecretMeta| meta.owners.clear();
    assert_eq!(left(kept, ownerless), Parting::Mark);
    let marked = |meta: &mut SecretMeta| {
        meta.owners.clear();
        meta.states
            .insert(ORPHANED_AT.into(), "2026-01-01T00:00:00Z".into());
    };
    assert_eq!(left(kept, marked), Parting::Nothing);
}

#[test]
fn keys_that_go_with_their_resource_are_taken_out_of_a_secret_that_it_did_not_make() {
    let clears = |state: &mut State| state.clear = true;
    let with = |change: fn(&mut State), owners: &[&str]| {
        let mut state = written("u");
        change(&mut state);
        let meta = made(|meta| {
            meta.owners = owners.iter().map(|&owner| owner.to_owned()).collect();
            let text = state.to_annotation();
            meta.states = [(state_annotation(&tag("app")), text)]
                .into_iter()
                .collect();
        });
        parting_of_gone(&meta, &tag("app"), "u")
    };
    assert_eq!(with(clears, &[]), Parting::TakeOut);
    assert_eq!(with(clears, &["other"]), Parting::TakeOut);
    assert_eq!(with(|_| {}, &[]), Parting::Nothing);
}
