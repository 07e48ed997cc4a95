//! What can go wrong, once: every failure of a reconcile is a [`Problem`], and
//! one table gives each its condition reason, metric label, event type and
//! retry rule. Nothing else in the operator writes a reason or a requeue time.
//! Errors of the Kubernetes client and of Vault become a `Problem` where they
//! enter, so that no text from outside travels unchecked.

mod sentences;
mod text;

use std::time::Duration;

use jiff::Timestamp;

pub use text::{FOREIGN_TEXT_LIMIT, printable};

/// How a failed reconcile is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Only when one of the objects that it depends on changes.
    WhenChanged,
    /// With exponential backoff and jitter.
    Backoff,
    /// Not before this has passed (Vault's `Retry-After`), then with backoff.
    NotBefore(Duration),
    /// When the store has caught up with what the API server just refused
    /// (a stale resourceVersion): at once, but not in a tight loop.
    Soon,
}

/// One failure of a reconcile, classified.
///
/// The sentences are made for the person who reads `kubectl describe`: cause
/// first, then the mend. Texts from outside pass [`printable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A field of the resource (or of one that it refers to) is wrong.
    InvalidSpec {
        /// The field's path, `spec.refreshAfter`.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A kind or field that this version of the operator does not serve yet.
    NotServed {
        /// The kind or field and what serves instead, if anything.
        what: String,
    },
    /// An object that the resource refers to does not exist.
    ReferenceMissing {
        /// `VaultAuth team/app`, say.
        what: String,
        /// The field that names it, or how it was derived.
        by: String,
    },
    /// An object exists but may not be used from here.
    ReferenceDenied {
        /// `VaultAuth shared/app`, say.
        what: String,
        /// Why not, and what would allow it.
        why: String,
    },
    /// A guardrail of the operator's configuration forbids it.
    PolicyDenied {
        /// The configuration key that would have to allow it (`policy.vaultAddresses`),
        /// or, without the prefix `policy.`, a rule that no configuration lifts.
        rule: &'static str,
        /// What was refused and why.
        why: String,
        /// Whether an answer of Vault's or of DNS was refused, and not the
        /// resource: the next one may be another.
        answered: bool,
    },
    /// A credential or certificate that the login needs is missing or unusable.
    CredentialUnusable {
        /// What was looked for and where, and what is wrong with it.
        why: String,
    },
    /// No connection to Vault, or none that TLS accepts.
    VaultUnreachable {
        /// Vault's address.
        address: String,
        /// The transport's words.
        why: String,
    },
    /// Vault is sealed, uninitialised or a standby that cannot serve.
    VaultUnavailable {
        /// Vault's address.
        address: String,
        /// HTTP status and Vault's words.
        why: String,
    },
    /// Vault (429) or a quota of it asks for fewer requests.
    VaultRateLimited {
        /// Vault's address.
        address: String,
        /// `Retry-After`, where Vault sent one.
        retry_after: Option<Duration>,
        /// When it began, once that is known.
        since: Option<Timestamp>,
    },
    /// Vault answered, but not in a form that can be used.
    VaultAnswerUnusable {
        /// What was asked.
        path: String,
        /// What is wrong with the answer.
        why: String,
        /// Whether it is Vault's own no, and not something else in its place.
        refusal: bool,
    },
    /// A certificate that ended before it came.
    CertificateTooShort {
        /// What was asked.
        path: String,
        /// When it ended, and what to look at.
        why: String,
    },
    /// A certificate that would outlive its issuer.
    IssuerExpiresFirst {
        /// What was asked.
        path: String,
        /// When the issuer ends, what is kept, and the mend.
        why: String,
        /// How long another try has no prospect.
        pause: Option<Duration>,
    },
    /// Vault refused the login.
    LoginFailed {
        /// `auth/kubernetes/login` and role.
        what: String,
        /// HTTP status and Vault's words.
        why: String,
    },
    /// Vault refused a request of a token that logged in well.
    VaultDenied {
        /// The request path.
        path: String,
        /// Vault's words.
        why: String,
    },
    /// Vault does not know the lease, or the token, that is asked about.
    LeaseNotFound {
        /// The request.
        what: String,
        /// Vault's words.
        why: String,
    },
    /// There is nothing at the path.
    SourceMissing {
        /// Mount and path.
        path: String,
        /// What is known: no such mount, no such secret, no such version.
        why: String,
        /// Whether the mount is there and says that the secret is not.
        by_mount: bool,
    },
    /// The version was deleted or destroyed, or holds no data.
    SourceDeleted {
        /// Mount and path.
        path: String,
        /// Which version, when it was deleted, what is kept.
        why: String,
        /// Whether somebody deleted or destroyed it, and it is not just empty.
        deleted: bool,
    },
    /// Somebody changes the destination as often as it is repaired.
    DriftFight {
        /// Secret name.
        name: String,
        /// What was done again, by whom, and how it ends.
        why: String,
    },
    /// A filter or template failed. Never quotes data.
    Transformation {
        /// What failed.
        why: String,
    },
    /// The destination is to exist already (`create: false`) and doesn't.
    DestinationMissing {
        /// Secret name.
        name: String,
    },
    /// The destination is being deleted, and a finalizer still holds it.
    DestinationLeaving {
        /// Secret name.
        name: String,
    },
    /// The destination belongs to somebody else.
    DestinationNotOwned {
        /// Secret name.
        name: String,
        /// Whose it seems to be, and the opt-in.
        why: String,
    },
    /// Another resource writes the same Secret, or the same key of it.
    DestinationConflict {
        /// Secret name.
        name: String,
        /// Which resource, which key, and how both can have their way.
        why: String,
    },
    /// What would be written cannot be a Secret.
    DestinationInvalid {
        /// Secret name.
        name: String,
        /// What the API server would refuse.
        why: String,
    },
    /// A key would go without which the pods of a workload do not start.
    WouldBreakConsumers {
        /// Secret name.
        name: String,
        /// The key.
        key: String,
        /// The workload, `Deployment/web`.
        workload: String,
        /// How many further keys of workloads are like that.
        more: usize,
    },
    /// The Role lacks a right.
    KubernetesForbidden {
        /// Verb, resource and name.
        what: String,
        /// The API server's words.
        why: String,
    },
    /// An admission rule or a quota refused a write; no question of rights.
    KubernetesRefused {
        /// Verb, resource and name.
        what: String,
        /// The API server's words.
        why: String,
    },
    /// A field that cannot change any more: the type of a Secret, or all of an
    /// immutable one.
    DestinationImmutable {
        /// Verb, resource and name.
        what: String,
        /// Which field, in the API server's words, and the mend.
        why: String,
    },
    /// The namespace is being deleted.
    NamespaceTerminating {
        /// Its name.
        namespace: String,
    },
    /// The object changed or went between look and write.
    Conflict {
        /// Verb, resource and name.
        what: String,
        /// The API server's words.
        why: String,
    },
    /// Another operator serves the namespace.
    NamespaceClaimed {
        /// The namespace.
        namespace: String,
        /// Whose claim it is, `namespace/name` of the other operator.
        holder: String,
    },
    /// Another controller writes the resource's status or finalizers.
    AnotherController {
        /// Its field manager.
        manager: String,
    },
    /// This instance may not act now; another one may.
    NotLeader {
        /// What ended.
        why: String,
    },
    /// The API server did not answer, or answered 429 or 5xx.
    KubernetesUnavailable {
        /// Verb, resource and name.
        what: String,
        /// Its or the transport's words.
        why: String,
    },
    /// The reconcile took longer than its deadline.
    DeadlineExceeded {
        /// The deadline.
        after: Duration,
    },
    /// A defect of the operator. The resource is set aside until it changes.
    Internal {
        /// Where; never a value.
        why: String,
    },
}

