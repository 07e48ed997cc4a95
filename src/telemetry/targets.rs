//! What is told of the workloads that take a new rollout, of the look that somebody asks
//! for: a series goes with its workload. Beyond the bound of the configuration those of one
//! kind and namespace are told together, without a name.

use std::collections::BTreeMap;
use std::fmt;

use litemap::LiteMap;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Workloads by kind, namespace and name; the name is empty for those beyond the bound.
pub type Targets = BTreeMap<(&'static str, String, String), Target>;

/// What is told of a workload, or summed up of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// How often this process restarted it.
    pub restarts: u64,
    /// Restarts that are due and wait, by what they wait for.
    pub pending: LiteMap<&'static str, usize>,
    /// Whether the rollout that the operator began does not get on; of several, how many.
    pub failed: usize,
}

impl Target {
    /// Adds what is told of another one.
    pub fn add(&mut self, other: Self) {
        self.restarts += other.restarts;
        self.failed += other.failed;
        for (why, count) in other.pending {
            match self.pending.get_mut(why) {
                Some(known) => *known += count,
                None => drop(self.pending.insert(why, count)),
            }
        }
    }
}

fn gauge(count: usize) -> ConstGauge {
    ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
}

/// All families of these workloads; where there are none, they are left out.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    targets: &Targets,
) -> Result<(), fmt::Error> {
    if targets.is_empty() {
        return Ok(());
    }
    let labels = |(kind, namespace, name): &(&'static str, String, String)| {
        [
            ("kind", (*kind).to_owned()),
            ("namespace", namespace.clone()),
            ("name", name.clone()),
        ]
    };
    let mut family = encoder.encode_descriptor(
        "rollout_restarts",
        "Restarts of a workload",
        None,
        MetricType::Counter,
    )?;
    // A sum over those that are there now could go down, which no counter does.
    for (key, target) in targets.iter().filter(|((_, _, name), _)| !name.is_empty()) {
        ConstCounter::new(target.restarts).encode(family.encode_family(&labels(key))?)?;
    }
    let mut family = encoder.encode_descriptor(
        "rollouts_failed",
        "1 while a rollout that the operator began does not get on, 0 otherwise",
        None,
        MetricType::Gauge,
    )?;
    for (key, target) in targets {
        gauge(target.failed).encode(family.encode_family(&labels(key))?)?;
    }
    let mut pending = targets
        .iter()
        .flat_map(|(key, target)| {
            target
                .pending
                .iter()
                .map(move |(why, count)| (key, *why, *count))
        })
        .peekable();
    if pending.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(
        "rollout_restarts_pending",
        "1 while a restart that is due waits, by what it waits for",
        None,
        MetricType::Gauge,
    )?;
    for (key, why, count) in pending {
        let [kind, namespace, name] = labels(key);
        let labels = [kind, namespace, name, ("reason", why.to_owned())];
        gauge(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
