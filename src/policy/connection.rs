//! Where a resource may make the operator connect to, and with what: address,
//! headers, CA file, TLS options.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::network::unlisted_allowed;
use super::{CaSource, Connection, OwnIdentity, Policy, denied, invalid, object_name, rule};
use crate::config::address::Address;
use crate::problem::Problem;

/// Headers that nothing but the operator sets, in lower case: those that
/// decide who asks, from where and to where, and those that frame a request.
const RESERVED_HEADERS: [&str; 21] = [
    "x-vault-token",
    "x-vault-namespace",
    "x-vault-wrap-ttl",
    "x-vault-request",
    "authorization",
    "proxy-authorization",
    "host",
    "cookie",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-client-cert",
    "x-real-ip",
    "content-length",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

/// Directories whose files no resource may name: credentials and environment
/// of processes, also where the directories of the second half link to.
const PROTECTED: [&str; 5] = ["/proc", "/sys", "/dev", "/var/run/secrets", "/run/secrets"];

/// Resolves symbolic links; injected so that tests need no file system.
pub(super) type Canonicalize = fn(&Path) -> io::Result<PathBuf>;

/// The connection in canonical form, if it is allowed.
pub(super) fn check(
    mut connection: Connection,
    policy: &Policy,
    own: &OwnIdentity,
    canonicalize: Canonicalize,
) -> Result<Connection, Problem> {
    let address =
        Address::parse(&connection.address).map_err(|why| invalid("spec.address", why))?;
    if !policy.lists_address(&address) {
        if let [first, ..] = policy.listed.as_slice() {
            return Err(denied(
                rule::VAULT_ADDRESSES,
                format!("the address {address} is not one of those listed ({first} and the like)"),
            ));
        }
        unlisted_allowed(&address, own)?;
    }
    headers("spec.headers", &connection.headers)?;
    if connection.skip_tls_verify && !policy.rules.allow_skip_tls_verify {
        return Err(denied(
            rule::ALLOW_SKIP_TLS_VERIFY,
            "skipTLSVerify would let anybody on the way read the token",
        ));
    }
    if let Some(name) = &connection.tls_server_name
        && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
    {
        return Err(invalid(
            "spec.tlsServerName",
            format!("{name:?} is no host name: write it like vault.example"),
        ));
    }
    if let CaSource::Secret { secret, .. } = &connection.ca {
        object_name("spec.caCertSecretRef", "Secret", &secret.name)?;
    }
    if let CaSource::File(path) = &connection.ca
        && policy.own_ca_file.as_ref() != Some(path)
    {
        connection.ca = CaSource::File(file(path, policy, canonicalize)?);
    }
    connection.address = address.to_string();
    Ok(connection)
}

/// Whether a resource may set these headers.
pub(super) fn headers(field: &str, headers: &BTreeMap<String, String>) -> Result<(), Problem> {
    for (name, value) in headers {
        // The parser takes only what HTTP can carry, and gives lower case.
        let Ok(header) = http::HeaderName::from_bytes(name.as_bytes()) else {
            return Err(invalid(
                field,
                format!("{name:?} is no name of an HTTP header: use letters, digits and hyphens"),
            ));
        };
        // Front ends that speak CGI take `_` and `-` for the same.
        if RESERVED_HEADERS.contains(&header.as_str().replace('_', "-").as_str()) {
            return Err(denied(
                rule::HEADERS,
                format!("{field} sets {name}, which only the operator itself may set"),
            ));
        }
        if http::HeaderValue::from_str(value).is_err() {
            return Err(invalid(
                field,
                format!("the value of {name} has a character that no HTTP header can carry"),
            ));
        }
    }
    Ok(())
}

/// The real path of a file that a resource names, if it is allowed. Whether
/// the file exists is told only where the path itself is allowed.
fn file(path: &str, policy: &Policy, canonicalize: Canonicalize) -> Result<String, Problem> {
    let named = Path::new(path);
    if !named.is_absolute() || path.contains('\0') {
        return Err(invalid(
            "spec.caCertPath",
            format!("{path:?} is no absolute path: begin it with /"),
        ));
    }
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(denied(
            rule::PLAIN_PATHS,
            format!("spec.caCertPath: the path {path:?} has a segment . or .."),
        ));
    }
    if is_protected(named) {
        return Err(protected(path));
    }
    let allowed = policy
        .rules
        .file_paths
        .iter()
        .find(|allowed| named.starts_with(allowed));
    let Some(allowed) = allowed else {
        return Err(denied(
            rule::FILE_PATHS,
            format!("the file {path:?} is not below a directory that resources may name"),
        ));
    };
    let unusable = |error: io::Error| Problem::CredentialUnusable {
        why: format!("the file {path:?} in the operator's container cannot be used: {error}"),
    };
    let root = canonicalize(Path::new(allowed)).map_err(unusable)?;
    let real = canonicalize(named).map_err(unusable)?;
    let protected_by_link = PROTECTED
        .iter()
        .filter_map(|directory| canonicalize(Path::new(directory)).ok())
        .any(|directory| real.starts_with(directory));
    if is_protected(&real) || protected_by_link {
        return Err(protected(path));
    }
    if !real.starts_with(&root) {
        return Err(denied(
            rule::FILE_PATHS,
            format!("the file {path:?} is a link that leads out of {allowed}"),
        ));
    }
    real.into_os_string().into_string().map_err(|_| {
        invalid(
            "spec.caCertPath",
            format!("{path:?} leads to a name that is not UTF-8"),
        )
    })
}

fn is_protected(path: &Path) -> bool {
    PROTECTED
        .iter()
        .any(|directory| path.starts_with(directory))
}

fn protected(path: &str) -> Problem {
    denied(
        rule::PROTECTED_FILES,
        format!(
            "the file {path:?} is or leads to one that holds credentials of the operator or its machine"
        ),
    )
}
