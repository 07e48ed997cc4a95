//! The table "When a workload restarts", row by row.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::key::{Kind, ObjectKey};
use crate::reconcile::pace::{Said, Why};
use crate::render::{KEY_LENGTH, SecretData};

#[path = "restart_policy_tests.rs"]
mod policy;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key(byte: u8) -> HashKey {
    HashKey::new(vec![byte; KEY_LENGTH]).unwrap()
}

fn resource(name: &str) -> ResourceKey {
    ResourceKey {
        kind: Kind::VaultStaticSecret,
        object: ObjectKey::new("team", name),
    }
}

fn hash_by(key: &HashKey, name: &str, text: &str) -> ContentHash {
    let data: SecretData = [(
        "k".to_owned(),
        crate::key::Redacted::new(text.as_bytes().to_vec()),
    )]
    .into();
    key.content(&ResourceTag::of(&resource(name)), &data)
}

fn hash(text: &str) -> ContentHash {
    hash_by(&key(1), "app", text)
}

/// What `name` wants: `text`, since `changed_at`.
fn wanted(name: &str, text: &str, changed_at: i64) -> Wanted {
    let tag = ResourceTag::of(&resource(name));
    let state = State {
        uid: "u".into(),
        generation: 1,
        hash: hash_by(&key(1), name, text),
        raw: None,
        fields: String::new(),
        keys: 1,
        version: String::new(),
        source: None,
        changed_at: at(changed_at),
        initial: false,
        unrecorded: false,
        replaces: false,
        of: None,
        shares: None,
        retain: false,
        clear: false,
        grant: None,
        rendering: None,
    };
    Wanted {
        resource: resource(name),
        tag,
        state,
        supersedes: false,
        rollout: None,
    }
}

/// The default policy, as far as the table goes: it says nothing of others.
fn policy() -> Rollout {
    Rollout::default()
}

fn alone(_behind: &[&Wanted]) -> Scene {
    Scene::default()
}

/// A workload, created at 0, that runs `template` and has the baseline `base`.
fn workload(template: Option<&ContentHash>, base: Option<&ContentHash>) -> WorkloadMeta {
    let tag = ResourceTag::of(&resource("app"));
    let one = |name: String, hash: Option<&ContentHash>| {
        hash.map(|hash| (name, hash.as_str().to_owned()))
            .into_iter()
            .collect()
    };
    WorkloadMeta {
        uid: "w".into(),
        resource_version: "3".into(),
        created: Some(at(0)),
        annotations: one(baseline_annotation(&tag), base),
        template: one(template_annotation(&tag), template),
        ..WorkloadMeta::default()
    }
}

fn decide_at(now: i64, workload: &WorkloadMeta, wanted: &[Wanted]) -> Verdict {
    decide(workload, wanted, &key(1), &policy(), alone, at(now))
}

fn standing_at(now: i64, workload: &WorkloadMeta, wanted: &Wanted) -> Standing {
    standing(workload, wanted, &key(1), &policy(), alone, at(now))
}

/// How many restarts follow when the patches are applied until nothing is due.
fn restarts(mut workload: WorkloadMeta, wanted: &[Wanted]) -> usize {
    let mut count = 0;
    for now in 1000..1100 {
        let Some(patch) = decide_at(now, &workload, wanted).patch else {
            continue;
        };
        let before = workload.template.clone();
        workload.annotations.extend(patch.annotations);
        workload.template.extend(patch.template);
        // Nothing else makes a rollout.
        count += usize::from(workload.template != before);
    }
    count
}

#[test]
fn a_target_that_is_named_while_the_old_content_still_lives_is_restarted() {
    let supersedes = |supersedes| Wanted {
        supersedes,
        ..wanted("app", "new", 1000)
    };
    // Created long before the change, and named only now.
    let before = workload(None, None);
    let seen = |one: Wanted| standing_at(2000, &before, &one);
    assert_eq!(seen(supersedes(false)), Standing::Current);
    assert!(matches!(seen(supersedes(true)), Standing::Due));
    let after = WorkloadMeta {
        created: Some(at(2000)),
        ..before.clone()
    };
    let one = supersedes(true);
    assert_eq!(standing_at(2000, &after, &one), Standing::Current);
}

