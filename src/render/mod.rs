//! From what Vault answered to what the Secret holds: pure, no I/O, and no
//! error of it quotes a value.

mod filter;
mod gojson;
mod grant;
mod hash;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::key::Redacted;
use crate::problem::{Problem, printable};

pub use filter::Filter;
pub use gojson::compact;
pub use grant::{Grant, Rotated};
pub use hash::{ContentHash, HashKey, KEY_LENGTH, ResourceTag, fingerprint, hex};

/// The Secret key that holds Vault's answer as it was.
pub const RAW_KEY: &str = "_raw";

/// The bytes of a Secret by key.
pub type SecretData = BTreeMap<String, Redacted<Vec<u8>>>;

/// What becomes of Vault's answer as keys of a Secret.
#[derive(Debug, Default)]
pub struct Content {
    /// The fields, by name, as Vault spelled them.
    pub fields: BTreeMap<String, Box<RawValue>>,
    /// Keys that the type of the Secret asks for: no filter takes them away.
    pub fixed: SecretData,
}

/// What a source gave: its content and the JSON that `_raw` is made of.
#[derive(Debug)]
pub struct Material {
    /// The keys.
    pub content: Content,
    /// The whole `data` object of Vault's answer.
    pub raw: Redacted<Box<RawValue>>,
    /// What names this state of the source, such as a KV version; empty where
    /// the engine has none.
    pub version: String,
    /// For how long it was given, where Vault makes it for us.
    pub grant: Option<Grant>,
    /// Fields that differ with each answer and are no reason to restart anything.
    pub volatile: &'static [&'static str],
}

/// What the Secret is to hold, with its hashes.
#[derive(Debug)]
pub struct Rendered {
    /// Every key that is ours, `_raw` included.
    pub data: SecretData,
    /// Hash without `_raw`: what decides about restarts.
    pub hash: ContentHash,
    /// Hash of `_raw` alone; `None` when it is left out.
    pub raw_hash: Option<ContentHash>,
    /// Number of keys without `_raw`.
    pub keys: usize,
    /// See [`Material::version`].
    pub version: String,
    /// See [`Material::grant`].
    pub grant: Option<Grant>,
}

/// Renders a source's answer (compatibility.md 8.1).
///
/// # Errors
/// [`Problem::Transformation`] when a source key is called `_raw` and raw is
/// not left out; [`Problem::DestinationInvalid`] for keys that a Secret cannot
/// have.
pub fn render(
    material: &Material,
    filter: &Filter,
    exclude_raw: bool,
    secret: &str,
    tag: &ResourceTag,
    key: &HashKey,
) -> Result<Rendered, Problem> {
    let broken = |why: String| Problem::Transformation { why };
    let mut data = SecretData::new();
    for (name, value) in material
        .content
        .fields
        .iter()
        .filter(|(name, _)| filter.keeps(name))
    {
        if name == RAW_KEY && !exclude_raw {
            return Err(broken(format!(
                "the source has a key {RAW_KEY}, which would hide Vault's raw answer: set spec.destination.transformation.excludeRaw, or exclude the key"
            )));
        }
        check_key(name, secret)?;
        data.insert(
            name.clone(),
            Redacted::new(field_bytes(value).map_err(|why| {
                let name = printable(name, 80);
                broken(format!("the source key {name:?}: {why}"))
            })?),
        );
    }
    data.extend(material.content.fixed.clone());
    let hash = if material.volatile.is_empty() {
        key.content(tag, &data)
    } else {
        let mut lasting = data.clone();
        lasting.retain(|name, _| !material.volatile.contains(&name.as_str()));
        key.content(tag, &lasting)
    };
    let keys = data.len();
    let mut raw_hash = None;
    if !exclude_raw {
        let raw = compact(material.raw.expose()).map_err(broken)?.into_bytes();
        let raw = SecretData::from([(RAW_KEY.to_owned(), Redacted::new(raw))]);
        raw_hash = Some(key.content(tag, &raw));
        data.extend(raw);
    }
    Ok(Rendered {
        data,
        hash,
        raw_hash,
        keys,
        version: material.version.clone(),
        grant: material.grant.clone(),
    })
}

/// Strings as they are, everything else as compact JSON.
fn field_bytes(value: &RawValue) -> Result<Vec<u8>, String> {
    if value.get().starts_with('"') {
        return serde_json::from_str::<String>(value.get())
            .map(String::into_bytes)
            .map_err(|error| {
                format!(
                    "unreadable string at column {}: correct it in Vault, or exclude it",
                    error.column()
                )
            });
    }
    compact(value).map(String::into_bytes)
}

/// What the API server asks of a key: `[-._a-zA-Z0-9]+`, at most 253, neither
/// `.` nor beginning with `..` (Kubernetes, `IsConfigMapKey`).
fn check_key(key: &str, secret: &str) -> Result<(), Problem> {
    let fits = !key.is_empty()
        && key.len() <= 253
        && key != "."
        && !key.starts_with("..")
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if fits {
        return Ok(());
    }
    Err(Problem::DestinationInvalid {
        name: secret.to_owned(),
        why: format!(
            "the source key {:?} cannot be a key of a Secret (letters, digits, '-', '_', '.', at most 253): rename it in Vault, or exclude it",
            printable(key, 80)
        ),
    })
}

#[cfg(test)]
mod tests;
