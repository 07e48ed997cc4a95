//! What a resource may say of its restarts, what it is kept to, and what becomes of the rest.
#![allow(clippy::panic, clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::key::ObjectKey;
use crate::reconcile::pace::{Gate, Said, Scene, Wait, Why, gate};
use crate::reconcile::state::RESTARTED_AT;
use crate::reconcile::view::{WorkloadKey, WorkloadKind, WorkloadMeta};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn policy() -> Rollout {
    Rollout {
        min_interval: Duration::from_secs(600),
        halt_on_failure: true,
        ..Rollout::default()
    }
}

fn own(spec: Value, policy: &Rollout) -> Own {
    read(&serde_json::from_value(spec).unwrap(), policy)
}

/// What it is kept to, where nothing is wrong with what it says.
fn kept(spec: Value, policy: &Rollout) -> Stricter {
    let read = own(spec, policy);
    let nothing = Own {
        stricter: read.stricter.clone(),
        ..Own::default()
    };
    assert_eq!(read, nothing);
    read.stricter
}

#[test]
fn stricter_is_taken_and_nothing_is_not_a_word() {
    let none = Stricter::default();
    for nothing in [
        json!({}),
        json!({ "windows": [] }),
        json!({ "hold": false }),
    ] {
        assert_eq!(kept(nothing, &policy()), none);
    }
    let all = json!({
        "hold": true, "debounce": "5s", "minInterval": "600s", "onlyWhenAvailable": true,
        "haltOnFailure": true, "windows": ["daily 02:00-03:00"],
    });
    let expected = Stricter {
        hold: true,
        debounce: Some(Duration::from_secs(5)),
        min_interval: Duration::from_secs(600),
        only_when_available: true,
        halt_on_failure: true,
        windows: Some(vec!["daily 02:00-03:00".parse().unwrap()]),
    };
    assert_eq!(kept(all, &policy()), expected);
    // A hold of the platform comes and goes; none of one's own is no answer to it.
    let held = Rollout {
        hold: true,
        ..policy()
    };
    assert_eq!(kept(json!({ "hold": false }), &held), none);
}

#[test]
fn where_the_configuration_is_stricter_it_counts_and_that_is_told() {
    let strict = Rollout {
        only_when_available: true,
        ..policy()
    };
    for (spec, told) in [
        (
            json!({ "debounce": "1s" }),
            "spec.rollout.debounce is 1s, and the configuration's 5s counts",
        ),
        (
            json!({ "minInterval": "599.5s" }),
            "spec.rollout.minInterval is 599.5s, and the configuration's 10m counts",
        ),
        (
            json!({ "onlyWhenAvailable": false }),
            "spec.rollout.onlyWhenAvailable is false, and the configuration's true counts",
        ),
        (
            json!({ "haltOnFailure": false }),
            "spec.rollout.haltOnFailure is false, and the configuration's true counts",
        ),
    ] {
        let expected = Own {
            looser: vec![told.to_owned()],
            ..Own::default()
        };
        assert_eq!(own(spec, &strict), expected);
    }
    let all = json!({ "minInterval": "0s", "haltOnFailure": false, "hold": true });
    let read = own(all, &strict);
    assert!(read.stricter.hold && read.looser.len() == 2, "{read:?}");
}

#[test]
fn what_is_not_listed_has_no_effect_and_is_told() {
    let values = json!({
        "hold": true, "debounce": "1m", "minInterval": "1s", "onlyWhenAvailable": true,
        "haltOnFailure": false, "windows": ["daily 02:00-03:00"],
    });
    for key in RolloutKey::ALL {
        let all = RolloutKey::ALL.iter().copied();
        let but = Rollout {
            overrides: all.filter(|one| one != key).collect(),
            ..policy()
        };
        let spec = json!({ key.as_str(): values[key.as_str()] });
        let expected = Own {
            denied: vec![*key],
            ..Own::default()
        };
        assert_eq!(own(spec, &but), expected);
        let rest = own(values.clone(), &but);
        assert_eq!((rest.denied, rest.wrong), (vec![*key], None));
    }
}

