//! A real node in place of the fake one: kubelet, containerd, runc and a bridge, so that pods are processes.
//!
//! All of the ground runs then in namespaces of its own ([`isolation`]): its loopback, its `/run` and `/var/lib`, its
//! processes. Nothing of the node outlives them, and the machine's own network is neither seen nor changed. Root on
//! Linux is needed. There is no registry: an image is there once it was [imported](Node::import).

mod cgroups;
mod config;
pub mod isolation;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::components::Components;
use crate::control_plane::NODE;
use crate::image::{self, Description, File};
use crate::kubeconfig::{self, User};
use crate::pki::Pki;
use crate::postgres;
use crate::process::{Process, Spec};
use crate::wait::wait_for;
use cgroups::Cgroups;

pub use network::{ADDRESS, SERVICE_ADDRESS};

/// The name of Vault in the overlays, which leads to the ground's.
pub const VAULT: &str = "vault.example.com";

/// What plays the node of a ground.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeKind {
    /// kwok: pods are objects alone.
    #[default]
    Fake,
    /// A kubelet with a container runtime: pods are processes. The program has to be
    /// [isolated](isolation::enter).
    Real,
}

/// The image of the program in `tests/ground/go/app`.
pub const APP_IMAGE: &str = "registry.example.com/app:1";

/// The image that the manifests in `examples/` run, of which they need `sleep`.
const EXAMPLES_IMAGE: &str = "busybox:1.37";

/// The image of what holds a pod's sandbox.
const PAUSE_IMAGE: &str = "registry.example.com/pause:1";

/// The folder of the run as the node sees it: a short path without a space, of which `/proc/mounts` is then full.
const HOME: &str = "/run/ground";

/// How long containerd may take to answer, and the kubelet to be healthy.
const START: Duration = Duration::from_secs(60);

/// Brings what a ground with a real node needs from elsewhere, before the program [enters](isolation::enter) namespaces
/// that have no way out.
///
/// # Errors
/// Something can't be built or fetched.
pub async fn fetch() -> Result<()> {
    let components = Components::find(NodeKind::Real).await?;
    postgres::fetch(&components).await
}

/// A kubelet and its container runtime.
#[derive(Debug)]
pub struct Node {
    /// The kubelet.
    pub kubelet: Process,
    /// containerd; the shims of its containers are no children of it.
    pub containerd: Process,
    ctr: PathBuf,
    cgroups: Cgroups,
    names: Process,
}

