//! What a resource asks for ([`Resolved`]) and the same after the guardrails
//! said yes ([`Permitted`]). Only [`super::permit`] makes the latter, and only
//! the latter can be sent anywhere: there is no way round the check.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::key::{ObjectKey, ResourceKey};

/// Where a Vault is and how to speak to it: a VaultConnection with the
/// configuration's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The VaultConnection, or `None` for the configuration's own.
    pub origin: Option<ObjectKey>,
    /// `https://host:port`, as written.
    pub address: String,
    /// Where the CA certificates come from.
    pub ca: CaSource,
    /// Name to verify and to send as SNI instead of the address's host.
    pub tls_server_name: Option<String>,
    /// Accept any certificate.
    pub skip_tls_verify: bool,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    /// Limit for one request.
    pub timeout: Duration,
}

/// Where the CA certificates of a connection come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CaSource {
    /// The roots of the system that the operator runs on.
    System,
    /// Key `ca.crt` of a Secret; with the Secret's uid and resourceVersion as
    /// last seen, so that a changed CA makes a new client.
    Secret {
        /// The Secret.
        secret: ObjectKey,
        /// `uid:resourceVersion`, or empty when the Secret was not seen yet.
        revision: String,
    },
    /// A file in the operator's container, read when the client is built.
    File(String),
}

impl CaSource {
    /// Whether it is a Secret that was not seen yet.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        matches!(self, Self::Secret { revision, .. } if revision.is_empty())
    }
}

/// How to log in: a VaultAuth merged with its VaultAuthGlobal and defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The VaultAuth, or `None` for the configuration's default.
    pub origin: Option<ObjectKey>,
    /// Auth mount without `auth/`.
    pub mount: String,
    /// Vault namespace of the login.
    pub vault_namespace: Option<String>,
    /// Added to the body; the method's own fields win.
    pub params: BTreeMap<String, String>,
    /// Sent with the login only.
    pub headers: BTreeMap<String, String>,
    /// The method with its fields.
    pub method: LoginMethod,
}

impl Login {
    /// Whether Vault gives its token to the same one: the rest is about the way there.
    #[must_use]
    pub fn has_owner_of(&self, other: &Self) -> bool {
        fn owner(login: &Login) -> Option<(&String, &ObjectKey)> {
            match &login.method {
                LoginMethod::Kubernetes {
                    role,
                    service_account,
                    ..
                } => Some((role, service_account)),
                LoginMethod::NotServed(_) => None,
            }
        }
        owner(self).is_some()
            && owner(self) == owner(other)
            && (&self.mount, &self.vault_namespace) == (&other.mount, &other.vault_namespace)
    }
}

/// A login method and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoginMethod {
    /// Vault's kubernetes auth: a token of a ServiceAccount.
    Kubernetes {
        /// Vault role.
        role: String,
        /// The account whose token is requested.
        service_account: ObjectKey,
        /// Audiences of the token; empty means the API server's own.
        audiences: Vec<String>,
        /// Life of the token in seconds, at least 600.
        expiration_seconds: i64,
    },
    /// A method that is known but not served yet, by its name in manifests.
    NotServed(String),
}

impl LoginMethod {
    /// The name as manifests and `--allowed-auth-methods` write it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            LoginMethod::Kubernetes { .. } => "kubernetes",
            LoginMethod::NotServed(name) => name,
        }
    }

    /// The same as the label of a metric: one of few.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            LoginMethod::Kubernetes { .. } => "kubernetes",
            LoginMethod::NotServed(_) => "other",
        }
    }
}

/// A request for the data of a secret: a read at Vault, or a write that answers
/// with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Vault namespace of the request.
    pub vault_namespace: Option<String>,
    /// Mount as written in the resource.
    pub mount: String,
    /// Path after `/v1/`: no leading slash, not percent-encoded.
    pub path: String,
    /// Query parameters, such as a KV version.
    pub query: Vec<(String, String)>,
    /// Whether Vault makes something new for each answer, to be given back.
    pub mints: bool,
    /// Fields of a write; `None` for a read.
    pub body: Option<serde_json::Map<String, serde_json::Value>>,
    /// Where it comes from in the resource.
    pub fields: Fields,
}

/// The fields of a resource that a request is made of, for whoever has to mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Those that the path is made of.
    pub path: &'static str,
    /// What to look at where Vault refuses the request.
    pub all: &'static str,
}

impl Default for Fields {
    /// Those of kinds that say mount and path.
    fn default() -> Self {
        Self {
            path: "spec.path",
            all: "spec.mount, spec.path and spec.namespace",
        }
    }
}

/// What is to be written where, as far as guardrails look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRequest {
    /// The Secret.
    pub secret: ObjectKey,
    /// Its type; empty means Opaque.
    pub type_: String,
    /// Labels from the resource.
    pub labels: BTreeMap<String, String>,
    /// Annotations from the resource.
    pub annotations: BTreeMap<String, String>,
}

/// Everything that a secret resource asks for, references followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The resource itself.
    pub resource: ResourceKey,
    /// Which Vault.
    pub connection: Connection,
    /// How to log in.
    pub login: Login,
    /// What to read.
    pub read: Read,
    /// What to write.
    pub destination: DestinationRequest,
}

/// A [`Connection`] that the guardrails allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermittedConnection(pub(super) Connection);

/// A [`Login`] that the guardrails allow, bound to its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermittedLogin {
    pub(super) connection: PermittedConnection,
    pub(super) login: Login,
}

/// A [`Resolved`] that the guardrails allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    pub(super) resource: ResourceKey,
    pub(super) login: PermittedLogin,
    pub(super) read: Read,
    pub(super) destination: DestinationRequest,
}

impl PermittedConnection {
    /// The connection.
    #[must_use]
    pub const fn get(&self) -> &Connection {
        &self.0
    }
}

impl PermittedLogin {
    /// Where the login goes.
    #[must_use]
    pub const fn connection(&self) -> &PermittedConnection {
        &self.connection
    }

    /// The login.
    #[must_use]
    pub const fn get(&self) -> &Login {
        &self.login
    }
}

impl Permitted {
    /// The resource that asked.
    #[must_use]
    pub const fn resource(&self) -> &ResourceKey {
        &self.resource
    }

    /// How to log in, and where.
    #[must_use]
    pub const fn login(&self) -> &PermittedLogin {
        &self.login
    }

    /// What to read.
    #[must_use]
    pub const fn read(&self) -> &Read {
        &self.read
    }

    /// What to write.
    #[must_use]
    pub const fn destination(&self) -> &DestinationRequest {
        &self.destination
    }
}

#[cfg(test)]
impl Permitted {
    /// For unit tests of the rooms above: what [`super::permit`] would let pass.
    pub(crate) fn unchecked(resolved: Resolved) -> Self {
        let Resolved {
            resource,
            connection,
            login,
            read,
            destination,
        } = resolved;
        Self {
            resource,
            login: PermittedLogin {
                connection: PermittedConnection(connection),
                login,
            },
            read,
            destination,
        }
    }
}
