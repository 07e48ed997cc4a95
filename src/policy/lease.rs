//! Which leases may be renewed and revoked. A lease's id begins with the path
//! that it came from, so what may be read says what may be kept and given back:
//! an id that was read back from the cluster is input like any other.

use super::{
    Connection, Login, OwnIdentity, Permitted, PermittedLogin, Policy, Read, invalid,
    permit_connection, permit_login, read,
};
use crate::problem::{Problem, printable};

/// The longest name of a lease below its path; Vault's have 24 characters, and in
/// a Vault namespace a dot and five more.
const NAME_LIMIT: usize = 128;

/// What is to be done about a lease of a resource that may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Which Vault.
    pub connection: Connection,
    /// How to log in.
    pub login: Login,
    /// The request that the lease came from.
    pub read: Read,
    /// Its id.
    pub id: String,
}

/// A lease that the guardrails allow to be renewed and revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermittedLease {
    login: PermittedLogin,
    vault_namespace: Option<String>,
    id: String,
}

impl PermittedLease {
    /// With which login.
    #[must_use]
    pub const fn login(&self) -> &PermittedLogin {
        &self.login
    }

    /// Vault namespace of the request.
    #[must_use]
    pub fn vault_namespace(&self) -> Option<&str> {
        self.vault_namespace.as_deref()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Permitted {
    /// The lease of that id, if it came from this very request.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`] for any other.
    pub fn lease(&self, id: &str) -> Result<PermittedLease, Problem> {
        lease(self.login().clone(), self.read(), id)
    }
}

/// The lease of a resource that may be gone, if all that led to it is allowed now.
///
/// # Errors
/// As [`super::permit`].
pub fn permit_lease(
    asked: LeaseRequest,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<PermittedLease, Problem> {
    let connection = permit_connection(asked.connection, policy, own)?;
    let login = permit_login(asked.login, connection, policy, own)?;
    read::check(&asked.read, login.get(), policy)?;
    lease(login, &asked.read, &asked.id)
}

fn lease(login: PermittedLogin, read: &Read, id: &str) -> Result<PermittedLease, Problem> {
    let name = id
        .strip_prefix(read.path.as_str())
        .and_then(|rest| rest.strip_prefix('/'));
    let plain = |name: &str| {
        (1..=NAME_LIMIT).contains(&name.len())
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if !name.is_some_and(plain) {
        return Err(invalid(
            "the lease's id",
            format!(
                "{:?} is no lease of {:?}; it is left alone",
                printable(id, 40),
                read.path
            ),
        ));
    }
    Ok(PermittedLease {
        login,
        vault_namespace: read.vault_namespace.clone(),
        id: id.to_owned(),
    })
}
