//! The ground: a real Kubernetes control plane, a fake node and a real Vault on loopback, and a real PostgreSQL where it
//! is asked for; for tests, the sandbox and benchmarks.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use ground::{Ground, Options};
//! let ground = Ground::start(Options::default()).await?;
//! let tenant = ground.tenant("example").await?;
//! tenant.vault.kv2_put(&tenant.kv2, "app/db", &serde_json::json!({ "password": "x" })).await?;
//! ground.stop().await
//! # }
//! ```
//!
//! Every program that starts a ground calls [`supervisor::dispatch`] first thing in `main`. No process of a ground
//! outlives that program, however it ends, and none of its files does when it ended well.

pub mod argo;
mod components;
pub mod control_plane;
mod disk;
pub mod documents;
pub mod engines;
pub mod faults;
mod go_build;
pub mod image;
pub mod judges;
pub mod kubeconfig;
pub mod manifests;
pub mod nobody;
pub mod node;
pub mod operator;
pub mod paths;
pub mod pki;
pub mod ports;
pub mod postgres;
pub mod process;
mod progress;
pub mod prometheus;
pub mod resources;
pub mod selftest;
pub mod shipped;
pub mod supervisor;
pub mod tenant;
pub mod terminal;
mod tls;
pub mod tls_peers;
pub mod vault;
pub mod vault_api;
pub mod vault_leases;
pub mod vault_rights;
pub mod wait;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use components::Components;
pub use control_plane::ControlPlane;
pub use node::{Node, NodeKind};
pub use operator::{Operator, OperatorBinary};
pub use postgres::Postgres;
pub use process::{Exit, Process};
pub use prometheus::Prometheus;
pub use tenant::Tenant;
pub use vault::{Vault, VaultStorage};
pub use vault_api::VaultApi;
pub use vault_rights::{Right, TokenRules};
pub use wait::wait_for;

use paths::RunDir;
use pki::Pki;
use tenant::Setting;
use tokio::sync::OnceCell;

/// How long the processes of a cancelled start may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// What kind of ground to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether the CRDs of `kustomize/crds` are installed.
    pub crds: bool,
    /// Where Vault keeps its data.
    pub vault_storage: VaultStorage,
    /// What plays the node.
    pub node: NodeKind,
    /// The repository whose `kustomize/` the tenants get.
    pub repository: PathBuf,
}

impl Default for Options {
    /// CRDs installed, Vault in memory, a fake node, this repository.
    fn default() -> Self {
        Self {
            crds: true,
            vault_storage: VaultStorage::Memory,
            node: NodeKind::Fake,
            repository: paths::repository(),
        }
    }
}

/// A running control plane, node and Vault.
pub struct Ground {
    /// The control plane.
    pub plane: ControlPlane,
    /// The node, if it is a real one.
    pub node: Option<Node>,
    /// Vault.
    pub vault: Vault,
    /// A client of the API server that acts as administrator.
    pub client: kube::Client,
    /// The CA of all certificates.
    pub pki: Pki,
    components: Components,
    /// What became of its start, for all who ask for it.
    postgres: OnceCell<Result<Postgres, String>>,
    /// The same of Prometheus.
    prometheus: OnceCell<Result<Prometheus, String>>,
    repository: PathBuf,
    tenants: AtomicU32,
    stopped: AtomicBool,
    run: RunDir,
}

impl Ground {
    /// Builds what is missing and starts everything; returns when pods can run and Vault takes logins.
    ///
    /// Dropped before it returns, it leaves neither a process nor a folder.
    ///
    /// # Errors
    /// A component can't be built or started: the error says what to do, and names the folder with all logs.
    pub async fn start(options: Options) -> Result<Self> {
        // Only the first caller in a process installs it; it is the same one anyway.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let components = Components::find(options.node).await?;
        let run = RunDir::create(&paths::ground().join("runs")).map_err(disk::name_if_full)?;
        let dir = run.path().to_owned();
        let starting = Starting(Some(run));
        let started = start_in(&dir, &components, &options).await;
        let run = starting.over()?;
        match started {
            Ok(Parts {
                pki,
                plane,
                node,
                vault,
                client,
            }) => Ok(Self {
                plane,
                node,
                vault,
                client,
                pki,
                components,
                postgres: OnceCell::new(),
                prometheus: OnceCell::new(),
                repository: options.repository,
                tenants: AtomicU32::new(0),
                stopped: AtomicBool::new(false),
                run,
            }),
            Err(error) => {
                run.keep();
                let logs = dir.display();
                let error =
                    error.context(format!("the ground does not start; its logs are in {logs}"));
                Err(disk::name_if_full_in(error, &dir))
            }
        }
    }

    /// A new tenant with a namespace `t-NAME-N` of its own.
    ///
    /// # Errors
    /// The API server, kustomize or Vault refuses a step.
    pub async fn tenant(&self, name: &str) -> Result<Tenant> {
        let number = self.tenants.fetch_add(1, Ordering::Relaxed) + 1;
        let namespace = format!("t-{}-{number}", tenant::label(name));
        let (setting, dir) = self.setting_of(&namespace)?;
        let tenant = Tenant::create(setting, namespace.clone(), dir).await;
        tenant.with_context(|| format!("the tenant {namespace}"))
    }

