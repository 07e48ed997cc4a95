//! Windows of time in which workloads may be restarted: days of the week, hours, an IANA time zone.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};
use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY: i64 = 24 * 60;

/// How many days ahead an opening is looked for: in each week there is one, but for hours that a change of the clocks
/// leaves out.
const AHEAD: i64 = 15;

/// How often a window is asked when it opens until several sets are taken not to agree yet.
const LOOKS: usize = 5000;

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

const FORM: &str = "write it like \"Mon-Fri 22:00-04:00 Europe/Berlin\": a day, a range of days or daily, from when to when, and a time zone (UTC if left out)";

/// A window, as it is written: `Mon-Fri 22:00-04:00 Europe/Berlin`.
///
/// The days are those on which it opens; one that closes at an earlier hour than it opens, or at the same, closes on the
/// next day. An hour that a change of the clocks leaves out is the one that takes its place, one that comes twice is
/// the first of them (RFC 5545, 3.3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    text: String,
    /// First and last day, which may lie behind the end of the week.
    days: (Weekday, Weekday),
    /// Minutes after midnight of the day that it opens on; the second after the first.
    minutes: (i64, i64),
    zone: TimeZone,
}

impl Window {
    /// The first moment from `now` on at which it is open; `None` if there is none in two weeks.
    #[must_use]
    pub fn opening(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.zone.clone()).date();
        (-1..=AHEAD)
            .filter_map(|ahead| {
                let day = today.checked_add(ahead.days()).ok()?;
                let (opens, closes) = self.on(day)?;
                (closes > now && opens < closes).then(|| opens.max(now))
            })
            .next()
    }

    /// When it opens and closes, if it opens on this day.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = self.days;
        let behind = |weekday: Weekday| first.until(weekday);
        if behind(day.weekday()) > behind(last) {
            return None;
        }
        let at = |minutes: i64| {
            let day = day.checked_add((minutes / DAY).days()).ok()?;
            let time = Span::new().minutes(minutes % DAY);
            let time = day.at(0, 0, 0, 0).checked_add(time).ok()?;
            Some(time.to_zoned(self.zone.clone()).ok()?.timestamp())
        };
        Some((at(self.minutes.0)?, at(self.minutes.1)?))
    }
}

/// The first moment from `now` on at which one of them is open: `now` where there are none, since they narrow.
#[must_use]
pub fn opening(windows: &[Window], now: Timestamp) -> Option<Timestamp> {
    if windows.is_empty() {
        return Some(now);
    }
    windows.iter().filter_map(|one| one.opening(now)).min()
}

/// The first moment from `now` on at which each of these sets has a window open; a set without any never has. Where
/// that takes too long to find out, a moment before which it isn't. `None`: not within two weeks.
#[must_use]
pub fn opening_of_all(sets: &[&[Window]], now: Timestamp) -> Option<Timestamp> {
    let limit = now.checked_add((AHEAD * 24).hours()).ok()?;
    // All are asked once: only then is it known that it is open now.
    let most = LOOKS.max(sets.iter().map(|set| set.len()).sum());
    let (mut at, mut agreed, mut looks) = (now, 0, 0);
    for set in sets.iter().cycle() {
        if agreed == sets.len() || (looks >= most && at > now) {
            break;
        }
        let opening = set.iter().filter_map(|one| one.opening(at)).min();
        let opening = opening.filter(|opening| *opening <= limit)?;
        agreed = if opening == at { agreed + 1 } else { 1 };
        at = opening;
        looks += set.len();
    }
    Some(at)
}

impl std::str::FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split_whitespace();
        let (Some(days), Some(hours), zone, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("{text:?} is no window: {FORM}"));
        };
        let days = read_days(days)?;
        let (from, to) = hours
            .split_once('-')
            .ok_or_else(|| format!("{hours:?} are no hours: {FORM}"))?;
        let (from, to) = (minutes(from)?, minutes(to)?);
        if from >= DAY {
            return Err(format!(
                "{hours:?} opens at the end of the day: write 00:00 of the next one"
            ));
        }
        let to = if to <= from { to + DAY } else { to };
        let name = zone.unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| {
            format!("{name:?} is no time zone: write its name in the IANA database, such as Europe/Berlin")
        })?;
        Ok(Self {
            text: text.to_owned(),
            days,
            minutes: (from, to),
            zone,
        })
    }
}

fn read_days(text: &str) -> Result<(Weekday, Weekday), String> {
    let day = |name: &str| {
        let found = DAYS.iter().find(|(known, _)| *known == name);
        found.map(|(_, day)| *day).ok_or_else(|| {
            format!("{name:?} is no day: write Mon, Tue, Wed, Thu, Fri, Sat, Sun or daily")
        })
    };
    match text.split_once('-') {
        None if text == "daily" => Ok((Weekday::Monday, Weekday::Sunday)),
        None => day(text).map(|day| (day, day)),
        Some((first, last)) => Ok((day(first)?, day(last)?)),
    }
}

/// Minutes after midnight of `HH:MM`, up to `24:00`.
fn minutes(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no time of the day: write it like 07:30, at most 24:00");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hour, minute) = number(hour).zip(number(minute)).ok_or_else(wrong)?;
    let all = hour * 60 + minute;
    (minute < 60 && all <= DAY).then_some(all).ok_or_else(wrong)
}

impl TryFrom<String> for Window {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.text
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
