//! Durations in Go's form (`90s`, `1h30m`, `1.5h`), as manifests and the
//! configuration write them. Parsing is total: whatever the text, the answer
//! is a duration or a sentence, never a panic or a wrapped number.

use std::fmt;
use std::time::Duration;

use serde::{Deserializer, Serializer, de};

/// Why a text is no duration. `Display` is a sentence with the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing, or white space only.
    #[error("a duration must not be empty: write one like 30s or 1h30m")]
    Empty,
    /// Below zero.
    #[error("the duration {0:?} is negative: write one like 30s or 1h30m")]
    Negative(String),
    /// A number without a unit.
    #[error("the duration {0:?} lacks a unit: add one of ns, us, ms, s, m, h, as in 30s or 1h30m")]
    NoUnit(String),
    /// A unit that Go does not know.
    #[error("the duration {text:?} has the unknown unit {unit:?}: known are ns, us, ms, s, m, h")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// What stands where the unit should.
        unit: String,
    },
    /// No number where one should be.
    #[error("{0:?} is no duration: write one like 30s or 1h30m")]
    NoNumber(String),
    /// More than Go can hold.
    #[error("the duration {0:?} is too long: the most is about 292 years (2562047h)")]
    TooLong(String),
}

/// The longest duration that Go's `time.Duration` holds, in nanoseconds.
const MOST_NANOS: u128 = i64::MAX as u128;

/// Parses a duration in Go's form: decimal numbers, each with a fraction if
/// wanted and a unit of `ns`, `us` (`µs`), `ms`, `s`, `m`, `h`; `0` needs none.
///
/// # Errors
/// [`DurationError`] for everything else, negative durations included.
///
/// ```
/// use std::time::Duration;
/// use vault_tenant_operator::config::duration::parse;
/// assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
/// assert!(parse("5s-3s").is_err());
/// ```
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(DurationError::Empty);
    }
    if rest.starts_with('-') {
        return Err(DurationError::Negative(text.to_owned()));
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::NoNumber(text.to_owned()));
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, after) = component(text, rest)?;
        nanos = nanos
            .checked_add(part)
            .filter(|sum| *sum <= MOST_NANOS)
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
        rest = after;
    }
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| DurationError::TooLong(text.to_owned()))
}

/// One number with its unit, in nanoseconds, and what follows it.
fn component<'a>(text: &str, rest: &'a str) -> Result<(u128, &'a str), DurationError> {
    let (whole, rest) = digits(rest);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::NoNumber(text.to_owned()));
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let scale: u128 = match unit {
        "" => return Err(DurationError::NoUnit(text.to_owned())),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        unknown => {
            return Err(DurationError::UnknownUnit {
                text: text.to_owned(),
                unit: unknown.to_owned(),
            });
        }
    };
    let too_long = || DurationError::TooLong(text.to_owned());
    let whole: u128 = match whole {
        "" => 0,
        _ => whole.parse().map_err(|_| too_long())?,
    };
    let mut nanos = whole.checked_mul(scale).ok_or_else(too_long)?;
    let mut place = scale;
    for digit in fraction.bytes() {
        // Digits below a nanosecond are cut, as Go does.
        place /= 10;
        nanos = nanos
            .checked_add(u128::from(digit - b'0') * place)
            .ok_or_else(too_long)?;
    }
    Ok((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A duration in Go's form, in the largest units that are exact: `1h30m`, `5s`, `250ms`.
#[must_use]
pub fn format(duration: Duration) -> String {
    use fmt::Write as _;
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let mut text = String::new();
    for (count, unit) in [
        (seconds / 3_600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
        (u64::from(nanos / 1_000 % 1_000), "us"),
        (u64::from(nanos % 1_000), "ns"),
    ] {
        if count > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{count}{unit}");
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// For `#[serde(with = "duration")]`: writes Go's form.
pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with = "duration")]`: reads Go's form.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    struct Text;
    impl de::Visitor<'_> for Text {
        type Value = Duration;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as 30s or 1h30m")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1m2.25s3ms", 62_253_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("7μs", 7_000),
            ("9ns", 9),
            ("0.9ns", 0),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_in_words() {
        for (text, says) in [
            ("", "empty"),
            ("  ", "empty"),
            ("-5s", "negative"),
            ("5s-3s", "unknown unit"),
            ("5", "lacks a unit"),
            ("5s3", "lacks a unit"),
            ("5d", "unknown unit \"d\""),
            ("s", "no duration"),
            (".", "no duration"),
            (".s", "no duration"),
            ("+", "no duration"),
            ("5 s", "unknown unit"),
            ("1h 30m", "unknown unit"),
            ("99999999999999999999h", "too long"),
            ("99999999999999999999999999999999999999999999h", "too long"),
            ("2562047h47m16.854775808s", "too long"),
            ("1٣s", "unknown unit"),
        ] {
            let said = parse(text).map_err(|e| e.to_string());
            assert!(
                said.as_ref().is_err_and(|e| e.contains(says)),
                "{text:?}: {said:?}"
            );
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for nanos in [0, 1, 999, 1_000_000, 61_000_000_001, 90_061_001_002_003] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse(&format(duration)), Ok(duration), "{nanos}");
        }
        assert_eq!(format(Duration::from_secs(5400)), "1h30m");
        assert_eq!(format(Duration::ZERO), "0s");
    }
}
