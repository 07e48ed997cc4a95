//! What a restart waits for, what beats that, and that each change still ends in one restart.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::key::ObjectKey;
use crate::reconcile::view::{Rollout as Rolling, WorkloadKind};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Nothing waits for anything.
fn at_once() -> Rollout {
    Rollout {
        debounce: Duration::ZERO,
        max_concurrent: 0,
        ..Rollout::default()
    }
}

/// Open in the second of each two hours, from the epoch on.
fn every_other_hour() -> Rollout {
    let windows = (0..12).map(|hour| {
        let (from, to) = (2 * hour + 1, 2 * hour + 2);
        format!("daily {from:02}:00-{to:02}:00").parse().unwrap()
    });
    Rollout {
        windows: windows.collect(),
        ..at_once()
    }
}

fn restarted(second: i64) -> WorkloadMeta {
    WorkloadMeta {
        annotations: [(RESTARTED_AT.to_owned(), at(second).to_string())].into(),
        rollout: Rolling {
            deadline: 600,
            ..Rolling::default()
        },
        ..WorkloadMeta::default()
    }
}

fn rolling(mut workload: WorkloadMeta) -> WorkloadMeta {
    workload.rollout.under_way = true;
    workload
}

fn other() -> WorkloadKey {
    WorkloadKey {
        kind: WorkloadKind::Deployment,
        object: ObjectKey::new("team", "other"),
    }
}

fn closed(why: Why, until: impl Into<Option<i64>>) -> Gate {
    Gate::Closed(Wait {
        why,
        said: Said::Configuration,
        until: until.into().map(at),
        latest: None,
    })
}

fn closed_till(why: Why, until: i64, latest: i64) -> Gate {
    Gate::Closed(Wait {
        why,
        said: Said::Configuration,
        until: Some(at(until)),
        latest: Some(at(latest)),
    })
}

/// The verdict at second 10,000 on a change of second 9,990.
fn verdict(workload: &WorkloadMeta, policy: &Rollout, scene: &Scene) -> Gate {
    gate(workload, at(9_990), policy, scene, at(10_000))
}

#[test]
fn each_rule_alone() {
    let (idle, nothing) = (WorkloadMeta::default(), Scene::default());
    assert_eq!(verdict(&idle, &at_once(), &nothing), Gate::Open(None));
    let paused = WorkloadMeta {
        paused: true,
        ..WorkloadMeta::default()
    };
    assert_eq!(
        verdict(&paused, &at_once(), &nothing),
        closed(Why::Paused, None)
    );
    let hold = Rollout {
        hold: true,
        ..at_once()
    };
    assert_eq!(verdict(&idle, &hold, &nothing), closed(Why::Held, None));
    let debounce = Rollout {
        debounce: Duration::from_secs(15),
        ..at_once()
    };
    assert_eq!(
        verdict(&idle, &debounce, &nothing),
        closed(Why::Debounce, 10_005)
    );
    let interval = Rollout {
        min_interval: Duration::from_secs(60),
        ..at_once()
    };
    assert_eq!(
        verdict(&idle, &interval, &nothing),
        Gate::Open(None),
        "never restarted"
    );
    assert_eq!(
        verdict(&restarted(9_950), &interval, &nothing),
        closed(Why::Interval, 10_010)
    );
    assert_eq!(
        verdict(&restarted(9_940), &interval, &nothing),
        Gate::Open(None)
    );
    // 02:46:40: the window opens at 03:00.
    assert_eq!(
        verdict(&idle, &every_other_hour(), &nothing),
        closed(Why::Window, 10_800)
    );
    let available = Rollout {
        only_when_available: true,
        ..at_once()
    };
    assert_eq!(verdict(&idle, &available, &nothing), Gate::Open(None));
    assert_eq!(
        verdict(&rolling(idle.clone()), &available, &nothing),
        closed(Why::Unavailable, None)
    );
    let ours = Scene {
        own: progress(&rolling(restarted(9_500)), None, None, at(10_000)),
        ..Scene::default()
    };
    assert_eq!(
        verdict(&rolling(restarted(9_500)), &available, &ours),
        closed(Why::Unavailable, 10_100),
        "no longer than it is waited for by others"
    );
    let busy = Scene {
        rolling: 2,
        free_at: Some(at(10_100)),
        ..Scene::default()
    };
    let two = Rollout {
        max_concurrent: 2,
        ..at_once()
    };
    assert_eq!(verdict(&idle, &two, &busy), closed(Why::Busy, 10_100));
    let three = Rollout {
        max_concurrent: 3,
        ..at_once()
    };
    assert_eq!(verdict(&idle, &three, &busy), Gate::Open(None));
    let first = Scene {
        first: Some((other(), at(10_100))),
        ..Scene::default()
    };
    assert_eq!(
        verdict(&idle, &at_once(), &first),
        closed(Why::First(other()), 10_100)
    );
    let failed = Scene {
        failed: Some(other()),
        ..Scene::default()
    };
    assert_eq!(
        verdict(&idle, &at_once(), &failed),
        closed(Why::Failed(other()), None)
    );
    let goes_on = Rollout {
        halt_on_failure: false,
        ..at_once()
    };
    assert_eq!(verdict(&idle, &goes_on, &failed), Gate::Open(None));
    assert_eq!(verdict(&idle, &goes_on, &first), Gate::Open(None));
}

