//! Content hashes: keyed, so that the hash of a password reveals nothing to
//! those who may read annotations but not Secrets, and bound to the resource,
//! so that equal contents of two resources do not show as equal.

use std::collections::BTreeMap;
use std::fmt;

use ring::{digest, hmac};

use crate::key::{Redacted, ResourceKey};

/// Length of the operator's key in bytes.
pub const KEY_LENGTH: usize = 32;

/// 16 hex digits that stand for a custom resource in annotation names; the same
/// after the resource was deleted and applied again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceTag(String);

impl ResourceTag {
    /// The tag of a resource: a hash of kind, namespace and name.
    #[must_use]
    pub fn of(key: &ResourceKey) -> Self {
        let name = format!("{}/{}/{}", key.kind, key.object.namespace, key.object.name);
        Self(hex(
            &digest::digest(&digest::SHA256, name.as_bytes()).as_ref()[..8]
        ))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `<key id>:<hash>`, as annotations hold it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ContentHash(String);

impl ContentHash {
    /// Read back from an annotation; not checked, since comparing is all that
    /// is done with it.
    #[must_use]
    pub fn from_annotation(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As annotations hold it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `key` made this hash.
    #[must_use]
    pub fn is_of(&self, key: &HashKey) -> bool {
        self.key_id() == Some(&key.id)
    }

    /// Whether one key made both.
    #[must_use]
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.key_id() == other.key_id()
    }

    fn key_id(&self) -> Option<&str> {
        self.0.split_once(':').map(|(id, _)| id)
    }
}

/// The operator's HMAC key.
#[derive(Clone)]
pub struct HashKey {
    key: hmac::Key,
    id: String,
    bytes: Redacted<Vec<u8>>,
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashKey({})", self.id)
    }
}

impl HashKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// A sentence when the length is not [`KEY_LENGTH`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.len() != KEY_LENGTH {
            return Err(format!(
                "{} bytes long instead of {KEY_LENGTH}",
                bytes.len()
            ));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let id = hex(&hmac::sign(&key, b"key id").as_ref()[..4]);
        Ok(Self {
            key,
            id,
            bytes: Redacted::new(bytes),
        })
    }

    /// The key's bytes, to be written into the operator's own Secret.
    #[must_use]
    pub const fn bytes(&self) -> &Redacted<Vec<u8>> {
        &self.bytes
    }

    /// Hash of what a Secret holds for a resource. Keys and values go in with
    /// their lengths, so that no two contents share an encoding.
    #[must_use]
    pub fn content(
        &self,
        resource: &ResourceTag,
        data: &BTreeMap<String, Redacted<Vec<u8>>>,
    ) -> ContentHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(resource.as_str().as_bytes());
        for (key, value) in data {
            for part in [key.as_bytes(), value.expose()] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
        ContentHash(format!(
            "{}:{}",
            self.id,
            hex(&context.sign().as_ref()[..16])
        ))
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// First 8 bytes of SHA-256 over the parts, in hex: a fingerprint of names, not
/// of secret values.
#[must_use]
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    hex(&context.finish().as_ref()[..8])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key::{Kind, ObjectKey};

    fn tag(name: &str) -> ResourceTag {
        ResourceTag::of(&ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", name),
        })
    }

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Redacted<Vec<u8>>> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Redacted::new(v.as_bytes().to_vec())))
            .collect()
    }

    #[test]
    fn equal_only_for_equal_content_of_the_same_resource() {
        let key = HashKey::new(vec![7; KEY_LENGTH]).unwrap();
        let hash = key.content(&tag("a"), &data(&[("k", "v")]));
        assert_eq!(hash, key.content(&tag("a"), &data(&[("k", "v")])));
        assert_ne!(hash, key.content(&tag("b"), &data(&[("k", "v")])));
        assert_ne!(hash, key.content(&tag("a"), &data(&[("kv", "")])));
        assert_ne!(
            key.content(&tag("a"), &data(&[("a", "b"), ("c", "d")])),
            key.content(&tag("a"), &data(&[("a", "bc"), ("d", "")]))
        );
    }

    #[test]
    fn another_key_is_seen() {
        let one = HashKey::new(vec![1; KEY_LENGTH]).unwrap();
        let two = HashKey::new(vec![2; KEY_LENGTH]).unwrap();
        let hash = one.content(&tag("a"), &data(&[]));
        assert!(hash.is_of(&one) && !hash.is_of(&two));
        assert!(!ContentHash::from_annotation("nonsense").is_of(&one));
        assert!(HashKey::new(vec![1; 16]).unwrap_err().contains("16 bytes"));
    }
}
