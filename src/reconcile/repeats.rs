//! Events that repeat: what flaps would write the same event with each turn, for as long as it does. The first few
//! are told at once, each with its time, and what follows within ten minutes in one at their end, with its number.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::{SignedDuration, Timestamp};

use super::ports::Note;

/// So often the same is told at once within [`PERIOD`].
const AT_ONCE: u32 = 3;

/// What repeats in this time is one.
const PERIOD: SignedDuration = SignedDuration::from_mins(10);

/// Of so many different ones repeats are looked for; of more, each is told.
const LIMIT: usize = 4096;

/// The events of the last ten minutes.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    told: RefCell<BTreeMap<u64, Told>>,
    kept: RefCell<BTreeMap<u64, Kept>>,
}

#[derive(Debug)]
struct Told {
    since: Timestamp,
    times: u32,
}

/// What was kept back.
#[derive(Debug)]
struct Kept {
    since: Timestamp,
    last: Note,
    times: u32,
}

impl Repeats {
    /// The event, if it is to be told by itself.
    pub(super) fn first(&self, note: Note) -> Option<Note> {
        let mut hasher = DefaultHasher::new();
        (&note.about, &note.uid, note.reason, &note.message).hash(&mut hasher);
        let same = hasher.finish();
        let mut kept = self.kept.borrow_mut();
        if let Some(kept) = kept.get_mut(&same) {
            kept.times = kept.times.saturating_add(1);
            kept.last = note;
            return None;
        }
        let mut told = self.told.borrow_mut();
        told.retain(|_, one| !is_over(one.since, note.at));
        if told.len() >= LIMIT && !told.contains_key(&same) || kept.len() >= LIMIT {
            return Some(note);
        }
        let one = told.entry(same).or_insert(Told {
            since: note.at,
            times: 0,
        });
        if one.times < AT_ONCE {
            one.times += 1;
            return Some(note);
        }
        let since = note.at;
        kept.insert(
            same,
            Kept {
                since,
                last: note,
                times: 1,
            },
        );
        None
    }

    /// One that stands for those that were kept back, if that is due; without a time, whether it is or not.
    pub(super) fn take(&self, now: Option<Timestamp>) -> Option<Note> {
        let mut kept = self.kept.borrow_mut();
        let is_due = |one: &Kept| now.is_none_or(|now| is_over(one.since, now));
        let same = *kept.iter().find(|(_, one)| is_due(one))?.0;
        let one = kept.remove(&same)?;
        let mut note = one.last;
        if one.times > 1 {
            note.message = format!(
                "{} times since {:.0}: {}",
                one.times, one.since, note.message
            );
        }
        Some(note)
    }

    /// Whether one is due that stands for others.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let kept = self.kept.borrow();
        kept.values().any(|one| is_over(one.since, now))
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.told.take();
        self.kept.take();
    }
}

/// A clock may be set back.
fn is_over(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since).abs() >= PERIOD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Kind, ObjectKey, ResourceKey};

    fn note(name: &str, message: &str, minute: i64) -> Note {
        Note {
            about: ResourceKey {
                kind: Kind::VaultStaticSecret,
                object: ObjectKey::new("team", name),
            },
            uid: String::new(),
            warning: true,
            reason: "VaultUnavailable",
            message: message.to_owned(),
            action: "Sync",
            at: at(minute),
        }
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
    }

    #[test]
    fn what_flaps_is_told_some_times_and_then_with_its_number() {
        let repeats = Repeats::default();
        let is_told = |note| repeats.first(note).is_some();
        // It flaps each minute, for an hour.
        let (mut told, mut sums) = (0_usize, Vec::new());
        for minute in 0..60 {
            told += usize::from(is_told(note("app", "away", minute)));
            assert!(minute > 0 || is_told(note("app", "another", minute)));
            assert!(minute > 0 || is_told(note("web", "away", minute)));
            while let Some(note) = repeats.take(Some(at(minute))) {
                sums.push(note.message);
            }
        }
        sums.extend(repeats.take(None).map(|note| note.message));
        assert!(
            repeats.take(None).is_none() && !repeats.is_due(at(1000)),
            "none is left"
        );
        assert_eq!(sums[0], "11 times since 1970-01-01T00:03:00Z: away");
        assert!(told + sums.len() <= 4 * 6, "{told} {sums:?}");
        let counted = |sum: &String| {
            let times = sum.split_once(" times").map(|(times, _)| times.parse());
            times.map_or(1, Result::unwrap)
        };
        assert_eq!(
            told + sums.iter().map(counted).sum::<usize>(),
            60,
            "{sums:?}"
        );
    }

    #[test]
    fn one_that_was_kept_back_is_as_it_was() {
        let repeats = Repeats::default();
        for minute in 0..3 {
            assert!(repeats.first(note("app", "away", minute)).is_some());
        }
        assert!(repeats.first(note("app", "away", 4)).is_none());
        assert!(!repeats.is_due(at(13)) && repeats.take(Some(at(13))).is_none());
        assert!(repeats.is_due(at(14)));
        assert_eq!(repeats.take(Some(at(14))), Some(note("app", "away", 4)));
        // Long after, all is forgotten.
        assert!(repeats.first(note("app", "away", 30)).is_some());
        assert_eq!(repeats.told.borrow().len(), 1);
    }

    #[test]
    fn beyond_its_bound_each_is_told() {
        let repeats = Repeats::default();
        for number in 0..LIMIT {
            assert!(
                repeats
                    .first(note(&number.to_string(), "away", 0))
                    .is_some()
            );
        }
        for _ in 0..2 * AT_ONCE {
            assert!(repeats.first(note("app", "away", 0)).is_some());
        }
        assert_eq!(repeats.told.borrow().len(), LIMIT);
        repeats.clear();
        assert!(repeats.told.borrow().is_empty());
    }
}
