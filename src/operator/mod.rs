//! The running operator: wiring only. It brings up the endpoints, waits for
//! what it needs, starts the watches and the engine, and ends in order.

mod bodies;
mod cluster;
mod hash_key;
mod http;
mod identity;
mod kube_errors;
mod meta;
mod watches;

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use self::cluster::{KubeCluster, WallClock};
use self::http::Readiness;
use self::watches::{Health, SecretMetadata, WorkloadObject};
use crate::api;
use crate::config::Config;
use crate::key::ObjectKey;
use crate::policy::{OwnIdentity, Policy, address_allowed, redirect_allowed};
use crate::problem::Problem;
use crate::reconcile::kept::Kept;
use crate::reconcile::observe::{Base, Resources, Secrets, Workloads};
use crate::reconcile::view::{Store, WorkloadKind};
use crate::reconcile::{Engine, Parts};
use crate::render::HashKey;
use crate::telemetry::{self, Metrics};
use crate::vault::{HttpVault, Limits, Sessions, TravelRules};

/// Between two tries for what a start needs.
const START_RETRY: Duration = Duration::from_secs(2);

/// What reconciles get to end after SIGTERM; less than the shipped
/// `terminationGracePeriodSeconds`.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);

/// Name of this process in events.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

type Operator = Engine<KubeCluster, HttpVault, WallClock>;

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// A sentence for what no waiting mends: an address in use, no way to an API
/// server, signals that cannot be handled.
pub fn run(config: Config) -> Result<(), String> {
    telemetry::init_logs(config.telemetry.log_format, config.telemetry.log_level);
    std::panic::set_hook(Box::new(|panic| {
        // The place alone: a message could hold what must not be logged.
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "a defect of the operator");
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(LocalSet::new().run_until(start(config)))
}

async fn start(config: Config) -> Result<(), String> {
    let stop = stop_token()?;
    let metrics = Metrics::new();
    let readiness = Readiness::default();
    readiness.waits("start", "the operator is starting");
    let mut background = JoinSet::new();
    for server in endpoints(&config, &metrics, &readiness, &stop).await? {
        background.spawn_local(server);
    }
    let kube_config = kube_config().await?;
    let own = identity::read(&kube_config).await;
    let client = Client::try_from(kube_config).map_err(|error| {
        format!("the API server's address or certificates cannot be used: {error}")
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = own.namespace,
        service_account = own.service_account,
        "started"
    );
    let metrics = Rc::new(metrics);
    let cluster = KubeCluster::new(client.clone(), Rc::clone(&metrics), instance());
    let cluster = Rc::new(cluster);
    let key = wait_for_key(&cluster, &own.namespace, &readiness);
    let Some(key) = stop.run_until_cancelled(key).await else {
        return Ok(());
    };
    let namespace = config
        .watch_namespaces
        .first()
        .unwrap_or(&own.namespace)
        .clone();
    let health = Health {
        readiness: readiness.clone(),
        metrics: Rc::clone(&metrics),
    };
    let engine = engine(config, own, Rc::clone(&cluster), key.clone(), metrics);
    let key_gone = Rc::new(Notify::new());
    watch_all(
        &mut background,
        &engine,
        &client,
        &namespace,
        &health,
        &key_gone,
    );
    background.spawn_local(keep_key(
        cluster,
        engine.own_namespace().to_owned(),
        key,
        key_gone,
    ));
    readiness.has("start");
    let work = Rc::clone(&engine).run(stop.clone());
    let ended = bounded(work, &stop).await;
    background.abort_all();
    tracing::info!(in_order = ended, "ended");
    Ok(())
}

/// Runs the work to its end, but no longer than the limit after `stop`.
async fn bounded(work: impl Future<Output = ()>, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = work => true,
        () = async { stop.cancelled().await; tokio::time::sleep(SHUTDOWN_LIMIT).await } => false,
    }
}

fn stop_token() -> Result<CancellationToken, String> {
    let token = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut stream = signal(kind).map_err(|error| format!("cannot handle signals: {error}"))?;
        let token = token.clone();
        tokio::task::spawn_local(async move {
            stream.recv().await;
            token.cancel();
        });
    }
    Ok(token)
}

async fn endpoints(
    config: &Config,
    metrics: &Metrics,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<Vec<futures::future::LocalBoxFuture<'static, ()>>, String> {
    use futures::FutureExt as _;
    let mut servers = Vec::new();
    let telemetry = &config.telemetry;
    if let Some(listener) = http::listen(
        telemetry.health_probe_bind_address,
        "telemetry.healthProbeBindAddress",
    )
    .await?
    {
        servers.push(http::probes(listener, readiness.clone(), stop.clone()).boxed_local());
    }
    if let Some(listener) = http::listen(
        telemetry.metrics_bind_address,
        "telemetry.metricsBindAddress",
    )
    .await?
    {
        servers.push(http::metrics(listener, metrics.clone(), stop.clone()).boxed_local());
    }
    Ok(servers)
}

async fn kube_config() -> Result<kube::Config, String> {
    let mut config = kube::Config::infer().await.map_err(|error| {
        format!("no way to an API server: {error}; run in a pod with a ServiceAccount token, or set KUBECONFIG")
    })?;
    // Our own backoff decides; the client's would hold a reconcile for minutes.
    config.default_retry = false;
    Ok(config)
}

/// Ends with the key only: whoever calls it stops waiting on SIGTERM.
async fn wait_for_key(cluster: &KubeCluster, namespace: &str, readiness: &Readiness) -> HashKey {
    let topic = format!("Secret {namespace}/{}", hash_key::SECRET_NAME);
    loop {
        match hash_key::obtain(cluster, namespace, None).await {
            Ok(key) => {
                readiness.has(&topic);
                return key;
            }
            Err(problem) => {
                if readiness.waits(&topic, &problem.to_string()) {
                    tracing::warn!(%problem, "waiting for the operator's own key");
                }
            }
        }
        tokio::time::sleep(START_RETRY).await;
    }
}

/// Puts the key back when somebody deletes it under a running operator; not
/// when it goes with its whole namespace.
async fn keep_key(cluster: Rc<KubeCluster>, namespace: String, key: HashKey, gone: Rc<Notify>) {
    loop {
        gone.notified().await;
        while let Err(problem) = hash_key::obtain(&cluster, &namespace, Some(&key)).await {
            if matches!(problem, Problem::NamespaceTerminating { .. }) {
                break;
            }
            tracing::warn!(%problem, "the operator's own key was deleted and cannot be put back yet");
            tokio::time::sleep(START_RETRY).await;
        }
    }
}

/// The name of this process in events.
fn instance() -> String {
    let name = std::fs::read_to_string(HOSTNAME_FILE).unwrap_or_default();
    let name = crate::problem::printable(&name, 100);
    if name.is_empty() {
        cluster::CONTROLLER.to_owned()
    } else {
        name
    }
}

fn engine(
    config: Config,
    own: OwnIdentity,
    kubernetes: Rc<KubeCluster>,
    key: HashKey,
    metrics: Rc<Metrics>,
) -> Rc<Operator> {
    let policy = Arc::new(Policy::new(&config));
    let limits = Limits {
        requests_per_second: at_least_one(config.sync.vault_requests_per_second),
        burst: at_least_one(config.sync.vault_requests_burst),
    };
    let observed = Rc::clone(&metrics);
    let vault = HttpVault::new(
        &own.namespace,
        limits,
        travel_rules(&policy, &own),
        Rc::new(move |operation, outcome, seconds| {
            observed.vault_request(operation, outcome, Duration::from_secs_f64(seconds));
        }),
    );
    Rc::new(Engine::new(Parts {
        sessions: Sessions::new(Rc::clone(&kubernetes), vault),
        cluster: kubernetes,
        clock: WallClock,
        config,
        policy,
        own,
        key,
        metrics,
    }))
}

/// The configuration refuses zero; the type says so.
fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn travel_rules(policy: &Arc<Policy>, own: &OwnIdentity) -> TravelRules {
    let (rules, own) = (Arc::clone(policy), own.clone());
    let redirects = Arc::clone(policy);
    TravelRules {
        address: Arc::new(move |ip, connection| {
            let listed = rules.lists(&connection.address);
            address_allowed(ip, listed, &own).map_err(|problem| problem.to_string())
        }),
        redirect: Arc::new(move |to, connection| {
            let url = |text: &str| reqwest::Url::parse(text).map_err(|error| error.to_string());
            let (from, to) = (url(&connection.address)?, url(to)?);
            redirect_allowed(&from, &to, &redirects).map_err(|problem| problem.to_string())
        }),
    }
}

fn watch_all(
    tasks: &mut JoinSet<()>,
    engine: &Rc<Operator>,
    client: &Client,
    namespace: &str,
    health: &Health,
    key_gone: &Rc<Notify>,
) {
    let own = |store| Base::new(Rc::clone(engine), store, namespace);
    macro_rules! resources {
        ($($type:ty),+) => {$({
            let store = Store::Resource(<$type as Kept>::KIND);
            let api: Api<DeserializeGuard<$type>> = Api::namespaced(client.clone(), namespace);
            let (namespace, health, observer) = (namespace.to_owned(), health.clone(), Resources(own(store)));
            tasks.spawn_local(async move { watches::run(api, store, &namespace, health, meta::resource, observer).await });
        })+};
    }
    resources!(
        api::VaultConnection,
        api::VaultAuth,
        api::VaultAuthGlobal,
        api::SecretTransformation,
        api::VaultStaticSecret,
        api::VaultDynamicSecret,
        api::VaultPKISecret
    );
    let secrets: Api<SecretMetadata> = Api::namespaced(client.clone(), namespace);
    let observer = Secrets {
        base: own(Store::Secrets),
        own_key: ObjectKey::new(engine.own_namespace(), hash_key::SECRET_NAME),
        own_key_gone: Rc::clone(key_gone),
    };
    let (place, fares) = (namespace.to_owned(), health.clone());
    let cut = |object| Some(meta::secret(object));
    tasks.spawn_local(async move {
        watches::run(secrets, Store::Secrets, &place, fares, cut, observer).await
    });
    for kind in WorkloadKind::ALL
        .into_iter()
        .filter(|kind| engine.restarts(*kind))
    {
        let store = Store::Workloads(kind);
        let resource = meta::workload_resource(kind);
        let api: Api<WorkloadObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let (namespace, health, observer) = (
            namespace.to_owned(),
            health.clone(),
            Workloads(own(store), kind),
        );
        let cut = |object| Some(meta::workload(object));
        tasks.spawn_local(async move {
            watches::run(api, store, &namespace, health, cut, observer).await
        });
    }
}
