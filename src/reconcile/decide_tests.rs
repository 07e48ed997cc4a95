//! Every promise about reads, writes, drift and lost answers, as a row.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::reconcile::ownership::last_editor;
use crate::reconcile::state::state_annotation;
use crate::reconcile::view::Manager;
use crate::render::{KEY_LENGTH, SecretData};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A case: a healthy, quiet resource, to be changed in one or two places.
struct Case {
    me: Me,
    destination: Option<SecretMeta>,
    rendered: Option<Rendered>,
    live: Option<ContentHash>,
    reported_ready: bool,
    last_read: Option<Timestamp>,
    absent_since: Option<Timestamp>,
    slots: Option<Slots>,
    key: HashKey,
    now: Timestamp,
}

const FIELDS: &str = "fields";

fn case() -> Case {
    let key = HashKey::new(vec![1; KEY_LENGTH]).unwrap();
    let me = Me {
        uid: "uid-1".into(),
        generation: 2,
        tag: ResourceTag::of(&ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", "app"),
        }),
        manager: "vto-uid-1".into(),
        secret: "app".into(),
        create: true,
        overwrite: false,
        share: false,
        retain: false,
        joins: false,
    };
    let mut case = Case {
        destination: None,
        rendered: None,
        live: None,
        reported_ready: true,
        last_read: None,
        absent_since: None,
        slots: None,
        key,
        now: at(1000),
        me,
    };
    case.destination = Some(SecretMeta {
        uid: "s".into(),
        resource_version: "7".into(),
        created: Some(at(500)),
        deleting: false,
        owners: vec!["uid-1".into()],
        states: [(state_annotation(&case.me.tag), case.state().to_annotation())].into(),
        managers: vec![manager("vto-uid-1", 500, FIELDS)],
        vso_made: false,
        vso_owns: false,
    });
    case
}

fn manager(name: &str, second: i64, fields: &str) -> Manager {
    Manager {
        name: name.into(),
        time: Some(at(second)),
        fields: fields.into(),
        owns_type: true,
        owns_data: true,
    }
}

impl Case {
    fn hash(&self, text: &str) -> ContentHash {
        let data: SecretData = [(
            "k".to_owned(),
            crate::key::Redacted::new(text.as_bytes().to_vec()),
        )]
        .into();
        self.key.content(&self.me.tag, &data)
    }

    fn state(&self) -> State {
        State {
            uid: self.me.uid.clone(),
            generation: self.me.generation,
            hash: self.hash("old"),
            raw: None,
            fields: FIELDS.into(),
            keys: 1,
            version: "3".into(),
            changed_at: at(500),
            initial: true,
            unrecorded: false,
            first_write: false,
            of: None,
            shares: None,
            retain: false,
        }
    }

    fn with_state(mut self, change: impl FnOnce(&mut State)) -> Self {
        let mut state = self.state();
        change(&mut state);
        let name = state_annotation(&self.me.tag);
        let states = &mut self.destination.as_mut().unwrap().states;
        states.insert(name, state.to_annotation());
        self
    }

    fn with_meta(mut self, change: impl FnOnce(&mut SecretMeta)) -> Self {
        change(self.destination.as_mut().unwrap());
        self
    }

