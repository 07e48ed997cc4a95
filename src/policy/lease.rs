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

/// The most characters of a serial number: 20 bytes, `aa:bb:…` (RFC 5280, 4.1.2.2).
const SERIAL_LIMIT: usize = 3 * 20 - 1;

/// What is to be done about a lease or a certificate of a resource that may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Which Vault.
    pub connection: Connection,
    /// How to log in.
    pub login: Login,
    /// The request that the lease came from.
    pub read: Read,
    /// Its id, or serial number.
    pub id: String,
}

/// A lease or a certificate that the guardrails allow to be renewed and revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermittedLease {
    login: PermittedLogin,
    vault_namespace: Option<String>,
    path: String,
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

    /// Where a certificate is revoked.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its id, or serial number.
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
    let (login, read, id) = permit_origin(asked, policy, own)?;
    lease(login, &read, &id)
}

/// The certificate of a resource that may be gone, if all that led to it is allowed
/// now: who may have one issued at a path may have it revoked by the engine there.
///
/// # Errors
/// As [`super::permit`].
pub fn permit_certificate(
    asked: LeaseRequest,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<PermittedLease, Problem> {
    let (login, read, serial) = permit_origin(asked, policy, own)?;
    let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    if serial.len() > SERIAL_LIMIT || !serial.split(':').all(is_pair) {
        return Err(invalid(
            "the certificate's serial number",
            format!("{:?} is none; it is left alone", printable(&serial, 40)),
        ));
    }
    let mount = read.mount.trim_matches('/');
    Ok(PermittedLease {
        login,
        path: format!("{mount}/revoke"),
        vault_namespace: read.vault_namespace,
        id: serial,
    })
}

/// What a lease or a certificate came from, if that is allowed now.
fn permit_origin(
    asked: LeaseRequest,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<(PermittedLogin, Read, String), Problem> {
    let connection = permit_connection(asked.connection, policy, own)?;
    let login = permit_login(asked.login, connection, policy, own)?;
    read::check(&asked.read, login.get(), policy)?;
    Ok((login, asked.read, asked.id))
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
        path: read.path.clone(),
        id: id.to_owned(),
    })
}
