//! What can go wrong, once: every failure of a reconcile is a [`Problem`], and
//! one table gives each its condition reason, metric label, event type and
//! retry rule. Nothing else in the operator writes a reason or a requeue time.
//! Errors of the Kubernetes client and of Vault become a `Problem` where they
//! enter, so that no text from outside travels unchecked.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

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
                | Problem::VaultDenied { .. }
                | Problem::VaultAnswerUnusable { refusal: true, .. }
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

    /// An outage says since when it lasts.
    #[must_use]
    pub fn since(mut self, since: Timestamp) -> Self {
        if let Problem::VaultUnreachable { why, .. }
        | Problem::VaultUnavailable { why, .. }
        | Problem::VaultAnswerUnusable { why, .. } = &mut self
        {
            *why = format!("{why} (since {since:.0})");
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
            } => Retry::NotBefore(*after),
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
            Problem::LoginFailed { .. } => ("VaultLoginFailed", Retry::Backoff),
            Problem::VaultDenied { .. } => ("VaultPermissionDenied", Retry::Backoff),
            Problem::SourceMissing { .. } => ("SecretNotFound", Retry::Backoff),
            Problem::SourceDeleted { .. } => ("SecretDeleted", Retry::Backoff),
            Problem::DriftFight { .. } => ("DriftFight", Retry::Backoff),
            Problem::Transformation { .. } => ("TransformationError", Retry::Backoff),
            Problem::DestinationMissing { .. } => ("InexistentDestination", Retry::WhenChanged),
            Problem::DestinationLeaving { .. } => ("DestinationTerminating", Retry::WhenChanged),
            Problem::DestinationNotOwned { .. } => ("DestinationNotOwned", Retry::WhenChanged),
            Problem::DestinationConflict { .. } => ("DestinationConflict", Retry::Backoff),
            Problem::DestinationInvalid { .. } => ("DestinationInvalid", Retry::Backoff),
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

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::InvalidSpec { field, why } => write!(f, "{field}: {why}"),
            Problem::NotServed { what } => {
                write!(
                    f,
                    "{what} is not served by this version of the operator; nothing was written"
                )
            }
            Problem::ReferenceMissing { what, by } => {
                write!(
                    f,
                    "{what} does not exist ({by}): create it, or correct the reference"
                )
            }
            Problem::ReferenceDenied { what, why } => write!(f, "{what} may not be used: {why}"),
            Problem::PolicyDenied { rule, why } if !rule.starts_with("policy.") => write!(
                f,
                "{why}; a guardrail that no configuration lifts ({rule}): change the resource"
            ),
            Problem::PolicyDenied { rule, why } => write!(
                f,
                "{why}; refused by the operator's configuration, key {rule}: change the resource, or ask the platform team to allow it there"
            ),
            Problem::CredentialUnusable { why } => f.write_str(why),
            Problem::VaultUnreachable { address, why } => {
                write!(f, "Vault at {address} cannot be reached: {why}")
            }
            Problem::VaultUnavailable { address, why } => {
                write!(f, "Vault at {address} cannot serve now: {why}")
            }
            Problem::VaultRateLimited {
                address,
                retry_after,
            } => {
                write!(f, "Vault at {address} limits the rate of requests")?;
                match retry_after {
                    Some(after) => write!(f, " and asks to wait {} s", after.as_secs()),
                    None => Ok(()),
                }
            }
            Problem::VaultAnswerUnusable { path, why, .. } => {
                write!(f, "Vault's answer for {path} cannot be used: {why}")
            }
            Problem::LoginFailed { what, why } => write!(
                f,
                "Vault refused the login at {what}: {why}; check spec.mount and the role's name, and the role's bound service accounts, namespaces and audience in Vault"
            ),
            Problem::VaultDenied { path, why } => write!(
                f,
                "Vault denied {path}: {why}; the policy of the login's role must allow it (a wrong mount, path or type is answered so too)"
            ),
            Problem::SourceMissing { path, why, .. } | Problem::SourceDeleted { path, why, .. } => {
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
            Problem::KubernetesForbidden { what, why } => write!(
                f,
                "the operator's Role does not allow to {what}: {why}; compare it with the shipped rbac/"
            ),
            Problem::KubernetesRefused { what, why }
            | Problem::DestinationImmutable { what, why } => {
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
                "another controller, with the field manager {manager}, works on this resource, and nothing is done here meanwhile: end one of the two; this one goes on once the other has written nothing for 15 minutes, or when it starts anew"
            ),
            Problem::NotLeader { why } => {
                write!(f, "this instance may not act now: {why}")
            }
            Problem::KubernetesUnavailable { what, why } => {
                write!(f, "the API server could not {what}: {why}")
            }
            Problem::DeadlineExceeded { after } => write!(
                f,
                "not done within {} s: Vault or the API server answers too slowly",
                after.as_secs()
            ),
            Problem::Internal { why } => write!(
                f,
                "a defect of the operator, this resource is set aside until it changes: {why}"
            ),
        }
    }
}

impl std::error::Error for Problem {}

/// Text from outside, fit for a condition or an event: printable characters
/// only, white space joined, nothing that turns or hides what stands beside it,
/// at most `limit` characters.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c))
        .filter(|w| !w.is_empty())
    {
        let gap = usize::from(length > 0);
        let size = word.chars().count();
        if length + gap + size > limit {
            let room = limit.saturating_sub(length + gap + 1);
            if room > 0 && gap == 1 {
                shown.push(' ');
            }
            shown.extend(word.chars().take(room));
            shown.push('…');
            return shown;
        }
        if gap == 1 {
            shown.push(' ');
        }
        shown.push_str(word);
        length += gap + size;
    }
    shown
}

/// Zero width, direction and other format characters of Unicode (UAX 9, and the
/// block General Punctuation): with them a text shows as another than it is.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{FEFF}'
    )
}

/// The most characters of Vault's or the API server's words in a message.
pub const FOREIGN_TEXT_LIMIT: usize = 512;

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