    fn read(mut self, text: &str) -> Self {
        self.last_read = Some(self.now);
        self.rendered = Some(Rendered {
            data: SecretData::new(),
            hash: self.hash(text),
            raw_hash: None,
            keys: usize::from(!text.is_empty()),
            version: "4".into(),
        });
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn step(&self) -> Step {
        decide(&Situation {
            me: &self.me,
            destination: self.destination.as_ref(),
            rendered: self.rendered.as_ref(),
            live: self.live.as_ref(),
            made: None,
            reported_hash: None,
            reported_ready: self.reported_ready,
            last_read: self.last_read,
            started: at(900),
            absent_since: self.absent_since,
            slots: self.slots,
            key: &self.key,
            now: self.now,
        })
    }

    fn writes(&self) -> (Fence, bool) {
        match self.step() {
            Step::Write(plan) => (plan.fence, plan.content_changed),
            other => panic!("{other:?}"),
        }
    }

    fn refused(&self) -> String {
        match self.step() {
            Step::Refuse(problem) => problem.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn update() -> Fence {
    Fence::Update {
        uid: "s".into(),
        resource_version: "7".into(),
    }
}

#[test]
fn quiet_while_nothing_is_due() {
    assert_eq!(case().step(), Step::Wait(None));
    assert_eq!(case().read("old").step(), Step::Wait(None));
}

#[test]
fn a_restart_reads_only_what_is_not_settled() {
    assert_eq!(
        case().with(|c| c.reported_ready = false).step(),
        Step::Fetch(Why::Unsettled)
    );
    let read_since = |c: &mut Case| {
        c.reported_ready = false;
        c.last_read = Some(at(950));
    };
    assert_eq!(case().with(read_since).step(), Step::Wait(None));
}

#[test]
fn slots_are_the_same_after_a_restart_and_come_once_each() {
    let slots = Slots::new(std::time::Duration::from_secs(100), "uid-1");
    let last = slots.last(at(1000));
    assert_eq!(slots.next(at(1000)).as_second() - last.as_second(), 90);
    assert_eq!(slots.last(slots.next(at(1000))), slots.next(at(1000)));
    let due = |now: Timestamp, last_read: Option<Timestamp>| {
        case()
            .with(|c| (c.slots, c.now, c.last_read) = (Some(slots), now, last_read))
            .step()
    };
    let slot = slots.next(at(900));
    let after = Timestamp::from_millisecond(slot.as_millisecond() + 1).unwrap();
    assert_eq!(due(after, None), Step::Fetch(Why::Due));
    assert_eq!(due(after, Some(after)), Step::Wait(Some(slots.next(after))));
    // A slot before this process started is not made up for.
    assert_eq!(due(at(901), None), Step::Wait(Some(slots.next(at(901)))));
    assert_ne!(
        Slots::new(std::time::Duration::from_secs(100), "uid-2"),
        slots
    );
}

#[test]
fn a_slot_that_passed_between_two_leaders_is_made_up_for_once() {
    let slots = Slots::new(std::time::Duration::from_secs(1000), "uid-1");
    // The process of all cases starts at 900.
    let passed = slots.last(at(900)).as_second();
    let step = |absent_since: i64, now: i64, last_read: Option<i64>| {
        let known = case().with(|c| {
            (c.slots, c.now, c.last_read) = (Some(slots), at(now), last_read.map(at));
            c.absent_since = Some(at(absent_since));
        });
        known.step()
    };
    let due = slots.missed(at(passed - 1), at(900)).unwrap();
    let after = due.as_second() + 1;
    assert_eq!(step(passed - 1, 900, None), Step::Wait(Some(due)));
    assert_eq!(step(passed - 1, after, None), Step::Fetch(Why::Due));
    let quiet = |now: i64| Step::Wait(Some(slots.next(at(now))));
    assert_eq!(step(passed - 1, after, Some(after)), quiet(after), "read");
    assert_eq!(step(passed + 1, after, None), quiet(after), "not missed");
}

#[test]
fn a_missing_secret_is_made_and_only_where_that_is_wanted() {
    let missing = || case().with(|c| c.destination = None);
    assert_eq!(missing().step(), Step::Fetch(Why::Missing));
    assert_eq!(missing().read("new").writes(), (Fence::Create, false));
    let text = missing().with(|c| c.me.create = false).refused();
    assert!(text.contains("create is false"), "{text}");
}

#[test]
fn new_content_is_written_and_marked_as_a_change() {
    assert_eq!(case().read("new").writes(), (update(), true));
}

#[test]
fn same_content_under_a_new_spec_is_written_without_a_change() {
    let edited = || case().with(|c| c.me.generation = 3);
    assert_eq!(edited().step(), Step::Fetch(Why::Changed));
    assert_eq!(edited().read("old").writes(), (update(), false));
}

#[test]
fn raw_alone_is_written_without_a_change() {
    let mut raw = case().read("old");
    let hash = raw.hash("raw");
    raw.rendered.as_mut().unwrap().raw_hash = Some(hash);
    assert_eq!(raw.writes(), (update(), false));
}

#[test]
fn drift_is_seen_in_the_managed_fields_and_repaired_without_a_change() {
    let edits: [fn(&mut SecretMeta); 3] = [
        |meta| {
            meta.managers = vec![
                manager("vto-uid-1", 500, "fewer"),
                manager("kubectl-edit", 600, "k"),
            ]
        },
        |meta| meta.managers = vec![manager("kubectl-replace", 600, FIELDS)],
        |meta| meta.states.clear(),
    ];
    for edit in edits {
        let drifted = || case().with_meta(edit);
        assert_eq!(drifted().step(), Step::Fetch(Why::Drift));
        assert_eq!(drifted().read("old").writes(), (update(), false));
    }
    let meta = case().with_meta(edits[0]).destination.unwrap();
    assert_eq!(last_editor(&case().me, &meta), Some("kubectl-edit"));
}

#[test]
fn keys_labels_and_annotations_of_others_are_none_of_our_business() {
    let shared = case().with_meta(|meta| meta.managers.push(manager("argocd", 700, "other")));
    assert_eq!(shared.step(), Step::Wait(None));
}

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
fn while_it_is_being_deleted_nothing_is_done() {
    let leaving = || case().with_meta(|meta| meta.deleting = true);
    for case in [leaving(), leaving().read("new")] {
        assert!(case.refused().contains("is being deleted"));
    }
}

#[test]
fn nothing_is_wiped() {
    let text = case().read("").refused();
    assert!(
        text.contains("holds no data") && text.contains("keeps its 1 keys"),
        "{text}"
    );
    let empty_before = case().with_state(|state| state.keys = 0).read("");
    assert!(matches!(empty_before.step(), Step::Write(_)));
}

#[test]
fn an_old_view_of_the_resource_waits() {
    let behind = || case().with_state(|state| state.generation = 9);
    assert_eq!(behind().step(), Step::Wait(None));
    assert_eq!(behind().read("new").step(), Step::Wait(None));
}

#[test]
fn a_lost_key_reads_what_is_live_before_it_writes() {
    let lost = || {
        let mut case = case();
        case.key = HashKey::new(vec![2; KEY_LENGTH]).unwrap();
        let other = HashKey::new(vec![1; KEY_LENGTH]).unwrap();
        let hash = other.content(&case.me.tag, &SecretData::new());
        case.with_state(|state| state.hash = hash)
    };
    assert_eq!(lost().step(), Step::Fetch(Why::Changed));
    assert!(matches!(lost().read("old").step(), Step::Rekey(_)));
    let live = |text| lost().read("old").with(|c| c.live = Some(c.hash(text)));
    assert_eq!(live("old").writes(), (update(), false));
    assert_eq!(live("other").writes(), (update(), true));
}

#[test]
fn a_creating_write_whose_answer_was_lost_is_ours_only_if_it_created() {
    let first = |created, others: &[Manager]| {
        let others = others.to_vec();
        case()
            .with_state(|state| state.first_write = true)
            .with_meta(|meta| {
                meta.created = Some(at(created));
                meta.managers.extend(others);
            })
    };
    assert_eq!(first(500, &[]).step(), Step::Wait(None));
    assert_eq!(
        first(499, &[manager("argocd", 501, "x")]).step(),
        Step::Wait(None)
    );
    // It was there long before, or somebody else is as old as our entry: what is
    // ours goes, then the rest is somebody else's.
    let theirs = [manager("kubectl", 400, "x")];
    let out = Step::TakeOut(update());
    assert_eq!(first(400, &theirs).step(), out);
    assert_eq!(first(400, &theirs).read("new").step(), out);
    assert_eq!(first(500, &[manager("kubectl", 500, "x")]).step(), out);
    let taken_out = first(400, &theirs).with_meta(|meta| {
        meta.managers.retain(|manager| manager.name == "kubectl");
        meta.states.clear();
        meta.owners.clear();
    });
    assert!(taken_out.refused().contains("\"kubectl\""));
    // An edit in the very second of the creation gets no share of the type.
    let edit = Manager {
        owns_type: false,
        ..manager("kubectl-edit", 500, "x")
    };
    assert_eq!(first(500, &[edit]).step(), Step::Wait(None));
    let taken = first(400, &theirs).with(|c| c.me.overwrite = true);
    assert_eq!(taken.step(), Step::Wait(None));
}