#[test]
fn one_that_has_failed_is_mended_by_another_restart() {
    let available = Rollout {
        only_when_available: true,
        ..at_once()
    };
    let verdict = |workload: &WorkloadMeta, began: Option<i64>| {
        let scene = Scene {
            own: progress(workload, began.map(at), None, at(10_000)),
            ..Scene::default()
        };
        super::gate(workload, at(9_990), &available, &scene, at(10_000))
    };
    let mut failing = rolling(WorkloadMeta::default());
    failing.rollout.failing = true;
    assert_eq!(verdict(&failing, None), Gate::Open(None));
    // A StatefulSet never says so.
    let overdue = rolling(restarted(9_390));
    assert_eq!(verdict(&overdue, Some(9_391)), Gate::Open(None));
    // Nor does one that this process found under way.
    let mut found = rolling(restarted(5_000));
    found.rollout.seen = Some(at(9_401));
    assert_eq!(
        verdict(&found, None),
        closed(Why::Unavailable, None),
        "long after the restart a pod is away for another reason"
    );
    found.rollout.leaves_old = true;
    assert_eq!(verdict(&found, None), closed(Why::Unavailable, 10_001));
    found.rollout.seen = Some(at(9_400));
    assert_eq!(verdict(&found, None), Gate::Open(None));
    // It was restarted long ago, and somebody else rolls it now.
    assert_eq!(
        verdict(&overdue, Some(9_900)),
        closed(Why::Unavailable, None)
    );
    // Pods that somebody replaces by hand are not touched.
    let mut by_hand = overdue.clone();
    by_hand.rollout.by_hand = true;
    assert_eq!(verdict(&by_hand, Some(9_391)), Gate::Open(None));
}

#[test]
fn what_another_process_saw_of_a_rollout_is_not_forgotten() {
    use crate::api::RolloutState::{Failed, Rolled, Rolling};
    let ours = rolling(restarted(1_000));
    let seen = |workload: &WorkloadMeta, began: Option<i64>, told, now| {
        let found = progress(workload, began.map(at), Some(told), at(now));
        (found.ours, found.stuck)
    };
    // It stood still for too long: its content is no better for a new process.
    let mut ours = ours;
    ours.rollout.seen = Some(at(8_999));
    assert_eq!(seen(&ours, None, &Failed, 9_000), (true, true));
    assert_eq!(seen(&ours, None, &Rolling, 9_000), (true, false));
    // It was through: this is somebody else's, and no failure of ours.
    assert_eq!(seen(&ours, None, &Rolled, 9_000), (false, false));
    let mut bad = ours.clone();
    bad.rollout.failing = true;
    assert_eq!(seen(&bad, None, &Rolled, 9_000), (false, true));
    // It gets on again, or this process has seen another begin.
    let mut goes_on = ours.clone();
    goes_on.rollout.got_on = Some(at(8_900));
    assert_eq!(seen(&goes_on, None, &Failed, 9_000), (true, false));
    assert_eq!(seen(&ours, Some(8_900), &Failed, 9_000), (false, false));
    assert_eq!(
        seen(&restarted(1_000), None, &Failed, 9_000),
        (false, false)
    );
}

