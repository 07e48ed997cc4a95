//! Follows the references of a resource, from the view alone: VaultAuth,
//! VaultConnection and the configuration's defaults become one
//! [`Resolved`] (compatibility.md, "References"). Nothing is sent from here and
//! nothing is allowed yet: that is the guardrails' part.

use std::time::Duration;

use kube::ResourceExt as _;

use super::fits::check_metadata;
use super::queue::Lane;
use super::selection::query_of;
use super::sources::{SecretResource, check_served, destination_of, key_of};
use super::view::{Store, View};
use crate::api::{AuthMethod, KubernetesAuth, VaultAuth, VaultConnection};
use crate::config::{ConnectionDefaults, duration};
use crate::key::{Kind, ObjectKey};
use crate::policy::{
    CaSource, Connection, DestinationRequest, Login, LoginMethod, PermittedConnection, Resolved,
};
use crate::problem::{Problem, printable};

/// What resolving needs beside the resource.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// What the watches have shown.
    pub view: &'a View,
    /// The configuration's defaults for connections.
    pub defaults: &'a ConnectionDefaults,
    /// The operator's own namespace, the second place of objects called `default`.
    pub operator_namespace: &'a str,
}

/// Everything that a resource asks for, where this version serves all of it.
///
/// # Errors
/// [`Problem::NotServed`], [`Problem::InvalidSpec`], [`Problem::ReferenceMissing`],
/// [`Problem::ReferenceDenied`].
pub fn asked(scope: Scope<'_>, resource: &dyn SecretResource) -> Result<Resolved, Problem> {
    check_served(resource)?;
    query_of(resource)?;
    let key = key_of(resource);
    let namespace = &key.object.namespace;
    let auth = find_auth(scope, resource.vault_auth_ref(), namespace)?;
    let connection = connection_of(scope, auth)?;
    let login = login(scope, auth, namespace)?;
    let vault_namespace = resource.vault_namespace().filter(|name| !name.is_empty());
    let vault_namespace = vault_namespace.map(str::to_owned);
    let destination = resource.destination();
    if destination.create {
        check_metadata(destination)?;
    }
    Ok(Resolved {
        read: resource.request(vault_namespace.or_else(|| login.vault_namespace.clone()))?,
        resource: key,
        connection,
        login,
        destination: DestinationRequest {
            secret: destination_of(resource),
            type_: destination.type_.clone().unwrap_or_default(),
            labels: destination.labels.clone().unwrap_or_default(),
            annotations: destination.annotations.clone().unwrap_or_default(),
        },
    })
}

/// The VaultConnection that a resource goes through, if it can be followed;
/// without a name for the configuration's own.
#[must_use]
pub fn connection_key(scope: Scope<'_>, resource: &dyn SecretResource) -> Option<ObjectKey> {
    let namespace = resource.metadata().namespace.as_deref();
    let namespace = namespace.unwrap_or_default();
    let auth = find_auth(scope, resource.vault_auth_ref(), namespace).ok()?;
    match find_connection(scope, auth).ok()? {
        Found::Object(found) => Some(ObjectKey::new(
            found.namespace().unwrap_or_default(),
            found.name_any(),
        )),
        Found::NoDefault => Some(CONFIGURED),
    }
}

/// Stands for the configuration's own connection, which has no name.
pub(super) const CONFIGURED: ObjectKey = ObjectKey {
    namespace: String::new(),
    name: String::new(),
};

/// The lane of a connection: that of all keys which [`connection_key`] leads to it.
#[must_use]
pub fn lane_of(connection: &PermittedConnection) -> Lane {
    Some(connection.get().origin.clone().unwrap_or(CONFIGURED))
}

/// What a VaultAuth alone asks for, for its own status: the ServiceAccount is
/// then looked for in the VaultAuth's namespace.
///
/// # Errors
/// As [`asked`].
pub fn auth(scope: Scope<'_>, auth: &VaultAuth) -> Result<(Connection, Login), Problem> {
    let namespace = auth.namespace().unwrap_or_default();
    auth_for(scope, auth, &namespace)
}

/// The same, with the ServiceAccount looked for in another namespace.
///
/// # Errors
/// As [`asked`].
pub fn auth_for(
    scope: Scope<'_>,
    auth: &VaultAuth,
    accounts_in: &str,
) -> Result<(Connection, Login), Problem> {
    Ok((
        connection_of(scope, auth)?,
        login(scope, auth, accounts_in)?,
    ))
}

