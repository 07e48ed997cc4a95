#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn lease(renewable: bool) -> Grant {
    Grant {
        lease: "db/creds/app/x".to_owned(),
        since: at(1000),
        seconds: 100,
        renewable,
        ..Grant::default()
    }
}

fn terms(percent: u8, share: f64) -> Terms {
    Terms {
        renewal_percent: percent,
        lead: None,
        refresh_after: None,
        share,
        margin: Duration::ZERO,
        mints: true,
        renews: true,
        look_every: None,
    }
}

fn due(terms: Terms, grant: &Grant, renewed: Option<(i64, u64)>, now: i64) -> Due {
    let renewed = renewed.map(|(second, seconds)| Renewed {
        at: at(second),
        duration: Duration::from_secs(seconds),
    });
    terms.due(grant, renewed, at(900), at(now))
}

#[test]
fn a_lease_is_renewed_at_its_percent_and_up_to_ten_points_later() {
    let lease = lease(true);
    let once = Some((1100, 100));
    assert_eq!(
        due(terms(67, 0.0), &lease, once, 1166),
        Due::Nothing(Some(at(1167)))
    );
    assert_eq!(due(terms(67, 0.0), &lease, once, 1167), Due::Renewal);
    assert_eq!(
        due(terms(67, 1.0), &lease, once, 1167),
        Due::Nothing(Some(at(1177)))
    );
    assert_eq!(
        due(terms(90, 1.0), &lease, once, 1100),
        Due::Nothing(Some(at(1190))),
        "never at its very end"
    );
    assert_eq!(due(terms(0, 0.0), &lease, once, 1100), Due::Renewal);
}

#[test]
fn those_that_were_made_together_are_renewed_apart_from_the_first_time_on() {
    let first = |percent, share| due(terms(percent, share), &lease(true), None, 1000);
    assert_eq!(first(60, 0.0), Due::Nothing(Some(at(1021))));
    assert_eq!(first(60, 1.0), Due::Nothing(Some(at(1070))));
    assert_eq!(first(90, 0.0), Due::Nothing(Some(at(1027))));
    assert_eq!(first(90, 1.0), Due::Nothing(Some(at(1090))));
    // What is replaced instead is so no earlier than it must be.
    let replaced = due(terms(60, 0.0), &lease(false), None, 1000);
    assert_eq!(replaced, Due::Nothing(Some(at(1060))));
}

#[test]
fn the_last_renewal_counts_as_far_as_it_is_believable() {
    let lease = lease(true);
    let half = terms(50, 0.0);
    assert_eq!(
        due(half, &lease, Some((1050, 100)), 1060),
        Due::Nothing(Some(at(1100)))
    );
    for forged in [(1_000_000, 100), (900, 100), (1050, 1_000_000)] {
        assert_eq!(due(half, &lease, Some(forged), 1060), Due::Renewal);
    }
}

#[test]
fn the_next_one_and_the_end_are_the_same_whenever_they_are_asked_for() {
    let (lease, half) = (lease(true), terms(50, 0.0));
    let first = at(1018);
    let renewed = Renewed {
        at: Timestamp::from_millisecond(1_050_700).unwrap(),
        duration: Duration::from_millis(100_500),
    };
    let renewed = Some(renewed.in_whole_seconds());
    for now in [1060, 1099, 1101, 9000] {
        assert_eq!(half.next(&lease, None, at(now)), Some(first));
        assert_eq!(half.next(&lease, renewed, at(now)), Some(at(1100)));
        assert_eq!(Terms::expiry(&lease, None, at(now)), Some(at(1100)));
        assert_eq!(Terms::expiry(&lease, renewed, at(now)), Some(at(1150)));
    }
    let at_once = terms(0, 0.0).next(&lease, None, at(9000));
    assert_eq!(at_once, Some(at(1003)));
    let forged = Renewed {
        at: at(1050),
        duration: Duration::from_secs(1_000_000),
    };
    assert_eq!(
        Terms::expiry(&lease, Some(forged), at(1060)),
        Some(at(1100))
    );
    let endless = Grant {
        seconds: 0,
        ..lease
    };
    assert_eq!(Terms::expiry(&endless, None, at(9000)), None);
    assert_eq!(half.next(&endless, None, at(9000)), None);
}

#[test]
fn what_cannot_be_renewed_any_more_is_replaced() {
    let half = terms(50, 0.0);
    assert_eq!(due(half, &lease(false), None, 1050), Due::Replacement);
    // The renewal gave only 40 seconds: its end is near.
    let lease = lease(true);
    assert_eq!(
        due(half, &lease, Some((1050, 40)), 1060),
        Due::Nothing(Some(at(1070)))
    );
    assert_eq!(due(half, &lease, Some((1050, 40)), 1070), Due::Replacement);
}

