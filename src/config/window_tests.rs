//! Windows over days, midnights and changes of the clocks.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn opens(text: &str, now: &str) -> String {
    let now = now.parse().unwrap();
    window(text).opening(now).unwrap().to_string()
}

#[test]
fn it_is_open_between_its_hours_on_its_days() {
    // A Wednesday.
    for (text, now, expected) in [
        (
            "daily 02:00-06:00",
            "2026-01-14T01:00:00Z",
            "2026-01-14T02:00:00Z",
        ),
        (
            "daily 02:00-06:00",
            "2026-01-14T02:00:00Z",
            "2026-01-14T02:00:00Z",
        ),
        (
            "daily 02:00-06:00",
            "2026-01-14T05:59:59Z",
            "2026-01-14T05:59:59Z",
        ),
        (
            "daily 02:00-06:00",
            "2026-01-14T06:00:00Z",
            "2026-01-15T02:00:00Z",
        ),
        (
            "Mon 02:00-06:00",
            "2026-01-14T03:00:00Z",
            "2026-01-19T02:00:00Z",
        ),
        (
            "Mon-Fri 02:00-06:00",
            "2026-01-16T07:00:00Z",
            "2026-01-19T02:00:00Z",
        ),
        (
            "Sat-Mon 02:00-06:00",
            "2026-01-14T03:00:00Z",
            "2026-01-17T02:00:00Z",
        ),
        (
            "Sat-Mon 02:00-06:00",
            "2026-01-19T03:00:00Z",
            "2026-01-19T03:00:00Z",
        ),
        (
            "Sat-Mon 02:00-06:00",
            "2026-01-20T03:00:00Z",
            "2026-01-24T02:00:00Z",
        ),
        (
            "Wed 00:00-24:00",
            "2026-01-14T23:59:59Z",
            "2026-01-14T23:59:59Z",
        ),
        (
            "Wed 00:00-24:00",
            "2026-01-15T00:00:00Z",
            "2026-01-21T00:00:00Z",
        ),
        (
            "Wed 02:00-02:00",
            "2026-01-15T01:00:00Z",
            "2026-01-15T01:00:00Z",
        ),
    ] {
        assert_eq!(opens(text, now), expected, "{text} at {now}");
    }
}

#[test]
fn over_midnight_it_belongs_to_the_day_that_it_opens_on() {
    for (now, expected) in [
        ("2026-01-14T23:00:00Z", "2026-01-14T23:00:00Z"),
        ("2026-01-15T03:59:00Z", "2026-01-15T03:59:00Z"),
        ("2026-01-15T04:00:00Z", "2026-01-21T22:00:00Z"),
        ("2026-01-14T03:00:00Z", "2026-01-14T22:00:00Z"),
    ] {
        assert_eq!(opens("Wed 22:00-04:00", now), expected, "{now}");
    }
}

#[test]
fn its_hours_are_those_of_its_time_zone_in_summer_and_winter() {
    let text = "daily 22:00-23:00 Europe/Berlin";
    assert_eq!(opens(text, "2026-01-14T12:00:00Z"), "2026-01-14T21:00:00Z");
    assert_eq!(opens(text, "2026-07-14T12:00:00Z"), "2026-07-14T20:00:00Z");
    // Its day is not that of UTC.
    let text = "Mon 08:00-09:00 Pacific/Auckland";
    assert_eq!(opens(text, "2026-01-14T12:00:00Z"), "2026-01-18T19:00:00Z");
}

#[test]
fn over_a_change_of_the_clocks() {
    let night = "daily 01:00-04:00 Europe/Berlin";
    // An hour less: 02:00 is 03:00.
    assert_eq!(opens(night, "2026-03-29T00:00:00Z"), "2026-03-29T00:00:00Z");
    assert_eq!(opens(night, "2026-03-29T01:59:59Z"), "2026-03-29T01:59:59Z");
    assert_eq!(opens(night, "2026-03-29T02:00:00Z"), "2026-03-29T23:00:00Z");
    // An hour more: 02:00 to 03:00 comes twice.
    assert_eq!(opens(night, "2026-10-25T02:59:59Z"), "2026-10-25T02:59:59Z");
    assert_eq!(opens(night, "2026-10-25T03:00:00Z"), "2026-10-26T00:00:00Z");
    // What is left out is not there, and the next day it is.
    let left_out = "daily 02:00-03:00 Europe/Berlin";
    assert_eq!(
        opens(left_out, "2026-03-29T00:00:00Z"),
        "2026-03-30T00:00:00Z"
    );
    // The first of the two.
    assert_eq!(
        opens(left_out, "2026-10-24T12:00:00Z"),
        "2026-10-25T00:00:00Z"
    );
}