#[test]
fn what_cannot_be_read_is_as_strict_as_it_could_be() {
    let windows = |count: usize| json!({ "windows": vec!["daily 02:00-03:00"; count] });
    let long = json!({ "windows": ["x".repeat(101)] });
    for (spec, told) in [
        (json!({ "debounce": "soon" }), "spec.rollout.debounce: "),
        (
            json!({ "debounce": "61m" }),
            "spec.rollout.debounce: is too long: at most 1h",
        ),
        (
            json!({ "minInterval": "721h" }),
            "spec.rollout.minInterval: is too long: at most 720h",
        ),
        (
            json!({ "windows": ["daily 02:00-03:00", "at night"] }),
            "spec.rollout.windows[1]: ",
        ),
        (windows(21), "spec.rollout.windows: 21 windows: at most 20"),
        (
            long,
            "spec.rollout.windows[0]: is too long: at most 100 characters",
        ),
    ] {
        let refused = |policy: &Rollout| match own(spec.clone(), policy) {
            Own {
                stricter,
                wrong: Some(Problem::InvalidSpec { field, why }),
                ..
            } => (stricter, format!("{field}: {why}")),
            other => panic!("{spec}: {other:?}"),
        };
        let (kept, said) = refused(&policy());
        assert!(said.starts_with(told), "{said}");
        let strictest = match spec.get("windows") {
            Some(_) => kept.windows == Some(Vec::new()),
            None => {
                kept.debounce == Some(LONGEST_DEBOUNCE) || kept.min_interval == LONGEST_INTERVAL
            }
        };
        assert!(strictest, "{spec}: {kept:?}");
        // The configuration decides what counts, and not whether it is refused: else a change of it would end a sync.
        let unlisted = Rollout {
            overrides: Vec::new(),
            ..policy()
        };
        assert_eq!(refused(&unlisted), (Stricter::default(), said.clone()));
        let long = Duration::from_secs(10_000_000);
        let longer = Rollout {
            debounce: long,
            min_interval: long,
            ..policy()
        };
        assert_eq!(refused(&longer).1, said);
    }
    kept(windows(20), &policy());
}

#[test]
fn each_word_holds_a_restart_until_what_would_end() {
    let restarted = WorkloadMeta {
        annotations: [(RESTARTED_AT.to_owned(), at(9_000).to_string())].into(),
        ..WorkloadMeta::default()
    };
    let verdict = |spec: Value, latest: Option<i64>| {
        let mut scene = Scene {
            latest: latest.map(at),
            ..Scene::default()
        };
        let stricter = Rc::new(kept(spec, &policy()));
        scene.asked.add(&stricter, at(9_900));
        gate(&restarted, at(9_900), &policy(), &scene, at(10_000))
    };
    let closed = |why, until: Option<i64>, latest: Option<i64>| {
        let (until, latest) = (until.map(at), latest.map(at));
        Gate::Closed(Wait {
            why,
            said: Said::Resource,
            until,
            latest,
        })
    };
    let (hold, debounce) = (json!({ "hold": true }), json!({ "debounce": "3m" }));
    let (interval, windows) = (
        json!({ "minInterval": "20m" }),
        json!({ "windows": ["daily 03:00-04:00"] }),
    );
    assert_eq!(verdict(json!({}), None), Gate::Open(None));
    for (spec, why, until, overruled) in [
        (&hold, Why::Held, None, None),
        (
            &debounce,
            Why::Debounce,
            Some(10_080),
            Some("spec.rollout.debounce"),
        ),
        (
            &interval,
            Why::Interval,
            Some(10_200),
            Some("spec.rollout.minInterval"),
        ),
        (
            &windows,
            Why::Window,
            Some(10_800),
            Some("spec.rollout.windows"),
        ),
    ] {
        assert_eq!(
            verdict(spec.clone(), None),
            closed(why.clone(), until, None)
        );
        let urgent = match overruled {
            Some(key) => Gate::Open(Some(key)),
            None => closed(why, None, None),
        };
        assert_eq!(verdict(spec.clone(), Some(10_000)), urgent, "{spec}");
    }
}

#[test]
fn windows_that_are_never_open_together_are_told_apart_from_those_to_come() {
    let policy = Rollout {
        windows: vec!["daily 01:00-02:00".parse().unwrap()],
        ..policy()
    };
    let wait = |windows: &str| {
        let mut scene = Scene::default();
        let spec = json!({ "windows": [windows] });
        scene
            .asked
            .add(&Rc::new(own(spec, &policy).stricter), at(9_900));
        match gate(
            &WorkloadMeta::default(),
            at(9_900),
            &policy,
            &scene,
            at(10_000),
        ) {
            Gate::Closed(wait) => (wait.word(), wait.said, wait.until),
            Gate::Open(_) => panic!("{windows} is open"),
        }
    };
    let tomorrow = at(86_400 + 5_400);
    let by_both = ("Window", Said::Configuration, Some(tomorrow));
    assert_eq!(wait("daily 01:30-03:30"), by_both);
    // Those of the configuration alone would open.
    let never = ("NoWindow", Said::Resource, None);
    assert_eq!(wait("daily 02:00-03:00"), never);
    assert_eq!(wait("no window at all"), never);
}

