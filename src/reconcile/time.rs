//! Arithmetic on the wall clock that neither overflows nor fails.

use std::time::Duration;

use jiff::Timestamp;

/// A time after another, in whole milliseconds; the end of time at most.
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(time.as_millisecond().saturating_add(by)).unwrap_or(Timestamp::MAX)
}

/// A time before another, in whole milliseconds; the beginning of time at least.
pub fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(time.as_millisecond().saturating_sub(by)).unwrap_or(Timestamp::MIN)
}

/// The second that a time is in: status carries whole ones, and more would differ
/// from what is read back.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A fraction from 0 to 1 that `seed` decides: what is spread by it repeats
/// exactly in a simulated run, and still stays apart.
pub fn fraction(seed: &str) -> f64 {
    let digits = crate::render::fingerprint([seed]);
    let draw = u32::from_str_radix(&digits[..8], 16).unwrap_or(0);
    f64::from(draw) / f64::from(u32::MAX)
}
