//! Whose a Secret is, and what follows, as rows.

use super::*;

#[test]
fn what_belongs_to_others_is_refused_with_the_opt_in() {
    let foreign = || {
        case().with_meta(|meta| {
            meta.owners.clear();
            meta.states.clear();
            meta.managers = vec![manager("kubectl", 400, "x")];
        })
    };
    let text = foreign().refused();
    assert!(
        text.contains("\"kubectl\"") && text.contains("overwrite: true"),
        "{text}"
    );
    assert!(matches!(foreign().read("new").step(), Step::Refuse(_)));
    for open in [
        |c: &mut Case| c.me.overwrite = true,
        |c: &mut Case| c.me.create = false,
    ] {
        assert_eq!(foreign().with(open).step(), Step::Fetch(Why::Missing));
        assert_eq!(foreign().with(open).read("new").writes(), (update(), false));
    }
}

#[test]
fn a_secret_of_that_operator_for_this_very_resource_is_adopted_before_it_is_read() {
    let theirs = |meta: &mut SecretMeta| {
        meta.states.clear();
        meta.managers = vec![manager("vault-secrets-operator", 400, "x")];
        (meta.vso_made, meta.vso_owns) = (true, true);
    };
    let found = || case().with_meta(theirs);
    assert_eq!(found().step(), Step::Adopt(Former::Vso));
    assert_eq!(found().read("new").step(), Step::Adopt(Former::Vso));
    let taken = || {
        found().with_meta(|meta| {
            meta.managers = vec![manager("vto-uid-1", 400, "x")];
            meta.vso_owns = false;
        })
    };
    assert_eq!(taken().step(), Step::Fetch(Why::Adopted));
    assert_eq!(taken().read("new").writes(), (update(), false));
    // Its labels alone make it nobody's: the owner reference must be this resource.
    let another = found().with_meta(|meta| meta.owners = vec!["uid-9".into()]);
    assert!(matches!(another.step(), Step::Refuse(_)));
}

#[test]
fn what_that_operator_made_for_another_resource_is_not_overwritten() {
    let another = || {
        case().with_meta(|meta| {
            meta.states.clear();
            meta.managers = vec![manager("vault-secrets-operator", 400, "x")];
            meta.owners = vec!["uid-9".into()];
            (meta.vso_made, meta.vso_owns) = (true, true);
        })
    };
    for overwrite in [false, true] {
        let text = another().with(|c| c.me.overwrite = overwrite).refused();
        let mends = [
            "\"uid-9\"",
            "create: false",
            "destination.name",
            "delete the Secret",
            "remove its ownerReferences",
        ];
        assert!(mends.iter().all(|mend| text.contains(mend)), "{text}");
    }
    let into = another().with(|c| c.me.create = false);
    assert_eq!(into.step(), Step::Fetch(Why::Missing));
    // Nobody's any more, and another one that only has an owner, are as they always were.
    let freed = another().with_meta(|meta| meta.owners.clear());
    let freed = freed.with(|c| c.me.overwrite = true);
    assert_eq!(freed.step(), Step::Fetch(Why::Missing));
    let foreign = another().with_meta(|meta| meta.vso_made = false);
    let foreign = foreign.with(|c| c.me.overwrite = true);
    assert_eq!(foreign.step(), Step::Fetch(Why::Missing));
}

#[test]
fn a_secret_that_was_kept_goes_on_with_a_resource_of_the_same_name() {
    let kept = || {
        let old = |state: &mut State| {
            (state.uid, state.retain, state.generation) = ("uid-0".into(), true, 9);
        };
        case().with_state(old).with_meta(|meta| {
            meta.owners.clear();
            meta.managers = vec![manager("vto-uid-0", 400, FIELDS)];
        })
    };
    assert_eq!(kept().step(), Step::Adopt(Former::Resource("uid-0".into())));
    let taken = || kept().with_meta(|meta| meta.managers = vec![manager("vto-uid-1", 400, FIELDS)]);
    assert_eq!(taken().step(), Step::Fetch(Why::Changed));
    assert_eq!(taken().read("old").writes(), (update(), false));
    assert_eq!(taken().read("new").writes(), (update(), true));
    // One that was not to be kept, or that has an owner, is not.
    let owned = kept().with_meta(|meta| meta.owners = vec!["uid-0".into()]);
    assert!(matches!(owned.step(), Step::Refuse(_)));
    let collected = kept().with_state(|state| state.uid = "uid-0".into());
    assert!(matches!(
        collected.with_meta(|meta| meta.owners.clear()).step(),
        Step::Refuse(_)
    ));
}

#[test]
fn a_state_that_says_another_end_is_written_again() {
    let ends: [fn(&mut Case); 2] = [|c| c.me.share = true, |c| c.me.retain = true];
    for end in ends {
        assert_eq!(case().with(end).step(), Step::Fetch(Why::Changed));
        assert_eq!(case().with(end).read("old").writes(), (update(), false));
    }
}

#[test]
fn one_that_joins_writes_into_the_secret_of_the_others() {
    let shared = || {
        case()
            .with_meta(|meta| {
                meta.owners = vec!["uid-9".into()];
                meta.states.clear();
                meta.managers = vec![manager("vto-uid-9", 400, "x")];
            })
            .with(|c| c.me.share = true)
    };
    assert!(matches!(shared().step(), Step::Refuse(_)));
    let joins = || shared().with(|c| c.me.joins = true);
    assert_eq!(joins().step(), Step::Fetch(Why::Missing));
    assert_eq!(joins().read("new").writes(), (update(), false));
}

#[test]
fn a_forged_state_makes_no_owner() {
    let forged = case().with_meta(|meta| {
        meta.owners.clear();
        meta.managers = vec![manager("kubectl", 400, FIELDS)];
    });
    assert!(matches!(
        forged.step(),
        Step::Refuse(Problem::DestinationNotOwned { .. })
    ));
}

#[test]
fn the_secret_of_a_resource_of_the_same_name_that_is_gone_is_not_ours() {
    let stale = case().with(|c| (c.me.uid, c.me.manager) = ("uid-2".into(), "vto-uid-2".into()));
    assert!(matches!(
        stale.step(),
        Step::Refuse(Problem::DestinationNotOwned { .. })
    ));
}

#[test]
fn who_only_wrote_into_a_secret_does_not_become_its_owner() {
    let written_into = || {
        case().with_meta(|meta| {
            meta.owners.clear();
            meta.managers = vec![
                Manager {
                    owns_type: false,
                    ..manager("vto-uid-1", 500, FIELDS)
                },
                manager("kubectl", 400, "x"),
            ];
        })
    };
    let into = written_into().with(|c| c.me.create = false);
    assert_eq!(into.step(), Step::Wait(None));
    // The spec now says that the resource makes it.
    assert!(written_into().refused().contains("overwrite: true"));
}
