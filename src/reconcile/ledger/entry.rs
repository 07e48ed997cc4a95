//! The entries of the ledger, as its Secrets hold them: JSON, one key each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::{Kind, ObjectKey, Redacted, ResourceKey};
use crate::policy::{Connection, LeaseRequest, Login, Read};
use crate::reconcile::grants::ROUNDING;
use crate::reconcile::time::later;
use crate::render::{Grant, HashKey, ResourceTag, SecretData, fingerprint};
use crate::vault::Token;

use super::shortened;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// A token that leases hang on.
    Token(Box<TokenEntry>),
    /// A lease, or a certificate.
    Lease(Box<LeaseEntry>),
}

/// A token that leases hang on: Vault ends them with it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenEntry {
    /// Its accessor; empty for batch tokens, which have none.
    pub accessor: String,
    /// The entity that it acts for.
    pub entity: String,
    /// Which Vault.
    pub connection: Connection,
    /// How to log in there.
    pub login: Login,
    /// When it was first used, or renewed last.
    pub since: Timestamp,
    /// What was left of its life then; 0 does not end.
    pub seconds: u64,
}

/// An accessor is nobody's business.
impl std::fmt::Debug for TokenEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenEntry").finish_non_exhaustive()
    }
}

/// A lease or a certificate, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseEntry {
    /// `<kind>/<namespace>/<name>` of the resource.
    pub of: String,
    /// Its uid.
    pub uid: String,
    /// Name of the entry of the token that the lease hangs on.
    pub token: String,
    /// Vault namespace of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_namespace: Option<String>,
    /// Mount of the request.
    pub mount: String,
    /// Path of the request.
    pub path: String,
    /// Id of the lease; empty where there is none.
    pub lease: String,
    /// Serial number of the certificate; empty where it is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Whether the lease can be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// Name of the Secret whose keys go with the resource, although it did not make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clears: Option<String>,
    /// When it was given, and for how many seconds.
    pub since: Timestamp,
    /// See `since`.
    pub seconds: u64,
    /// Whether it is revoked when nobody needs it any more.
    pub revoke: bool,
}

impl TokenEntry {
    /// Name of the entry of a token. Batch tokens have no accessor to tell them apart.
    #[must_use]
    pub fn name(token: &Token, key: &HashKey) -> String {
        if !token.accessor.is_empty() {
            return format!("token.{}", fingerprint([token.accessor.as_str(), ""]));
        }
        let secret = Redacted::new(token.secret.expose().as_bytes().to_vec());
        let tag = ResourceTag::of(&ResourceKey {
            kind: Kind::VaultAuth,
            object: ObjectKey::new("", ""),
        });
        let content = SecretData::from([("token".to_owned(), secret)]);
        format!(
            "token.{}",
            fingerprint([key.content(&tag, &content).as_str()])
        )
    }

    /// When it ends at the earliest, as far as was noted; `None`: it does not end.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        let lasts = std::time::Duration::from_secs(self.seconds);
        (!lasts.is_zero()).then(|| later(self.since, lasts))
    }
}

impl LeaseEntry {
    /// Name of the entry.
    #[must_use]
    pub fn name(&self) -> String {
        let namespace = self.vault_namespace.as_deref().unwrap_or_default();
        let parts = [&self.of, namespace, &self.lease, &self.serial, &self.token];
        format!("lease.{}", fingerprint(parts))
    }

    /// When it has certainly ended, unless it is renewed: Vault counts in whole seconds.
    /// `None`: it does not end by itself.
    #[must_use]
    pub fn end_since(&self, renewed: Timestamp) -> Option<Timestamp> {
        let since = if self.renewable { renewed } else { self.since };
        let lasts = std::time::Duration::from_secs(self.seconds);
        (!lasts.is_zero()).then(|| later(since, lasts.saturating_add(ROUNDING)))
    }

    /// For how long it was given.
    #[must_use]
    pub fn lasts(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.seconds)
    }

    /// Whether it has certainly ended, whatever was renewed.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> bool {
        self.end_since(now).is_some_and(|end| end <= now)
    }

    /// Whether it is of this grant.
    #[must_use]
    pub fn is_of(&self, grant: &Grant) -> bool {
        self.lease == grant.lease && self.serial == grant.serial
    }

    /// What it is, as people may see it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.serial.as_str() {
            "" => format!("the lease {}", shortened(&self.lease)),
            serial => format!("the certificate {serial}"),
        }
    }

    /// The resource; `None` where the entry names none.
    #[must_use]
    pub fn resource(&self) -> Option<ResourceKey> {
        let mut parts = self.of.splitn(3, '/');
        let kind = parts.next()?;
        Some(ResourceKey {
            kind: Kind::ALL.into_iter().find(|known| known.as_str() == kind)?,
            object: ObjectKey::new(parts.next()?, parts.next()?),
        })
    }

    /// What is asked of the guardrails before the lease is touched.
    #[must_use]
    pub fn request(&self, token: &TokenEntry) -> LeaseRequest {
        LeaseRequest {
            connection: token.connection.clone(),
            login: token.login.clone(),
            read: Read {
                vault_namespace: self.vault_namespace.clone(),
                mount: self.mount.clone(),
                path: self.path.clone(),
                ..Read::default()
            },
            id: match self.lease.as_str() {
                "" => self.serial.clone(),
                lease => lease.to_owned(),
            },
        }
    }
}

/// `<kind>/<namespace>/<name>`.
#[must_use]
pub fn named(resource: &ResourceKey) -> String {
    let ObjectKey { namespace, name } = &resource.object;
    format!("{}/{namespace}/{name}", resource.kind)
}