#[test]
fn a_target_that_could_not_be_recorded_restarts_once_when_it_can() {
    let mut want = wanted("app", "b", 500);
    want.state.unrecorded = true;
    assert_eq!(restarts(workload(None, None), &[want.clone()]), 1);
    // What came after the change runs it.
    let mut late = workload(None, None);
    late.created = Some(at(510));
    assert_eq!(restarts(late, &[want]), 0);
}

#[test]
fn first_sight_makes_a_baseline_and_no_restart() {
    let verdict = decide_at(1000, &workload(None, None), &[wanted("app", "a", 500)]);
    let patch = verdict.patch.unwrap();
    assert_eq!(patch.annotations.len(), 1);
    assert!(patch.template.is_empty() && verdict.restarts.is_empty());
    assert_eq!(
        (patch.uid.as_str(), patch.resource_version.as_str()),
        ("w", "3")
    );
    assert_eq!(
        restarts(workload(None, None), &[wanted("app", "a", 500)]),
        0
    );
}

#[test]
fn the_same_content_never_restarts() {
    for workload in [
        workload(Some(&hash("a")), None),
        workload(None, Some(&hash("a"))),
    ] {
        assert_eq!(
            decide_at(1000, &workload, &[wanted("app", "a", 500)]),
            Verdict::default()
        );
    }
}

#[test]
fn changed_content_restarts_once_after_the_debounce() {
    let old = workload(None, Some(&hash("a")));
    let new = [wanted("app", "b", 1000)];
    let early = decide_at(1004, &old, &new);
    assert_eq!((early.patch, early.again), (None, Some(at(1005))));
    let patch = decide_at(1005, &old, &new).patch.unwrap();
    assert_eq!((patch.template.len(), patch.annotations.len()), (1, 2));
    assert!(patch.annotations.contains_key(RESTARTED_AT));
    assert_eq!(restarts(old, &new), 1);
}

#[test]
fn windows_that_never_open_are_asked_again() {
    let old = workload(None, Some(&hash("a")));
    let new = [wanted("app", "b", 1000)];
    let apart = |hours: &str| crate::reconcile::overrides::Stricter {
        windows: Some(vec![hours.parse().unwrap()]),
        ..Default::default()
    };
    let mut new = [new[0].clone(), new[0].clone()];
    new[0].rollout = Some(Rc::new(apart("daily 02:00-02:30")));
    new[1].rollout = Some(Rc::new(apart("daily 04:00-04:30 Europe/Berlin")));
    // In winter it is 03:00 there; from spring on both are open.
    let winter = at(1_768_392_000);
    let verdict = decide(&old, &new, &key(1), &policy(), alone, winter);
    assert_eq!(verdict.patch, None);
    assert_eq!(verdict.again, Some(later(winter, A_DAY)));
    let summer = at(1_784_030_400);
    let verdict = decide(&old, &new, &key(1), &policy(), alone, summer);
    assert!(verdict.again > Some(summer) && verdict.again < Some(later(summer, A_DAY)));
}

#[test]
fn five_secrets_of_one_workload_make_one_restart() {
    let names = ["app", "b", "c", "d", "e"];
    let mut workload = workload(None, None);
    for name in names {
        let tag = ResourceTag::of(&resource(name));
        let old = hash_by(&key(1), name, "old").as_str().to_owned();
        workload.annotations.insert(baseline_annotation(&tag), old);
    }
    let mut wanted: Vec<Wanted> = names.iter().map(|name| wanted(name, "new", 1000)).collect();
    for (late, one) in wanted.iter_mut().enumerate() {
        one.state.changed_at = at(1000 + 2 * i64::try_from(late).unwrap());
    }
    let verdict = decide_at(1010, &workload, &wanted);
    assert_eq!((verdict.patch, verdict.again), (None, Some(at(1013))));
    assert_eq!(decide_at(1013, &workload, &wanted).restarts.len(), 5);
    assert_eq!(restarts(workload, &wanted), 1);
}

