//! What each problem says to the person who reads `kubectl describe`: cause
//! first, then the mend.

use std::fmt;

use super::Problem;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::InvalidSpec { field, why } => write!(f, "{field}: {why}"),
            Problem::NotServed { what } => {
                write!(
                    f,
                    "{what} is not served by this version of the operator; nothing was written: take it out, or wait for a version that serves it"
                )
            }
            Problem::ReferenceMissing { what, by } => {
                write!(
                    f,
                    "{what} does not exist ({by}): create it, or correct the reference"
                )
            }
            Problem::ReferenceDenied { what, why } => write!(f, "{what} may not be used: {why}"),
            Problem::PolicyDenied { rule, why, .. } if !rule.starts_with("policy.") => write!(
                f,
                "{why}; a guardrail that no configuration lifts ({rule}): change the resource"
            ),
            Problem::PolicyDenied { rule, why, .. } => write!(
                f,
                "{why}; refused by the operator's configuration, key {rule}: change the resource, or ask the platform team to allow it there"
            ),
            Problem::CredentialUnusable { why } => f.write_str(why),
            Problem::VaultUnreachable { address, why } => {
                write!(f, "Vault at {address} cannot be reached: {why}")
            }
            Problem::VaultUnavailable { address, why } => {
                write!(
                    f,
                    "Vault at {address} cannot serve now: {why}; this is for who runs Vault, and all goes on by itself after it"
                )
            }
            Problem::VaultRateLimited {
                address,
                retry_after,
                since,
            } => {
                write!(f, "Vault at {address} limits the rate of requests")?;
                if let Some(after) = retry_after {
                    write!(f, " and asks to wait {} s", after.as_secs())?;
                }
                if let Some(since) = since {
                    write!(f, " (since {since:.0})")?;
                }
                f.write_str(": lower the operator's sync.vaultRequestsPerSecond, lengthen refreshAfter, or raise the quota in Vault")
            }
            Problem::VaultAnswerUnusable { path, why, .. } => {
                write!(f, "Vault's answer for {path} cannot be used: {why}")
            }
            Problem::LeaseNotFound { what, why } => write!(
                f,
                "Vault does not know the lease any more ({what}: {why}); it is replaced"
            ),
            Problem::LoginFailed { what, why } => write!(
                f,
                "Vault refused the login at {what}: {why}; check spec.mount, spec.namespace and the role's name, and the role's bound service accounts, namespaces and audience in Vault"
            ),
            Problem::VaultDenied { path, why } => write!(
                f,
                "Vault denied {path}: {why}; the policy of the login's role must allow it (a wrong mount, path or type is answered so too)"
            ),
            Problem::SourceMissing { path, why, .. }
            | Problem::SourceDeleted { path, why, .. }
            | Problem::CertificateTooShort { path, why }
            | Problem::IssuerExpiresFirst { path, why, .. } => {
                write!(f, "{path}: {why}")
            }
            Problem::Transformation { why } => f.write_str(why),
            Problem::DestinationMissing { name } => write!(
                f,
                "the Secret {name} does not exist and spec.destination.create is false: create the Secret, or set create to true"
            ),
            Problem::DestinationLeaving { name } => write!(
                f,
                "the Secret {name} is being deleted and one of its finalizers still holds it; it is written again once it is gone"
            ),
            Problem::DestinationNotOwned { name, why }
            | Problem::DriftFight { name, why }
            | Problem::DestinationConflict { name, why }
            | Problem::DestinationInvalid { name, why } => {
                write!(f, "the Secret {name}: {why}")
            }
            Problem::WouldBreakConsumers {
                name,
                key,
                workload,
                more,
            } => {
                let more = match more {
                    0 => String::new(),
                    more => format!(" (and {more} more like it)"),
                };
                write!(
                    f,
                    "the Secret {name}: its key {key} would go, and the pods of {workload} do not start without it{more}; nothing was written: put the key back in Vault, or keep it by spec.destination.transformation, or take it out of the pod template; or set spec.destination.allowKeyRemoval: true"
                )
            }
            Problem::KubernetesForbidden { what, why } => write!(
                f,
                "the operator's Role does not allow to {what}: {why}; compare it with the shipped rbac/"
            ),
            Problem::KubernetesRefused { what, why } => write!(
                f,
                "the API server refused to {what}: {why}; correct what it names, or ask who set the quota or the admission rule"
            ),
            Problem::DestinationImmutable { what, why } => {
                write!(f, "the API server refused to {what}: {why}")
            }
            Problem::NamespaceTerminating { namespace } => {
                write!(f, "the namespace {namespace} is being deleted")
            }
            Problem::Conflict { what, why } => {
                write!(f, "changed meanwhile, trying again: {what}: {why}")
            }
            Problem::NamespaceClaimed { namespace, holder } => write!(
                f,
                "the namespace {namespace} is served by the operator {holder}, and nothing is done in it here: take it out of one operator's watchNamespaces, or end that operator"
            ),
            Problem::AnotherController { manager } => write!(
                f,
                "another controller, with the field manager {manager}, works on this resource, and nothing is written here meanwhile: end one of the two; this one goes on once the other has written nothing for 15 minutes, or when it starts anew"
            ),
            Problem::NotLeader { why } => {
                write!(f, "this instance may not act now: {why}")
            }
            Problem::KubernetesUnavailable { what, why } => {
                write!(f, "the API server could not {what}: {why}")
            }
            Problem::DeadlineExceeded { after } => write!(
                f,
                "not done within {} s: Vault or the API server answers too slowly; the operator's metrics tell which, sync.reconcileDeadline gives more time",
                after.as_secs()
            ),
            Problem::Internal { why } => write!(
                f,
                "a defect of the operator, this resource is set aside until it changes: {why}"
            ),
        }
    }
}