    /// A tenant whose namespace, `kustomize/` overlay and side of Vault the caller sets up: nothing is created here.
    ///
    /// Its mounts are not [`kv1`](Tenant::kv1) and [`kv2`](Tenant::kv2) unless the caller makes them.
    ///
    /// # Errors
    /// Its folder can't be made.
    pub fn adopt(&self, namespace: &str) -> Result<Tenant> {
        let (setting, dir) = self.setting_of(namespace)?;
        Tenant::new(setting, namespace.to_owned(), dir)
    }

    /// PostgreSQL, started by the first who asks for it.
    ///
    /// # Errors
    /// It can't be brought or started.
    pub async fn postgres(&self) -> Result<&Postgres> {
        let started = self.postgres.get_or_init(async || {
            let started = Postgres::start(
                &self.components,
                self.dir(),
                "postgresql",
                postgres::installed(),
                match self.node {
                    None => "127.0.0.1",
                    Some(_) => node::ADDRESS,
                },
            );
            started.await.map_err(|error| format!("{error:#}"))
        });
        started.await.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn started_postgres(&self) -> Option<&Postgres> {
        self.postgres.get()?.as_ref().ok()
    }

    /// Prometheus, started by the first who asks for it.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn prometheus(&self) -> Result<&Prometheus> {
        let started = self.prometheus.get_or_init(async || {
            let started = Prometheus::start(&self.components, self.dir()).await;
            started.map_err(|error| format!("{error:#}"))
        });
        started.await.as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn started_prometheus(&self) -> Option<&Prometheus> {
        self.prometheus.get()?.as_ref().ok()
    }

    fn setting_of(&self, namespace: &str) -> Result<(Setting, PathBuf)> {
        let setting = Setting {
            client: self.client.clone(),
            vault: self.vault.api.clone(),
            vault_address: self.vault.address.clone(),
            api_url: self.plane.url.clone(),
            ca_file: self.pki.ca_file(),
            ca_pem: self.pki.ca_pem.clone(),
            kustomize: self.components.path("kustomize")?.to_owned(),
            repository: self.repository.clone(),
        };
        Ok((setting, self.dir().join("tenants").join(namespace)))
    }

    /// The folder of this run: logs, audit logs, certificates, kubeconfigs.
    pub fn dir(&self) -> &Path {
        self.run.path()
    }

    /// The programs that this ground is made of.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// Keeps the folder of this run after its end, so that somebody can read its logs.
    pub fn keep(&self) {
        self.run.keep();
    }

    /// Every component's process; those of PostgreSQL and Prometheus only if they were asked for.
    pub fn processes(&self) -> Vec<&Process> {
        let mut all = self.plane.processes();
        all.push(&self.vault.process);
        all.extend(self.node.iter().flat_map(Node::processes));
        all.extend(self.started_postgres().map(|postgres| &postgres.process));
        all.extend(
            self.started_prometheus()
                .map(|prometheus| &prometheus.process),
        );
        all
    }

    /// Ends all components and removes the folder of the run, unless it is to be [kept](Self::keep).
    ///
    /// # Errors
    /// The folder can't be removed.
    pub async fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(postgres) = self.started_postgres() {
            postgres.end().await;
        }
        if let Some(node) = &self.node {
            node.stop().await?;
        }
        // Nothing else here has anything to save: the fastest end is the best one.
        self.processes().iter().for_each(|process| process.kill());
        for process in self.processes() {
            process.wait().await;
        }
        self.run.remove()
    }
}

impl Drop for Ground {
    /// A ground that nobody stopped belongs to something that failed: its folder stays.
    fn drop(&mut self) {
        if !self.stopped.load(Ordering::Relaxed) {
            self.run.keep();
            eprintln!(
                "The ground was not stopped; its logs are in {}.",
                self.dir().display()
            );
        }
    }
}

/// The folder of a ground that is being started; dropped before the start is over, it ends with what was started.
struct Starting(Option<RunDir>);

impl Starting {
    fn over(mut self) -> Result<RunDir> {
        self.0.take().context("a start is over once")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let Some(run) = self.0.take() else { return };
        // The handles are gone already, and the supervisors end what they held; that may still write into the folder.
        let deadline = Instant::now() + ENDING;
        let ended = || process::processes_naming(run.path()).is_ok_and(|all| all.is_empty());
        while !ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = run.remove();
    }
}

/// What a start brings.
struct Parts {
    pki: Pki,
    plane: ControlPlane,
    node: Option<Node>,
    vault: Vault,
    client: kube::Client,
}

async fn start_in(dir: &Path, components: &Components, options: &Options) -> Result<Parts> {
    let pki = Pki::new(&dir.join("pki"))?;
    let ((plane, client), vault) = tokio::try_join!(
        ControlPlane::start(components, &pki, dir, options.node),
        Vault::start(components, &pki, dir, options),
    )?;
    let node = match options.node {
        NodeKind::Fake => None,
        NodeKind::Real => Some(Node::start(components, &pki, &plane.url, dir).await?),
    };
    let authorities = pki.trust_pem();
    tokio::try_join!(
        plane.ready_for_pods(&client),
        vault.trust(&plane, &client, &authorities),
        install_crds(&client, components, options),
    )?;
    Ok(Parts {
        pki,
        plane,
        node,
        vault,
        client,
    })
}

async fn install_crds(
    client: &kube::Client,
    components: &Components,
    options: &Options,
) -> Result<()> {
    if !options.crds {
        return Ok(());
    }
    let crds = options.repository.join("kustomize/crds");
    let yaml = manifests::kustomize(components.path("kustomize")?, &crds).await?;
    manifests::install_crds(client, &yaml).await
}
