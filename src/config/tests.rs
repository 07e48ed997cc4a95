//! The layers together: precedence, refusals, `config show`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::keys;
use super::layers::{Layer, Source};
use super::load::merge;
use super::*;

/// Loads YAML texts as files, variables and flags.
fn load_all(
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Loaded, Vec<Finding>> {
    let keys = keys::all().unwrap();
    let mut findings = Vec::new();
    let mut layers = Vec::new();
    for (path, text) in files {
        match Layer::yaml(Source::File((*path).to_owned()), (*text).to_owned()) {
            Ok(layer) => layers.push(layer),
            Err(finding) => findings.push(finding),
        }
    }
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    layers.push(Layer::environment(environment, &keys, &mut findings));
    let overrides: Vec<Override> = flags
        .iter()
        .map(|(key, flag, value)| Override {
            key,
            flag,
            value: (*value).to_owned(),
        })
        .collect();
    layers.push(Layer::command_line(&overrides, &keys));
    merge(layers, &keys, findings)
}

fn refusals(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Vec<String> {
    load_all(files, environment, &[])
        .expect_err("should be refused")
        .iter()
        .map(Finding::to_string)
        .collect()
}

#[test]
fn nothing_set_gives_the_defaults() {
    let loaded = load_all(&[], &[("VAULT_ADDR", "http://x"), ("HOME", "/root")], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    let methods = &loaded.config.policy.allowed_auth_methods;
    assert!(!methods.contains(&AuthMethod::Token));
    assert_eq!(methods.len(), AuthMethod::ALL.len() - 1);
}

#[test]
fn each_layer_overrides_the_one_before() {
    let key = "sync.maxConcurrentReconciles";
    let files = [
        (
            "a.yaml",
            "sync: {maxConcurrentReconciles: 1, vaultRequestsBurst: 7}",
        ),
        ("b.yaml", "sync: {maxConcurrentReconciles: 2}"),
    ];
    let environment = [("VTO_SYNC__MAX_CONCURRENT_RECONCILES", "3")];
    let flags = [(key, "--max-concurrent-reconciles", "4")];
    let sync = |loaded: Loaded| loaded.config.sync;
    assert_eq!(
        sync(load_all(&files[..1], &[], &[]).unwrap()).max_concurrent_reconciles,
        1
    );
    let two = sync(load_all(&files, &[], &[]).unwrap());
    assert_eq!(
        (two.max_concurrent_reconciles, two.vault_requests_burst),
        (2, 7)
    );
    assert_eq!(
        sync(load_all(&files, &environment, &[]).unwrap()).max_concurrent_reconciles,
        3
    );
    assert_eq!(
        sync(load_all(&files, &environment, &flags).unwrap()).max_concurrent_reconciles,
        4
    );
}

#[test]
fn every_key_can_be_set_in_a_file() {
    let text = r#"
watchNamespaces: [team]
secretAccess: named
leaderElect: false
connection:
  address: https://vault.example:8200/
  headers: {X-Team: a}
  caCertPath: /etc/vault/ca.crt
  skipTLSVerify: true
  tlsServerName: vault.internal
  timeout: 1m30s
  vaultNamespace: ns1
policy:
  vaultAddresses: ["https://*.example.com:8200", "http://127.0.0.1:8200"]
  allowedAuthMethods: [kubernetes, token]
  serviceAccounts: [app-*]
  authMounts: [kubernetes]
  vaultRoles: [team-*]
  vaultNamespaces: [ns1, root]
  secretPaths: [kv/data/team/]
  systemPaths: [sys/health]
  filePaths: [/etc/vault]
  allowSkipTLSVerify: true
  destinationNames: [app-*]
  referencedNamespaces: [shared]
rollout:
  enabled: false
  kinds: [Deployment]
  debounce: 250ms
  hold: true
  minInterval: 10m
  maxConcurrent: 2
  onlyWhenAvailable: true
  haltOnFailure: false
  windows: ["Mon-Fri 22:00-04:00 Europe/Berlin", daily 02:00-03:00]
  overrides: [hold, windows]
rotation:
  strategy: replace
  drain: 5s
  timeout: 1h
  lookupInterval: 0s
  unknownParentSpread: 3m
  renewUnseen: 2h
sync:
  maxConcurrentReconciles: 1
  reconcileDeadline: 30s
  vaultRequestsPerSecond: 5
  vaultRequestsBurst: 6
  pollInterval: 2s
  retainOnDelete: true
  backoff: {initialInterval: 1s, maxInterval: 2s}
telemetry:
  metricsBindAddress: 0
  healthProbeBindAddress: 127.0.0.1:0
  logFormat: text
  logLevel: trace
  maxResourceSeries: 0
"#;
    let loaded = load_all(&[("all.yaml", text)], &[], &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.connection.timeout, Duration::from_secs(90));
    assert_eq!(config.telemetry.metrics_bind_address, BindAddress::Off);
    assert!(
        config
            .telemetry
            .metrics_bind_address
            .candidates()
            .is_empty()
    );
    assert_eq!(config.policy.secret_paths[0].as_str(), "kv/data/team");
    let default = serde_yaml::to_value(Config::default()).unwrap();
    let set = serde_yaml::to_value(config).unwrap();
    for key in keys::all().unwrap() {
        let at = |value: &serde_yaml::Value| {
            key.path
                .split('.')
                .fold(value.clone(), |value, name| value[name].clone())
        };
        assert_ne!(at(&default), at(&set), "{} is not in this test", key.path);
    }
}

#[test]
fn the_environment_leaves_text_as_text_and_splits_lists() {
    let loaded = load_all(
        &[],
        &[
            ("VTO_POLICY__SERVICE_ACCOUNTS", "a, 8080,,true"),
            ("VTO_CONNECTION__VAULT_NAMESPACE", "0123"),
            ("VTO_CONNECTION__ADDRESS", "https://vault.example"),
            ("VTO_CONNECTION__HEADERS", "X-A=1, X-B=a=b"),
            ("VTO_ROLLOUT__ENABLED", "false"),
            ("VTO_TELEMETRY__METRICS_BIND_ADDRESS", "0"),
            ("VTO_POLICY__ALLOWED_AUTH_METHODS", ""),
            ("VTO_METRICS_SERVICE_HOST", "10.0.0.1"),
        ],
        &[],
    )
    .unwrap();
    let config = loaded.config;
    let accounts: Vec<_> = config
        .policy
        .service_accounts
        .iter()
        .map(NamePattern::as_str)
        .collect();
    assert_eq!(accounts, ["a", "8080", "true"]);
    assert_eq!(config.connection.vault_namespace.as_deref(), Some("0123"));
    assert_eq!(config.connection.headers["X-B"], "a=b");
    assert!(!config.rollout.enabled);
    assert!(config.policy.allowed_auth_methods.is_empty());
}

#[test]
fn the_kinds_that_every_cluster_has_are_restarted_and_others_where_listed() {
    let config = Config::default();
    assert!(config.rollout.restarts("Deployment") && !config.rollout.restarts("argo.Rollout"));
    let variable = (
        "VTO_ROLLOUT__KINDS",
        "Deployment,StatefulSet,DaemonSet,argo.Rollout",
    );
    let file = ("a.yaml", "rollout: {kinds: [DaemonSet]}");
    let config = load_all(&[file], &[variable], &[]).unwrap().config;
    assert!(config.rollout.restarts("Deployment") && config.rollout.restarts("argo.Rollout"));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let file = "sync:\n  maxConcurrentReconciles: lots\n  vaultRequestsPerSec: 3\n  vaultRequestsBurst: 0\npolicy:\n  allowedAuthMethods: [kubernetes, ldap, approle]\n  vaultAddresses: https://a.example\nrollout: yes please\nconnection:\n  timeout: 30\n";
    let said = refusals(
        &[
            ("a.yaml", file),
            ("b.yaml", "telemetry: {logLevel: loud}\n"),
        ],
        &[
            ("VTO_SYNC__VAULT_REQUESTS_BURST", "many"),
            ("VTO_LOG_LEVEL", "info"),
        ],
    );
    let expected = [
        "file a.yaml, line 10: connection.timeout: is unsigned int `30`, and should be a duration with its unit",
        "file a.yaml, line 6: policy.allowedAuthMethods: unknown auth method \"ldap\": known are kubernetes, jwt, appRole, aws, gcp, token",
        "file a.yaml, line 6: policy.allowedAuthMethods: unknown auth method \"approle\"",
        "file a.yaml, line 7: policy.vaultAddresses: is string \"https://a.example\", and should be a list",
        "file a.yaml, line 8: rollout: is a section",
        "file a.yaml, line 2: sync.maxConcurrentReconciles: is string \"lots\", and should be a whole number from 0 to 65535",
        "file a.yaml, line 3: sync.vaultRequestsPerSec: is no key of the configuration, did you mean sync.vaultRequestsPerSecond?",
        "file a.yaml, line 4: sync.vaultRequestsBurst: is 0",
        "file b.yaml, line 1: telemetry.logLevel: unknown log level \"loud\": known are error, warn, info, debug, trace",
        "environment variable VTO_SYNC__VAULT_REQUESTS_BURST: sync.vaultRequestsBurst: is string \"many\"",
        "environment variable VTO_LOG_LEVEL: sets no key of the configuration",
    ];
    for wanted in expected {
        assert!(
            said.iter().any(|line| line.starts_with(wanted)),
            "missing: {wanted}\nsaid:\n{}",
            said.join("\n")
        );
    }
    assert_eq!(said.len(), expected.len(), "said:\n{}", said.join("\n"));
}

#[test]
fn a_flag_is_named_as_it_is_typed() {
    let flags = [(
        "policy.allowedAuthMethods",
        "--allowed-auth-methods",
        "aws,ldap",
    )];
    let said = load_all(&[], &[], &flags).expect_err("should be refused");
    assert_eq!(
        said[0].to_string(),
        "command line --allowed-auth-methods: policy.allowedAuthMethods: unknown auth method \"ldap\": known are kubernetes, jwt, appRole, aws, gcp, token"
    );
}

#[test]
fn broken_files_are_told_with_their_line() {
    for (text, wanted) in [
        ("sync: {\n", "file f, line "),
        ("sync: {}\nsync: {}\n", "file f"),
        ("- a\n", "file f, line 1: is no YAML mapping"),
        (
            "sync:\n  vaultRequestsBurst: 1\n  vaultRequestsBurst: 2\n",
            "file f, line ",
        ),
        ("a: 1\n---\nb: 2\n", "file f"),
        ("1: 2\n", "file f"),
    ] {
        let said = refusals(&[("f", text)], &[]);
        assert!(
            said.len() == 1 && said[0].starts_with(wanted),
            "{text:?}: {said:?}"
        );
    }
    let missing = load(&["/nowhere/vto.yaml".to_owned()], [], &[]).expect_err("missing");
    assert!(
        missing[0]
            .to_string()
            .starts_with("file /nowhere/vto.yaml: cannot be read")
    );
}

#[test]
fn empty_files_and_empty_sections_set_nothing() {
    for text in [
        "",
        "# only a comment\n",
        "policy:\n",
        "connection: {address: null}\n",
    ] {
        assert_eq!(
            load_all(&[("f", text)], &[], &[]).unwrap().config,
            Config::default()
        );
    }
    assert!(refusals(&[("f", "polcy:\n")], &[])[0].contains("is no key"));
}

#[test]
fn keys_that_need_each_other_are_told() {
    for (text, wanted) in [
        (
            "connection: {skipTLSVerify: true}",
            "policy.allowSkipTLSVerify",
        ),
        (
            "connection: {headers: {X-A: b}}",
            "any address that a tenant names",
        ),
        ("policy: {vaultNamespaces: [root]}", "policy.secretPaths"),
        (
            "sync: {backoff: {initialInterval: 2m}}",
            "sync.backoff.maxInterval",
        ),
        ("watchNamespaces: [A]", "no name of a namespace"),
        (
            "connection: {headers: {authorization: b}}",
            "only the operator itself",
        ),
        (
            "connection: {headers: {X-A: \"a\\nb\"}}",
            "no HTTP header can carry",
        ),
        ("connection: {caCertPath: ca.crt}", "no absolute path"),
        (
            "connection: {address: 'https://u:p@vault.example'}",
            "user info",
        ),
        ("connection: {vaultNamespace: a//b}", "empty segment"),
        ("connection: {vaultNamespace: ' a'}", "white space"),
        ("policy: {filePaths: [/]}", "no absolute path"),
        (
            "policy: {vaultAddresses: ['https://*.com']}",
            "must stand a domain",
        ),
    ] {
        let said = refusals(&[("f", text)], &[]).join("\n");
        assert!(said.contains(wanted), "{text}: {said}");
    }
}

#[test]
fn show_is_a_file_that_gives_the_same_and_names_each_source() {
    let loaded = load_all(
        &[("vto.yaml", "connection: {address: 'https://vault.example', headers: {X-A: '1', X-B: 'off'}}\nwatchNamespaces: [team]\n")],
        &[("VTO_SYNC__VAULT_REQUESTS_BURST", "9"), ("VTO_CONNECTION__HEADERS", "X-C=3")],
        &[("telemetry.logLevel", "--log-level", "debug")],
    )
    .unwrap();
    let shown = loaded.show().unwrap();
    for line in [
        "watchNamespaces: # file vto.yaml (VTO_WATCH_NAMESPACES)",
        "- team",
        "  address: https://vault.example # file vto.yaml (VTO_CONNECTION__ADDRESS)",
        "    X-A: \"1\" # file vto.yaml",
        "    X-B: \"off\" # file vto.yaml",
        "    X-C: \"3\" # environment VTO_CONNECTION__HEADERS",
        "  caCertPath: null # default (VTO_CONNECTION__CA_CERT_PATH)",
        "  vaultRequestsBurst: 9 # environment VTO_SYNC__VAULT_REQUESTS_BURST",
        "  logLevel: debug # command line --log-level (VTO_TELEMETRY__LOG_LEVEL)",
        "  metricsBindAddress: \":8080\" # default (VTO_TELEMETRY__METRICS_BIND_ADDRESS)",
        "    maxInterval: \"1m\" # default (VTO_SYNC__BACKOFF__MAX_INTERVAL)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    for key in keys::all().unwrap() {
        assert!(
            shown.contains(&key.variable),
            "{} in\n{shown}",
            key.variable
        );
    }
    let again = load_all(&[("shown", &shown)], &[], &[]).unwrap();
    assert_eq!(again.config, loaded.config);
}
