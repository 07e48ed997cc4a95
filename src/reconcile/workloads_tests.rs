//! What the operator keeps in mind of a rollout that is under way.
#![allow(clippy::unwrap_used)]

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// One that rolls, of this template, with so many pods of it.
fn rolling(pod_template: u64, updated: i64) -> WorkloadMeta {
    WorkloadMeta {
        uid: "u".to_owned(),
        pod_template,
        rollout: Rollout {
            under_way: true,
            updated,
            ..Rollout::default()
        },
        ..WorkloadMeta::default()
    }
}

/// What is known once these were seen, a second each from the first on.
fn seen(all: impl IntoIterator<Item = WorkloadMeta>) -> Rollout {
    let mut known: Option<WorkloadMeta> = None;
    for (second, mut one) in (0..).zip(all) {
        one.note_progress(known.as_ref(), at(second));
        known = Some(one);
    }
    known.unwrap().rollout
}

#[test]
fn it_gets_on_where_further_pods_are_of_the_template() {
    let counts = |counts: &[(u64, i64)]| {
        let all = counts.iter();
        seen(all.map(|(template, updated)| rolling(*template, *updated))).got_on
    };
    assert_eq!(counts(&[(3, 0), (3, 1)]), Some(at(1)));
    assert_eq!(counts(&[(3, 0), (3, 1), (3, 1)]), Some(at(1)));
    assert_eq!(counts(&[(3, 0), (3, 1), (3, 2)]), Some(at(2)));
    // A pod that goes and comes again.
    assert_eq!(counts(&[(3, 3), (3, 2), (3, 3)]), None);
    assert_eq!(counts(&[(3, 3), (3, 2), (3, 3), (3, 4)]), Some(at(3)));
    // Its controller has not seen yet that it was scaled.
    assert_eq!(counts(&[(3, 1), (3, 0), (3, 1)]), None);
    // Of fewer pods fewer are new.
    let less = WorkloadMeta {
        rollout: Rollout {
            pods: -1,
            ..rolling(3, 1).rollout
        },
        ..rolling(3, 1)
    };
    let more = WorkloadMeta {
        rollout: Rollout {
            updated: 2,
            ..less.rollout
        },
        ..less.clone()
    };
    assert_eq!(seen([rolling(3, 4), less, more]).got_on, Some(at(2)));
    // Another template in the middle of it begins anew.
    assert_eq!(counts(&[(3, 4), (4, 0), (4, 1)]), Some(at(2)));
}

#[test]
fn it_gets_on_where_it_no_longer_waits_for_a_person() {
    let by_hand = |has_part| {
        let mut one = rolling(3, 2);
        (one.rollout.by_hand, one.rollout.has_part) = (true, has_part);
        one
    };
    assert_eq!(seen([by_hand(false), by_hand(true)]).got_on, Some(at(1)));
    assert_eq!(seen([by_hand(true), by_hand(false)]).got_on, None);
}

#[test]
fn it_is_known_since_when_it_is_seen_to_be_under_way() {
    let idle = WorkloadMeta {
        uid: "u".to_owned(),
        ..WorkloadMeta::default()
    };
    let another = WorkloadMeta {
        uid: "v".to_owned(),
        ..rolling(1, 0)
    };
    let since = |all: &[&WorkloadMeta]| seen(all.iter().copied().cloned()).seen;
    let rolls = rolling(3, 0);
    assert_eq!(since(&[&rolls]), Some(at(0)));
    assert_eq!(since(&[&rolls, &rolling(3, 1), &rolls]), Some(at(0)));
    assert_eq!(since(&[&idle, &rolls, &rolls]), Some(at(1)));
    assert_eq!(since(&[&rolls, &idle]), None, "it is over");
    assert_eq!(since(&[&rolls, &idle, &rolls]), Some(at(2)));
    assert_eq!(
        since(&[&rolls, &another]),
        Some(at(1)),
        "another of its name"
    );
}
