//! Credentials that take the place of others under pods that use them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::PkiRole;
use ground::resources::resources;
use ground::tls_peers::{Handshake, TlsClient};
use ground::{Right, wait_for};
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;

use crate::site::installation::{Installation, Overlay, address, deployment, from_secret};
use crate::site::{LONG, Site, leased};

crate::trials![
    "rotation": pods_connect_through_ten_rotations, with_replace_pods_are_refused,
    handshakes_succeed_through_ten_certificates,
];

/// A restart, the give-back and the next rotation follow each other quickly.
const QUICK: &str = "rollout:\n  debounce: 1s\nrotation:\n  drain: 1s\n";

/// The same, and the old one is given back first.
const REPLACE: &str = "rollout:\n  debounce: 1s\nrotation:\n  strategy: replace\n";

const REPLICAS: usize = 4;

/// Two roles at the engine, alike but for their names: a credential of the other one is asked for by an edit.
fn roles(name: &str) -> [String; 2] {
    [name.to_owned(), format!("{name}-2")]
}

/// Pods that connect to a database with what their Secret held when they began.
struct Connecting<'a> {
    site: &'a Site,
    installation: Installation,
    /// Below this path Vault has the leases.
    creds: String,
}

impl<'a> Connecting<'a> {
    async fn start(site: &'a Site, name: &str, more: &str) -> Result<Self> {
        let installation = Installation::prepare(site, Overlay::Tenant, name).await?;
        installation.configure(more)?;
        let [one, two] = &roles(name);
        let engine = leased::engine(site, &installation.tenant, &[one, two]).await?;
        let container = json!({ "env": [
            from_secret("USERNAME", "app", "username"), from_secret("PASSWORD", "app", "password"),
            { "name": "DATABASE", "value": engine.database.place() }, { "name": "START_AFTER", "value": "2s" },
        ] });
        let app = deployment("app", REPLICAS, container, json!({}));
        let secret = leased::login(&engine, name);
        installation.bring(&[secret, app]).await?;
        installation.install(site).await?;
        let connecting = Self {
            site,
            installation,
            creds: leased::leases(&engine),
        };
        connecting.busy().await?;
        Ok(connecting)
    }

    /// How often each address was let in, and what the server said to whom it did not let in.
    async fn seen(&self) -> Result<(BTreeMap<String, usize>, Vec<String>)> {
        let log = std::fs::read_to_string(self.site.ground.postgres().await?.process.log())?;
        let database = format!("database={}", self.installation.tenant.namespace);
        // Vault names users after the auth method and the role at the engine.
        let user = format!("\"v-kubernet-{}-", self.installation.tenant.namespace);
        let mut accepted = BTreeMap::new();
        let mut refused = Vec::new();
        for line in log.lines() {
            let words: Vec<&str> = line.split([' ', ':']).collect();
            if line.contains("connection authorized") && words.contains(&&*database) {
                let from = words.get(1).context("no address")?;
                *accepted.entry((*from).to_owned()).or_default() += 1;
            }
            if line.contains("authentication failed") && line.contains(&user) {
                refused.push(line.to_owned());
            }
        }
        Ok((accepted, refused))
    }

    /// Each pod that serves now has connected five times.
    async fn busy(&self) -> Result<()> {
        let pods = self.installation.rolled_out("app", REPLICAS).await?;
        wait_for("connections of each pod", LONG, || async {
            let (accepted, _) = self.seen().await?;
            for pod in &pods {
                let count = accepted.get(&address(pod)?).copied().unwrap_or_default();
                ensure!(count >= 5, "{count} of {}", address(pod)?);
            }
            Ok(())
        })
        .await
    }

    /// Has another credential made, and waits until all pods use it.
    async fn rotate(&self, number: usize) -> Result<()> {
        let role = &roles(&self.installation.tenant.namespace)[number % 2];
        let edit = json!({ "spec": { "path": format!("creds/{role}") } });
        resources(&self.installation.tenant, "VaultDynamicSecret")
            .patch("app", &PatchParams::default(), &Patch::Merge(edit))
            .await?;
        wait_for("the restart", LONG, || async {
            let restarts = self.installation.restarts("app").await?;
            ensure!(restarts == number, "{restarts}");
            Ok(())
        })
        .await?;
        self.busy().await
    }

    async fn live(&self) -> Result<usize> {
        Ok(self.site.ground.vault.api.leases(&self.creds).await?.len())
    }
}

