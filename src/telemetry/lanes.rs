//! What is in work by lane, as the queue has them: how long reconciles take, and how
//! many keys are in line. Some lanes have a name of their own; the others are told
//! together, since each has a histogram for each kind. A lane goes with its connection.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::metrics::seconds;
use crate::key::ObjectKey;
use crate::reconcile::Lane;

/// The most lanes that are told by name.
const NAMED: usize = 16;

/// The lanes that this instance has worked in.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    named: BTreeMap<Lane, Works>,
    others: Option<Works>,
    /// Whether the keys in line are told.
    counted: bool,
}

#[derive(Debug, Default)]
struct Works {
    in_line: usize,
    /// Durations by kind.
    took: BTreeMap<&'static str, Histogram>,
}

impl Known {
    fn works(&mut self, lane: &Lane) -> &mut Works {
        if self.named.len() < NAMED && !self.named.contains_key(lane) {
            self.named.insert(lane.clone(), Works::default());
        }
        let named = self.named.get_mut(lane);
        named.unwrap_or_else(|| self.others.get_or_insert_default())
    }

    fn all(&self) -> impl Iterator<Item = (String, &Works)> {
        let named = self.named.iter();
        let named = named.map(|(lane, works)| (shown(lane), works));
        let others = self.others.iter();
        named.chain(others.map(|works| ("others".to_owned(), works)))
    }
}

/// A lane as a label has it. No name of an object is without a slash here.
fn shown(lane: &Lane) -> String {
    match lane {
        None => "none".to_owned(),
        Some(connection) if connection.name.is_empty() => "configuration".to_owned(),
        Some(connection) => connection.to_string(),
    }
}

impl Lanes {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reconcile took so long.
    pub fn took(&self, lane: &Lane, kind: &'static str, took: Duration) {
        let mut known = self.known();
        let of_kind = known.works(lane).took.entry(kind);
        of_kind.or_insert_with(seconds).observe(took.as_secs_f64());
    }

    /// So many keys are in line; `None` where that says nothing, since nothing is worked
    /// on. Of a connection that is not there (any more) nothing is told.
    pub fn in_line(
        &self,
        counts: Option<BTreeMap<Lane, usize>>,
        is_there: impl Fn(&ObjectKey) -> bool,
    ) {
        let is_there = |lane: &Lane| {
            let connection = lane.as_ref().filter(|one| !one.name.is_empty());
            connection.is_none_or(&is_there)
        };
        let mut known = self.known();
        known.counted = counts.is_some();
        known.named.retain(|lane, _| is_there(lane));
        let Known { named, others, .. } = &mut *known;
        named
            .values_mut()
            .chain(others)
            .for_each(|works| works.in_line = 0);
        let counts = counts.into_iter().flatten();
        for (lane, count) in counts.filter(|(lane, _)| is_there(lane)) {
            known.works(&lane).in_line += count;
        }
    }
}

impl Collector for Lanes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let known = self.known();
        if known.named.is_empty() {
            return Ok(());
        }
        if known.counted {
            let mut depth = encoder.encode_descriptor(
                "queue_depth",
                "Keys that could be worked on and wait for their turn, by lane",
                None,
                MetricType::Gauge,
            )?;
            for (lane, works) in known.all() {
                let count = i64::try_from(works.in_line).unwrap_or(i64::MAX);
                let labels = [("lane", lane.as_str())];
                ConstGauge::new(count).encode(depth.encode_family(&labels)?)?;
            }
        }
        if known.all().all(|(_, works)| works.took.is_empty()) {
            return Ok(());
        }
        let mut durations = encoder.encode_descriptor(
            "reconcile_duration",
            "Time of a reconcile, by kind and lane",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (lane, works) in known.all() {
            for (kind, took) in &works.took {
                let labels = [("kind", *kind), ("lane", lane.as_str())];
                took.encode(durations.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str) -> Lane {
        Some(ObjectKey::new("team", name))
    }

    fn told(lanes: &Lanes) -> Vec<(String, usize, usize)> {
        let known = lanes.known();
        let all = known.all();
        all.map(|(name, works)| (name, works.in_line, works.took.len()))
            .collect()
    }

    #[test]
    fn a_lane_goes_with_its_connection_and_leaves_its_place_to_another() {
        let lanes = Lanes::default();
        let took = Duration::from_millis(1);
        for number in 0..NAMED + 2 {
            lanes.took(&lane(&format!("v-{number:02}")), "Vault", took);
        }
        lanes.took(&lane("v-00"), "VaultAuth", took);
        let first = told(&lanes);
        assert_eq!(first.len(), NAMED + 1);
        assert_eq!(first[0], ("team/v-00".to_owned(), 0, 2));
        assert_eq!(first[NAMED], ("others".to_owned(), 0, 1));

        let counts = [(lane("v-01"), 3), (lane("v-17"), 4), (lane("v-16"), 1)];
        lanes.in_line(Some(BTreeMap::from(counts.clone())), |_| true);
        let second = told(&lanes);
        assert_eq!((second[1].1, second[NAMED].1), (3, 5), "{second:?}");

        // Those that are gone leave their places to who comes next.
        let there = |connection: &ObjectKey| connection.name.as_str() > "v-01";
        lanes.in_line(Some(BTreeMap::from(counts)), there);
        let third = told(&lanes);
        assert!(!third.iter().any(|(name, ..)| name == "team/v-00"));
        assert!(third.contains(&("team/v-17".to_owned(), 4, 0)), "{third:?}");
    }

    #[test]
    fn what_is_no_connection_has_a_name_that_none_can_have() {
        assert_eq!(shown(&None), "none");
        assert_eq!(shown(&Some(ObjectKey::default())), "configuration");
        assert_eq!(shown(&lane("none")), "team/none");
    }
}
