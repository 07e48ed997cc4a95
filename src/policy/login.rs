//! Who may log in where: method, ServiceAccount, audience, mount, role, Vault
//! namespace.

use super::connection::headers;
use super::read::vault_namespace;
use super::{
    Connection, Login, LoginMethod, OwnIdentity, Policy, denied, invalid, narrowed, object_name,
    plain_path, rule,
};
use crate::config::AuthMethod;
use crate::problem::Problem;

/// Audiences that API servers accept by default, for clusters whose operator
/// token was made for another one.
const USUAL_API_AUDIENCES: [&str; 4] = [
    "https://kubernetes.default.svc.cluster.local",
    "https://kubernetes.default.svc",
    "kubernetes.default.svc",
    "https://kubernetes.default",
];

/// The longest life, in seconds, of a token for an address that is not listed.
const LONGEST_OUTSIDE: i64 = 3600;

/// Whether the ServiceAccount is one of the namespace that the secret
/// resource is in.
pub(super) fn account_is_of(login: &Login, namespace: &str) -> Result<(), Problem> {
    match &login.method {
        LoginMethod::Kubernetes {
            service_account, ..
        } if service_account.namespace != namespace => Err(denied(
            rule::FOREIGN_ACCOUNT,
            format!("the ServiceAccount {service_account} is not in the namespace {namespace}"),
        )),
        _ => Ok(()),
    }
}

/// Whether the login may be tried over the connection.
pub(super) fn check(
    login: &Login,
    connection: &Connection,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<(), Problem> {
    method(&login.method, policy)?;
    let mount = login.mount.trim_matches('/');
    plain_path("spec.mount", mount)?;
    narrowed(
        rule::AUTH_MOUNTS,
        "the auth mount",
        mount,
        &policy.rules.auth_mounts,
    )?;
    vault_namespace(login.vault_namespace.as_deref(), policy)?;
    headers("spec.headers", &login.headers)?;
    match &login.method {
        LoginMethod::NotServed(name) => Err(Problem::NotServed {
            what: format!("the auth method {name}"),
        }),
        LoginMethod::Kubernetes {
            role,
            service_account,
            audiences,
            expiration_seconds,
        } => {
            narrowed(
                rule::VAULT_ROLES,
                "the Vault role",
                role,
                &policy.rules.vault_roles,
            )?;
            object_name(
                "spec.kubernetes.serviceAccount",
                "ServiceAccount",
                &service_account.name,
            )?;
            if service_account.namespace == own.namespace
                && service_account.name == own.service_account
            {
                return Err(denied(
                    rule::OWN_ACCOUNT,
                    format!("the ServiceAccount {service_account} is the operator's own"),
                ));
            }
            narrowed(
                rule::SERVICE_ACCOUNTS,
                "the ServiceAccount",
                &service_account.name,
                &policy.rules.service_accounts,
            )?;
            if policy.lists(&connection.address) {
                return Ok(());
            }
            token_outside(audiences, *expiration_seconds, connection, own)
        }
    }
}

/// Whether the configuration allows the method, be it served or not.
fn method(method: &LoginMethod, policy: &Policy) -> Result<(), Problem> {
    let known: AuthMethod = method
        .name()
        .parse()
        .map_err(|why: String| invalid("spec.method", why))?;
    if policy.rules.allowed_auth_methods.contains(&known) {
        return Ok(());
    }
    let allowed: Vec<&str> = policy
        .rules
        .allowed_auth_methods
        .iter()
        .map(|method| method.as_str())
        .collect();
    Err(denied(
        rule::ALLOWED_AUTH_METHODS,
        format!(
            "the auth method {known} is not one of those allowed ({})",
            allowed.join(", ")
        ),
    ))
}

/// A token for an address that the platform did not name must be of no use at
/// the API server: whoever receives it could act as the ServiceAccount. Nor may
/// it live long, since it can still be used where its audience is accepted.
fn token_outside(
    audiences: &[String],
    expiration_seconds: i64,
    connection: &Connection,
    own: &OwnIdentity,
) -> Result<(), Problem> {
    let refused = |why: String| Err(denied(rule::VAULT_ADDRESSES, why));
    let address = &connection.address;
    if audiences.is_empty() || audiences.iter().any(|audience| audience.trim().is_empty()) {
        return refused(format!(
            "{address} is not listed, so a ServiceAccount token for it needs audiences of its own: set spec.kubernetes.audiences"
        ));
    }
    if expiration_seconds > LONGEST_OUTSIDE {
        return refused(format!(
            "{address} is not listed, so a ServiceAccount token for it may live for {LONGEST_OUTSIDE} s at most: lower spec.kubernetes.tokenExpirationSeconds from {expiration_seconds}"
        ));
    }
    if own.api_audiences.is_empty() {
        return refused(format!(
            "{address} is not listed, and the API server's own audiences could not be read from the operator's token"
        ));
    }
    let of_api_server = audiences.iter().find(|audience| {
        own.api_audiences.contains(audience) || USUAL_API_AUDIENCES.contains(&audience.as_str())
    });
    match of_api_server {
        None => Ok(()),
        Some(audience) => refused(format!(
            "{address} is not listed, and the audience {audience} would make the token good for the Kubernetes API server"
        )),
    }
}
