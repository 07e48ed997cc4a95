//! Which cluster a command speaks to, and as whom: what kubectl would take, by the
//! same flags, the same variable and the same file.

use std::path::PathBuf;

use crate::operator::with_causes;
use crate::problem::{FOREIGN_TEXT_LIMIT, printable};
use clap::Args;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, Error};
use tokio::runtime::{Builder, Runtime};

/// Flags that kubectl has too.
#[derive(Debug, Default, Args)]
pub struct Cluster {
    /// The kubeconfig file [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl Cluster {
    /// Where the cluster is, and who asks.
    ///
    /// # Errors
    /// A sentence with the mend.
    pub async fn config(&self) -> Result<Config, String> {
        let found = if self.kubeconfig.is_none() && self.context.is_none() {
            // In a pod without a kubeconfig, this is the pod's own account.
            Config::infer().await.map_err(|error| error.to_string())
        } else {
            self.of_flags().await.map_err(|error| error.to_string())
        };
        found.map_err(|error| {
            unusable(
                &error,
                "set KUBECONFIG, or correct --kubeconfig and --context",
            )
        })
    }

    async fn of_flags(&self) -> Result<Config, kube::config::KubeconfigError> {
        let file = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path)?,
            None => Kubeconfig::read()?,
        };
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        Config::from_custom_kubeconfig(file, &options).await
    }
}

/// A client by this configuration.
///
/// # Errors
/// A sentence with the mend.
pub fn connect(config: Config) -> Result<Client, String> {
    Client::try_from(config)
        .map_err(|error| unusable(&with_causes(&error), "correct the kubeconfig"))
}

fn unusable(error: &str, mend: &str) -> String {
    let error = printable(error, FOREIGN_TEXT_LIMIT);
    format!("no way to the cluster: {error}; {mend}")
}

/// What requests run on.
///
/// # Errors
/// A sentence.
pub fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

/// Why a request had no answer that could be used, in one line for a terminal.
pub fn reason(error: &Error) -> String {
    let text = match error {
        Error::Api(status) => status.message.clone(),
        other => format!("the cluster does not answer: {}", with_causes(other)),
    };
    printable(&text, FOREIGN_TEXT_LIMIT)
}
