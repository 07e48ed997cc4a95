//! What a resource says of its own restarts (`spec.rollout`): stricter than the configuration, never
//! looser, and only what that allows (`rollout.overrides`). Pure.

use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::time::later;
use crate::api::RolloutSpec;
use crate::config::window::Window;
use crate::config::{Rollout, RolloutKey, duration};
use crate::policy::rule;
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

/// What a resource has stricter, and the first thing in it that is wrong. What the configuration
/// refuses does not count; what cannot be read is as strict as it could be, until it is corrected.
#[must_use]
pub fn stricter_of(spec: &RolloutSpec, policy: &Rollout) -> (Stricter, Option<Problem>) {
    let mut reader = Reader {
        policy,
        wrong: None,
    };
    let stricter = Stricter {
        hold: reader.switch(RolloutKey::Hold, spec.hold, None),
        debounce: reader.duration(
            RolloutKey::Debounce,
            spec.debounce.as_deref(),
            (policy.debounce, rule::ROLLOUT_DEBOUNCE),
            LONGEST_DEBOUNCE,
        ),
        min_interval: reader
            .duration(
                RolloutKey::MinInterval,
                spec.min_interval.as_deref(),
                (policy.min_interval, rule::ROLLOUT_MIN_INTERVAL),
                LONGEST_INTERVAL,
            )
            .unwrap_or_default(),
        only_when_available: reader.switch(
            RolloutKey::OnlyWhenAvailable,
            spec.only_when_available,
            (policy.only_when_available).then_some(rule::ROLLOUT_ONLY_WHEN_AVAILABLE),
        ),
        halt_on_failure: reader.switch(
            RolloutKey::HaltOnFailure,
            spec.halt_on_failure,
            (policy.halt_on_failure).then_some(rule::ROLLOUT_HALT_ON_FAILURE),
        ),
        windows: reader.windows(spec.windows.as_deref().unwrap_or_default()),
    };
    (stricter, reader.wrong)
}

/// Whether a resource says only what it may.
///
/// # Errors
/// [`Problem::PolicyDenied`] for what the configuration does not allow, [`Problem::InvalidSpec`] for what
/// cannot be read.
pub fn check(spec: Option<&RolloutSpec>, policy: &Rollout) -> Result<(), Problem> {
    let wrong = spec.and_then(|spec| stricter_of(spec, policy).1);
    wrong.map_or(Ok(()), Err)
}

struct Reader<'a> {
    policy: &'a Rollout,
    wrong: Option<Problem>,
}

impl Reader<'_> {
    fn refuse(&mut self, problem: Problem) {
        self.wrong.get_or_insert(problem);
    }

    fn deny(&mut self, rule: &'static str, why: String) {
        self.refuse(Problem::PolicyDenied {
            rule,
            why,
            answered: false,
        });
    }

    fn invalid(&mut self, field: String, why: String) {
        self.refuse(Problem::InvalidSpec { field, why });
    }

    fn may(&mut self, key: RolloutKey) -> bool {
        let may = self.policy.overrides.contains(&key);
        if !may {
            let why = format!("spec.rollout.{key} is not for a resource to say");
            self.deny(rule::ROLLOUT_OVERRIDES, why);
        }
        may
    }

    /// `bound`: the key that says `true` already, so that `false` would be looser. (A hold comes and goes: beside it,
    /// `false` only says that the resource itself has none.)
    fn switch(&mut self, key: RolloutKey, set: Option<bool>, bound: Option<&'static str>) -> bool {
        let Some(set) = set else { return false };
        if !self.may(key) {
            return false;
        }
        if let Some(rule) = bound.filter(|_| !set) {
            let why = format!(
                "spec.rollout.{key} is false, and a resource can only be stricter than the true of the configuration"
            );
            self.deny(rule, why);
        }
        set
    }

    fn duration(
        &mut self,
        key: RolloutKey,
        text: Option<&str>,
        (least, rule): (Duration, &'static str),
        most: Duration,
    ) -> Option<Duration> {
        let text = text?;
        if !self.may(key) {
            return None;
        }
        let most = most.max(least);
        match duration::parse(text) {
            Ok(set) if set < least => {
                let why = format!(
                    "spec.rollout.{key} is {}, and a resource can only be stricter than the {} of the configuration",
                    printable(text, LONGEST_WINDOW),
                    duration::format(least),
                );
                self.deny(rule, why);
                None
            }
            Ok(set) if set <= most => Some(set),
            Ok(_) => {
                let why = format!("is too long: at most {}", duration::format(most));
                self.invalid(format!("spec.rollout.{key}"), why);
                Some(most)
            }
            Err(why) => {
                self.invalid(format!("spec.rollout.{key}"), why.to_string());
                Some(most)
            }
        }
    }

    fn windows(&mut self, texts: &[String]) -> Option<Vec<Window>> {
        if texts.is_empty() || !self.may(RolloutKey::Windows) {
            return None;
        }
        let field = "spec.rollout.windows";
        if texts.len() > MOST_WINDOWS {
            let why = format!("{} windows: at most {MOST_WINDOWS}", texts.len());
            self.invalid(field.to_owned(), why);
            return Some(Vec::new());
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
                    return Some(Vec::new());
                }
            }
        }
        Some(windows)
    }
}

#[cfg(test)]
#[path = "overrides_tests.rs"]
mod tests;
