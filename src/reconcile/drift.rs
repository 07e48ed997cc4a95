//! Repairs of what others do to a destination, and when to stop: two that
//! correct each other for ever load the API server and help nobody.

use jiff::{SignedDuration, Timestamp};

use super::decide::Me;
use super::ownership::last_editor;
use super::view::SecretMeta;
use crate::problem::{Problem, printable};

/// Repairs within [`WINDOW`] after which it is a fight.
const LIMIT: usize = 5;

/// See [`LIMIT`].
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// After the last repair of a fight the destination is left alone for so long.
const PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// The times of the last repairs of one destination, the latest last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs(Vec<Timestamp>);

impl Repairs {
    /// Notes one more.
    pub fn note(&mut self, now: Timestamp) {
        if self.0.len() == LIMIT {
            self.0.remove(0);
        }
        self.0.push(now);
    }

    /// Whether they were so many in a short time, and not long ago, that another
    /// one would only go on with a fight.
    #[must_use]
    pub fn are_a_fight(&self, now: Timestamp) -> bool {
        let [first, .., last] = self.0[..] else {
            return false;
        };
        let many = self.0.len() == LIMIT && last.duration_since(first) <= WINDOW;
        many && now.duration_since(last).abs() < PAUSE
    }
}

/// The refusal to go on; `None` for a destination that is gone.
pub fn fight(me: &Me, meta: Option<&SecretMeta>) -> Problem {
    let done = match meta {
        Some(meta) => format!("changed by {}", editor(me, meta)),
        None => "deleted".to_owned(),
    };
    Problem::DriftFight {
        name: me.secret.clone(),
        why: format!(
            "{done} again after {LIMIT} repairs within a minute, and left so: let only one of the two manage it; it is repaired again {} minutes after the last repair, or at once when the spec changes or a resync is asked for",
            PAUSE.as_mins()
        ),
    }
}

/// Who, other than us, changed the Secret last.
#[must_use]
pub fn editor(me: &Me, meta: &SecretMeta) -> String {
    let name = last_editor(me, meta).unwrap_or("an unnamed field manager");
    printable(name, 80)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn repaired(seconds: &[i64]) -> Repairs {
        let mut repairs = Repairs::default();
        seconds.iter().for_each(|second| repairs.note(at(*second)));
        repairs
    }

    #[test]
    fn five_repairs_within_a_minute_are_a_fight_for_ten_minutes() {
        let cases: [(&[i64], i64, bool); 7] = [
            (&[], 0, false),
            (&[1, 2, 3, 4], 5, false),
            (&[1, 2, 3, 4, 5], 5, true),
            (&[1, 20, 40, 60, 61], 61, true),
            (&[1, 20, 40, 60, 62], 62, false),
            (&[1, 2, 3, 4, 5, 100], 101, false),
            (&[1, 2, 3, 4, 5], 605, false),
        ];
        for (seconds, now, fight) in cases {
            assert_eq!(repaired(seconds).are_a_fight(at(now)), fight, "{seconds:?}");
        }
        assert!(repaired(&[1, 2, 3, 4, 5]).are_a_fight(at(604)));
    }
}
