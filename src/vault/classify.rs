//! Vault's answers and the transport's failures as a [`Problem`], once. Words
//! of Vault are cut to printable text here and nowhere else.

use std::time::Duration;

use http::StatusCode;
use rustify::errors::ClientError;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::key::Redacted;
use crate::policy::Fields;
use crate::problem::{FOREIGN_TEXT_LIMIT, Problem, printable};

use super::ports::{Lease, Reply, Task};
use super::transport::{ANSWER_LIMIT, Failure, Refusal};

/// What was asked; decides what a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A login.
    Login,
    /// `auth/token/renew-self`.
    Renew,
    /// A request for the data of a secret, made of these fields.
    Read(Fields),
    /// A request that keeps or ends what Vault gave.
    Upkeep(Task),
    /// `sys/health`.
    Health,
}

impl Operation {
    /// The metric label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Operation::Login => "login",
            Operation::Renew => "renew",
            Operation::Read(_) => "read",
            Operation::Upkeep(Task::RenewLease) => "renew_lease",
            Operation::Upkeep(Task::RevokeLease) => "revoke_lease",
            Operation::Upkeep(Task::RevokeCertificate) => "revoke_certificate",
            Operation::Upkeep(Task::LookUpLease) => "look_up_lease",
            Operation::Upkeep(Task::LookUpToken) => "look_up_token",
            Operation::Upkeep(Task::RenewToken) => "renew_token",
            Operation::Upkeep(Task::RevokeToken) => "revoke_token",
            Operation::Health => "health",
        }
    }
}

/// A request as its problems name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// What kind of request.
    pub(super) operation: Operation,
    /// `secret/data/app`; for a login with its role.
    pub(super) what: &'a str,
    /// Vault's address as the manifest has it.
    pub(super) address: &'a str,
}

/// The body of Vault's answers, as far as it is used. vaultrs' own type refuses
/// answers without lease fields and tokens whose policies are all the entity's
/// (`"policies": null`).
#[derive(Default, Deserialize)]
pub(super) struct Envelope {
    /// As Vault spelled it.
    pub(super) data: Option<Box<RawValue>>,
    /// Of logins and renewals.
    pub(super) auth: Option<Auth>,
    #[serde(default)]
    lease_id: String,
    /// Seconds.
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    wrap_info: Option<serde::de::IgnoredAny>,
    errors: Option<Vec<String>>,
    warnings: Option<Vec<String>>,
}

/// The field `auth`.
#[derive(Deserialize)]
pub(super) struct Auth {
    /// The token.
    #[serde(default)]
    pub(super) client_token: String,
    /// Its accessor.
    #[serde(default)]
    pub(super) accessor: String,
    /// The entity, where there is one.
    #[serde(default)]
    pub(super) entity_id: String,
    /// Seconds; 0 does not end.
    #[serde(default)]
    pub(super) lease_duration: u64,
    /// Whether it can be renewed.
    #[serde(default)]
    pub(super) renewable: bool,
}

impl Envelope {
    /// Reads a body; an empty one (204) is an answer without anything in it.
    pub(super) fn read(asked: Asked<'_>, body: &[u8]) -> Result<Self, Problem> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        // The parser's own words could quote what it read.
        object(body).map_err(|e| {
            strange(
                asked,
                &format!(
                    "it is not Vault's JSON (column {} of line {})",
                    e.column(),
                    e.line()
                ),
            )
        })
    }

    /// Whether Vault wrote this, and not somebody between it and us.
    pub(super) const fn is_of_vault(&self) -> bool {
        // Warnings alone: a path that an engine of this version does not have.
        self.data.is_some() || self.errors.is_some() || self.warnings.is_some()
    }

    /// The answer, but for the token of a login.
    pub(super) fn into_reply(self, status: u16) -> Reply {
        Reply {
            status,
            errors: self.errors(),
            warnings: self.warnings(),
            lease: Lease {
                id: self.lease_id,
                duration: Duration::from_secs(self.lease_duration),
                renewable: self.renewable,
            },
            token_life: self
                .auth
                .map(|auth| Duration::from_secs(auth.lease_duration)),
            wrapped: self.wrap_info.is_some(),
            data: self.data.map(Redacted::new),
        }
    }

    /// Vault's errors, printable.
    pub(super) fn errors(&self) -> Vec<String> {
        shown(self.errors.as_deref())
    }

    /// Vault's warnings, printable.
    pub(super) fn warnings(&self) -> Vec<String> {
        shown(self.warnings.as_deref())
    }
}

/// Reads a JSON object. (Serde would take a list for a struct, too.)
///
/// # Errors
/// Those of the parser, which may quote what it read.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> serde_json::Result<T> {
    match text.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(text),
        _ => Err(serde::de::Error::custom("no object")),
    }
}

fn shown(texts: Option<&[String]>) -> Vec<String> {
    texts
        .unwrap_or_default()
        .iter()
        .map(|t| printable(t, FOREIGN_TEXT_LIMIT))
        .collect()
}

/// An answer that cannot be used.
pub(super) fn unusable(asked: Asked<'_>, why: impl Into<String>) -> Problem {
    Problem::VaultAnswerUnusable {
        path: asked.what.to_owned(),
        why: why.into(),
        refusal: false,
    }
}

/// An answer that Vault hardly gave.
pub(super) fn strange(asked: Asked<'_>, what: &str) -> Problem {
    let address = asked.address;
    unusable(
        asked,
        format!("{what}; is it Vault that answers at {address}?"),
    )
}

