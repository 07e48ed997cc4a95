//! Moments, as rows.
#![allow(clippy::unwrap_used)]

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn terms(share: f64, margin: u64) -> Terms {
    Terms {
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
        ends(&lease, Some(renewed), at(1100))
    };
    assert_eq!(ends(&lease, None, at(1100)), Some(at(1100)));
    assert_eq!(of(1050, 100), Some(at(1150)));
    assert_eq!(of(1050, 1_000_000), Some(at(1100)), "forged");
    let endless = Grant {
        seconds: 0,
        ..lease
    };
    assert_eq!(ends(&endless, None, at(1100)), None);
}
