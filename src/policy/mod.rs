//! The guardrails: what a custom resource may make the operator do. One
//! function decides, before any packet, and only it can make a [`Permitted`].
//!
//! [`permit`] is [`permit_connection`], [`permit_login`] and the checks of what
//! is read and written. The HTTP client asks [`address_allowed`] for each
//! address that a name resolves to, so that DNS leads nowhere else, and
//! [`redirect_allowed`] before it follows a redirect.

mod connection;
mod destination;
mod lease;
mod login;
mod network;
mod permitted;
mod read;
pub mod rule;
#[cfg(test)]
mod tests;

pub use lease::{LeaseRequest, PermittedLease, permit_certificate, permit_lease};
pub use network::{address_allowed, redirect_allowed};
pub use permitted::{
    CaSource, Connection, DestinationRequest, Fields, Login, LoginMethod, Permitted,
    PermittedConnection, PermittedLogin, Read, Resolved,
};

use std::collections::BTreeMap;

use crate::config::address::{Address, AddressPattern};
use crate::config::{Config, NamePattern, PolicyRules, canonical_path};
use crate::key::{ObjectKey, is_object_name};
use crate::problem::Problem;

/// The guardrails as the configuration sets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: PolicyRules,
    /// `policy.vaultAddresses` and `connection.address`.
    listed: Vec<AddressPattern>,
    /// `connection.caCertPath`: the platform's own choice of a file.
    own_ca_file: Option<String>,
}

impl Policy {
    /// The guardrails of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let own = config.connection.address.clone();
        let mut listed = config.policy.vault_addresses.clone();
        listed.extend(own.map(AddressPattern::exactly));
        Self {
            rules: config.policy.clone(),
            listed,
            own_ca_file: config.connection.ca_cert_path.clone(),
        }
    }

    /// Whether the configuration names this address, which lifts the checks
    /// that stand for the platform's word.
    #[must_use]
    pub fn lists(&self, address: &str) -> bool {
        Address::parse(address).is_ok_and(|address| self.lists_address(&address))
    }

    fn lists_address(&self, address: &Address) -> bool {
        self.listed.iter().any(|pattern| pattern.matches(address))
    }
}

/// What the operator is, as far as the guardrails protect it from the
/// resources that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnIdentity {
    /// Namespace that it runs in.
    pub namespace: String,
    /// ServiceAccount that it runs as.
    pub service_account: String,
    /// Names and IP addresses of the API server, each with or without a port:
    /// `10.96.0.1:443`, `[fd00::1]:443`, `api.cluster.example`.
    pub api_server: Vec<String>,
    /// Audiences that the API server accepts, as the operator's own token has
    /// them; unknown (empty) lets no token go to an address that isn't listed.
    pub api_audiences: Vec<String>,
    /// Names of its own Secrets in its namespace (HMAC key, ledger).
    pub secret_names: Vec<String>,
}

/// Whether all that a secret resource asks for is allowed.
///
/// # Errors
/// [`Problem::PolicyDenied`] with rule and config key; [`Problem::InvalidSpec`]
/// for what no configuration could allow; [`Problem::NotServed`] for an allowed
/// login method that this version lacks; [`Problem::CredentialUnusable`] for a
/// CA file that cannot be found.
pub fn permit(
    resolved: Resolved,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<Permitted, Problem> {
    let Resolved {
        resource,
        connection,
        login,
        read,
        destination,
    } = resolved;
    login::account_is_of(&login, &resource.object.namespace)?;
    let namespace = &resource.object.namespace;
    reference("VaultAuth", login.origin.as_ref(), namespace, policy)?;
    let connection = permit_connection(connection, policy, own)?;
    let login = permit_login(login, connection, policy, own)?;
    read::check(&read, login.get(), policy)?;
    destination::check(&destination, &resource, policy, own)?;
    Ok(Permitted {
        resource,
        login,
        read,
        destination,
    })
}

/// Whether a resource may write into a Secret of this type that somebody else
/// made.
///
/// # Errors
/// [`Problem::PolicyDenied`] for types that give rights or hold state of others.
pub fn permit_type(type_: &str) -> Result<(), Problem> {
    destination::secret_type(type_)
}

/// Whether a connection is allowed. The address comes back in its canonical
/// form, a CA file as the path that it really has.
///
/// # Errors
/// As [`permit`].
pub fn permit_connection(
    connection: Connection,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<PermittedConnection, Problem> {
    connection::check(connection, policy, own, |path| std::fs::canonicalize(path))
        .map(PermittedConnection)
}

/// Whether a login over a connection is allowed.
///
/// # Errors
/// As [`permit`].
pub fn permit_login(
    login: Login,
    connection: PermittedConnection,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<PermittedLogin, Problem> {
    if let Some(auth) = &login.origin {
        let used = connection.get().origin.as_ref();
        reference("VaultConnection", used, &auth.namespace, policy)?;
    }
    login::check(&login, connection.get(), policy, own)?;
    Ok(PermittedLogin { connection, login })
}

/// Whether headers may be set by anybody but the operator.
///
/// # Errors
/// As [`permit`], naming the field.
pub(crate) fn headers(field: &str, headers: &BTreeMap<String, String>) -> Result<(), Problem> {
    connection::headers(field, headers)
}

/// Whether an object may be used from this namespace, as far as the platform
/// narrows what its own `allowedNamespaces` says.
fn reference(
    kind: &str,
    used: Option<&ObjectKey>,
    from: &str,
    policy: &Policy,
) -> Result<(), Problem> {
    match used {
        Some(used) if used.namespace != from => narrowed(
            rule::REFERENCED_NAMESPACES,
            &format!("the {kind} {used} is of another namespace, and"),
            &used.namespace,
            &policy.rules.referenced_namespaces,
        ),
        _ => Ok(()),
    }
}

/// Whether a name is in a list that narrows; an empty one does not.
fn narrowed(
    rule: &'static str,
    what: &str,
    name: &str,
    list: &[NamePattern],
) -> Result<(), Problem> {
    if list.is_empty() || list.iter().any(|pattern| pattern.matches(name)) {
        return Ok(());
    }
    Err(denied(
        rule,
        format!("{what} {name:?} is not one of those allowed"),
    ))
}

/// Whether a path of Vault is spelled in the one way that every hop reads
/// alike.
fn plain_path(field: &str, path: &str) -> Result<(), Problem> {
    canonical_path(path).map_err(|why| {
        denied(
            rule::PLAIN_PATHS,
            format!("{field}: the path {path:?} {why}"),
        )
    })
}

/// Whether a field holds the name of an object.
fn object_name(field: &str, kind: &str, name: &str) -> Result<(), Problem> {
    if is_object_name(name) {
        return Ok(());
    }
    Err(invalid(
        field,
        format!(
            "{name:?} is no name of a {kind}: use lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
        ),
    ))
}

/// A refusal by a guardrail.
fn denied(rule: &'static str, why: impl Into<String>) -> Problem {
    Problem::PolicyDenied {
        rule,
        why: why.into(),
        answered: false,
    }
}

/// A refusal of what is wrong under any configuration.
fn invalid(field: &str, why: impl Into<String>) -> Problem {
    Problem::InvalidSpec {
        field: field.to_owned(),
        why: why.into(),
    }
}