/// The transport's [`Failure`] inside rustify's error; rustify's own errors are
/// about building requests.
pub(super) fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::GenericError { source } => source
            .downcast()
            .unwrap_or_else(|other| Failure::Unbuildable(other.to_string())),
        other => Failure::Unbuildable(other.to_string()),
    }
}

/// The problem that a failure is.
pub(super) fn problem(asked: Asked<'_>, failure: Failure) -> Problem {
    match failure {
        Failure::Refused(why) => Problem::PolicyDenied {
            rule: "policy.vaultAddresses",
            why: printable(&why, FOREIGN_TEXT_LIMIT),
            answered: true,
        },
        Failure::Unreachable(why) => Problem::VaultUnreachable {
            address: asked.address.to_owned(),
            why: printable(&why, FOREIGN_TEXT_LIMIT),
        },
        Failure::TooLong => unusable(
            asked,
            format!(
                "it is longer than {} MiB; keep smaller secrets in Vault, each at a path of its own",
                ANSWER_LIMIT / 1024 / 1024
            ),
        ),
        Failure::Redirect(status, _) => strange(
            asked,
            &format!(
                "it is a redirect (HTTP {}) that leads nowhere",
                status.as_u16()
            ),
        ),
        Failure::Status(refusal) => refused(asked, &refusal),
        Failure::Unbuildable(why) => Problem::Internal {
            why: format!(
                "a request to Vault could not be built: {}",
                printable(&why, FOREIGN_TEXT_LIMIT)
            ),
        },
    }
}

/// The problem that an error status is.
fn refused(asked: Asked<'_>, refusal: &Refusal) -> Problem {
    let code = refusal.status.as_u16();
    let words = words(&refusal.body);
    let address = asked.address.to_owned();
    let why = if words.is_empty() {
        format!("HTTP {code}")
    } else {
        format!("HTTP {code}: {words}")
    };
    match (code, refusal.retry_after) {
        // Vault's overload protection answers 503 with Retry-After.
        (429, retry_after) | (503, retry_after @ Some(_)) => Problem::VaultRateLimited {
            address,
            retry_after,
            since: None,
        },
        // 412: a standby that has not caught up; 472, 473: standbys of other kinds.
        (412 | 472 | 473 | 500..=599, _) => Problem::VaultUnavailable { address, why },
        (407, _) => Problem::VaultUnreachable { address, why },
        (400..=499, _) if asked.operation == Operation::Login => Problem::LoginFailed {
            what: asked.what.to_owned(),
            why,
        },
        (400 | 403 | 404, _) if is_about_nothing(asked, &words) => Problem::LeaseNotFound {
            what: asked.what.to_owned(),
            why,
        },
        (403, _) => denied(asked, why),
        (400 | 401, _) if is_about_the_token(&words) => denied(asked, why),
        (400..=499, _) if !words.is_empty() => Problem::VaultAnswerUnusable {
            path: asked.what.to_owned(),
            why: match asked.operation {
                Operation::Read(fields) => {
                    format!("{why}; check {} against what is in Vault", fields.all)
                }
                _ => why,
            },
            refusal: true,
        },
        _ if words.is_empty() => strange(asked, &why),
        _ => unusable(asked, why),
    }
}

fn denied(asked: Asked<'_>, why: String) -> Problem {
    Problem::VaultDenied {
        path: asked.what.to_owned(),
        why,
    }
}

/// Whether Vault says that the lease or the token of the request is not there
/// (expiration.go and token_store.go in Vault's source have the words; a token
/// that an accessor does not find is a 403).
fn is_about_nothing(asked: Asked<'_>, words: &str) -> bool {
    let phrases: &[&str] = match asked.operation {
        Operation::Upkeep(Task::RenewLease | Task::RevokeLease) => {
            &["lease not found", "lease expired", "lease is expired"]
        }
        Operation::Upkeep(Task::RevokeCertificate) => &["certificate with serial"],
        Operation::Upkeep(Task::LookUpLease) => &["invalid lease", "lease not found"],
        Operation::Upkeep(Task::LookUpToken | Task::RenewToken) => {
            &["invalid accessor", "token not found", "bad token"]
        }
        _ => &[],
    };
    phrases.iter().any(|phrase| words.contains(phrase))
}

fn is_about_the_token(words: &str) -> bool {
    ["missing client token", "permission denied", "bad token"]
        .iter()
        .any(|phrase| words.contains(phrase))
}

/// Vault's words, printable; empty if the body isn't Vault's. `sys/health`
/// answers with its state in place of `errors`.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Body {
        Errors { errors: Vec<String> },
        Health { initialized: bool, sealed: bool },
    }
    match serde_json::from_slice(body) {
        Ok(Body::Errors { errors }) => printable(&errors.join("; "), FOREIGN_TEXT_LIMIT),
        Ok(Body::Health {
            initialized: false, ..
        }) => "Vault is not initialized".to_owned(),
        Ok(Body::Health { sealed: true, .. }) => "Vault is sealed".to_owned(),
        Ok(Body::Health { .. }) | Err(_) => String::new(),
    }
}

/// Whether a 404 is Vault's way to say that there is nothing, and not that of
/// a proxy.
pub(super) fn is_missing(asked: Asked<'_>, refusal: &Refusal) -> bool {
    matches!(asked.operation, Operation::Read(_))
        && refusal.status == StatusCode::NOT_FOUND
        && serde_json::from_slice::<Envelope>(&refusal.body).is_ok_and(|e| e.is_of_vault())
}