impl Problem {
    /// CamelCase reason for conditions and events; also the metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.entry().0
    }

    /// Whether it says something about the resource: not that the view of it was
    /// old, nor that this instance may not act.
    #[must_use]
    pub const fn is_finding(&self) -> bool {
        !matches!(self, Problem::Conflict { .. } | Problem::NotLeader { .. })
    }

    /// Whether it may be that Vault as a whole does not serve, which one health
    /// request then tells.
    #[must_use]
    pub const fn may_be_an_outage(&self) -> bool {
        matches!(
            self,
            Problem::VaultUnreachable { .. }
                | Problem::VaultUnavailable { .. }
                | Problem::VaultAnswerUnusable { refusal: false, .. }
                | Problem::VaultRateLimited {
                    retry_after: None,
                    ..
                }
        )
    }

    /// Whether Vault serves, and says no.
    #[must_use]
    pub const fn is_vaults_no(&self) -> bool {
        matches!(
            self,
            Problem::LoginFailed { .. }
                | Problem::LeaseNotFound { .. }
                | Problem::VaultDenied { .. }
                | Problem::VaultAnswerUnusable { refusal: true, .. }
                | Problem::IssuerExpiresFirst { .. }
        )
    }

    /// Whether Vault itself says that the source was deleted, and not only that
    /// it cannot be found or is empty.
    #[must_use]
    pub const fn is_deletion_at_vault(&self) -> bool {
        matches!(
            self,
            Problem::SourceDeleted { deleted: true, .. }
                | Problem::SourceMissing { by_mount: true, .. }
        )
    }

    /// Whether only a person can end it, by an edit of the resource, of what it refers to, or
    /// of the configuration: it is not tried again by itself, and what it waits for is no
    /// object that may still come while manifests are applied one after the other.
    #[must_use]
    pub const fn needs_a_person(&self) -> bool {
        let comes_by_itself = matches!(
            self,
            Problem::ReferenceMissing { .. }
                | Problem::DestinationMissing { .. }
                | Problem::DestinationLeaving { .. }
        );
        !comes_by_itself && matches!(self.retry(), Retry::WhenChanged)
    }

    /// An outage says since when it lasts.
    #[must_use]
    pub fn since(mut self, began: Timestamp) -> Self {
        match &mut self {
            Problem::VaultUnreachable { why, .. }
            | Problem::VaultUnavailable { why, .. }
            | Problem::VaultAnswerUnusable { why, .. } => {
                *why = format!("{why} (since {began:.0})");
            }
            Problem::VaultRateLimited { since, .. } => *since = Some(began),
            _ => {}
        }
        self
    }

    /// When to try again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Problem::VaultRateLimited {
                retry_after: Some(after),
                ..
            }
            | Problem::IssuerExpiresFirst {
                pause: Some(after), ..
            } => Retry::NotBefore(*after),
            Problem::PolicyDenied { answered: true, .. } => Retry::Backoff,
            _ => self.entry().1,
        }
    }

    /// The one table: reason and retry rule of each variant.
    const fn entry(&self) -> (&'static str, Retry) {
        match self {
            Problem::InvalidSpec { .. } => ("InvalidConfiguration", Retry::WhenChanged),
            Problem::NotServed { .. } => ("NotServedYet", Retry::WhenChanged),
            Problem::ReferenceMissing { .. } => ("InvalidResourceRef", Retry::WhenChanged),
            Problem::ReferenceDenied { .. } => ("ReferenceDenied", Retry::WhenChanged),
            Problem::PolicyDenied { .. } => ("PolicyDenied", Retry::WhenChanged),
            Problem::CredentialUnusable { .. } => ("VaultClientConfigError", Retry::Backoff),
            Problem::VaultUnreachable { .. } => ("VaultUnreachable", Retry::Backoff),
            Problem::VaultUnavailable { .. } => ("VaultUnavailable", Retry::Backoff),
            Problem::VaultRateLimited { .. } => ("VaultRateLimited", Retry::Backoff),
            Problem::VaultAnswerUnusable { .. } => ("VaultClientError", Retry::Backoff),
            Problem::CertificateTooShort { .. } => ("CertificateTooShort", Retry::Backoff),
            Problem::IssuerExpiresFirst { .. } => ("IssuerExpiresFirst", Retry::Backoff),
            Problem::LoginFailed { .. } => ("VaultLoginFailed", Retry::Backoff),
            Problem::VaultDenied { .. } => ("VaultPermissionDenied", Retry::Backoff),
            Problem::LeaseNotFound { .. } => ("LeaseNotFound", Retry::Soon),
            Problem::SourceMissing { .. } => ("SecretNotFound", Retry::Backoff),
            Problem::SourceDeleted { .. } => ("SecretDeleted", Retry::Backoff),
            Problem::DriftFight { .. } => ("DriftFight", Retry::Backoff),
            Problem::Transformation { .. } => ("TransformationError", Retry::Backoff),
            Problem::DestinationMissing { .. } => ("InexistentDestination", Retry::WhenChanged),
            Problem::DestinationLeaving { .. } => ("DestinationTerminating", Retry::WhenChanged),
            Problem::DestinationNotOwned { .. } => ("DestinationNotOwned", Retry::WhenChanged),
            Problem::DestinationConflict { .. } => ("DestinationConflict", Retry::Backoff),
            Problem::DestinationInvalid { .. } => ("DestinationInvalid", Retry::Backoff),
            Problem::WouldBreakConsumers { .. } => ("WouldBreakConsumers", Retry::Backoff),
            Problem::KubernetesForbidden { .. } => ("KubernetesForbidden", Retry::Backoff),
            Problem::KubernetesRefused { .. } => ("KubernetesRefused", Retry::Backoff),
            Problem::DestinationImmutable { .. } => ("DestinationImmutable", Retry::WhenChanged),
            Problem::NamespaceTerminating { .. } => ("NamespaceTerminating", Retry::Backoff),
            Problem::Conflict { .. } => ("Conflict", Retry::Soon),
            Problem::NamespaceClaimed { .. } => ("NamespaceClaimed", Retry::Backoff),
            Problem::AnotherController { .. } => ("AnotherController", Retry::Backoff),
            Problem::NotLeader { .. } => ("NotLeader", Retry::Backoff),
            Problem::KubernetesUnavailable { .. } => ("KubernetesUnavailable", Retry::Backoff),
            Problem::DeadlineExceeded { .. } => ("DeadlineExceeded", Retry::Backoff),
            Problem::Internal { .. } => ("InternalError", Retry::WhenChanged),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests;
