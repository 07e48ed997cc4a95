//! What telemetry takes of the memory, counted for this thread alone.
#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use jiff::Timestamp;

use super::*;
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::telemetry::{Life, Series, Target};

/// All that a reconcile tells.
fn reconcile(metrics: &Metrics) {
    let took = Duration::from_millis(3);
    let kind = "VaultStaticSecret";
    metrics.reconciled(kind, &None, &Next::Settled(None), took);
    metrics.synced("team", kind, "ok");
    metrics.drift_repaired("team", kind);
    metrics.vault_request("read", "ok", took);
    metrics.vault_login("kubernetes", "ok");
    metrics.kubernetes_request("get", "ok", took);
    metrics.secret_written();
    metrics.minted();
}

#[test]
fn a_reconcile_allocates_nothing_for_its_series() {
    let metrics = Metrics::new();
    let first = measure(|| reconcile(&metrics));
    assert!(first.count_total > 0, "its series are made: {first:?}");
    let others = measure(|| (0..1000).for_each(|_| reconcile(&metrics)));
    assert_eq!(others.count_total, 0, "{others:?}");
}

/// All that is looked up for a thousand resources, of which everything is told, and for so
/// many workloads with a restart that waits.
fn world(targets: usize) -> World {
    let at = Some(Timestamp::UNIX_EPOCH);
    let namespace: Arc<str> = "payments-production".into();
    let name = |number: usize| format!("payments-database-{number}");
    let series = (0..1000).map(|number| Series {
        kind: "VaultDynamicSecret",
        namespace: Arc::clone(&namespace),
        name: name(number).into(),
        ready: Some(true),
        last_success: at,
        next_due: at,
        expiry: at,
        token_expiry: at,
        breaker_open: None,
    });
    let targets = (0..targets).map(|number| {
        let target = Target {
            restarts: 1,
            pending: [("Window", 1)].into_iter().collect(),
            failed: 0,
        };
        (("Deployment", namespace.to_string(), name(number)), target)
    });
    World {
        series: series.collect(),
        targets: targets.collect(),
        ..World::default()
    }
}

/// What telemetry takes: at the most, while somebody asks, and from one look to the next.
fn taken(targets: usize) -> (u64, u64) {
    let mut metrics = None;
    let taken = measure(|| {
        let metrics = metrics.insert(Metrics::new());
        metrics.looks(move || world(targets));
        for number in 0..1000 {
            let object = ObjectKey::new("payments-production", format!("payments-{number}"));
            let kind = Kind::VaultDynamicSecret;
            let life = Life {
                expiry: Some(Timestamp::UNIX_EPOCH),
                token: Some(format!("token-{number:064}")),
                ..Life::default()
            };
            let resource = ResourceKey { kind, object };
            metrics.lives().holds(&resource, Some(life));
            reconcile(metrics);
        }
        for accept in ["", "application/openmetrics-text"] {
            assert!(metrics.exposition(accept).1.len() > 500_000);
        }
    });
    (taken.bytes_max, taken.bytes_current.try_into().unwrap())
}

#[test]
fn telemetry_of_a_thousand_resources_takes_less_than_a_megabyte_and_a_half() {
    const LIMIT: u64 = 1_500_000;
    let (most, kept) = taken(0);
    println!("at most {most} bytes, from one look to the next {kept}");
    println!("with as many workloads {:?}", taken(1000));
    assert!(kept > 100_000, "{kept}: something is not counted");
    assert!(kept < most && most < LIMIT, "{most}");
}