#[test]
fn what_the_operator_began_is_waited_for_until_its_deadline() {
    let seen = |workload: &WorkloadMeta, began: Option<i64>, now| {
        let Progress {
            rolls_until, stuck, ..
        } = progress(workload, began.map(at), None, at(now));
        (rolls_until.map(Timestamp::as_second), stuck)
    };
    let ours = rolling(restarted(1_000));
    // As this process saw it begin, and as one that came later finds it.
    assert_eq!(seen(&ours, Some(1_002), 1_601), (Some(1_602), false));
    assert_eq!(seen(&ours, Some(1_002), 1_602), (None, true));
    assert_eq!(seen(&ours, None, 1_599), (Some(1_600), false));
    // One that came later gives it the whole time again: nobody knows whether it stood still.
    let mut found = ours.clone();
    found.rollout.seen = Some(at(1_400));
    assert_eq!(seen(&found, None, 1_999), (Some(2_000), false));
    assert_eq!(seen(&found, None, 2_000), (None, true));
    found.rollout.got_on = Some(at(1_900));
    assert_eq!(seen(&found, None, 2_499), (Some(2_500), false));
    // The next pod comes once one before it has ended.
    let mut drains = ours.clone();
    drains.rollout.grace = 900;
    assert_eq!(seen(&drains, Some(1_002), 2_501), (Some(2_502), false));
    assert_eq!(seen(&drains, Some(1_002), 2_502), (None, true));
    // Each further pod has a deadline of its own, whoever sees it.
    let mut slow = ours.clone();
    slow.rollout.got_on = Some(at(1_500));
    assert_eq!(seen(&slow, Some(1_002), 2_099), (Some(2_100), false));
    assert_eq!(seen(&slow, Some(1_002), 2_100), (None, true));
    assert_eq!(seen(&slow, None, 2_099), (Some(2_100), false));
    slow.rollout.got_on = Some(at(900));
    assert_eq!(seen(&slow, None, 1_599), (Some(1_600), false), "of before");
    // Begun in the middle of another rollout.
    assert_eq!(seen(&ours, Some(500), 1_599), (Some(1_600), false));
    // Begun by others: long after, or without any of ours.
    assert_eq!(seen(&ours, Some(2_000), 2_001), (None, false));
    assert_eq!(
        seen(&rolling(WorkloadMeta::default()), Some(1_000), 9_000),
        (None, false)
    );
    assert_eq!(
        seen(&restarted(1_000), Some(1_002), 1_003),
        (None, false),
        "done"
    );
    // A time that somebody wrote.
    assert_eq!(
        seen(&rolling(restarted(9_000)), Some(1_000), 1_001),
        (None, false)
    );
    // A deadline that somebody turned off.
    let mut patient = ours.clone();
    patient.rollout.deadline = u32::MAX;
    assert_eq!(seen(&patient, Some(1_000), 1_001), (Some(4_600), false));
    // One that a person holds up has not failed.
    let mut held = ours.clone();
    held.rollout.by_hand = true;
    assert_eq!(seen(&held, Some(1_000), 9_000), (None, false));
    let paused = WorkloadMeta {
        paused: true,
        ..ours
    };
    assert_eq!(seen(&paused, Some(1_000), 9_000), (None, false));
}

