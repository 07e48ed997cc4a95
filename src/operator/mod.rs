//! The running operator: wiring only. It brings up the endpoints, waits for
//! what it needs, starts the watches and the engine, and ends in order.

mod argo;
mod bodies;
mod cluster;
mod credentials;
mod elector;
mod fenced;
mod hash_key;
mod http;
mod identity;
mod kube_errors;
mod leadership;
mod lease;
mod meta;
mod names;
mod pod_uses;
mod reviews;
mod tenure;
mod watches;
mod wiring;

pub use cluster::{CONTROLLER, resource_of};
pub use hash_key::SECRET_NAME as KEY_SECRET;
pub use identity::secret_names;
pub use kube_errors::with_causes;
pub use leadership::{CLAIM_LEASE, LEADER_LEASE};

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use self::cluster::{KubeCluster, WallClock};
use self::fenced::Fenced;
use self::http::Readiness;
use self::leadership::Leadership;
use self::tenure::Tenure;
use self::watches::Health;
use crate::config::Config;
use crate::policy::OwnIdentity;
use crate::problem::Problem;
use crate::reconcile::Engine;
use crate::render::HashKey;
use crate::telemetry::{self, Metrics};
use crate::vault::HttpVault;

/// Between two tries for what a start needs.
const START_RETRY: Duration = Duration::from_secs(2);

/// What reconciles get to end after SIGTERM; less than the shipped
/// `terminationGracePeriodSeconds`.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);

/// Name of this process in events.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The operator's port to an API server, for tests that hold a model against the
/// real one. It may act in the namespace for an hour, without election or claim.
#[doc(hidden)]
#[must_use]
pub fn cluster_port(client: Client, namespace: &str) -> impl crate::reconcile::ports::Cluster {
    let tenure = Rc::new(Tenure::new(true));
    tenure.claim(namespace, tenure::Moment::now(), Duration::from_secs(3600));
    KubeCluster::new(client, Rc::new(Metrics::new()), "test".to_owned(), tenure)
}

type Operator = Engine<KubeCluster, Fenced<HttpVault>, WallClock>;

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
    let mut kube_config = kube_config().await?;
    let own = identity::read(&kube_config).await;
    let name = format!(
        "{}/{} ({})",
        cluster::CONTROLLER,
        env!("CARGO_PKG_VERSION"),
        own.namespace
    );
    if let Ok(name) = ::http::HeaderValue::from_str(&name) {
        kube_config.headers.push((::http::header::USER_AGENT, name));
    }
    let client = Client::try_from(kube_config).map_err(|error| {
        format!("the API server's address or certificates cannot be used: {error}")
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        revision = crate::REVISION,
        namespace = own.namespace,
        service_account = own.service_account,
        "started"
    );
    let metrics = Rc::new(metrics);
    let process = Process::name()?;
    let tenure = Rc::new(Tenure::new(!config.leader_elect));
    let cluster = Rc::new(KubeCluster::new(
        client.clone(),
        Rc::clone(&metrics),
        process.host.clone(),
        Rc::clone(&tenure),
    ));
    let key = wait_for_key(&cluster, &own.namespace, &readiness);
    let Some(key) = stop.run_until_cancelled(key).await else {
        return Ok(());
    };
    let found = Found {
        client,
        cluster,
        tenure,
        process,
        own,
        key,
        metrics,
        readiness,
    };
    let ended = serve(config, found, &mut background, &stop).await?;
    background.abort_all();
    tracing::info!(in_order = ended, "ended");
    Ok(())
}

/// What a start has found and made.
struct Found {
    client: Client,
    cluster: Rc<KubeCluster>,
    tenure: Rc<Tenure>,
    process: Process,
    own: OwnIdentity,
    key: HashKey,
    metrics: Rc<Metrics>,
    readiness: Readiness,
}

/// Watches, stands for election and works until `stop`; tells whether what was
/// in work came to its end.
async fn serve(
    config: Config,
    found: Found,
    background: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<bool, String> {
    let (client, own) = (&found.client, &found.own);
    let namespaces = config.watched(&own.namespace);
    let health = Health {
        readiness: found.readiness.clone(),
    };
    let engine = wiring::engine(config, &found);
    engine.end_term();
    let key_gone = Rc::new(Notify::new());
    for namespace in &namespaces {
        wiring::watch_all(background, &engine, client, namespace, &health, &key_gone);
    }
    let home = own.namespace.clone();
    for namespace in namespaces.iter().chain([&home]).collect::<BTreeSet<_>>() {
        let (engine, cluster) = (Rc::clone(&engine), Rc::clone(&found.cluster));
        background.spawn_local(reviews::run(engine, cluster, namespace.clone()));
    }
    let keeper = keep_key(
        Rc::clone(&found.cluster),
        home,
        found.key.clone(),
        key_gone,
        Rc::clone(&found.tenure),
    );
    background.spawn_local(keeper);
    let leadership = Leadership {
        engine: Rc::clone(&engine),
        tenure: Rc::clone(&found.tenure),
        readiness: health.readiness,
        metrics: Rc::clone(&found.metrics),
    };
    let elections = leadership::start(leadership, client, own, &namespaces, &found.process.unique);
    found.readiness.has("start");
    let ended = bounded(engine.run(stop.clone()), stop).await;
    elections.resign().await;
    Ok(ended)
}

/// What this process is called.
struct Process {
    /// In events.
    host: String,
    /// Among all instances, also those of one machine.
    unique: String,
}

impl Process {
    fn name() -> Result<Self, String> {
        let host = std::fs::read_to_string(HOSTNAME_FILE).unwrap_or_default();
        let host = crate::problem::printable(&host, 100);
        let host = if host.is_empty() {
            cluster::CONTROLLER.to_owned()
        } else {
            host
        };
        let mut suffix = [0; 4];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut suffix)
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        let unique = format!("{host}-{}", crate::render::hex(&suffix));
        Ok(Self { host, unique })
    }
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
/// when it goes with its whole namespace. That is for the leader to do.
async fn keep_key(
    cluster: Rc<KubeCluster>,
    namespace: String,
    key: HashKey,
    gone: Rc<Notify>,
    tenure: Rc<Tenure>,
) {
    loop {
        gone.notified().await;
        loop {
            // One that stands by may lead before anybody has put it back.
            if tenure.leads() {
                match hash_key::obtain(&cluster, &namespace, Some(&key)).await {
                    Ok(_) | Err(Problem::NamespaceTerminating { .. }) => break,
                    Err(problem) => {
                        tracing::warn!(%problem, "the operator's own key was deleted and cannot be put back yet");
                    }
                }
            }
            tokio::time::sleep(START_RETRY).await;
        }
    }
}
