//! Metric families, prefix `vto_`, and their exposition in both text formats.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::accept::prefers_openmetrics;
use super::labels::{
    Login, Namespace, OfKind, Operation, Place, Reconcile, Refusal, Request, Resource, Sync,
    Withheld,
};
use super::lanes::Lanes;
use super::lives::Lives;
use super::process::Process;
use super::world::{Told, World};
use crate::problem::Problem;
use crate::reconcile::{Lane, Next};

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Counts what there is of resources, when somebody asks.
type Look = Box<dyn Fn() -> World>;

/// All that is counted. Cheap to clone: clones share their counters.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Reconcile, Counter>,
    lanes: Arc<Lanes>,
    syncs: Family<Sync, Counter>,
    drift_repairs: Family<Place, Counter>,
    policy_denials: Family<Refusal, Counter>,
    vault_requests: Family<Request, Counter>,
    vault_seconds: Durations<Operation>,
    vault_logins: Family<Login, Counter>,
    kubernetes_requests: Family<Request, Counter>,
    kubernetes_seconds: Durations<Operation>,
    secret_writes: Counter,
    minted: Counter,
    left_to_expire: Counter,
    watch_failing: Family<Resource, Gauge>,
    leader: Gauge,
    withheld: Family<Withheld, Gauge>,
    pruned: Family<OfKind, Gauge>,
    rights_missing: Family<Namespace, Gauge>,
    rights_surplus: Family<Namespace, Gauge>,
    lives: Arc<Lives>,
    told: Arc<Told>,
    look: Rc<OnceCell<Look>>,
    /// Names of namespaces, each once for all labels.
    names: Arc<Mutex<BTreeSet<Arc<str>>>>,
    /// How long the last text was.
    length: Rc<Cell<usize>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn set(family: &Family<Namespace, Gauge>, namespace: &str, count: usize) {
    let namespace = namespace.to_owned();
    family
        .get_or_create_owned(&Namespace { namespace })
        .set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// About so many bytes are told of one resource with all that it can have, and of one
/// workload.
const OF_A_RESOURCE: usize = 640;
const OF_A_WORKLOAD: usize = 400;

/// From 1 ms to about 16 s.
pub(super) fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Durations::new_with_constructor(seconds as fn() -> Histogram)
}

