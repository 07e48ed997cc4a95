//! From the outcome of a reconcile to conditions and status fields. Every exit
//! goes through here; a status is written only where it says something new.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::time::whole_seconds;
use crate::problem::{Problem, printable};

/// Longest message of a condition; the API allows 32768.
const MESSAGE_LIMIT: usize = 2048;

/// The condition that tells who waits for `Ready` to give up; there only while it is
/// true. Its name is that of kstatus, by which Flux and others judge any kind.
pub const STALLED: &str = "Stalled";

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}

impl Truth {
    const fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

/// What a condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Condition type.
    pub type_: &'static str,
    /// Its status.
    pub truth: Truth,
    /// CamelCase reason.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
}

impl Finding {
    /// A condition.
    pub fn new(
        type_: &'static str,
        truth: Truth,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_,
            truth,
            reason,
            message: message.into(),
        }
    }
}

/// The verdict about a resource, as its conditions `Ready`, `Healthy` and those
/// of its kind say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is as the spec says and nothing stands against it.
    pub truth: Truth,
    /// CamelCase reason.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
    /// Whether waiting is in vain, since only a person can end what stands against it.
    pub stalled: bool,
}

impl Verdict {
    /// All is well.
    pub fn good(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            truth: Truth::True,
            reason,
            message: message.into(),
            stalled: false,
        }
    }

    /// A problem.
    #[must_use]
    pub fn bad(problem: &Problem) -> Self {
        Self {
            truth: Truth::False,
            reason: problem.reason(),
            message: problem.to_string(),
            stalled: problem.needs_a_person(),
        }
    }

    /// Not known yet.
    pub fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            truth: Truth::Unknown,
            reason,
            message: message.into(),
            stalled: false,
        }
    }

    /// The verdict as conditions of these types, and as [`STALLED`] where it is that.
    #[must_use]
    pub fn findings(&self, types: &[&'static str]) -> Vec<Finding> {
        let finding = |type_, truth| Finding::new(type_, truth, self.reason, self.message.clone());
        types
            .iter()
            .map(|type_| finding(type_, self.truth))
            .chain(self.stalled.then(|| finding(STALLED, Truth::True)))
            .collect()
    }
}

/// The conditions list: a transition time is kept where the status stands still.
#[must_use]
pub fn conditions(
    previous: &[Condition],
    findings: &[Finding],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let status = finding.truth.as_str();
            let since = previous
                .iter()
                .find(|old| old.type_ == finding.type_ && old.status == status)
                .map_or_else(
                    || Time(whole_seconds(now)),
                    |old| old.last_transition_time.clone(),
                );
            Condition {
                type_: finding.type_.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.to_owned(),
                message: printable(&finding.message, MESSAGE_LIMIT),
                last_transition_time: since,
                observed_generation: generation,
            }
        })
        .collect()
}

/// A status of `conditions`, `observedGeneration` and further fields. What is
/// null is left out: an optional field of the schemas takes no null.
#[must_use]
pub fn status(conditions: &[Condition], generation: Option<i64>, further: Value) -> Value {
    let mut status = json!({ "conditions": conditions, "observedGeneration": generation });
    if let (Value::Object(status), Value::Object(further)) = (&mut status, further) {
        status.extend(further.into_iter().filter(|(_, value)| !value.is_null()));
    }
    status
}

/// The condition of a type, if it is there.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the conditions say that this generation is ready.
#[must_use]
pub fn is_ready(conditions: &[Condition], generation: Option<i64>) -> bool {
    is_true(conditions, "Ready", generation)
}

/// Whether the condition of a type is true of this generation.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str, generation: Option<i64>) -> bool {
    find(conditions, type_)
        .is_some_and(|found| found.status == "True" && found.observed_generation == generation)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let finding = |truth, message: &str| vec![Finding::new("Ready", truth, "R", message)];
        let first = conditions(&[], &finding(Truth::False, "a"), Some(1), at(10));
        let same = conditions(&first, &finding(Truth::False, "b"), Some(2), at(20));
        assert_eq!(same[0].last_transition_time, first[0].last_transition_time);
        assert_eq!(
            (same[0].message.as_str(), same[0].observed_generation),
            ("b", Some(2))
        );
        let turned = conditions(&same, &finding(Truth::True, "b"), Some(2), at(30));
        assert_eq!(turned[0].last_transition_time.0, at(30));
        assert!(is_ready(&turned, Some(2)) && !is_ready(&turned, Some(3)));
        assert!(!is_ready(&same, Some(2)));
    }

    #[test]
    fn who_waits_is_told_where_that_is_in_vain() {
        let stalled = |problem: &Problem| {
            let findings = Verdict::bad(problem).findings(&["Ready"]);
            let found = findings.iter().find(|finding| finding.type_ == STALLED);
            found.is_some_and(|found| found.truth == Truth::True && !found.message.is_empty())
        };
        let (name, why) = (|| "app".to_owned(), || "for a reason".to_owned());
        assert!(stalled(&Problem::NotServed { what: name() }));
        assert!(stalled(&Problem::DestinationNotOwned {
            name: name(),
            why: why()
        }));
        // These may still come while manifests are applied one after the other.
        assert!(!stalled(&Problem::ReferenceMissing {
            what: name(),
            by: name()
        }));
        assert!(!stalled(&Problem::DestinationMissing { name: name() }));
        // This is tried again.
        let path = name();
        assert!(!stalled(&Problem::VaultDenied { path, why: why() }));
        let refused = |answered| Problem::PolicyDenied {
            rule: "policy.vaultAddresses",
            why: why(),
            answered,
        };
        assert!(stalled(&refused(false)) && !stalled(&refused(true)));
    }

    #[test]
    fn a_field_without_a_value_is_left_out() {
        let written = status(
            &[],
            Some(1),
            json!({ "secretMAC": null, "lastGeneration": 1 }),
        );
        assert_eq!(
            written,
            json!({ "conditions": [], "observedGeneration": 1, "lastGeneration": 1 })
        );
    }

    #[test]
    fn what_is_written_equals_what_is_read_back() {
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let written = conditions(
            &[],
            &[Finding::new("Ready", Truth::True, "R", "m")],
            Some(1),
            now,
        );
        let read: Vec<Condition> =
            serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
        assert_eq!(written, read);
    }
}
