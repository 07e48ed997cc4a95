//! What a VaultConnection leaves out comes from the configuration; what it says
//! stands.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::address::Address;
use serde_json::{Value, json};

fn defaults() -> ConnectionDefaults {
    ConnectionDefaults {
        address: Some(Address::parse("https://vault.example:8200").unwrap()),
        headers: [("X-Team", "platform"), ("X-Site", "one")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ca_cert_path: Some("/etc/vault/ca.pem".to_owned()),
        skip_tls_verify: true,
        tls_server_name: Some("vault.internal".to_owned()),
        timeout: Duration::from_secs(7),
        vault_namespace: Some("platform".to_owned()),
    }
}

fn resolved(spec: Value, defaults: &ConnectionDefaults) -> Connection {
    let resource = serde_json::from_value(json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultConnection",
        "metadata": { "name": "own", "namespace": "team" }, "spec": spec,
    }))
    .unwrap();
    let view = View::default();
    let scope = Scope {
        view: &view,
        defaults,
        operator_namespace: "team",
    };
    connection(scope, &resource).unwrap()
}

#[test]
fn what_a_connection_leaves_out_is_filled_in() {
    let defaults = defaults();
    let spec = json!({ "address": "https://other.example", "skipTLSVerify": false,
        "headers": { "X-Team": "app" } });
    let found = resolved(spec, &defaults);
    assert_eq!(found.address, "https://other.example");
    assert_eq!(found.tls_server_name.as_deref(), Some("vault.internal"));
    assert_eq!(found.timeout, Duration::from_secs(7));
    assert!(matches!(found.ca, CaSource::File(path) if path == "/etc/vault/ca.pem"));
    assert_eq!(found.headers["X-Team"], "app");
    assert_eq!(found.headers["X-Site"], "one");
    // Every connection says whether certificates are checked: nobody else may.
    assert!(!found.skip_tls_verify);
}

#[test]
fn what_a_connection_says_stands() {
    let spec = json!({ "address": "https://other.example", "skipTLSVerify": true,
        "tlsServerName": "mine", "timeout": "3s", "caCertSecretRef": "ca" });
    let found = resolved(spec, &defaults());
    assert_eq!(found.tls_server_name.as_deref(), Some("mine"));
    assert_eq!(found.timeout, Duration::from_secs(3));
    assert!(found.skip_tls_verify);
    let secret = ObjectKey::new("team", "ca");
    assert!(matches!(found.ca, CaSource::Secret { secret: found, .. } if found == secret));
}

#[test]
fn the_configuration_alone_is_a_connection_too() {
    let found = configured_connection(&defaults()).unwrap();
    assert_eq!(found.origin, None);
    assert_eq!(found.address, "https://vault.example:8200");
    assert_eq!(found.tls_server_name.as_deref(), Some("vault.internal"));
    assert!(found.skip_tls_verify && found.headers.len() == 2);
    let none = ConnectionDefaults {
        address: None,
        ..defaults()
    };
    assert!(configured_connection(&none).is_none());
}

#[test]
fn a_vault_auth_is_adrift_without_its_connection_whatever_that_one_says() {
    let auth = |named: Option<&str>| -> VaultAuth {
        serde_json::from_value(json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultAuth",
            "metadata": { "name": "app", "namespace": "team" },
            "spec": { "vaultConnectionRef": named },
        }))
        .unwrap()
    };
    let mut view = View::default();
    let unusable: VaultConnection = serde_json::from_value(json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultConnection",
        "metadata": { "name": "own", "namespace": "team" },
        "spec": { "address": "https://vault.example", "timeout": "never" },
    }))
    .unwrap();
    let key = ObjectKey::new("team", "own");
    view.connections.insert(key, std::rc::Rc::new(unusable));
    let nothing = ConnectionDefaults {
        address: None,
        ..defaults()
    };
    let found = |named, defaults: &ConnectionDefaults| {
        let scope = Scope {
            view: &view,
            defaults,
            operator_namespace: "platform",
        };
        has_connection(scope, &auth(named)).map_err(|problem| problem.reason())
    };
    assert_eq!(found(Some("own"), &nothing), Ok(()));
    assert_eq!(found(Some("other"), &defaults()), Err("InvalidResourceRef"));
    assert_eq!(found(None, &nothing), Err("InvalidResourceRef"));
    assert_eq!(found(None, &defaults()), Ok(()), "the configuration's own");
}
