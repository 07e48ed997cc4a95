//! What Vault made for one resource, beside its data.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ContentHash;

/// What is to be renewed or replaced in time and given back in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Id of the lease; empty where the answer had none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lease: String,
    /// When Vault gave it.
    pub since: Timestamp,
    /// For how long; 0: it does not end by itself.
    pub seconds: u64,
    /// Serial number of the certificate, `aa:bb:…`; empty where it is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Whether the certificate's issuer ends no later than the certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub issuer_first: bool,
    /// Whether the lease can be renewed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub renewable: bool,
    /// What Vault says about credentials that it rotates by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Rotated>,
    /// Keyed hash of the request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ContentHash>,
}

/// Credentials that Vault rotates by itself (Vault API docs, "Get static
/// credentials" of the database engine): `seconds` is the time to the next rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotated {
    /// The last rotation, in seconds since 1970.
    pub last: i64,
    /// Seconds between two rotations; 0 where a schedule is used.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub period: i64,
    /// The schedule, in cron form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Grant {
    /// Whether it is not the same lease, certificate or password as an earlier one.
    #[must_use]
    pub fn is_another(&self, than: &Self) -> bool {
        (&self.lease, &self.serial, &self.rotated) != (&than.lease, &than.serial, &than.rotated)
    }

    /// For how long it was given: ten thousand years at most, since what is read back
    /// can be any number, and is calculated with.
    #[must_use]
    pub fn duration(&self) -> Duration {
        const LONGEST: u64 = 10_000 * 366 * 24 * 3600;
        Duration::from_secs(self.seconds.min(LONGEST))
    }
}
