//! The sections of the configuration with their defaults: the one place that
//! says which keys exist. What is not a field here is an unknown key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::{Address, AddressPattern};
use super::duration;
use super::values::{
    AuthMethod, BindAddress, Grade, LogFormat, LogLevel, NamePattern, PathPrefix, RolloutKey,
    RotationStrategy, WorkloadKind,
};
use super::window::Window;

/// The operator's own configuration, validated. In YAML its keys are
/// camelCase, durations are Go's (`30s`), and a list replaces the one of an
/// earlier layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Namespaces whose resources are served; none means the operator's own.
    pub watch_namespaces: Vec<String>,
    /// The grade of rights that the operator works with: as its Role gives.
    pub secret_access: Grade,
    /// Whether instances agree on a leader, the only one that works. Without,
    /// there must never be two at a time.
    pub leader_elect: bool,
    /// Defaults for what a VaultConnection leaves out.
    pub connection: ConnectionDefaults,
    /// The guardrails.
    pub policy: PolicyRules,
    /// Restarts of workloads.
    pub rollout: Rollout,
    /// Credentials that take the place of others.
    pub rotation: Rotation,
    /// How much is done at once and when it is tried again.
    pub sync: Sync,
    /// Logs and HTTP endpoints.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            watch_namespaces: Vec::new(),
            secret_access: Grade::Namespace,
            leader_elect: true,
            connection: ConnectionDefaults::default(),
            policy: PolicyRules::default(),
            rollout: Rollout::default(),
            rotation: Rotation::default(),
            sync: Sync::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Config {
    /// The namespaces to serve, each once, for an operator that lives in `own`.
    #[must_use]
    pub fn watched(&self, own: &str) -> Vec<String> {
        let mut namespaces = self.watch_namespaces.clone();
        if namespaces.is_empty() {
            namespaces.push(own.to_owned());
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
    }
}

/// `connection`: what a VaultConnection leaves out, and the connection that is
/// used where none is named and none is called `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionDefaults {
    /// Vault's address. Counts as an entry of `policy.vaultAddresses`.
    pub address: Option<Address>,
    /// Sent with every request. Needs `address` or `policy.vaultAddresses`, so
    /// that a tenant cannot name the server that receives them.
    pub headers: BTreeMap<String, String>,
    /// PEM file of CA certificates in the operator's container.
    pub ca_cert_path: Option<String>,
    /// Accept any certificate. Needs `policy.allowSkipTLSVerify`.
    #[serde(rename = "skipTLSVerify")]
    pub skip_tls_verify: bool,
    /// Name to verify and to send as SNI instead of the address's host.
    pub tls_server_name: Option<String>,
    /// Limit for one request, at least 100 ms.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Vault namespace of logins and reads that name none.
    pub vault_namespace: Option<String>,
}

impl Default for ConnectionDefaults {
    fn default() -> Self {
        Self {
            address: None,
            headers: BTreeMap::new(),
            ca_cert_path: None,
            skip_tls_verify: false,
            tls_server_name: None,
            timeout: Duration::from_secs(60),
            vault_namespace: None,
        }
    }
}

/// `policy`: the guardrails as they are configured. [`crate::policy::Policy`]
/// applies them. An empty list that narrows does not narrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRules {
    /// The Vaults that may be spoken to. With none named here or in
    /// `connection.address`: any `https` name, but no ServiceAccount token
    /// without an audience of its own.
    pub vault_addresses: Vec<AddressPattern>,
    /// Login methods that may be used; all but `token` by default.
    pub allowed_auth_methods: Vec<AuthMethod>,
    /// Narrows the ServiceAccounts that may log in. Never the operator's own.
    pub service_accounts: Vec<NamePattern>,
    /// Narrows the auth mounts.
    pub auth_mounts: Vec<NamePattern>,
    /// Narrows the Vault roles.
    pub vault_roles: Vec<NamePattern>,
    /// Narrows the Vault namespaces, each with those below it; `root` stands
    /// for the root namespace alone and needs `secretPaths` beside it.
    pub vault_namespaces: Vec<PathPrefix>,
    /// Narrows what may be read: prefixes of the path after `/v1/`.
    pub secret_paths: Vec<PathPrefix>,
    /// Allows paths under `sys/`, `auth/`, `identity/` and `cubbyhole/`.
    pub system_paths: Vec<PathPrefix>,
    /// Directories whose files a resource may name (`caCertPath`).
    pub file_paths: Vec<String>,
    /// Whether `skipTLSVerify` may be set.
    #[serde(rename = "allowSkipTLSVerify")]
    pub allow_skip_tls_verify: bool,
    /// Narrows the names of the Secrets that may be written.
    pub destination_names: Vec<NamePattern>,
    /// Narrows the namespaces whose VaultAuths and VaultConnections may be used
    /// from other namespaces.
    pub referenced_namespaces: Vec<NamePattern>,
}

impl Default for PolicyRules {
    fn default() -> Self {
        Self {
            vault_addresses: Vec::new(),
            allowed_auth_methods: AuthMethod::ALL
                .iter()
                .copied()
                .filter(|method| *method != AuthMethod::Token)
                .collect(),
            service_accounts: Vec::new(),
            auth_mounts: Vec::new(),
            vault_roles: Vec::new(),
            vault_namespaces: Vec::new(),
            secret_paths: Vec::new(),
            system_paths: Vec::new(),
            file_paths: Vec::new(),
            allow_skip_tls_verify: false,
            destination_names: Vec::new(),
            referenced_namespaces: Vec::new(),
        }
    }
}