impl Node {
    /// Starts it below `dir`, registered at the API server at `url`.
    ///
    /// # Errors
    /// The program isn't isolated, or a part can't be started.
    pub(crate) async fn start(
        components: &Components,
        pki: &Pki,
        url: &str,
        dir: &Path,
    ) -> Result<Self> {
        let cgroups = Cgroups::make(isolation::name()?)?;
        let home = Path::new(HOME);
        let disk = dir.join("node");
        for folder in [home, &disk] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("can't make {}", folder.display()))?;
        }
        mount_bind(&disk, home).context("can't mount the node's folder")?;
        let names = serve_names(components, dir).await?;
        let containerd = start_containerd(components, home, dir).await?;
        let ctr = components.path("ctr")?.to_owned();
        let kubelet = start_kubelet(components, pki, url, home, dir, &cgroups);
        let node = Self {
            kubelet: kubelet.await?,
            containerd,
            ctr,
            cgroups,
            names,
        };
        let app = std::fs::read(components.path("node-app")?)?;
        for (name, path, entrypoint) in [
            (PAUSE_IMAGE, "node-app", ["/node-app", "pause"]),
            (APP_IMAGE, "node-app", ["/node-app", "serve"]),
            (EXAMPLES_IMAGE, "bin/sleep", ["sleep", "infinity"]),
        ] {
            let app = File {
                path,
                mode: 0o755,
                data: &app,
            };
            node.import_app(dir, app, name, &entrypoint).await?;
        }
        Ok(node)
    }

    async fn import_app(
        &self,
        dir: &Path,
        app: File<'_>,
        name: &str,
        entrypoint: &[&str],
    ) -> Result<()> {
        let name: image::Name = name.parse().map_err(anyhow::Error::msg)?;
        let packed = image::pack(
            &[app],
            &Description {
                name: &name,
                architecture: image::architecture(std::env::consts::ARCH)?,
                created: "2026-01-01T00:00:00Z",
                user: "65532:65532",
                entrypoint,
                labels: std::collections::BTreeMap::new(),
            },
        )?;
        let archive = dir.join("app.tar");
        std::fs::write(&archive, packed.bytes)?;
        self.import(&archive).await
    }

    /// Makes the images of an archive known to the node, as `docker load` would.
    ///
    /// # Errors
    /// containerd refuses it; its own words are kept.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        let said = tokio::process::Command::new(&self.ctr)
            .args(["--address", config::SOCKET, "--namespace", "k8s.io"])
            .args(["images", "import"])
            .arg(archive)
            .output()
            .await?;
        ensure!(
            said.status.success(),
            "containerd refuses {}: {}",
            archive.display(),
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(())
    }

    /// The ids of the processes in a pod that run a program of this name.
    pub fn processes_of(&self, pod_uid: &str, program: &str) -> Vec<u32> {
        let groups = self.cgroups.of_pod(pod_uid, "memory");
        let listed = groups.iter().filter_map(|group| {
            let ids = std::fs::read_to_string(group.join("cgroup.procs")).ok()?;
            Some(ids.lines().filter_map(|id| id.parse().ok()).collect())
        });
        let runs = |id: &u32| {
            let path = std::fs::read_link(format!("/proc/{id}/exe"));
            path.is_ok_and(|path| path.file_name().is_some_and(|name| name == program))
        };
        listed.flat_map(|ids: Vec<u32>| ids).filter(runs).collect()
    }

    /// SIGKILL to the processes in a pod that run a program of this name; fails where there is none.
    ///
    /// # Errors
    /// No such process.
    pub fn kill_in(&self, pod_uid: &str, program: &str) -> Result<()> {
        let processes = self.processes_of(pod_uid, program);
        ensure!(!processes.is_empty(), "nothing runs {program} in {pod_uid}");
        processes.into_iter().try_for_each(isolation::kill)
    }

    /// The processes that a ground watches.
    pub(crate) fn processes(&self) -> [&Process; 3] {
        [&self.kubelet, &self.containerd, &self.names]
    }

    /// The node loses its power and comes back: kubelet, runtime and all pods are gone at once, with their mounts and
    /// with what the runtime had in memory; what was on disk is there.
    ///
    /// # Errors
    /// A part can't be started again.
    pub async fn power_cycle(&self) -> Result<()> {
        self.kill().await?;
        isolation::unmount_below(Path::new(HOME))?;
        isolation::unmount_below(Path::new(config::STATE))?;
        std::fs::remove_dir_all(config::STATE)?;
        self.containerd.restart().await?;
        self.runtime_answers().await?;
        self.kubelet.restart().await?;
        is_up(&self.kubelet).await
    }

    /// Has the kubelet find that the node runs out of process ids, or that it doesn't any more: as long as it does, it
    /// evicts one pod after the other and takes no new one.
    ///
    /// # Errors
    /// The kubelet can't be started again.
    pub async fn short_of_processes(&self, short: bool) -> Result<()> {
        let file = Path::new(HOME).join(config::KUBELET);
        let config = config::with_pressure(&std::fs::read_to_string(&file)?, short)?;
        std::fs::write(&file, config)?;
        self.kubelet.restart().await?;
        is_up(&self.kubelet).await
    }

    /// Ends everything, and takes back what the node had of the machine.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.names.kill();
        self.kill().await?;
        unmount(HOME, UnmountFlags::DETACH).context("can't unmount the node's folder")?;
        Ok(())
    }

    async fn kill(&self) -> Result<()> {
        for process in [&self.kubelet, &self.containerd] {
            process.kill();
            process.wait().await;
        }
        let what = "the containers of the node to end";
        wait_for(what, START, || async {
            isolation::kill_all_named(config::SHIM)?;
            self.cgroups.kill()
        })
        .await
    }

    async fn runtime_answers(&self) -> Result<()> {
        answers(&self.containerd, &self.ctr).await
    }
}