#[test]
fn each_awaits_what_follows_its_own_change() {
    let of = |debounce: u64| {
        Rc::new(Stricter {
            debounce: Some(Duration::from_secs(debounce)),
            ..Stricter::default()
        })
    };
    let mut asked = Asked::default();
    asked.add(&of(100), at(50));
    asked.add(&of(10), at(120));
    assert_eq!(asked.settled, Some(at(150)));
}

fn words() -> impl Strategy<Value = Stricter> {
    let window = prop::option::of((0_i64..24, 1_i64..24));
    let flags = (prop::bool::weighted(0.1), any::<bool>(), any::<bool>());
    (flags, prop::option::of(0_u64..3_000), 0_u64..20_000, window).prop_map(
        |((hold, only_when_available, halt_on_failure), debounce, interval, window)| Stricter {
            hold,
            debounce: debounce.map(Duration::from_secs),
            min_interval: Duration::from_secs(interval),
            only_when_available,
            halt_on_failure,
            windows: window.map(|(from, hours)| {
                let to = (from + hours) % 24;
                vec![format!("daily {from:02}:00-{to:02}:00").parse().unwrap()]
            }),
        },
    )
}

proptest! {
    /// Where all together let it restart, so does the configuration alone, and each with it.
    #[test]
    fn together_they_are_as_strict_as_each(
        all in prop::collection::vec(words(), 0..4),
        night in any::<bool>(),
        last in 0_i64..90_000,
        after in 0_i64..90_000,
    ) {
        let windows = night.then(|| "daily 20:00-08:00".parse().unwrap());
        let policy = Rollout { windows: windows.into_iter().collect(), ..policy() };
        let workload = WorkloadMeta {
            annotations: [(RESTARTED_AT.to_owned(), at(last).to_string())].into(),
            ..WorkloadMeta::default()
        };
        let opens = |words: &[Stricter]| {
            let mut scene = Scene::default();
            for one in words {
                scene.asked.add(&Rc::new(one.clone()), at(last));
            }
            gate(&workload, at(last), &policy, &scene, at(last + after)) == Gate::Open(None)
        };
        let each = all.iter().all(|one| opens(std::slice::from_ref(one)));
        prop_assert_eq!(opens(&all), opens(&[]) && each);
    }
    /// Whatever both say, it restarts only when the configuration alone would have it.
    #[test]
    fn nobody_is_looser_than_the_configuration(
        (debounce, least) in (0_u64..60, 0_u64..3_000),
        (own_debounce, own_least) in (0_u64..60, 0_u64..3_000),
        (available, halts) in (any::<bool>(), any::<bool>()),
        (own_available, own_halts) in (any::<bool>(), any::<bool>()),
        listed in any::<bool>(),
        after in 0_i64..4_000,
        (rolls, failed) in (any::<bool>(), any::<bool>()),
    ) {
        let policy = Rollout {
            debounce: Duration::from_secs(debounce),
            min_interval: Duration::from_secs(least),
            only_when_available: available,
            halt_on_failure: halts,
            overrides: if listed { RolloutKey::ALL.to_vec() } else { Vec::new() },
            ..Rollout::default()
        };
        let mut workload = WorkloadMeta {
            annotations: [(RESTARTED_AT.to_owned(), at(0).to_string())].into(),
            ..WorkloadMeta::default()
        };
        workload.rollout.under_way = rolls;
        let failed = failed.then(|| WorkloadKey {
            kind: WorkloadKind::Deployment,
            object: ObjectKey::new("team", "other"),
        });
        let mut scene = Scene { failed, ..Scene::default() };
        let opens = |scene: &Scene| gate(&workload, at(0), &policy, scene, at(after)) == Gate::Open(None);
        let alone = opens(&scene);
        let read = own(json!({
            "debounce": format!("{own_debounce}s"), "minInterval": format!("{own_least}s"),
            "onlyWhenAvailable": own_available, "haltOnFailure": own_halts,
        }), &policy);
        scene.asked.add(&Rc::new(read.stricter.clone()), at(0));
        prop_assert!(alone || !opens(&scene));
        prop_assert_eq!(read.wrong, None);
        prop_assert!(listed || opens(&scene) == alone);
        let looser = [
            own_debounce < debounce, own_least < least, available && !own_available, halts && !own_halts,
        ];
        let looser = looser.into_iter().filter(|one| *one && listed).count();
        prop_assert_eq!(read.looser.len(), looser);
    }
}