impl Metrics {
    /// Empty families, registered.
    #[must_use]
    pub fn new() -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(Process::starting()));
        let registry = all.sub_registry_with_prefix("vto");
        let new = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            lanes: Arc::default(),
            syncs: Family::default(),
            drift_repairs: Family::default(),
            policy_denials: Family::default(),
            vault_requests: Family::default(),
            vault_seconds: durations(),
            vault_logins: Family::default(),
            kubernetes_requests: Family::default(),
            kubernetes_seconds: durations(),
            secret_writes: Counter::default(),
            minted: Counter::default(),
            left_to_expire: Counter::default(),
            watch_failing: Family::default(),
            leader: Gauge::default(),
            withheld: Family::default(),
            pruned: Family::default(),
            rights_missing: Family::default(),
            rights_surplus: Family::default(),
            lives: Arc::default(),
            told: Arc::default(),
            look: Rc::default(),
            names: Arc::default(),
            length: Rc::default(),
        };
        registry.register(
            "build",
            "Version of the operator, the commit that it was built from, and the processor that it was built for",
            Info::new([
                ("version", env!("CARGO_PKG_VERSION")),
                ("revision", crate::REVISION),
                ("arch", std::env::consts::ARCH),
            ]),
        );
        registry.register(
            "reconciles",
            "Reconciles by kind and outcome: ok, or the reason of the problem",
            new.reconciles.clone(),
        );
        let unit = || Unit::Seconds;
        registry.register(
            "syncs",
            "Syncs by namespace, kind and outcome: ok, where a source was read and its Secret is right, or the reason of the problem",
            new.syncs.clone(),
        );
        registry.register(
            "drift_repairs",
            "Secrets that somebody else changed or deleted and that were put right, by the kind and namespace of their resource",
            new.drift_repairs.clone(),
        );
        registry.register(
            "policy_denials",
            "Reconciles that ended with a refusal by a guardrail, by its rule",
            new.policy_denials.clone(),
        );
        registry.register(
            "vault_requests",
            "Requests to Vault by operation and outcome",
            new.vault_requests.clone(),
        );
        registry.register_with_unit(
            "vault_request_duration",
            "Time of a request to Vault",
            unit(),
            new.vault_seconds.clone(),
        );
        registry.register(
            "vault_logins",
            "Logins at Vault by the method of the VaultAuth and outcome: ok, or the reason of the problem",
            new.vault_logins.clone(),
        );
        registry.register(
            "kubernetes_requests",
            "Requests to the API server, without watches, by verb and outcome",
            new.kubernetes_requests.clone(),
        );
        registry.register_with_unit(
            "kubernetes_request_duration",
            "Time of a request to the API server",
            unit(),
            new.kubernetes_seconds.clone(),
        );
        registry.register(
            "secret_writes",
            "Writes of destination Secrets",
            new.secret_writes.clone(),
        );
        registry.register(
            "credentials_minted",
            "Credentials that Vault made for this instance",
            new.minted.clone(),
        );
        registry.register(
            "leases_left_to_expire",
            "Leases that could not be given back and were left to their end",
            new.left_to_expire.clone(),
        );
        registry.register(
            "watch_failing",
            "How many watches of a resource fail: 1 or 0, or so many names in the grade named",
            new.watch_failing.clone(),
        );
        registry.register(
            "leader",
            "1 while this instance leads, 0 while it stands by",
            new.leader.clone(),
        );
        registry.register(
            "namespace_withheld",
            "1 while this instance leads and does nothing in a namespace for this reason, 0 otherwise",
            new.withheld.clone(),
        );
        registry.register(
            "pruned_status_fields",
            "Status fields that the definition of a kind in the cluster lacks: it is not ours",
            new.pruned.clone(),
        );
        registry.register(
            "rights_missing",
            "Rights that the operator needs in a namespace and has not; the log has the rules to add",
            new.rights_missing.clone(),
        );
        registry.register(
            "rights_surplus",
            "Rights that the operator has in a namespace and does not need; the log names them",
            new.rights_surplus.clone(),
        );
        registry.register_collector(Box::new(Arc::clone(&new.lanes)));
        registry.register_collector(Box::new(Arc::clone(&new.lives)));
        registry.register_collector(Box::new(Arc::clone(&new.told)));
        Self {
            registry: Arc::new(all),
            ..new
        }
    }

    /// So many fields of a kind's status are not kept by the cluster.
    pub fn pruned(&self, kind: &'static str, fields: usize) {
        let fields = i64::try_from(fields).unwrap_or(i64::MAX);
        self.pruned.get_or_create(&OfKind { kind }).set(fields);
    }

    /// How long what is held lasts.
    #[must_use]
    pub fn lives(&self) -> &Lives {
        &self.lives
    }

    /// What is in work by lane.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: &'static str, lane: &Lane, next: &Next, took: Duration) {
        let outcome = match next {
            Next::Settled(_) => "ok",
            Next::Failed(problem) => problem.reason(),
        };
        self.reconciles
            .get_or_create(&Reconcile { kind, outcome })
            .inc();
        if let Next::Failed(Problem::PolicyDenied { rule, .. }) = next {
            self.policy_denials.get_or_create(&Refusal { rule }).inc();
        }
        self.lanes.took(lane, kind, took);
    }

    /// A source was read and its Secret is right (`ok`), or why not.
    pub fn synced(&self, namespace: &str, kind: &'static str, outcome: &'static str) {
        let namespace = self.name(namespace);
        let sync = Sync {
            namespace,
            kind,
            outcome,
        };
        self.syncs.get_or_create(&sync).inc();
    }

    /// A Secret that somebody else changed or deleted was put right.
    pub fn drift_repaired(&self, namespace: &str, kind: &'static str) {
        let namespace = self.name(namespace);
        let place = Place { kind, namespace };
        self.drift_repairs.get_or_create(&place).inc();
    }

    /// The name of a namespace as labels have it.
    fn name(&self, namespace: &str) -> Arc<str> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(namespace) {
            return Arc::clone(known);
        }
        let new: Arc<str> = namespace.into();
        names.insert(Arc::clone(&new));
        new
    }

    /// A request to Vault ended.
    pub fn vault_request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.vault_requests
            .get_or_create(&Request { operation, outcome })
            .inc();
        self.vault_seconds
            .get_or_create(&Operation { operation })
            .observe(took.as_secs_f64());
    }

    /// A login at Vault ended.
    pub fn vault_login(&self, method: &'static str, outcome: &'static str) {
        self.vault_logins
            .get_or_create(&Login { method, outcome })
            .inc();
    }

    /// A request to the API server ended.
    pub fn kubernetes_request(
        &self,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.kubernetes_requests
            .get_or_create(&Request { operation, outcome })
            .inc();
        self.kubernetes_seconds
            .get_or_create(&Operation { operation })
            .observe(took.as_secs_f64());
    }

    /// A destination was written.
    pub fn secret_written(&self) {
        self.secret_writes.inc();
    }

    /// Vault made something.
    pub fn minted(&self) {
        self.minted.inc();
    }

    /// A lease ended before it could be given back.
    pub fn left_to_expire(&self) {
        self.left_to_expire.inc();
    }

    /// How many watches of a resource fail in a namespace.
    pub fn watches_failing(&self, resource: &str, namespace: &str, failing: usize) {
        let gauge = self.watch_failing.get_or_create_owned(&Resource {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
        });
        gauge.set(i64::try_from(failing).unwrap_or(i64::MAX));
    }

    /// So many rights are missing in a namespace.
    pub fn rights_missing(&self, namespace: &str, count: usize) {
        set(&self.rights_missing, namespace, count);
    }

    /// So many rights in a namespace are not needed.
    pub fn rights_surplus(&self, namespace: &str, count: usize) {
        set(&self.rights_surplus, namespace, count);
    }

    /// This instance leads, or stands by.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Nothing is done in a namespace for this reason, or not for this one.
    pub fn withheld(&self, namespace: &str, reason: &'static str, is: bool) {
        let gauge = self.withheld.get_or_create_owned(&Withheld {
            namespace: namespace.to_owned(),
            reason,
        });
        gauge.set(i64::from(is));
    }

    /// How resources are counted whenever somebody asks; said once.
    pub fn looks(&self, look: impl Fn() -> World + 'static) {
        let _ = self.look.set(Box::new(look));
    }

    /// All families as text, in the format that the `Accept` header asks for,
    /// with its content type.
    #[must_use]
    pub fn exposition(&self, accept: &str) -> (&'static str, String) {
        use prometheus_client::encoding::{prometheus_text, text};
        let world = self.look.get().map(|look| look()).unwrap_or_default();
        // At once as long as it will be: text that grows is there twice for a moment.
        let length = self.length.get();
        let first = world.series.len() * OF_A_RESOURCE + world.targets.len() * OF_A_WORKLOAD;
        let mut out = String::with_capacity(first.max(length + length / 8));
        self.told.put(world);
        // Writing to a String cannot fail.
        let type_ = if prefers_openmetrics(accept) {
            let _ = text::encode(&mut out, &self.registry);
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        } else {
            let _ = prometheus_text::encode(&mut out, &self.registry);
            prometheus_text::CONTENT_TYPE
        };
        self.told.put(World::default());
        self.length.set(out.len());
        (type_, out)
    }
}

#[cfg(test)]
#[path = "allocation_tests.rs"]
mod allocations;

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
