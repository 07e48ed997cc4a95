//! What may be written: names, types, labels and annotations of Secrets.

use super::{DestinationRequest, OwnIdentity, Policy, denied, narrowed, object_name, rule};
use crate::key::ResourceKey;
use crate::problem::Problem;

/// Types of Kubernetes' own that hold nothing but data.
const PLAIN_TYPES: [&str; 5] = [
    "kubernetes.io/tls",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/dockercfg",
    "kubernetes.io/basic-auth",
    "kubernetes.io/ssh-auth",
];

/// Domains whose types mean something to the cluster or to Helm.
const RESERVED_DOMAINS: [&str; 4] = ["kubernetes.io", "k8s.io", "x-k8s.io", "helm.sh"];

/// Beginnings of labels and annotations that bind a Secret to a
/// ServiceAccount, or that are the operator's own.
const RESERVED_KEYS: [&str; 2] = ["kubernetes.io/service-account", "vault-tenant-operator.io/"];

/// Whether the destination may be written for the resource.
pub(super) fn check(
    destination: &DestinationRequest,
    resource: &ResourceKey,
    policy: &Policy,
    own: &OwnIdentity,
) -> Result<(), Problem> {
    let secret = &destination.secret;
    if secret.namespace != resource.object.namespace {
        return Err(denied(
            rule::FOREIGN_DESTINATION,
            format!("the Secret {secret} is not in the namespace of {resource}"),
        ));
    }
    object_name("spec.destination.name", "Secret", &secret.name)?;
    // In whatever namespace: it may be another operator's.
    if own.secret_names.contains(&secret.name) {
        return Err(denied(
            rule::OWN_SECRETS,
            format!("the Secret {secret} is the operator's own"),
        ));
    }
    narrowed(
        rule::DESTINATION_NAMES,
        "the Secret",
        &secret.name,
        &policy.rules.destination_names,
    )?;
    secret_type(&destination.type_)?;
    // Helm goes by names and by this label, not by the type.
    let owner = destination.labels.get("owner").map(String::as_str);
    if secret.name.starts_with("sh.helm.release.") || owner == Some("helm") {
        return Err(denied(
            rule::DESTINATION_TYPES,
            format!("Helm would take the Secret {secret} for the state of a release"),
        ));
    }
    metadata("label", destination.labels.keys())?;
    metadata("annotation", destination.annotations.keys())
}

/// Whether a Secret of this type may be written, whoever made it.
pub(super) fn secret_type(type_: &str) -> Result<(), Problem> {
    if PLAIN_TYPES.contains(&type_) {
        return Ok(());
    }
    // Types are compared exactly by those who act on them; a reserved domain in
    // another case is as little a type of the tenant's.
    let lower = type_.to_ascii_lowercase();
    let domain = lower.split_once('/').map_or("", |(domain, _)| domain);
    let reserved = RESERVED_DOMAINS.iter().any(|reserved| {
        domain == *reserved
            || domain
                .strip_suffix(reserved)
                .is_some_and(|sub| sub.ends_with('.'))
    });
    if !reserved {
        return Ok(());
    }
    Err(denied(
        rule::DESTINATION_TYPES,
        format!(
            "a Secret of the type {type_:?} would give rights or state that are not the tenant's: Opaque, {} and types of other domains are written",
            PLAIN_TYPES.join(", ")
        ),
    ))
}

fn metadata<'a>(what: &str, keys: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    for key in keys {
        let lower = key.to_ascii_lowercase();
        if RESERVED_KEYS
            .iter()
            .any(|reserved| lower.starts_with(reserved))
        {
            return Err(denied(
                rule::DESTINATION_METADATA,
                format!("the {what} {key:?} may not come from a resource"),
            ));
        }
    }
    Ok(())
}