/// `rollout`: restarts of the workloads that resources name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// Whether workloads are restarted at all.
    pub enabled: bool,
    /// The kinds that are.
    pub kinds: Vec<WorkloadKind>,
    /// How long after a change of content further changes are awaited, so that
    /// several Secrets of one workload make one restart.
    #[serde(with = "duration")]
    pub debounce: Duration,
    /// Whether no workload is restarted for the time being, not even where its
    /// credentials end; what is due stays due.
    pub hold: bool,
    /// The least time between two restarts of one workload.
    #[serde(with = "duration")]
    pub min_interval: Duration,
    /// How many workloads that the operator restarted may be rolling at once; 0: any
    /// number.
    pub max_concurrent: u16,
    /// Whether a workload that is rolling, or has fewer pods available than it
    /// should, is restarted only afterwards.
    pub only_when_available: bool,
    /// Whether the first workload restarts alone with new content, and keeps those
    /// waiting that would restart with the same while it does not get on.
    pub halt_on_failure: bool,
    /// When workloads are restarted; none: at any time.
    pub windows: Vec<Window>,
    /// Which of these keys a resource may have stricter for its own workloads.
    pub overrides: Vec<RolloutKey>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            enabled: true,
            // Those that every cluster has.
            kinds: vec![
                WorkloadKind::Deployment,
                WorkloadKind::StatefulSet,
                WorkloadKind::DaemonSet,
            ],
            debounce: Duration::from_secs(5),
            hold: false,
            min_interval: Duration::ZERO,
            max_concurrent: 10,
            only_when_available: false,
            halt_on_failure: true,
            windows: Vec::new(),
            overrides: RolloutKey::ALL.to_vec(),
        }
    }
}

impl Rollout {
    /// Whether workloads of a kind, by its name in manifests, are restarted.
    #[must_use]
    pub fn restarts(&self, kind: &str) -> bool {
        self.enabled && self.kinds.iter().any(|allowed| allowed.as_str() == kind)
    }
}

/// `rotation`: credentials that take the place of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// What becomes of the old ones, unless a resource says otherwise.
    pub strategy: RotationStrategy,
    /// How long they are kept alive once every target runs the new ones.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// How long they are kept at most while targets do not finish their rollout;
    /// zero: as long as their lease can be renewed.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How often it is seen whether a lease is still there that is not renewed so
    /// often, since somebody may have revoked it; zero: never.
    #[serde(with = "duration")]
    pub lookup_interval: Duration,
    /// Over what time credentials are replaced whose lease the ledger does not know.
    #[serde(with = "duration")]
    pub unknown_parent_spread: Duration,
    /// How long leases are renewed of a resource that can't be seen, so that nobody
    /// knows whether it is still there; zero: not at all.
    #[serde(with = "duration")]
    pub renew_unseen: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            strategy: RotationStrategy::Overlap,
            drain: Duration::from_secs(30),
            timeout: Duration::ZERO,
            lookup_interval: Duration::from_secs(600),
            unknown_parent_spread: Duration::from_secs(600),
            renew_unseen: Duration::from_secs(24 * 3600),
        }
    }
}

/// `sync`: concurrency, budgets and retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sync {
    /// Reconciles at the same time for each VaultConnection, so that a Vault that
    /// hangs delays no other; at least 1.
    pub max_concurrent_reconciles: u16,
    /// The longest that one reconcile may take, at least 1 s.
    #[serde(with = "duration")]
    pub reconcile_deadline: Duration,
    /// Requests a second to each Vault in the long run; at least 1.
    pub vault_requests_per_second: u32,
    /// Requests at once to a Vault that was left alone; at least 1.
    pub vault_requests_burst: u32,
    /// How often a name is looked at that is not watched (only in the grade
    /// `named`); at least 1 s.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// Whether Secrets stay when their resource is deleted, unless it says otherwise.
    pub retain_on_delete: bool,
    /// When a failed reconcile is tried again.
    pub backoff: Backoff,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            max_concurrent_reconciles: 16,
            reconcile_deadline: Duration::from_secs(60),
            vault_requests_per_second: 50,
            vault_requests_burst: 100,
            poll_interval: Duration::from_secs(60),
            retain_on_delete: false,
            backoff: Backoff::default(),
        }
    }
}

/// `sync.backoff`: exponential, with jitter, without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// Before the second attempt, at least 100 ms.
    #[serde(with = "duration")]
    pub initial_interval: Duration,
    /// The most between two attempts.
    #[serde(with = "duration")]
    pub max_interval: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            max_interval: Duration::from_secs(60),
        }
    }
}

/// `telemetry`: logs, HTTP endpoints and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// Where `/metrics` listens; `0` turns it off.
    pub metrics_bind_address: BindAddress,
    /// Where `/healthz` and `/readyz` listen; `0` turns them off.
    pub health_probe_bind_address: BindAddress,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The least severe level that is logged.
    pub log_level: LogLevel,
    /// Of how many custom resources the metrics tell one by one; zero: of none.
    pub max_resource_series: u32,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            metrics_bind_address: BindAddress::All(8080),
            health_probe_bind_address: BindAddress::All(8081),
            log_format: LogFormat::Json,
            log_level: LogLevel::Info,
            max_resource_series: 1000,
        }
    }
}
