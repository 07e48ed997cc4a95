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
    resync: bool,
    last_read: Option<Timestamp>,
    repairs: Repairs,
    edited: bool,
    absent_since: Option<Timestamp>,
    slots: Option<Slots>,
    terms: Option<Terms>,
    parent: Option<Parent>,
    inherited: Option<Renewed>,
    lost: Option<String>,
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
        clear: false,
        joins: false,
        source: None,
        rendering: None,
        request: None,
    };
    let mut case = Case {
        destination: None,
        rendered: None,
        live: None,
        reported_ready: true,
        resync: false,
        last_read: None,
        repairs: Repairs::default(),
        edited: false,
        absent_since: None,
        slots: None,
        terms: None,
        parent: None,
        inherited: None,
        lost: None,
        key,
        now: at(1000),
        me,
    };
    case.destination = Some(SecretMeta {
        uid: "s".into(),
        resource_version: "7".into(),
        deleting: false,
        owners: vec!["uid-1".into()],
        states: [(state_annotation(&case.me.tag), case.state().to_annotation())]
            .into_iter()
            .collect(),
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
            source: None,
            changed_at: at(500),
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
            grant: None,
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
            reported_ready: self.reported_ready,
            resync: self.resync,
            last_read: self.last_read,
            repairs: &self.repairs,
            edited: self.edited,
            started: at(900),
            absent_since: self.absent_since,
            slots: self.slots,
            terms: self.terms,
            renewed: None,
            parent: self.parent,
            inherited: self.inherited,
            spread: std::time::Duration::from_secs(600),
            lost: self.lost.as_deref(),
            looked: None,
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
fn who_asks_for_a_resync_gets_one_read_and_a_write_only_for_a_change() {
    let asked = || case().with(|c| c.resync = true);
    assert_eq!(asked().step(), Step::Fetch(Why::Asked));
    assert_eq!(asked().read("old").step(), Step::Wait(None));
    assert_eq!(asked().read("new").writes(), (update(), true));
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
    // After the clock was set back, once for all, whatever slots that skipped.
    assert_eq!(due(at(950), Some(at(5000))), Step::Fetch(Why::Due));
    assert_eq!(due(at(700), None), Step::Fetch(Why::Due));
    assert_eq!(
        due(at(700), Some(at(700))),
        Step::Wait(Some(slots.next(at(700))))
    );
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
fn another_place_of_a_source_that_is_followed_is_read_and_recorded() {
    let mut moved = case();
    moved.me.source = Some("here".into());
    assert_eq!(moved.step(), Step::Fetch(Why::Changed));
    assert_eq!(moved.read("old").writes(), (update(), false));
}

#[test]
fn a_fight_is_left_but_new_content_and_new_wishes_are_not() {
    let fighting = |change: fn(&mut SecretMeta)| {
        let mut case = case().with_meta(change);
        (0..5).for_each(|second| case.repairs.note(at(950 + second)));
        case
    };
    let edited = || {
        fighting(|meta| {
            meta.managers = vec![
                manager("vto-uid-1", 500, "fewer"),
                manager("kubectl-edit", 600, "k"),
            ];
        })
    };
    assert!(edited().refused().contains("changed by kubectl-edit again"));
    assert!(edited().read("old").refused().contains("left so"));
    let stripped = fighting(|meta| meta.states.clear());
    assert!(stripped.refused().contains("again after 5 repairs"));
    let mut deleted = fighting(|_| ());
    deleted.destination = None;
    assert!(deleted.refused().contains("deleted again"));
    deleted.edited = true;
    assert_eq!(deleted.step(), Step::Fetch(Why::Missing));
    deleted.edited = false;
    assert!(deleted.read("old").refused().contains("deleted again"));

    assert_eq!(edited().read("new").writes(), (update(), true));
    let mut due = edited();
    due.slots = Some(Slots::new(std::time::Duration::from_secs(10), "uid-1"));
    assert_eq!(due.step(), Step::Fetch(Why::Due));
    let mut asked = edited();
    asked.resync = true;
    assert_eq!(asked.step(), Step::Fetch(Why::Asked));
    asked.resync = true;
    assert_eq!(asked.read("old").writes(), (update(), false));
    let mut edited_spec = edited();
    edited_spec.me.generation += 1;
    assert_eq!(edited_spec.step(), Step::Fetch(Why::Changed));
    assert_eq!(edited_spec.read("old").writes(), (update(), false));
    let mut later = edited();
    later.now = at(954 + 600);
    assert_eq!(later.step(), Step::Fetch(Why::Drift));
    assert_eq!(
        fighting(|_| ()).step(),
        Step::Wait(None),
        "nothing to repair"
    );
}

#[test]
fn keys_labels_and_annotations_of_others_are_none_of_our_business() {
    let shared = case().with_meta(|meta| meta.managers.push(manager("argocd", 700, "other")));
    assert_eq!(shared.step(), Step::Wait(None));
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

#[path = "decide_ownership_tests.rs"]
mod ownership;
#[path = "decide_parents_tests.rs"]
mod parents;