/// A VaultConnection with the defaults filled in.
///
/// # Errors
/// [`Problem::InvalidSpec`].
pub fn connection(scope: Scope<'_>, resource: &VaultConnection) -> Result<Connection, Problem> {
    let spec = &resource.spec;
    let defaults = scope.defaults;
    let namespace = resource.namespace().unwrap_or_default();
    let ca = match (
        non_empty(spec.ca_cert_secret_ref.as_ref()),
        non_empty(spec.ca_cert_path.as_ref()),
    ) {
        (Some(_), Some(_)) => {
            return Err(Problem::InvalidSpec {
                field: "spec.caCertPath".to_owned(),
                why: "set together with spec.caCertSecretRef; keep one of the two".to_owned(),
            });
        }
        (Some(name), None) => ca_secret(scope.view, ObjectKey::new(&namespace, name)),
        (None, Some(path)) => CaSource::File(path),
        (None, None) => default_ca(defaults),
    };
    let mut headers = defaults.headers.clone();
    headers.extend(spec.headers.clone().unwrap_or_default());
    Ok(Connection {
        origin: Some(ObjectKey::new(namespace, resource.name_any())),
        address: spec.address.clone(),
        ca,
        tls_server_name: non_empty(spec.tls_server_name.as_ref())
            .or_else(|| defaults.tls_server_name.clone()),
        // Every VaultConnection says it: there is nothing to fill in.
        skip_tls_verify: spec.skip_tls_verify,
        headers,
        timeout: match non_empty(spec.timeout.as_ref()) {
            Some(text) => positive_duration("spec.timeout", &text)?,
            None => defaults.timeout,
        },
    })
}

/// A duration of a spec.
///
/// # Errors
/// [`Problem::InvalidSpec`] naming the field.
pub fn positive_duration(field: &str, text: &str) -> Result<Duration, Problem> {
    match duration::parse(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err(Problem::InvalidSpec {
            field: field.to_owned(),
            why: "is zero; give a duration such as 30s".to_owned(),
        }),
        Err(why) => Err(Problem::InvalidSpec {
            field: field.to_owned(),
            why: why.to_string(),
        }),
    }
}

fn ca_secret(view: &View, secret: ObjectKey) -> CaSource {
    let revision = view
        .secrets
        .get(&secret)
        .map(|meta| format!("{}:{}", meta.uid, meta.resource_version))
        .unwrap_or_default();
    CaSource::Secret { secret, revision }
}

fn default_ca(defaults: &ConnectionDefaults) -> CaSource {
    defaults
        .ca_cert_path
        .clone()
        .map_or(CaSource::System, CaSource::File)
}

fn find_connection<'a>(
    scope: Scope<'a>,
    auth: &VaultAuth,
) -> Result<Found<&'a VaultConnection>, Problem> {
    let namespace = auth.namespace().unwrap_or_default();
    let reference = non_empty(auth.spec.vault_connection_ref.as_ref());
    find(
        &scope,
        Kind::VaultConnection,
        "spec.vaultConnectionRef",
        reference.as_deref(),
        &namespace,
        |key| scope.view.connections.get(key),
    )
}

fn connection_of(scope: Scope<'_>, auth: &VaultAuth) -> Result<Connection, Problem> {
    match find_connection(scope, auth)? {
        Found::Object(found) => connection(scope, found),
        Found::NoDefault => {
            configured_connection(scope.defaults).ok_or_else(|| no_connection(scope, auth))
        }
    }
}

/// Whether there is the VaultConnection that a VaultAuth goes through, whatever it says.
///
/// # Errors
/// As [`asked`].
pub fn has_connection(scope: Scope<'_>, auth: &VaultAuth) -> Result<(), Problem> {
    match find_connection(scope, auth)? {
        Found::NoDefault if scope.defaults.address.is_none() => Err(no_connection(scope, auth)),
        Found::Object(_) | Found::NoDefault => Ok(()),
    }
}

fn no_connection(scope: Scope<'_>, auth: &VaultAuth) -> Problem {
    no_default(
        Kind::VaultConnection,
        "spec.vaultConnectionRef",
        &auth.namespace().unwrap_or_default(),
        scope.operator_namespace,
    )
}

fn configured_connection(defaults: &ConnectionDefaults) -> Option<Connection> {
    Some(Connection {
        origin: None,
        address: defaults.address.as_ref()?.to_string(),
        ca: default_ca(defaults),
        tls_server_name: defaults.tls_server_name.clone(),
        skip_tls_verify: defaults.skip_tls_verify,
        headers: defaults.headers.clone(),
        timeout: defaults.timeout,
    })
}

/// The VaultAuth that a resource of the namespace goes through.
///
/// # Errors
/// As [`asked`].
pub fn find_auth<'a>(
    scope: Scope<'a>,
    reference: Option<&str>,
    namespace: &str,
) -> Result<&'a VaultAuth, Problem> {
    let reference = reference.filter(|text| !text.is_empty());
    let field = "spec.vaultAuthRef";
    let found = find(
        &scope,
        Kind::VaultAuth,
        field,
        reference,
        namespace,
        |key| scope.view.auths.get(key),
    )?;
    let Found::Object(auth) = found else {
        return Err(no_default(
            Kind::VaultAuth,
            field,
            namespace,
            scope.operator_namespace,
        ));
    };
    let home = auth.namespace().unwrap_or_default();
    let open = auth.name_any() == "default" && home == scope.operator_namespace;
    if home == namespace || open || allows(auth.spec.allowed_namespaces.as_deref(), namespace) {
        return Ok(auth);
    }
    Err(Problem::ReferenceDenied {
        what: format!("VaultAuth {home}/{}", auth.name_any()),
        why: format!(
            "its spec.allowedNamespaces does not list the namespace {namespace}; add it there"
        ),
    })
}

