//! What the operator sees of its tenants' resources, for `/metrics`: counted when
//! somebody asks, so that nothing is kept and nothing can drift. Only an instance
//! that works in a namespace tells of it: the sum over all instances is then true.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::series::{self, Series};
use super::targets::{self, Targets};

/// Numbers by namespace and one more label of few values. What is not told of has no
/// entry; what there is none of has zero.
pub type Counts = BTreeMap<(String, &'static str), usize>;

/// All that one look has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The watched namespaces, and whether this instance works there.
    pub served: BTreeMap<String, bool>,
    /// Custom resources, by kind.
    pub resources: Counts,
    /// Those of them whose VaultConnection (of a VaultAuth) or VaultAuth (of all
    /// others) is not there or may not be used, by kind.
    pub orphaned: Counts,
    /// Secrets of Kubernetes that a resource has a part in.
    pub managed: BTreeMap<String, usize>,
    /// What of Vault is held in them, by the type of the source.
    pub held: Counts,
    /// VaultAuths that resources go through, by method.
    pub auths: Counts,
    /// Secrets that several resources name that do not share them.
    pub contested: BTreeMap<String, usize>,
    /// Custom resources whose condition `Ready` is not true, by kind.
    pub not_ready: Counts,
    /// What is told of single resources.
    pub series: Vec<Series>,
    /// How many more there are, and workloads, that have no series of their own, by the
    /// bound of the configuration; `None` where nothing is told of any.
    pub left_out: Option<usize>,
    /// The workloads that take a new rollout.
    pub targets: Targets,
}

/// The world as it is just now being told.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<World>);

impl Told {
    /// This is told from now on.
    pub(super) fn put(&self, world: World) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = world;
    }
}

/// One family of gauges; without samples it is left out.
fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    samples: impl Iterator<Item = (&'a String, Option<(&'static str, &'static str)>, usize)>,
) -> Result<(), fmt::Error> {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (namespace, label, count) in samples {
        let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let namespace = ("namespace", namespace.as_str());
        match label {
            Some(label) => gauge.encode(family.encode_family(&[namespace, label])?)?,
            None => gauge.encode(family.encode_family(&[namespace])?)?,
        }
    }
    Ok(())
}

/// The samples of numbers that have a label beside the namespace.
fn labelled<'a>(
    label: &'static str,
    counts: &'a Counts,
) -> impl Iterator<Item = (&'a String, Option<(&'static str, &'static str)>, usize)> {
    let sample = move |((namespace, value), count): (&'a (String, &'static str), &usize)| {
        (namespace, Some((label, *value)), *count)
    };
    counts.iter().map(sample)
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let world = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let served = world.served.iter();
        gauges(
            &mut encoder,
            (
                "namespace_served",
                "1 while this instance works in a watched namespace, 0 otherwise",
            ),
            served.map(|(namespace, serves)| (namespace, None, usize::from(*serves))),
        )?;
        gauges(
            &mut encoder,
            (
                "managed_secrets",
                "Secrets of Kubernetes that a custom resource has a part in",
            ),
            world
                .managed
                .iter()
                .map(|(place, count)| (place, None, *count)),
        )?;
        gauges(
            &mut encoder,
            (
                "vault_secrets",
                "Secrets of Vault that Secrets of Kubernetes hold, by the type of their source",
            ),
            labelled("type", &world.held),
        )?;
        gauges(
            &mut encoder,
            ("resources", "Custom resources, by kind"),
            labelled("kind", &world.resources),
        )?;
        gauges(
            &mut encoder,
            (
                "orphaned_resources",
                "Custom resources whose VaultConnection (of a VaultAuth) or VaultAuth is not there or not open to them",
            ),
            labelled("kind", &world.orphaned),
        )?;
        gauges(
            &mut encoder,
            (
                "vault_auths_in_use",
                "VaultAuths that the resources of a namespace go through, by login method",
            ),
            labelled("method", &world.auths),
        )?;
        gauges(
            &mut encoder,
            (
                "contested_secrets",
                "Secrets that several custom resources name as destination and do not share",
            ),
            world
                .contested
                .iter()
                .map(|(place, count)| (place, None, *count)),
        )?;
        gauges(
            &mut encoder,
            (
                "resources_not_ready",
                "Custom resources whose condition Ready is not true of their spec as it is, by kind",
            ),
            labelled("kind", &world.not_ready),
        )?;
        if let Some(count) = world.left_out {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(
                "resource_series_left_out",
                "Custom resources and workloads without series of their own, by telemetry.maxResourceSeries",
                None,
                MetricType::Gauge,
            )?)?;
        }
        series::encode(&mut encoder, &world.series)?;
        targets::encode(&mut encoder, &world.targets)
    }
}