#[test]
fn a_workload_made_after_the_change_runs_it_already() {
    let mut new = workload(None, None);
    new.created = Some(at(1006));
    assert_eq!(restarts(new.clone(), &[wanted("app", "b", 1000)]), 0);
    // Closer to the change its pods may have started with what was before.
    new.created = Some(at(1004));
    assert_eq!(restarts(new.clone(), &[wanted("app", "b", 1000)]), 1);
    // One that was there before was not seen in time to get a baseline, or is a
    // new target of a resource that has long been there.
    new.created = Some(at(821));
    assert_eq!(restarts(new.clone(), &[wanted("app", "b", 1000)]), 1);
    new.created = Some(at(819));
    assert_eq!(restarts(new.clone(), &[wanted("app", "b", 1000)]), 0);
    new.created = Some(at(1004));
    let mut first = wanted("app", "b", 1000);
    first.state.initial = true;
    assert_eq!(restarts(new, &[first]), 0);
}

#[test]
fn a_stripped_template_is_judged_by_its_baseline() {
    assert_eq!(
        restarts(workload(None, Some(&hash("a"))), &[wanted("app", "a", 500)]),
        0
    );
}

#[test]
fn an_undone_rollout_restarts_at_most_once() {
    let undone = workload(Some(&hash("old")), Some(&hash("b")));
    assert_eq!(restarts(undone, &[wanted("app", "b", 500)]), 1);
}

#[test]
fn a_paused_deployment_is_rolled_once_it_resumes() {
    let mut paused = workload(None, Some(&hash("a")));
    paused.paused = true;
    let new = [wanted("app", "b", 500)];
    assert_eq!(
        decide_at(1000, &paused, &new),
        Verdict {
            waits: Some(Wait {
                why: Why::Paused,
                said: Said::Configuration,
                until: None,
                latest: None,
            }),
            ..Verdict::default()
        }
    );
    assert_eq!(
        standing_at(600, &paused, &new[0]),
        Standing::Waiting(Wait {
            why: Why::Paused,
            said: Said::Configuration,
            until: None,
            latest: None,
        })
    );
    paused.paused = false;
    assert_eq!(restarts(paused, &new), 1);
}

#[test]
fn what_no_window_opens_for_is_asked_again_on_a_later_day() {
    let closed = Stricter {
        windows: Some(Vec::new()),
        ..Stricter::default()
    };
    let new = Wanted {
        rollout: Some(Rc::new(closed)),
        ..wanted("app", "b", 500)
    };
    let verdict = decide_at(1000, &workload(None, Some(&hash("a"))), &[new]);
    assert!(verdict.patch.is_none());
    assert_eq!(verdict.again, Some(at(1000 + 86_400)));
}

#[test]
fn hashes_of_a_lost_key_say_nothing_and_the_baseline_decides() {
    let foreign = hash_by(&key(2), "app", "a");
    let mut lost = workload(Some(&foreign), Some(&foreign));
    let tag = ResourceTag::of(&resource("app"));
    assert_eq!(
        rekeyed_baseline(&lost, &tag, &hash("else"), &hash("a")),
        None
    );
    let patch = rekeyed_baseline(&lost, &tag, &foreign, &hash("a")).unwrap();
    assert!(patch.template.is_empty());
    lost.annotations.extend(patch.annotations);
    assert_eq!(restarts(lost.clone(), &[wanted("app", "a", 500)]), 0);
    assert_eq!(restarts(lost, &[wanted("app", "b", 500)]), 1);
}

