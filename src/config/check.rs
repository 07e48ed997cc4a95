//! What types alone cannot say: ranges, and keys that need each other.

use std::time::Duration;

use super::{Config, vault_namespace};
use crate::key::is_namespace_name;
use crate::policy;
use crate::problem::Problem;

/// What is wrong with single values: key and sentence.
pub(super) fn values(config: &Config) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, key: &'static str, why: String| {
        if !holds {
            wrong.push((key, why));
        }
    };
    for namespace in &config.watch_namespaces {
        must(
            is_namespace_name(namespace),
            "watchNamespaces",
            format!(
                "{namespace:?} is no name of a namespace: use lower-case letters, digits and hyphens, at most 63"
            ),
        );
    }

    let connection = &config.connection;
    if let Err(Problem::PolicyDenied { why, .. } | Problem::InvalidSpec { why, .. }) =
        policy::headers("connection.headers", &connection.headers)
    {
        must(false, "connection.headers", why);
    }
    must(
        connection.timeout >= Duration::from_millis(100),
        "connection.timeout",
        "is too short for any answer: write at least 100ms".to_owned(),
    );
    if let Some(path) = &connection.ca_cert_path {
        must(
            path.starts_with('/'),
            "connection.caCertPath",
            absolute(path),
        );
    }
    if let Some(name) = &connection.tls_server_name {
        must(
            rustls::pki_types::ServerName::try_from(name.as_str()).is_ok(),
            "connection.tlsServerName",
            format!("{name:?} is no host name: write it like vault.example"),
        );
    }
    if let Some(namespace) = &connection.vault_namespace
        && let Err(why) = vault_namespace(namespace)
    {
        must(
            false,
            "connection.vaultNamespace",
            format!("{namespace:?} {why}"),
        );
    }

    for path in &config.policy.file_paths {
        must(
            path.starts_with('/') && path.len() > 1 && !path.split('/').any(|part| part == ".."),
            "policy.filePaths",
            absolute(path),
        );
    }

    let sync = &config.sync;
    for (count, key) in [
        (
            u32::from(sync.max_concurrent_reconciles),
            "sync.maxConcurrentReconciles",
        ),
        (
            sync.vault_requests_per_second,
            "sync.vaultRequestsPerSecond",
        ),
        (sync.vault_requests_burst, "sync.vaultRequestsBurst"),
    ] {
        must(
            count > 0,
            key,
            "is 0, so nothing would ever be done: write at least 1".to_owned(),
        );
    }
    must(
        sync.reconcile_deadline >= Duration::from_secs(1),
        "sync.reconcileDeadline",
        "is too short for any reconcile: write at least 1s".to_owned(),
    );
    must(
        sync.poll_interval >= Duration::from_secs(1),
        "sync.pollInterval",
        "is too short, the API server would be stormed: write at least 1s".to_owned(),
    );
    must(
        sync.backoff.initial_interval >= Duration::from_millis(100),
        "sync.backoff.initialInterval",
        "is too short, Vault would be stormed: write at least 100ms".to_owned(),
    );
    wrong
}

/// What is wrong between keys that are each right: the key to blame and why.
pub(super) fn together(config: &Config) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let (connection, policy) = (&config.connection, &config.policy);
    if connection.skip_tls_verify && !policy.allow_skip_tls_verify {
        wrong.push((
            "connection.skipTLSVerify",
            "is true, but policy.allowSkipTLSVerify is not: set both or none".to_owned(),
        ));
    }
    if !connection.headers.is_empty()
        && connection.address.is_none()
        && policy.vault_addresses.is_empty()
    {
        wrong.push((
            "connection.headers",
            "would go to any address that a tenant names: set connection.address or policy.vaultAddresses beside it".to_owned(),
        ));
    }
    if policy
        .vault_namespaces
        .iter()
        .any(|entry| entry.as_str() == "root")
        && policy.secret_paths.is_empty()
    {
        wrong.push((
            "policy.vaultNamespaces",
            "allows root, but a path read there may begin with any other namespace: set policy.secretPaths beside it".to_owned(),
        ));
    }
    let backoff = &config.sync.backoff;
    if backoff.max_interval < backoff.initial_interval {
        wrong.push((
            "sync.backoff.maxInterval",
            "is less than sync.backoff.initialInterval: write at least as much".to_owned(),
        ));
    }
    wrong
}

fn absolute(path: &str) -> String {
    format!("{path:?} is no absolute path: begin it with / and leave out ..")
}
