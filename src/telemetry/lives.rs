//! How long what Vault gave lasts, for `/metrics`: as times, since what is left of
//! them changes without anything happening (Prometheus' advice, "Timestamps, not
//! time since": `vto_secret_expiry_timestamp_seconds - time()`). The least of all
//! is found when it is asked for; those of single resources are told in `series`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::key::ResourceKey;

/// What is known of all that this instance holds.
#[derive(Debug, Default)]
pub struct Lives(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    resources: BTreeMap<ResourceKey, Life>,
    /// Ends of tokens, by the names of their entries in the ledger; `None`: never.
    tokens: BTreeMap<String, Option<Timestamp>>,
    leases: usize,
    unseen: BTreeSet<ResourceKey>,
}

/// How long what one resource holds lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// When Vault last gave it, or renewed it.
    pub given: Option<Timestamp>,
    /// When it ends if nobody renews it; `None`: not by itself.
    pub expiry: Option<Timestamp>,
    /// Until when it works, as its status says.
    pub survives_until: Option<Timestamp>,
    /// The ledger's entry of the token that it hangs on.
    pub token: Option<String>,
}

impl Lives {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A resource holds this, or nothing.
    pub fn holds(&self, resource: &ResourceKey, life: Option<Life>) {
        let mut known = self.known();
        match life {
            Some(life) => known.resources.insert(resource.clone(), life),
            None => known.resources.remove(resource),
        };
    }

    /// When what a resource holds was last given, and when it ends.
    #[must_use]
    pub fn times_of(&self, resource: &ResourceKey) -> (Option<Timestamp>, Option<Timestamp>) {
        let known = self.known();
        let life = known.resources.get(resource);
        life.map_or((None, None), |life| (life.given, life.expiry))
    }

    /// Nothing is held in a namespace any more, as far as this instance goes.
    pub fn leave(&self, namespace: &str) {
        let mut known = self.known();
        known
            .resources
            .retain(|resource, _| resource.object.namespace != namespace);
    }

    /// When a token ends; `None`: never.
    pub fn token_ends(&self, name: &str, ends: Option<Timestamp>) {
        self.known().tokens.insert(name.to_owned(), ends);
    }

    /// No lease hangs on a token any more.
    pub fn token_gone(&self, name: &str) {
        self.known().tokens.remove(name);
    }

    /// So many leases are held.
    pub fn leases(&self, count: usize) {
        self.known().leases = count;
    }

    /// Whether it can be seen if a resource with leases is still there.
    pub fn unseen(&self, resource: &ResourceKey, unseen: bool) {
        let mut known = self.known();
        match unseen {
            true => known.unseen.insert(resource.clone()),
            false => known.unseen.remove(resource),
        };
    }

    /// Another instance may hold all of it from now on.
    pub fn clear(&self) {
        *self.known() = Known::default();
    }
}

impl Known {
    /// The first end of all that would come if nobody renewed anything.
    fn survives_until(&self) -> Option<Timestamp> {
        let least = |life: &Life| {
            let token = life.token.as_ref().and_then(|name| self.tokens.get(name));
            match token {
                Some(ends) => ends.iter().chain(&life.expiry).min().copied(),
                None => life.survives_until,
            }
        };
        self.resources.values().filter_map(least).min()
    }
}

impl Collector for Lives {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let known = self.known();
        let (gauge, seconds) = (MetricType::Gauge, Unit::Seconds);
        ConstGauge::new(i64::try_from(known.leases).unwrap_or(i64::MAX)).encode(
            encoder.encode_descriptor(
                "leases_held",
                "Leases that are renewed and given back in the end, those of before among them",
                None,
                gauge,
            )?,
        )?;
        ConstGauge::new(i64::try_from(known.unseen.len()).unwrap_or(i64::MAX)).encode(
            encoder.encode_descriptor(
                "resources_unseen",
                "Resources with leases of which nobody can see whether they are still there",
                None,
                gauge,
            )?,
        )?;
        if let Some(until) = known.survives_until() {
            ConstGauge::new(until.as_second()).encode(encoder.encode_descriptor(
                "survives_until_timestamp",
                "When the first of what is held would end if the operator or Vault stopped now",
                Some(&seconds),
                gauge,
            )?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key::{Kind, ObjectKey};

    #[test]
    fn the_first_end_of_all_is_that_of_a_secret_or_of_its_token() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let key = |name: &str| ResourceKey {
            kind: Kind::VaultDynamicSecret,
            object: ObjectKey::new("team", name),
        };
        let lives = Lives::default();
        let first = || lives.known().survives_until().map(Timestamp::as_second);
        let life = |expiry, told, token: Option<&str>| {
            Some(Life {
                given: None,
                expiry: Some(at(expiry)),
                survives_until: Some(at(told)),
                token: token.map(str::to_owned),
            })
        };
        assert_eq!(first(), None);
        lives.holds(&key("a"), life(500, 500, None));
        lives.holds(&key("b"), life(900, 300, Some("t")));
        assert_eq!(first(), Some(300), "as status says");
        lives.token_ends("t", Some(at(400)));
        assert_eq!(first(), Some(400), "the token was renewed");
        lives.token_ends("t", None);
        assert_eq!(first(), Some(500), "it never ends");
        lives.holds(&key("a"), None);
        assert_eq!(first(), Some(900));
        lives.leave("team");
        assert_eq!(first(), None);
    }
}