/// The DNS of pods: the names of Vault and of the API server.
async fn serve_names(components: &Components, dir: &Path) -> Result<Process> {
    let mut spec = Spec::new("names", components.path("node-app")?, dir)
        .arg("names")
        .arg(format!("{ADDRESS}:53"))
        .arg(format!("{VAULT}={ADDRESS}"));
    for suffix in ["", ".cluster.local"] {
        let name = format!("kubernetes.default.svc{suffix}");
        spec = spec.arg(format!("{name}={SERVICE_ADDRESS}"));
    }
    Process::start(spec).await
}

async fn start_containerd(components: &Components, home: &Path, dir: &Path) -> Result<Process> {
    let file = home.join("containerd.toml");
    std::fs::write(&file, config::containerd(components, home)?)?;
    std::fs::create_dir_all(home.join("cni.d"))?;
    std::fs::write(home.join("cni.d/10.conflist"), network::conflist(home))?;
    let shim = components.path(config::SHIM)?;
    let runc = components.path("runc")?;
    // It looks for the shim there.
    let path = std::env::join_paths(
        [shim, runc]
            .iter()
            .filter_map(|program| program.parent().map(Path::to_owned))
            .chain(std::env::split_paths(
                &std::env::var_os("PATH").unwrap_or_default(),
            )),
    )?;
    let spec = Spec::new("containerd", components.path("containerd")?, dir)
        .flag("config", &file)
        .env("PATH", path);
    let containerd = Process::start(spec).await?;
    answers(&containerd, components.path("ctr")?).await?;
    Ok(containerd)
}

/// Its socket is there before it is.
async fn answers(containerd: &Process, ctr: &Path) -> Result<()> {
    let asks = || async {
        let asked = tokio::process::Command::new(ctr)
            .args(["--address", config::SOCKET, "version"])
            .output()
            .await?;
        let said = String::from_utf8_lossy(&asked.stderr);
        ensure!(asked.status.success(), "{said}");
        Ok(())
    };
    containerd.ready(START, asks).await
}

async fn start_kubelet(
    components: &Components,
    pki: &Pki,
    url: &str,
    home: &Path,
    dir: &Path,
    cgroups: &Cgroups,
) -> Result<Process> {
    let identity = pki.client(
        "kubelet",
        &format!("system:node:{NODE}"),
        Some("system:nodes"),
    )?;
    let serving = pki.server("kubelet-serving", &[ADDRESS, NODE])?;
    let file = dir.join("kubelet.kubeconfig");
    kubeconfig::write(
        &file,
        url,
        &pki.trust_file(),
        User::Certificate(&identity),
        "default",
    )?;
    let config = home.join(config::KUBELET);
    let text = config::kubelet(home, &pki.ca_file(), &serving, cgroups.name())?;
    std::fs::write(&config, text)?;
    let spec = Spec::new("kubelet", components.path("kubelet")?, dir)
        .flag("config", &config)
        .flag("kubeconfig", &file)
        .flag("root-dir", home.join("kubelet"))
        .flag("cert-dir", home.join("kubelet-pki"))
        .flag("hostname-override", NODE)
        .flag("node-ip", ADDRESS);
    let kubelet = Process::start(spec).await?;
    is_up(&kubelet).await?;
    Ok(kubelet)
}

/// Waits until the kubelet is healthy. containerd answers before it has read what it kept of the pods: a kubelet that
/// asks for them in that time ends, and the init of a machine starts it again.
async fn is_up(kubelet: &Process) -> Result<()> {
    let is_up = || async {
        if !kubelet.is_running() {
            kubelet.restart().await?;
        }
        is_healthy().await
    };
    wait_for("the kubelet to be healthy", START, is_up)
        .await
        .with_context(|| kubelet.last_lines(10))
}

async fn is_healthy() -> Result<()> {
    let health = reqwest::get(config::KUBELET_HEALTH).await?;
    ensure!(
        health.status().is_success(),
        "the kubelet says {}",
        health.status()
    );
    Ok(())
}