fn allows(list: Option<&[String]>, namespace: &str) -> bool {
    match list {
        Some([all]) if all == "*" => true,
        Some(list) => list.iter().any(|allowed| allowed == namespace),
        None => false,
    }
}

enum Found<T> {
    Object(T),
    NoDefault,
}

/// Follows `name`, `namespace/name` or, left out, `default` in the referrer's
/// namespace and then in the operator's.
fn find<'a, T>(
    scope: &Scope<'a>,
    kind: Kind,
    field: &str,
    reference: Option<&str>,
    namespace: &str,
    get: impl Fn(&ObjectKey) -> Option<&'a std::rc::Rc<T>>,
) -> Result<Found<&'a T>, Problem> {
    let Some(reference) = reference else {
        let places = [namespace, scope.operator_namespace];
        for place in places {
            let default = ObjectKey::new(place, "default");
            if let Some(object) = get(&default) {
                return Ok(Found::Object(object));
            }
            if let Some(unseen) = scope.view.stores.unseen(Store::Resource(kind), &default) {
                return Err(unseen);
            }
        }
        return Ok(Found::NoDefault);
    };
    let key = match reference.split('/').collect::<Vec<_>>()[..] {
        [name] if !name.is_empty() => ObjectKey::new(namespace, name),
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            ObjectKey::new(namespace, name)
        }
        _ => {
            return Err(Problem::InvalidSpec {
                field: field.to_owned(),
                why: format!(
                    "{:?} is neither a name nor namespace/name",
                    printable(reference, 80)
                ),
            });
        }
    };
    if let Some(object) = get(&key) {
        return Ok(Found::Object(object));
    }
    match scope.view.stores.unseen(Store::Resource(kind), &key) {
        Some(unseen) => Err(unseen),
        None => Err(Problem::ReferenceMissing {
            what: format!("{kind} {key}"),
            by: if key.namespace == namespace {
                format!("named by {field}")
            } else {
                format!("named by {field}; only namespaces that this operator watches are seen")
            },
        }),
    }
}

fn no_default(kind: Kind, field: &str, namespace: &str, operator: &str) -> Problem {
    let second = if operator == namespace {
        String::new()
    } else {
        format!(" nor {operator}/default")
    };
    Problem::ReferenceMissing {
        what: format!("{kind} {namespace}/default{second}"),
        by: format!("used because {field} is empty"),
    }
}

fn login(scope: Scope<'_>, auth: &VaultAuth, accounts_in: &str) -> Result<Login, Problem> {
    let spec = &auth.spec;
    if spec.vault_auth_global_ref.is_some() {
        return Err(Problem::NotServed {
            what: "spec.vaultAuthGlobalRef of a VaultAuth".to_owned(),
        });
    }
    let method = match &spec.method {
        Some(AuthMethod::Kubernetes) => kubernetes(spec.kubernetes.as_ref(), accounts_in)?,
        Some(other) => LoginMethod::NotServed(other.as_str().to_owned()),
        None => return Err(needed("spec.method", "how to log in, such as kubernetes")),
    };
    let mount = spec.mount.as_deref().unwrap_or_default().trim_matches('/');
    if mount.is_empty() {
        return Err(needed(
            "spec.mount",
            "the auth mount in Vault, without auth/",
        ));
    }
    Ok(Login {
        origin: Some(ObjectKey::new(
            auth.namespace().unwrap_or_default(),
            auth.name_any(),
        )),
        mount: mount.to_owned(),
        vault_namespace: non_empty(spec.namespace.as_ref())
            .or_else(|| scope.defaults.vault_namespace.clone()),
        params: spec.params.clone().unwrap_or_default(),
        headers: spec.headers.clone().unwrap_or_default(),
        method,
    })
}

fn kubernetes(block: Option<&KubernetesAuth>, accounts_in: &str) -> Result<LoginMethod, Problem> {
    let block = block.ok_or_else(|| needed("spec.kubernetes", "role and serviceAccount"))?;
    let role = non_empty(block.role.as_ref())
        .ok_or_else(|| needed("spec.kubernetes.role", "the role of the auth mount"))?;
    let account = non_empty(block.service_account.as_ref())
        .ok_or_else(|| needed("spec.kubernetes.serviceAccount", "the account to log in as"))?;
    Ok(LoginMethod::Kubernetes {
        role,
        service_account: ObjectKey::new(accounts_in, account),
        audiences: block.audiences.clone().unwrap_or_default(),
        expiration_seconds: block.token_expiration_seconds,
    })
}

fn needed(field: &str, what: &str) -> Problem {
    Problem::InvalidSpec {
        field: field.to_owned(),
        why: format!("is missing: give {what}"),
    }
}

fn non_empty(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
