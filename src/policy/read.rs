//! What may be read from Vault. Looked at is the path that goes out, after
//! `/v1/`, not the parts that it was made from: where a resource puts the cut
//! between mount and path makes no difference.
//!
//! Vault takes a namespace from the header and from the front of the path. So
//! `sys`, `auth`, `identity` and `cubbyhole` mean Vault's own API at the front
//! and behind anything that may be a namespace, while `kv/data/auth/db` is a
//! secret of a service called auth. Refused as Vault's own are:
//! - any of the four at the front, within the mount, or behind the token's own
//!   namespace spelled out;
//! - `sys` and `cubbyhole` as a segment anywhere, and `auth/token` and
//!   `identity/` with a name of its API anywhere: what they answer may hold
//!   the token itself, and hardly a secret is called so.
//!
//! What is left behind other namespaces needs a Vault policy that names it.

use super::{Login, Policy, Read, denied, invalid, plain_path, rule};
use crate::config::vault_namespace as canonical_namespace;
use crate::problem::Problem;

/// Vault's own APIs beside its secret engines.
const SYSTEM: [&str; 4] = ["sys", "auth", "identity", "cubbyhole"];

/// What follows `identity/` in Vault's API.
const IDENTITY: [&str; 8] = [
    "entity",
    "entity-alias",
    "group",
    "group-alias",
    "alias",
    "lookup",
    "oidc",
    "mfa",
];

/// Whether the read may be made with the login's token.
pub(super) fn check(read: &Read, login: &Login, policy: &Policy) -> Result<(), Problem> {
    let path = read.path.as_str();
    plain_path(read.fields.path, path)?;
    let mount = read.mount.trim_matches('/');
    if !path
        .strip_prefix(mount)
        .is_some_and(|rest| !mount.is_empty() && rest.starts_with('/'))
    {
        return Err(invalid(
            "spec.mount",
            format!("the path {path:?} is not below the mount {mount:?}"),
        ));
    }
    let namespace = vault_namespace(read.vault_namespace.as_deref(), policy)?;
    let of_token = vault_namespace(login.vault_namespace.as_deref(), policy)?;
    if let Some(system) = system_part(path, mount, &namespace, &of_token)
        && !policy
            .rules
            .system_paths
            .iter()
            .any(|allowed| allowed.covers(path) || allowed.covers(system))
    {
        return Err(denied(
            rule::SYSTEM_PATHS,
            format!("the path {path:?} reads Vault's own API ({system:?}) and no secret"),
        ));
    }
    let paths = &policy.rules.secret_paths;
    if !paths.is_empty() && !paths.iter().any(|allowed| allowed.covers(path)) {
        return Err(denied(
            rule::SECRET_PATHS,
            format!("the path {path:?} is not below one of those allowed"),
        ));
    }
    Ok(())
}

/// The part of a canonical path that may be Vault's own API, if there is one.
fn system_part<'a>(path: &'a str, mount: &str, namespace: &str, of_token: &str) -> Option<&'a str> {
    let mut at = 0;
    for segment in path.split('/') {
        let system = &path[at..];
        let before = path[..at].trim_end_matches('/');
        // Vault compares exactly; a front end that does not is no reason to be lax.
        let lower = segment.to_ascii_lowercase();
        if SYSTEM.contains(&lower.as_str()) {
            let next = system.split('/').nth(1).unwrap_or_default();
            let next = next.to_ascii_lowercase();
            let spelled_out = join(namespace, before) == of_token;
            let telling = match lower.as_str() {
                "auth" => next == "token",
                "identity" => IDENTITY.contains(&next.as_str()),
                _ => true,
            };
            if at == 0 || at < mount.len() || spelled_out || telling {
                return Some(system);
            }
        }
        at += segment.len() + 1;
    }
    None
}

/// A Vault namespace in canonical form (the root is empty), if it is allowed.
pub(super) fn vault_namespace(namespace: Option<&str>, policy: &Policy) -> Result<String, Problem> {
    let named = namespace.unwrap_or_default();
    let canonical = canonical_namespace(named).map_err(|why| {
        denied(
            rule::PLAIN_PATHS,
            format!("spec.namespace: the Vault namespace {named:?} {why}"),
        )
    })?;
    let allowed = &policy.rules.vault_namespaces;
    let fits = allowed.iter().any(|entry| match entry.as_str() {
        "root" => canonical.is_empty(),
        _ => entry.covers(canonical),
    });
    if allowed.is_empty() || fits {
        return Ok(canonical.to_owned());
    }
    let shown = if canonical.is_empty() {
        "root"
    } else {
        canonical
    };
    Err(denied(
        rule::VAULT_NAMESPACES,
        format!("the Vault namespace {shown:?} is not one of those allowed"),
    ))
}

fn join(namespace: &str, below: &str) -> String {
    match (namespace, below) {
        ("", below) => below.to_owned(),
        (namespace, "") => namespace.to_owned(),
        (namespace, below) => format!("{namespace}/{below}"),
    }
}
