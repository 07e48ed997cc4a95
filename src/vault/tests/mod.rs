//! Tests of the room as a whole: sessions over model ports, the real port
//! against servers on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod endings;
mod guardrails;
mod http;
mod model;
mod server;
mod sessions;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::policy::{
    CaSource, Connection, DestinationRequest, Login, LoginMethod, Permitted, Read, Resolved,
};

/// A resource that reads `path` from the Vault at `address`.
fn resolved(address: &str, path: &str) -> Resolved {
    Resolved {
        resource: ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", "app"),
        },
        connection: Connection {
            origin: Some(ObjectKey::new("team", "vault")),
            address: address.to_owned(),
            ca: CaSource::Secret {
                secret: ObjectKey::new("team", "vault-ca"),
                revision: "uid:1".to_owned(),
            },
            tls_server_name: None,
            skip_tls_verify: false,
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(5),
        },
        login: Login {
            origin: Some(ObjectKey::new("team", "auth")),
            mount: "kubernetes".to_owned(),
            vault_namespace: None,
            params: BTreeMap::new(),
            headers: BTreeMap::new(),
            method: LoginMethod::Kubernetes {
                role: "team".to_owned(),
                service_account: ObjectKey::new("team", "app"),
                audiences: vec!["vault".to_owned()],
                expiration_seconds: 600,
            },
        },
        read: Read {
            mount: "secret".to_owned(),
            path: path.to_owned(),
            ..Read::default()
        },
        destination: DestinationRequest {
            secret: ObjectKey::new("team", "app"),
            type_: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        },
    }
}

/// The same, past the guardrails.
fn permitted(address: &str, path: &str) -> Permitted {
    Permitted::unchecked(resolved(address, path))
}
