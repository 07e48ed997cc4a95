//! Arithmetic on the wall clock that neither overflows nor fails.

use std::time::Duration;

use jiff::Timestamp;

/// A time after another, in whole milliseconds; the end of time at most.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(time.as_millisecond().saturating_add(by)).unwrap_or(Timestamp::MAX)
}