#[test]
fn another_one_is_there_before_a_known_end_by_the_margin() {
    let with = |margin| Terms {
        margin: Duration::from_secs(margin),
        ..terms(90, 0.0)
    };
    // The renewal gave only 40 seconds.
    let lease = lease(true);
    let rest = |margin, now| due(with(margin), &lease, Some((1050, 40)), now);
    assert_eq!(rest(10, 1060), Due::Nothing(Some(at(1080))));
    assert_eq!(rest(10, 1080), Due::Replacement);
    assert_eq!(rest(50, 1050), Due::Replacement, "already shorter");
    // One that is renewed is no such end.
    assert_eq!(
        due(with(50), &lease, Some((1050, 100)), 1060),
        Due::Nothing(Some(at(1140)))
    );
    let fixed = super::Grant {
        renewable: false,
        ..lease.clone()
    };
    let once = |margin| due(with(margin), &fixed, None, 1000);
    assert_eq!(once(30), Due::Nothing(Some(at(1070))));
    let third = Timestamp::from_millisecond(1_033_333).unwrap();
    assert_eq!(once(5000), Due::Nothing(Some(third)), "no loop");
}

#[test]
fn an_answer_without_a_lease_is_asked_for_again_only_if_the_spec_says_when() {
    let none = Grant {
        lease: String::new(),
        seconds: 0,
        ..lease(false)
    };
    assert_eq!(due(terms(50, 0.0), &none, None, 9999), Due::Nothing(None));
    let hourly = Terms {
        refresh_after: Some(Duration::from_secs(3600)),
        ..terms(50, 0.0)
    };
    assert_eq!(due(hourly, &none, None, 1000), Due::Nothing(Some(at(2800))));
    assert_eq!(due(hourly, &none, None, 2800), Due::Replacement);
}

#[test]
fn a_certificate_is_replaced_before_its_end_by_its_offset_and_never_again_and_again() {
    let certificate = Grant {
        serial: "aa:bb".to_owned(),
        lease: String::new(),
        ..lease(false)
    };
    let with = |lead, share, margin| Terms {
        lead: Some(Duration::from_secs(lead)),
        renews: false,
        margin: Duration::from_secs(margin),
        ..terms(0, share)
    };
    let at = |terms: Terms| match terms.due(&certificate, None, at(900), at(1000)) {
        Due::Nothing(Some(until)) => until.as_millisecond() - 1_000_000,
        due => panic!("{due:?}"),
    };
    assert_eq!(at(with(20, 0.0, 0)), 80_000);
    assert_eq!(at(with(20, 1.0, 0)), 76_000, "earlier, never later");
    assert_eq!(at(with(0, 0.0, 30)), 70_000, "a rollout before its end");
    assert_eq!(at(with(90, 0.0, 0)), 10_000);
    for too_long in [91, 100, 100_000] {
        let due = at(with(too_long, 0.0, 0));
        assert!(
            (66_000..67_000).contains(&due),
            "a third of its life: {due}"
        );
    }
}

#[test]
fn what_vault_rotates_is_read_right_after() {
    let rotated = Grant {
        rotated: Some(crate::render::Rotated::default()),
        seconds: 60,
        lease: String::new(),
        ..lease(false)
    };
    let soon = Timestamp::from_millisecond(1_060_500).unwrap();
    let half = terms(50, 0.7);
    assert_eq!(due(half, &rotated, None, 1060), Due::Nothing(Some(soon)));
    assert_eq!(due(half, &rotated, None, 1061), Due::Replacement);
    // Nor is it spread where it happened before: the old password is dead.
    let late = half.due(&rotated, None, at(2000), at(2000));
    assert_eq!(late, Due::Replacement);
}

#[test]
fn a_lease_is_looked_at_once_in_an_interval_and_never_all_at_a_start() {
    let often = Terms {
        look_every: Some(Duration::from_secs(600)),
        ..terms(67, 0.5)
    };
    let look = |seen: Option<i64>, started| often.look(&lease(true), seen.map(at), at(started));
    assert_eq!(look(None, 900), Some(at(1630)));
    assert_eq!(look(Some(1200), 900), Some(at(1830)));
    assert_eq!(look(Some(1200), 5000), Some(at(5630)), "after a start");
    assert_eq!(terms(67, 0.5).look(&lease(true), None, at(900)), None);
    let none = Grant {
        lease: String::new(),
        ..lease(false)
    };
    assert_eq!(often.look(&none, None, at(900)), None);
}

#[test]
fn renewals_that_passed_while_nobody_looked_are_spread() {
    let due = |share| terms(50, share).due(&lease(true), None, at(1080), at(1080));
    assert_eq!(due(0.0), Due::Renewal);
    assert_eq!(
        due(0.5),
        Due::Nothing(Some(at(1085))),
        "within what is left"
    );
    let long = Grant {
        seconds: 1000,
        ..lease(true)
    };
    let due = terms(50, 0.5).due(&long, None, at(1600), at(1600));
    assert_eq!(due, Due::Nothing(Some(at(1630))), "within a minute");
}

#[test]
fn any_number_can_be_calculated_with() {
    for lead in [None, Some(Duration::from_secs(60))] {
        let grant = Grant {
            seconds: u64::MAX,
            ..lease(false)
        };
        let terms = Terms {
            lead,
            ..terms(67, 1.0)
        };
        let due = terms.due(&grant, None, at(900), at(1000));
        assert!(matches!(due, Due::Nothing(Some(at)) if at > Timestamp::UNIX_EPOCH));
        assert!(after_rotation(&grant) > at(1000));
    }
}