#[test]
fn what_would_end_is_not_waited_with() {
    let ends = |latest| Scene {
        latest: Some(at(latest)),
        rolling: 9,
        ..Scene::default()
    };
    let idle = WorkloadMeta::default();
    let window = every_other_hour();
    // The window at 10,800 comes in time.
    assert_eq!(
        verdict(&idle, &window, &ends(10_801)),
        closed_till(Why::Window, 10_800, 10_801)
    );
    // It doesn't, and no other comes before it: there is nothing to wait for.
    assert_eq!(
        verdict(&idle, &window, &ends(10_799)),
        Gate::Open(Some("rollout.windows"))
    );
    // For what follows the window in order there is time.
    let narrow = Rollout {
        max_concurrent: 1,
        ..window.clone()
    };
    let free = Scene {
        free_at: Some(at(10_300)),
        ..ends(10_799)
    };
    assert_eq!(
        verdict(&idle, &narrow, &free),
        closed_till(Why::Busy, 10_300, 10_799)
    );
    let interval = Rollout {
        min_interval: Duration::from_secs(600),
        ..at_once()
    };
    assert_eq!(
        verdict(&restarted(9_900), &interval, &ends(10_400)),
        closed_till(Why::Interval, 10_500, 10_400)
    );
    assert_eq!(
        verdict(&restarted(9_900), &interval, &ends(10_000)),
        Gate::Open(Some("rollout.minInterval"))
    );
    let one = Rollout {
        max_concurrent: 1,
        ..at_once()
    };
    let soon = Scene {
        free_at: Some(at(10_300)),
        ..ends(10_400)
    };
    assert_eq!(
        verdict(&idle, &one, &soon),
        closed_till(Why::Busy, 10_300, 10_400)
    );
    assert_eq!(
        verdict(&idle, &one, &ends(10_000)),
        Gate::Open(Some("rollout.maxConcurrent"))
    );
    // The first may be through too late.
    let first = |latest| Scene {
        latest: Some(at(latest)),
        first: Some((other(), at(10_300))),
        ..Scene::default()
    };
    assert_eq!(
        verdict(&idle, &at_once(), &first(10_200)),
        closed_till(Why::First(other()), 10_300, 10_200)
    );
    assert_eq!(
        verdict(&idle, &at_once(), &first(10_000)),
        Gate::Open(Some("rollout.haltOnFailure"))
    );
    // What a person decided stays, and content that is no good is no better then.
    let hold = Rollout {
        hold: true,
        ..at_once()
    };
    assert_eq!(verdict(&idle, &hold, &ends(0)), closed(Why::Held, None));
    let failed = Scene {
        failed: Some(other()),
        ..ends(0)
    };
    assert_eq!(
        verdict(&idle, &at_once(), &failed),
        closed(Why::Failed(other()), None)
    );
}

fn policies() -> impl Strategy<Value = Rollout> {
    let windows = prop::option::of((0_i64..24, 1_i64..24));
    (0_u64..100, 0_u64..20_000, 0_u16..3, any::<bool>(), windows).prop_map(
        |(debounce, interval, most, available, window)| Rollout {
            debounce: Duration::from_secs(debounce),
            min_interval: Duration::from_secs(interval),
            max_concurrent: most,
            only_when_available: available,
            windows: window
                .map(|(from, hours)| {
                    let to = (from + hours) % 24;
                    format!("daily {from:02}:00-{to:02}:00").parse().unwrap()
                })
                .into_iter()
                .collect(),
            ..Rollout::default()
        },
    )
}

proptest! {
    /// Nobody has to look before the time that is told, and whoever looks then finds it open, or another reason.
    #[test]
    fn what_is_told_is_when_to_look_again(
        policy in policies(),
        changed in 0_i64..100_000,
        last in prop::option::of(0_i64..100_000),
        after in 0_i64..100_000,
        latest in prop::option::of(0_i64..400_000),
        part in 0.0_f64..1.0,
    ) {
        let workload = last.map_or_else(WorkloadMeta::default, restarted);
        let scene = Scene { latest: latest.map(at), ..Scene::default() };
        let mut now = changed.max(last.unwrap_or(0)) + after;
        let mut turns = 0;
        loop {
            match gate(&workload, at(changed), &policy, &scene, at(now)) {
                Gate::Open(urgent) => {
                    let open = window::opening(&policy.windows, at(now)) == Some(at(now));
                    prop_assert!(open || urgent.is_some(), "outside of its windows at {}", now);
                    prop_assert!(urgent.is_none() || latest.is_some());
                    break;
                }
                Gate::Closed(wait) => {
                    let until = wait.again().unwrap().as_second();
                    prop_assert!(until > now, "{:?} is over at {}", wait, now);
                    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
                    let between = now + ((until - now) as f64 * part) as i64;
                    let still = gate(&workload, at(changed), &policy, &scene, at(between));
                    let open = matches!(still, Gate::Open(_));
                    prop_assert!(!open || between == until, "open at {}, told {}", between, until);
                    now = until;
                }
            }
            turns += 1;
            prop_assert!(turns < 10, "never open");
        }
    }
}
