//! Moments, as rows.
#![allow(clippy::unwrap_used)]

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn terms(share: f64, margin: u64) -> Terms {
    Terms {
        lead: None,
        renewal_percent: 67,
        refresh_after: None,
        share,
        margin: Duration::from_secs(margin),
        mints: true,
        renews: true,
        look_every: None,
    }
}

#[test]
fn one_whose_token_is_not_known_is_replaced_at_its_own_moment_while_it_lasts() {
    let spread = Duration::from_secs(60);
    for (share, margin, ends, expected, what) in [
        (0.0, 0, None, 2000, "the first"),
        (0.5, 0, None, 2030, "within the spread"),
        (1.0, 0, Some(9000), 2060, "the last"),
        (1.0, 0, Some(2020), 2020, "while it lasts"),
        (1.0, 15, Some(2020), 2005, "before that, by the margin"),
        (0.5, 30, Some(2020), 2000, "no time for that"),
        (1.0, 0, Some(1500), 2000, "it has ended"),
    ] {
        let moment = terms(share, margin).handed_over(ends.map(at), spread, at(2000));
        assert_eq!(moment, at(expected), "{what}");
    }
}

#[test]
fn the_end_of_a_lease_is_believed_within_reason() {
    let lease = Grant {
        since: at(1000),
        seconds: 100,
        ..Grant::default()
    };
    let of = |second, seconds| {
        let renewed = Renewed {
            at: at(second),
            duration: Duration::from_secs(seconds),
        };
        Terms::expiry(&lease, Some(renewed), at(1100))
    };
    assert_eq!(Terms::expiry(&lease, None, at(1100)), Some(at(1100)));
    assert_eq!(of(1050, 100), Some(at(1150)));
    assert_eq!(of(1050, 1_000_000), Some(at(1100)), "forged");
    let endless = Grant {
        seconds: 0,
        ..lease
    };
    assert_eq!(Terms::expiry(&endless, None, at(1100)), None);
}

fn ending(at_second: i64, known: i64) -> TokenEnd {
    TokenEnd {
        at: at(at_second),
        known: at(known),
        why: Limit::Longest,
    }
}

#[test]
fn what_outlives_its_token_is_replaced_in_the_latter_half_of_what_is_left() {
    let lease = Grant {
        since: at(1000),
        seconds: 3600,
        renewable: true,
        ..Grant::default()
    };
    for (share, margin, token, started, expected, what) in [
        (0.0, 0, ending(1200, 1000), 900, 1100, "the first"),
        (0.5, 0, ending(1200, 1000), 900, 1150, "one of many"),
        (1.0, 0, ending(1200, 1000), 900, 1200, "the last"),
        (
            1.0,
            20,
            ending(1200, 1000),
            900,
            1180,
            "by the margin before",
        ),
        (0.0, 0, ending(1200, 1100), 900, 1150, "since it is known"),
        (
            1.0,
            20,
            ending(1200, 1100),
            900,
            1180,
            "by the margin then, too",
        ),
        (0.0, 0, ending(1200, 1000), 1150, 1175, "after a start"),
        (0.5, 9999, ending(1200, 1150), 900, 1150, "no time for that"),
        (0.5, 9999, ending(1300, 1000), 900, 1100, "no loop"),
        (0.5, 0, ending(1100, 1150), 900, 1150, "it has ended"),
    ] {
        let moment = terms(share, margin).before_token_ends(&lease, token, at(started));
        assert_eq!(moment, at(expected), "{what}");
    }
}

#[test]
fn a_lease_outlives_its_token_where_it_is_renewed_or_longer() {
    let lease = |renewable, seconds| Grant {
        since: at(1000),
        seconds,
        renewable,
        ..Grant::default()
    };
    let outlived =
        |terms: Terms, grant: &Grant| terms.is_outlived(grant, None, ending(1200, 1000), at(1000));
    let denied = Terms {
        renews: false,
        ..terms(0.0, 0)
    };
    for (terms, grant, expected) in [
        (terms(0.0, 0), lease(true, 100), true),
        (terms(0.0, 0), lease(false, 100), false),
        (terms(0.0, 0), lease(false, 300), true),
        (terms(0.0, 0), lease(false, 0), true),
        (denied, lease(true, 100), false),
        (denied, lease(true, 300), true),
    ] {
        assert_eq!(outlived(terms, &grant), expected, "{grant:?}");
    }
}