#[test]
fn the_baseline_comes_before_the_first_change() {
    let tag = ResourceTag::of(&resource("app"));
    let before = |w: &WorkloadMeta| baseline_before_change(w, &tag, &hash("a"), &hash("b"));
    let patch = before(&workload(None, None)).unwrap();
    assert_eq!(
        patch.annotations[&baseline_annotation(&tag)],
        hash("a").as_str()
    );
    assert_eq!(before(&workload(Some(&hash("a")), None)), None);
    assert_eq!(before(&workload(None, Some(&hash("x")))), None);
}

#[test]
fn content_that_changes_back_before_the_restart_still_restarts_once() {
    let tag = ResourceTag::of(&resource("app"));
    for mut pending in [
        workload(None, Some(&hash("a"))),
        workload(Some(&hash("a")), Some(&hash("a"))),
    ] {
        // Pods that started while the Secret held `b` run that.
        let patch = baseline_before_change(&pending, &tag, &hash("b"), &hash("a")).unwrap();
        assert!(patch.template.is_empty());
        pending.annotations.extend(patch.annotations);
        assert_eq!(
            baseline_before_change(&pending, &tag, &hash("b"), &hash("a")),
            None
        );
        assert_eq!(restarts(pending, &[wanted("app", "a", 500)]), 1);
    }
    // Nothing changes: nothing is recorded.
    let current = workload(None, Some(&hash("a")));
    assert_eq!(
        baseline_before_change(&current, &tag, &hash("a"), &hash("a")),
        None
    );
}

#[test]
fn a_key_that_is_lost_twice_restarts_nothing() {
    let under = |key_of: u8| hash_by(&key(key_of), "app", "a");
    let tag = ResourceTag::of(&resource("app"));
    // The template keeps the hash of the key under which it was restarted.
    let mut lost = workload(Some(&under(3)), Some(&under(3)));
    for (old, new) in [(3, 2), (2, 1)] {
        let patch = rekeyed_baseline(&lost, &tag, &under(old), &under(new)).unwrap();
        lost.annotations.extend(patch.annotations);
    }
    assert_eq!(restarts(lost, &[wanted("app", "a", 500)]), 0);
}

#[test]
fn content_that_changed_back_before_the_key_was_lost_still_restarts_once() {
    let old = |text: &str| hash_by(&key(2), "app", text);
    let pending = workload(Some(&old("a")), Some(&old("b")));
    let tag = ResourceTag::of(&resource("app"));
    assert_eq!(
        rekeyed_baseline(&pending, &tag, &old("a"), &hash("a")),
        None
    );
    assert_eq!(restarts(pending, &[wanted("app", "a", 500)]), 1);
}

#[test]
fn a_restart_that_was_pending_when_the_key_was_lost_stays_pending() {
    let foreign = hash_by(&key(2), "app", "before");
    assert_eq!(
        restarts(workload(None, Some(&foreign)), &[wanted("app", "a", 500)]),
        1
    );
    assert_eq!(
        restarts(workload(Some(&foreign), None), &[wanted("app", "a", 500)]),
        1
    );
}

#[test]
fn standing_tells_what_a_person_asks() {
    let new = wanted("app", "b", 500);
    let of = |w: &WorkloadMeta| standing_at(502, w, &new);
    assert_eq!(of(&workload(Some(&hash("b")), None)), Standing::Current);
    assert_eq!(
        of(&workload(Some(&hash("a")), None)),
        Standing::Waiting(Wait {
            why: Why::Debounce,
            said: Said::Configuration,
            until: Some(at(505)),
            latest: None,
        })
    );
    let mut restarted = workload(Some(&hash("b")), Some(&hash("b")));
    restarted
        .annotations
        .insert(RESTARTED_AT.to_owned(), at(505).to_string());
    assert_eq!(of(&restarted), Standing::Current);
    restarted.template.clear();
    assert_eq!(of(&restarted), Standing::Stripped);
}