async fn pods_connect_through_ten_rotations(site: &Site) -> Result<()> {
    const ROTATIONS: usize = 10;
    let pods = Connecting::start(site, "rotates", QUICK).await?;
    for number in 1..=ROTATIONS {
        pods.rotate(number).await?;
        let live = pods.live().await?;
        ensure!(live <= 2, "{live} live leases");
        wait_for("the old lease to be given back", LONG, || async {
            let live = pods.live().await?;
            ensure!(live == 1, "{live}");
            Ok(())
        })
        .await?;
    }
    let (accepted, refused) = pods.seen().await?;
    let all: usize = accepted.values().sum();
    println!(
        "{all} connections of {} pods, {} refused",
        accepted.len(),
        refused.len()
    );
    ensure!(refused.is_empty(), "{refused:?}");
    ensure!(pods.installation.restarts("app").await? == ROTATIONS);
    Ok(())
}

/// The same pods, and a credential that is revoked at once: what the trial above looks for is what it sees.
async fn with_replace_pods_are_refused(site: &Site) -> Result<()> {
    let pods = Connecting::start(site, "replaces", REPLACE).await?;
    pods.rotate(1).await?;
    let (_, refused) = pods.seen().await?;
    println!("{} refused", refused.len());
    ensure!(!refused.is_empty(), "nobody was refused");
    Ok(())
}

/// What a client outside of the pods has seen.
#[derive(Default)]
struct Handshakes {
    done: usize,
    refused: Vec<String>,
}

/// Connects to one pod after the other that is Ready, each time with the CRL of that moment.
async fn shake_hands(
    installation: &Installation,
    engine: &ground::engines::PkiEngine,
    until: watch::Receiver<bool>,
) -> Result<Handshakes> {
    let mut seen = Handshakes::default();
    let mut turn = 0;
    while !*until.borrow() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let pods = installation.serving("web").await?;
        if pods.is_empty() {
            continue;
        }
        turn += 1;
        let place: SocketAddr = format!("{}:8443", address(&pods[turn % pods.len()])?).parse()?;
        let client = TlsClient::new(&engine.root_pem, &[engine.crl().await?])?;
        match client.handshake(place, "web.test").await {
            Ok(Handshake::Done(_)) => seen.done += 1,
            Ok(Handshake::Refused(why)) => seen.refused.push(why.to_string()),
            // It ended between the list and now, as behind any Service.
            Err(error) if error.downcast_ref::<std::io::Error>().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

async fn handshakes_succeed_through_ten_certificates(site: &Site) -> Result<()> {
    const ROTATIONS: usize = 10;
    let installation = Installation::prepare(site, Overlay::Beside, "serves-tls").await?;
    installation.configure(QUICK)?;
    let tenant = &installation.tenant;
    let engine = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
    let issue = engine.role("web", &PkiRole::default()).await?;
    let revoke = format!("{}/revoke", engine.mount);
    tenant.grant(&[&issue, &revoke], &Right::ALL).await?;
    let certificate = json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultPKISecret",
        "metadata": { "name": "web" },
        "spec": {
            "mount": engine.mount, "role": "web", "commonName": "web.test", "revoke": true,
            "destination": { "name": "web", "create": true, "type": "kubernetes.io/tls" },
            "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }],
        },
    });
    let container = json!({
        "env": [{ "name": "CERTIFICATE", "value": "/tls" }, { "name": "START_AFTER", "value": "1s" }],
        "volumeMounts": [{ "name": "tls", "mountPath": "/tls" }],
    });
    let volumes = json!({ "volumes": [{ "name": "tls", "secret": { "secretName": "web" } }] });
    let web = deployment("web", 2, container, volumes);
    installation.bring(&[certificate, web]).await?;
    installation.install(site).await?;
    installation.rolled_out("web", 2).await?;
    let (end, until) = watch::channel(false);
    let rotations = async {
        for number in 1..=ROTATIONS {
            let edit = json!({ "spec": { "altNames": [format!("n{number}.test")] } });
            resources(tenant, "VaultPKISecret")
                .patch("web", &PatchParams::default(), &Patch::Merge(edit))
                .await?;
            wait_for("the restart", LONG, || async {
                let restarts = installation.restarts("web").await?;
                ensure!(restarts == number, "{restarts}");
                Ok(())
            })
            .await?;
            installation.rolled_out("web", 2).await?;
        }
        end.send(true)?;
        anyhow::Ok(())
    };
    let (seen, ()) = tokio::try_join!(shake_hands(&installation, &engine, until), rotations)?;
    println!("{} handshakes, {} refused", seen.done, seen.refused.len());
    ensure!(seen.refused.is_empty(), "{:?}", seen.refused);
    ensure!(seen.done >= 5 * ROTATIONS, "{}", seen.done);
    Ok(())
}
