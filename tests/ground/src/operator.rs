//! The operator under test: a process of its own that acts as the tenant's ServiceAccount, with nothing of this
//! process's environment.
//!
//! The ground knows its command line, not its insides.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::ports::start_on_free_ports;
use crate::process::{Exit, Process, Spec};
use crate::tenant::{OPERATOR_ACCOUNT, Tenant};

/// How long the process may take until its health endpoint answers.
const START: Duration = Duration::from_secs(60);

/// The command that is the operator: a program, and arguments before those of the ground (a sandbox that is also the
/// operator needs one).
#[derive(Clone, Debug)]
pub struct OperatorBinary {
    /// The program.
    pub path: PathBuf,
    /// What stands before `run`.
    pub args_prefix: Vec<OsString>,
}

/// How to start an operator; see [`Tenant::operator`].
#[derive(Clone)]
pub struct OperatorBuilder<'a> {
    tenant: &'a Tenant,
    binary: &'a OperatorBinary,
    config: String,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    api_url: Option<String>,
    log_level: String,
    log_format: String,
    watch_namespaces: Vec<String>,
}

/// A running operator.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The process; stop, continue, kill and restart it here.
    pub process: Process,
    /// The folder of its kubeconfig, token, configuration and log.
    pub dir: PathBuf,
    metrics_url: String,
    health_url: String,
}

impl Tenant {
    /// Prepares an operator for this tenant; it watches the tenant's namespace, logs JSON at level info, and has an
    /// empty configuration file.
    pub fn operator<'a>(&'a self, binary: &'a OperatorBinary) -> OperatorBuilder<'a> {
        OperatorBuilder {
            tenant: self,
            binary,
            config: "{}\n".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            api_url: None,
            log_level: "info".to_owned(),
            log_format: "json".to_owned(),
            watch_namespaces: vec![self.namespace.clone()],
        }
    }
}

impl OperatorBuilder<'_> {
    /// The text of its configuration file (YAML).
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.config);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Another address of the API server, such as a proxy's.
    #[must_use]
    pub fn api_url(mut self, url: &str) -> Self {
        self.api_url = Some(url.to_owned());
        self
    }

    /// The level of its log: error, warn, info, debug or trace.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// The form of its log: json or text.
    #[must_use]
    pub fn log_format(mut self, format: &str) -> Self {
        format.clone_into(&mut self.log_format);
        self
    }

    /// The namespaces that it watches, instead of the tenant's own.
    #[must_use]
    pub fn watch_namespaces(mut self, namespaces: &[&str]) -> Self {
        self.watch_namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Starts it, and returns as soon as its health endpoint answers; it need not be ready then.
    ///
    /// # Errors
    /// It can't be started, ends, or its health endpoint doesn't answer: with the last lines of its log.
    pub async fn start(self) -> Result<Operator> {
        let number = self.tenant.operators.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("operator-{number}");
        let dir = self.tenant.dir.clone();
        let kubeconfig = self
            .tenant
            .kubeconfig(&name, OPERATOR_ACCOUNT, self.api_url.as_deref())
            .await?;
        let config = dir.join(format!("{name}.yaml"));
        std::fs::write(&config, &self.config)
            .with_context(|| format!("can't write {}", config.display()))?;
        let mut base = Spec::new(&name, &self.binary.path, &dir).env("KUBECONFIG", kubeconfig);
        for (name, value) in &self.env {
            base = base.env(name, value);
        }
        base.args.clone_from(&self.binary.args_prefix);
        let base = base
            .arg("run")
            .flag("config", config)
            .flag("watch-namespaces", self.watch_namespaces.join(","))
            .flag("log-format", &self.log_format)
            .flag("log-level", &self.log_level);
        let spec = |[metrics, health]: [u16; 2]| {
            let mut spec = base
                .clone()
                .flag("metrics-bind-address", format!("127.0.0.1:{metrics}"))
                .flag("health-probe-bind-address", format!("127.0.0.1:{health}"));
            spec.args.extend(self.args.iter().cloned());
            Ok(spec)
        };
        let (process, [metrics, health]) = start_on_free_ports(START, spec, |[_, health]| {
            get(format!("http://127.0.0.1:{health}/healthz"))
        })
        .await?;
        Ok(Operator {
            process,
            dir,
            metrics_url: format!("http://127.0.0.1:{metrics}/metrics"),
            health_url: format!("http://127.0.0.1:{health}"),
        })
    }
}

impl Operator {
    /// Its metrics, in the text format of Prometheus.
    ///
    /// # Errors
    /// It doesn't answer.
    pub async fn metrics(&self) -> Result<String> {
        get(self.metrics_url.clone()).await
    }

    /// Where its metrics are: `HOST:PORT`.
    #[must_use]
    pub fn metrics_address(&self) -> String {
        let address = self.metrics_url.trim_start_matches("http://");
        address.trim_end_matches("/metrics").to_owned()
    }

    /// What `/readyz` says when it is ready.
    ///
    /// # Errors
    /// It isn't ready (the error holds what it says), or doesn't answer.
    pub async fn readyz(&self) -> Result<String> {
        get(format!("{}/readyz", self.health_url)).await
    }

    /// Waits until `/readyz` answers 200; fails at once when the process ends.
    ///
    /// # Errors
    /// Not within the time.
    pub async fn wait_ready(&self, within: Duration) -> Result<()> {
        self.process.ready(within, || self.readyz()).await?;
        Ok(())
    }

    /// SIGTERM, and SIGKILL after `grace`.
    pub async fn terminate(&self, grace: Duration) -> Exit {
        self.process.terminate(grace).await
    }

    /// Kills it if it runs, starts it again with the same files, and waits until its health endpoint answers.
    ///
    /// # Errors
    /// It can't be started or ends.
    pub async fn restart(&self) -> Result<()> {
        self.process.restart().await?;
        self.process
            .ready(START, || get(format!("{}/healthz", self.health_url)))
            .await?;
        Ok(())
    }

    /// All that it has written to its log, over all its restarts.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn log(&self) -> Result<String> {
        let log = self.process.log();
        let text = std::fs::read(log).with_context(|| format!("can't read {}", log.display()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The body of a 200.
async fn get(url: String) -> Result<String> {
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(&url)
        .timeout(Duration::from_secs(10))
        .send()
        .await?;
    let status = answer.status();
    let body = answer.text().await?;
    ensure!(
        status == reqwest::StatusCode::OK,
        "{url} answers {status}: {body}"
    );
    Ok(body)
}
