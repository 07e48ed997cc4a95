//! Each guardrail with the attacks that it stands against. A case is one
//! change to a request that is allowed, and the rule that must refuse it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connection;
mod destination;
mod login;
mod network;
mod paths;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::key::{Kind, ObjectKey, ResourceKey};

/// A configuration from YAML, through the real layers.
fn policy(yaml: &str) -> Policy {
    Policy::new(&crate::config::from_yaml(yaml).unwrap())
}

fn own() -> OwnIdentity {
    OwnIdentity {
        namespace: "team".to_owned(),
        service_account: "vault-tenant-operator".to_owned(),
        api_server: vec![
            "10.96.0.1:443".to_owned(),
            "[fd00::1]:6443".to_owned(),
            "https://API.cluster.example:6443".to_owned(),
        ],
        api_audiences: vec!["https://issuer.cluster.example".to_owned()],
        secret_names: vec!["vto-key".to_owned()],
    }
}

/// A request that is allowed with an empty configuration.
fn request() -> Resolved {
    Resolved {
        resource: ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", "db"),
        },
        connection: Connection {
            origin: Some(ObjectKey::new("team", "vault")),
            address: "https://vault.example:8200".to_owned(),
            ca: CaSource::System,
            tls_server_name: None,
            skip_tls_verify: false,
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(60),
        },
        login: Login {
            origin: Some(ObjectKey::new("team", "app")),
            mount: "kubernetes".to_owned(),
            vault_namespace: None,
            params: BTreeMap::new(),
            headers: BTreeMap::new(),
            method: LoginMethod::Kubernetes {
                role: "app".to_owned(),
                service_account: ObjectKey::new("team", "app"),
                audiences: vec!["vault".to_owned()],
                expiration_seconds: 600,
            },
        },
        read: Read {
            mount: "kv".to_owned(),
            path: "kv/data/db".to_owned(),
            ..Read::default()
        },
        destination: DestinationRequest {
            secret: ObjectKey::new("team", "db"),
            type_: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        },
    }
}

/// What `permit` says: `ok`, the rule that denies, or the reason.
fn verdict(yaml: &str, change: impl FnOnce(&mut Resolved)) -> String {
    let mut resolved = request();
    change(&mut resolved);
    match permit(resolved, &policy(yaml), &own()) {
        Ok(_) => "ok".to_owned(),
        Err(Problem::PolicyDenied { rule, .. }) => rule.to_owned(),
        Err(problem) => problem.reason().to_owned(),
    }
}

const INVALID: &str = "InvalidConfiguration";

#[test]
fn a_plain_request_passes_unchanged() {
    let permitted = permit(request(), &policy(""), &own()).unwrap();
    let asked = request();
    assert_eq!(permitted.resource(), &asked.resource);
    assert_eq!(permitted.login().connection().get(), &asked.connection);
    assert_eq!(permitted.login().get(), &asked.login);
    assert_eq!(permitted.read(), &asked.read);
    assert_eq!(permitted.destination(), &asked.destination);
}

#[test]
fn each_rule_names_a_key_that_exists() {
    for rule in [
        rule::VAULT_ADDRESSES,
        rule::ALLOWED_AUTH_METHODS,
        rule::SERVICE_ACCOUNTS,
        rule::AUTH_MOUNTS,
        rule::VAULT_ROLES,
        rule::VAULT_NAMESPACES,
        rule::SECRET_PATHS,
        rule::SYSTEM_PATHS,
        rule::FILE_PATHS,
        rule::ALLOW_SKIP_TLS_VERIFY,
        rule::DESTINATION_NAMES,
        rule::REFERENCED_NAMESPACES,
    ] {
        assert!(crate::config::is_key(rule), "{rule}");
    }
}

#[test]
fn a_refusal_says_who_can_mend_it() {
    let said = denied(rule::VAULT_ADDRESSES, "no").to_string();
    assert!(
        said.contains("policy.vaultAddresses") && said.contains("platform team"),
        "{said}"
    );
    let said = denied(rule::HEADERS, "no").to_string();
    assert!(said.contains("no configuration lifts"), "{said}");
}

/// The theft that all this is for: a tenant's server collects a token.
#[test]
fn a_server_of_the_tenant_gets_no_token_that_the_api_server_takes() {
    for audiences in [
        vec![],
        vec!["https://issuer.cluster.example".to_owned()],
        vec!["https://kubernetes.default.svc".to_owned()],
        vec![
            "vault".to_owned(),
            "https://kubernetes.default.svc.cluster.local".to_owned(),
        ],
        vec![" ".to_owned()],
    ] {
        let got = verdict("", |asked| {
            asked.connection.address = "https://thief.example".to_owned();
            asked.login.method = LoginMethod::Kubernetes {
                role: "app".to_owned(),
                service_account: ObjectKey::new("team", "app"),
                audiences: audiences.clone(),
                expiration_seconds: 600,
            };
        });
        assert_eq!(got, rule::VAULT_ADDRESSES, "{audiences:?}");
    }
}
