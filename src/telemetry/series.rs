//! What is told of single resources. Each of them is one more series for whoever
//! keeps them: there are no more than the configuration allows, and all of it is
//! of the look that somebody asks for, so that a series goes with its resource.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// What is told of one resource. What is not known, or not of its kind, is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its kind.
    pub kind: &'static str,
    /// Where it is; without a name, as well as `name`, for what is of the configuration.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// Whether its condition `Ready` is true of its spec as it is.
    pub ready: Option<bool>,
    /// When Vault last gave, or said again, what its Secret holds.
    pub last_success: Option<Timestamp>,
    /// When it is looked at next.
    pub next_due: Option<Timestamp>,
    /// When what its Secret holds ends if nobody renews it.
    pub expiry: Option<Timestamp>,
    /// When the first of the tokens ends that were given to it.
    pub token_expiry: Option<Timestamp>,
    /// Whether nothing is asked of its Vault, since that is away.
    pub breaker_open: Option<bool>,
}

/// A family with one gauge for each resource that has a value.
struct Family {
    name: &'static str,
    help: &'static str,
    /// The value is a time.
    timestamp: bool,
    /// The label `kind` says something.
    of_kinds: bool,
    value: fn(&Series) -> Option<i64>,
}

fn second(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_second)
}

const FAMILIES: [Family; 6] = [
    Family {
        name: "resource_ready",
        help: "1 while the condition Ready of a custom resource is true of its spec as it is, 0 otherwise",
        timestamp: false,
        of_kinds: true,
        value: |one| one.ready.map(i64::from),
    },
    Family {
        name: "resource_last_success_timestamp",
        help: "When Vault last gave, or said again, what a Secret holds",
        timestamp: true,
        of_kinds: true,
        value: |one| second(one.last_success),
    },
    Family {
        name: "resource_next_due_timestamp",
        help: "When a custom resource is looked at next",
        timestamp: true,
        of_kinds: true,
        value: |one| second(one.next_due),
    },
    Family {
        name: "secret_expiry_timestamp",
        help: "When what a Secret holds ends if nobody renews it",
        timestamp: true,
        of_kinds: true,
        value: |one| second(one.expiry),
    },
    Family {
        name: "vault_token_expiry_timestamp",
        help: "When the first of the tokens ends that a VaultAuth was given, if nobody renews it",
        timestamp: true,
        of_kinds: false,
        value: |one| second(one.token_expiry),
    },
    Family {
        name: "vault_breaker_open",
        help: "1 while nothing is asked of the Vault of a VaultConnection since it is away, 0 otherwise",
        timestamp: false,
        of_kinds: false,
        value: |one| one.breaker_open.map(i64::from),
    },
];

/// All families of these resources; those without a value are left out.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    series: &[Series],
) -> Result<(), fmt::Error> {
    for family in &FAMILIES {
        let mut values = series
            .iter()
            .filter_map(|one| Some((one, (family.value)(one)?)))
            .peekable();
        if values.peek().is_none() {
            continue;
        }
        let unit = family.timestamp.then_some(Unit::Seconds);
        let mut samples = encoder.encode_descriptor(
            family.name,
            family.help,
            unit.as_ref(),
            MetricType::Gauge,
        )?;
        for (one, value) in values {
            let labels = [
                ("kind", one.kind),
                ("namespace", &*one.namespace),
                ("name", &*one.name),
            ];
            // An empty label would keep a scraper from adding that of the pod.
            let labels = match (family.of_kinds, one.name.is_empty()) {
                (_, true) => &[],
                (true, false) => &labels[..],
                (false, false) => &labels[1..],
            };
            ConstGauge::new(value).encode(samples.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
