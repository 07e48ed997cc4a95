//! After the tour: what to type next, and staying up until somebody ends it or a part of it ends by itself.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use ground::Operator;
use ground::node::isolation;
use ground::prometheus::Target;

use crate::platform::{NAMESPACE, Site};
use crate::running::Running;
use crate::screen::Screen;
use crate::window;

/// Ctrl-C, a polite kill, or a terminal that was closed.
pub struct Interruption {
    signals: [Signal; 3],
}

impl Interruption {
    /// Takes these signals from now on.
    ///
    /// # Errors
    /// The system doesn't let this process handle signals.
    pub fn listen() -> Result<Self> {
        let [interrupt, terminate, hangup] = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(signal);
        let failed = "the sandbox can't handle signals such as Ctrl-C";
        Ok(Self {
            signals: [
                interrupt.context(failed)?,
                terminate.context(failed)?,
                hangup.context(failed)?,
            ],
        })
    }

    /// Returns at the next of them.
    pub async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Questions about the metrics that are worth asking.
const QUERIES: [&str; 3] = [
    "sum by (namespace, kind) (vto_resources_not_ready)",
    "vto_secret_expiry_timestamp_seconds - time()",
    "sum by (kind, outcome) (vto_syncs_total)",
];

/// Says what to type next, and returns when somebody has had enough.
///
/// # Errors
/// A component or the operator has ended by itself.
pub async fn stay(screen: &Screen, site: &Site<'_>, interruption: &mut Interruption) -> Result<()> {
    say_what_next(screen, site).await?;
    let ground = site.ground;
    let ended = tokio::select! {
        () = interruption.wait() => None,
        component = ground.plane.first_end() => Some(component),
        _ = ground.vault.process.wait() => Some(&ground.vault.process),
        _ = site.operator.wait() => match &site.operator {
            Running::Process(operator) => Some(&operator.process),
            Running::Pod => None,
        },
    };
    if let Some(process) = ended {
        bail!(
            "{} has ended by itself; the end of its log {}:\n{}",
            process.name(),
            process.log().display(),
            process.last_lines(10)
        );
    }
    screen.note("");
    screen.note("Ending everything that was started.");
    Ok(())
}

async fn say_what_next(screen: &Screen, site: &Site<'_>) -> Result<()> {
    let token = site.vault_token_file().await?;
    let ground = site.ground;
    let path = |file: &Path| quoted(&file.display().to_string());
    screen.heading("What to type next, in another terminal");
    if let Some(namespaces) = isolation::process() {
        screen.note("All of it lives in namespaces of its own; a shell in them, as root:");
        screen.command(&format!(
            "nsenter --target {namespaces} --mount --net --uts"
        ));
    }
    screen.command(&format!(
        "export KUBECONFIG={}",
        path(&ground.plane.kubeconfig)
    ));
    screen.command("kubectl get vaultstaticsecrets -A");
    screen.command(&format!(
        "kubectl get --namespace={NAMESPACE} vault,secrets,pods"
    ));
    screen.command(&format!(
        "kubectl describe --namespace={NAMESPACE} vaultstaticsecret app"
    ));
    screen.command(&format!(
        "kubectl get --namespace={NAMESPACE} vaultdynamicsecrets -o wide"
    ));
    screen.command(&format!(
        "export PATH={}:\"$PATH\"",
        path(&window::plugin(site)?)
    ));
    screen.command(&format!(
        "kubectl vto status --namespace={NAMESPACE}   # it exits 1: by-approle isn't ready"
    ));
    screen.note("");
    screen.note("A new version in Vault, by hand:");
    screen.command(&format!("export VAULT_ADDR={}", ground.vault.address));
    screen.command(&format!(
        "export VAULT_CACERT={}",
        path(&ground.pki.ca_file())
    ));
    screen.command(&format!("export VAULT_TOKEN=\"$(cat {})\"", path(&token)));
    screen.command(
        "curl --cacert \"$VAULT_CACERT\" --header \"X-Vault-Token: $VAULT_TOKEN\" \
         --data '{\"data\":{\"password\":\"by-hand\"}}' \"$VAULT_ADDR/v1/example/data/app\"",
    );
    screen.command(
        "vault kv put example/app password=by-hand   # the same, where the vault CLI is installed",
    );
    match &site.operator {
        Running::Process(operator) => say_what_is_measured(screen, site, operator).await?,
        Running::Pod => {
            screen.note("");
            screen
                .note("Its operator is in a pod, which the sandbox has no Prometheus for: without");
            screen.note("--node real it starts one, and tells three questions to ask.");
        }
    }
    screen.note("");
    screen.note("Where things are:");
    screen.command(&format!("{}   # the tenant's overlay", path(&site.overlay)));
    screen.command(&format!(
        "{}   # the application's manifests",
        path(&site.app)
    ));
    match &site.operator {
        Running::Process(operator) => screen.command(&format!(
            "{}   # the operator's log",
            path(operator.process.log())
        )),
        Running::Pod => screen.command(&format!(
            "kubectl logs --namespace={NAMESPACE} deployment/vault-tenant-operator"
        )),
    }
    screen.note("");
    screen.note(
        "The sandbox stays up until Ctrl-C, and leaves nothing behind. Its tokens are good for a day.",
    );
    Ok(())
}

/// Starts Prometheus, which has nothing to do before.
async fn say_what_is_measured(screen: &Screen, site: &Site<'_>, operator: &Operator) -> Result<()> {
    let prometheus = site.ground.prometheus().await?;
    let target = Target {
        operator,
        namespace: NAMESPACE,
        pod: operator.process.name(),
    };
    prometheus.scrape(&[target]).await?;
    screen.note("");
    screen.note("What Prometheus has of the operator (the API; its pages are not built):");
    for query in QUERIES {
        screen.command(&format!(
            "curl --fail --silent --show-error --get {}/api/v1/query --data-urlencode {}",
            prometheus.url,
            quoted(&format!("query={query}"))
        ));
    }
    Ok(())
}

/// Text as one word of a shell.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
