//! The flags that set keys of the configuration. They are text here; the
//! configuration reads and refuses their values like those of every layer.

use clap::Args;

use crate::config::Override;

/// What people set by hand.
#[derive(Debug, Default, Args)]
pub(super) struct Flags {
    /// Configuration file in YAML; repeatable, later files win
    #[arg(long, value_name = "FILE")]
    pub config: Vec<String>,

    /// Namespaces to serve, separated by commas or repeated [default: the operator's own]
    #[arg(long, value_name = "NAMESPACE")]
    watch_namespaces: Vec<String>,

    /// Rights that the Role gives: namespace (all Secrets) or named (single ones) [default: namespace]
    #[arg(long, value_name = "GRADE")]
    secret_access: Option<String>,

    /// Whether instances agree on a leader, the only one that works [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    leader_elect: Option<String>,

    /// Login methods that may be used, such as aws,gcp,token [default: all but token]
    #[arg(long, value_name = "METHOD")]
    allowed_auth_methods: Vec<String>,

    /// Reconciles at the same time for each VaultConnection [default: 16]
    #[arg(long, value_name = "COUNT")]
    max_concurrent_reconciles: Option<String>,

    /// Wait before the second attempt [default: 5s]
    #[arg(long, value_name = "DURATION")]
    backoff_initial_interval: Option<String>,

    /// Longest wait between two attempts [default: 1m]
    #[arg(long, value_name = "DURATION")]
    backoff_max_interval: Option<String>,

    /// Where /metrics listens; 0 turns it off [default: :8080]
    #[arg(long, value_name = "ADDRESS")]
    metrics_bind_address: Option<String>,

    /// Where /healthz and /readyz listen; 0 turns them off [default: :8081]
    #[arg(long, value_name = "ADDRESS")]
    health_probe_bind_address: Option<String>,

    /// json or text [default: json]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Flags {
    /// The flags that were given, with the keys that they set.
    pub(super) fn overrides(&self) -> Vec<Override> {
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        [
            (
                "watchNamespaces",
                "--watch-namespaces",
                list(&self.watch_namespaces),
            ),
            (
                "secretAccess",
                "--secret-access",
                self.secret_access.clone(),
            ),
            ("leaderElect", "--leader-elect", self.leader_elect.clone()),
            (
                "policy.allowedAuthMethods",
                "--allowed-auth-methods",
                list(&self.allowed_auth_methods),
            ),
            (
                "sync.maxConcurrentReconciles",
                "--max-concurrent-reconciles",
                self.max_concurrent_reconciles.clone(),
            ),
            (
                "sync.backoff.initialInterval",
                "--backoff-initial-interval",
                self.backoff_initial_interval.clone(),
            ),
            (
                "sync.backoff.maxInterval",
                "--backoff-max-interval",
                self.backoff_max_interval.clone(),
            ),
            (
                "telemetry.metricsBindAddress",
                "--metrics-bind-address",
                self.metrics_bind_address.clone(),
            ),
            (
                "telemetry.healthProbeBindAddress",
                "--health-probe-bind-address",
                self.health_probe_bind_address.clone(),
            ),
            (
                "telemetry.logFormat",
                "--log-format",
                self.log_format.clone(),
            ),
            ("telemetry.logLevel", "--log-level", self.log_level.clone()),
        ]
        .into_iter()
        .filter_map(|(key, flag, value)| value.map(|value| Override { key, flag, value }))
        .collect()
    }
}
