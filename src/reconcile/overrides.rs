//! What a resource says of its own restarts (`spec.rollout`): of each field the stricter counts, its own or that of the
//! configuration, and its own only where that allows it (`rollout.overrides`). Whether it can be read at all depends on
//! the resource alone: no change of the configuration ends a sync. Pure.

use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::time::later;
use crate::api::RolloutSpec;
use crate::config::window::Window;
use crate::config::{Rollout, RolloutKey, duration};
use crate::problem::{Problem, printable};

/// The longest wait for further changes: one that never ends would lose a restart.
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(3600);

/// The longest time between two restarts, for the same reason.
const LONGEST_INTERVAL: Duration = Duration::from_secs(30 * 24 * 3600);

/// As the schema has them; the definitions in the cluster may be others.
const MOST_WINDOWS: usize = 20;
const LONGEST_WINDOW: usize = 100;

/// What one resource has stricter than the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stricter {
    /// Nothing is restarted.
    pub hold: bool,
    /// The wait for further changes.
    pub debounce: Option<Duration>,
    /// The least time between two restarts.
    pub min_interval: Duration,
    /// A workload whose pods are not all there is restarted afterwards.
    pub only_when_available: bool,
    /// A workload that does not get on holds the others.
    pub halt_on_failure: bool,
    /// When it may restart; none of them: never.
    pub windows: Option<Vec<Window>>,
}

/// What all those say whose content is due, on whose behalf a workload restarts: each of them is kept to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Any of them holds.
    pub hold: bool,
    /// Until when one of them awaits further changes.
    pub settled: Option<Timestamp>,
    /// The longest of theirs.
    pub min_interval: Duration,
    /// Any of them wants that.
    pub only_when_available: bool,
    /// Any of them wants that.
    pub halt_on_failure: bool,
    /// Those that have windows.
    pub windows: Vec<Rc<Stricter>>,
}

impl Asked {
    /// Adds what one says whose content changed at `changed_at`.
    pub fn add(&mut self, one: &Rc<Stricter>, changed_at: Timestamp) {
        self.hold |= one.hold;
        let settled = one.debounce.map(|debounce| later(changed_at, debounce));
        self.settled = self.settled.max(settled);
        self.min_interval = self.min_interval.max(one.min_interval);
        self.only_when_available |= one.only_when_available;
        self.halt_on_failure |= one.halt_on_failure;
        // The same windows twice narrow nothing.
        let known = |known: &Rc<Stricter>| known.windows == one.windows;
        if one.windows.is_some() && !self.windows.last().is_some_and(known) {
            self.windows.push(Rc::clone(one));
        }
    }

    /// The windows of each that has some.
    pub fn sets(&self) -> impl Iterator<Item = &[Window]> {
        self.windows.iter().filter_map(|one| one.windows.as_deref())
    }
}

/// What a resource says of its restarts, beside the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// What it is kept to. What cannot be read is as strict as it could be, until it is corrected.
    pub stricter: Stricter,
    /// What the configuration has stricter, a sentence each.
    pub looser: Vec<String>,
    /// What it may not say: no effect either way.
    pub denied: Vec<RolloutKey>,
    /// The first thing that cannot be read.
    pub wrong: Option<Problem>,
}

/// Reads what a resource says of its restarts.
#[must_use]
pub fn read(spec: &RolloutSpec, policy: &Rollout) -> Own {
    let mut reader = Reader {
        policy,
        own: Own::default(),
    };
    reader.own.stricter = Stricter {
        // A hold of the platform comes and goes: beside it, `false` only says that the resource itself has none.
        hold: reader.switch(RolloutKey::Hold, spec.hold, false),
        debounce: reader.duration(
            RolloutKey::Debounce,
            spec.debounce.as_deref(),
            policy.debounce,
            LONGEST_DEBOUNCE,
        ),
        min_interval: reader
            .duration(
                RolloutKey::MinInterval,
                spec.min_interval.as_deref(),
                policy.min_interval,
                LONGEST_INTERVAL,
            )
            .unwrap_or_default(),
        only_when_available: reader.switch(
            RolloutKey::OnlyWhenAvailable,
            spec.only_when_available,
            policy.only_when_available,
        ),
        halt_on_failure: reader.switch(
            RolloutKey::HaltOnFailure,
            spec.halt_on_failure,
            policy.halt_on_failure,
        ),
        windows: reader.windows(spec.windows.as_deref().unwrap_or_default()),
    };
    reader.own
}

/// Whether all that a resource says can be read.
///
/// # Errors
/// [`Problem::InvalidSpec`], whatever the configuration is.
pub fn check(spec: Option<&RolloutSpec>, policy: &Rollout) -> Result<(), Problem> {
    let wrong = spec.and_then(|spec| read(spec, policy).wrong);
    wrong.map_or(Ok(()), Err)
}

struct Reader<'a> {
    policy: &'a Rollout,
    own: Own,
}

impl Reader<'_> {
    fn invalid(&mut self, field: String, why: String) {
        let problem = Problem::InvalidSpec { field, why };
        self.own.wrong.get_or_insert(problem);
    }

    fn looser(&mut self, key: RolloutKey, set: &str, configured: &str) {
        self.own.looser.push(format!(
            "spec.rollout.{key} is {set}, and the configuration's {configured} counts"
        ));
    }

    fn may(&mut self, key: RolloutKey) -> bool {
        let may = self.policy.overrides.contains(&key);
        if !may {
            self.own.denied.push(key);
        }
        may
    }

    fn switch(&mut self, key: RolloutKey, set: Option<bool>, configured: bool) -> bool {
        let Some(set) = set.filter(|_| self.may(key)) else {
            return false;
        };
        if configured && !set {
            self.looser(key, "false", "true");
        }
        set
    }

    fn duration(
        &mut self,
        key: RolloutKey,
        text: Option<&str>,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let text = text?;
        let read = match duration::parse(text) {
            Ok(set) if set <= most => Ok(set),
            Ok(_) => Err(format!("is too long: at most {}", duration::format(most))),
            Err(why) => Err(why.to_string()),
        };
        let set = read.unwrap_or_else(|why| {
            self.invalid(format!("spec.rollout.{key}"), why);
            most
        });
        if !self.may(key) {
            return None;
        }
        if set < least {
            let set = printable(text, LONGEST_WINDOW);
            self.looser(key, &set, &duration::format(least));
            return None;
        }
        Some(set)
    }

    fn windows(&mut self, texts: &[String]) -> Option<Vec<Window>> {
        if texts.is_empty() {
            return None;
        }
        let read = self.read_windows(texts);
        let may = self.may(RolloutKey::Windows);
        Some(read).filter(|_| may)
    }

    fn read_windows(&mut self, texts: &[String]) -> Vec<Window> {
        let field = "spec.rollout.windows";
        if texts.len() > MOST_WINDOWS {
            let why = format!("{} windows: at most {MOST_WINDOWS}", texts.len());
            self.invalid(field.to_owned(), why);
            return Vec::new();
        }
        let mut windows = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let read = match text.len() <= LONGEST_WINDOW {
                true => text.parse::<Window>(),
                false => Err(format!("is too long: at most {LONGEST_WINDOW} characters")),
            };
            match read {
                Ok(window) => windows.push(window),
                Err(why) => {
                    self.invalid(format!("{field}[{at}]"), why);
                    return Vec::new();
                }
            }
        }
        windows
    }
}

#[cfg(test)]
#[path = "overrides_tests.rs"]
mod tests;