#[test]
fn what_is_no_window_is_refused_with_what_to_write() {
    for (text, told) in [
        ("", "write it like"),
        ("daily", "write it like"),
        ("daily 02:00-03:00 UTC more", "write it like"),
        ("daily 02:00", "are no hours"),
        ("Mo 02:00-03:00", "is no day"),
        ("Mon-Xyz 02:00-03:00", "is no day"),
        ("daily 2:00-03:00", "is no time of the day"),
        ("daily 02:60-03:00", "is no time of the day"),
        ("daily 02:00-24:01", "is no time of the day"),
        ("daily 24:00-03:00", "opens at the end of the day"),
        ("daily 02:00-03:00 Europe/Atlantis", "is no time zone"),
        ("daily 02:00-03:00 ../../etc/passwd", "is no time zone"),
    ] {
        let refused = text.parse::<Window>().unwrap_err();
        assert!(refused.contains(told), "{text}: {refused}");
    }
}

#[test]
fn of_several_the_first_counts_and_none_is_always_open() {
    let now = "2026-01-14T12:00:00Z".parse().unwrap();
    assert_eq!(opening(&[], now), Some(now));
    let two = ["Sat 02:00-03:00", "Thu 02:00-03:00"].map(window);
    let expected = "2026-01-15T02:00:00Z".parse().unwrap();
    assert_eq!(opening(&two, now), Some(expected));
}

#[test]
fn several_sets_open_together_or_never() {
    let now = "2026-01-14T12:00:00Z".parse().unwrap();
    let set = |texts: &[&str]| texts.iter().map(|text| window(text)).collect::<Vec<_>>();
    let night = set(&["daily 22:00-04:00"]);
    let late = set(&["daily 13:00-14:00", "Fri 02:00-06:00"]);
    let friday = "2026-01-16T02:00:00Z".parse().unwrap();
    assert_eq!(opening_of_all(&[], now), Some(now));
    assert_eq!(opening_of_all(&[&night, &late], now), Some(friday));
    assert_eq!(opening_of_all(&[&late, &night, &late], now), Some(friday));
    assert_eq!(opening_of_all(&[&late, &night], friday), Some(friday));
    let day = set(&["daily 08:00-20:00"]);
    assert_eq!(opening_of_all(&[&night, &day], now), None);
    assert_eq!(opening_of_all(&[&day, &[]], now), None);
}

#[test]
fn many_sets_are_not_asked_without_end() {
    let now = "2026-01-14T12:00:00Z".parse().unwrap();
    let minutes = |of: i64| {
        let time = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
        let text = |one: i64| {
            let minute = one * 71 + of;
            window(&format!("daily {}-{}", time(minute), time(minute + 1)))
        };
        (0..20).map(text).collect::<Vec<_>>()
    };
    let all: Vec<Vec<Window>> = (0..20).cycle().take(1000).map(minutes).collect();
    let sets: Vec<&[Window]> = all.iter().map(Vec::as_slice).collect();
    // They never agree; that one is told to come again is enough.
    assert!(opening_of_all(&sets, now).is_none_or(|at| at > now));
    let open = window("daily 00:00-24:00");
    let open: Vec<&[Window]> = std::iter::repeat_n(std::slice::from_ref(&open), 20_000).collect();
    assert_eq!(opening_of_all(&open, now), Some(now));
}

proptest! {
    /// What is told of two sets is open in both, and nothing before it is.
    #[test]
    fn nothing_before_an_opening_of_all_is_open_in_all(
        now in 1_700_000_000_i64..1_900_000_000,
        one in (0_i64..DAY, 1_i64..DAY),
        other in (0_i64..DAY, 1_i64..DAY),
        between in 0.0_f64..1.0,
    ) {
        let set = |(from, length): (i64, i64), zone: &str| {
            let to = (from + length) % DAY;
            let time = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            [window(&format!("daily {}-{} {zone}", time(from), time(to)))]
        };
        let (one, other) = (set(one, "UTC"), set(other, "Asia/Kathmandu"));
        let now = Timestamp::from_second(now).unwrap();
        let is_open = |set: &[Window], at: Timestamp| opening(set, at) == Some(at);
        let both = |at: Timestamp| is_open(&one, at) && is_open(&other, at);
        let told = opening_of_all(&[&one, &other], now);
        prop_assert!(told.is_none_or(both));
        let until = told.map_or(now.as_second() + 86_400, Timestamp::as_second);
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let part = ((until - now.as_second()) as f64 * between) as i64;
        let moment = Timestamp::from_second(now.as_second() + part).unwrap();
        prop_assert!(!both(moment) || Some(moment) == told, "open at {}, told {:?}", moment, told);
    }

    /// An opening is never before now, is open itself, and nothing between the two is.
    #[test]
    fn nothing_between_now_and_an_opening_is_open(
        now in 1_700_000_000_i64..1_900_000_000,
        day in 0_usize..7,
        from in 0_i64..DAY,
        length in 1_i64..=DAY,
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        between in 0.0_f64..1.0,
    ) {
        let to = (from + length) % DAY;
        let hours = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let window = window(&format!("{} {}-{} {zone}", DAYS[day].0, hours(from), hours(to)));
        let now = Timestamp::from_second(now).unwrap();
        let opening = window.opening(now).unwrap();
        prop_assert!(opening >= now);
        prop_assert_eq!(window.opening(opening), Some(opening));
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let part = ((opening.as_second() - now.as_second()) as f64 * between) as i64;
        let moment = Timestamp::from_second(now.as_second() + part).unwrap();
        prop_assert_eq!(window.opening(moment), Some(opening.max(moment)));
    }
}
