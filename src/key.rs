//! Names of things: the keys under which the operator knows objects, and a
//! wrapper for what must never be printed.

use std::fmt;

/// The custom resources that the operator serves, by their Kubernetes kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `VaultConnection`
    VaultConnection,
    /// `VaultAuth`
    VaultAuth,
    /// `VaultAuthGlobal`
    VaultAuthGlobal,
    /// `VaultStaticSecret`
    VaultStaticSecret,
    /// `VaultDynamicSecret`
    VaultDynamicSecret,
    /// `VaultPKISecret`
    VaultPkiSecret,
    /// `SecretTransformation`
    SecretTransformation,
}

impl Kind {
    /// Every kind, in the order in which they refer to each other.
    pub const ALL: [Kind; 7] = [
        Kind::VaultConnection,
        Kind::VaultAuthGlobal,
        Kind::VaultAuth,
        Kind::SecretTransformation,
        Kind::VaultStaticSecret,
        Kind::VaultDynamicSecret,
        Kind::VaultPkiSecret,
    ];

    /// The kind as manifests write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::VaultConnection => "VaultConnection",
            Kind::VaultAuth => "VaultAuth",
            Kind::VaultAuthGlobal => "VaultAuthGlobal",
            Kind::VaultStaticSecret => "VaultStaticSecret",
            Kind::VaultDynamicSecret => "VaultDynamicSecret",
            Kind::VaultPkiSecret => "VaultPKISecret",
            Kind::SecretTransformation => "SecretTransformation",
        }
    }

    /// The plural that the API server's paths and Roles use.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::VaultConnection => "vaultconnections",
            Kind::VaultAuth => "vaultauths",
            Kind::VaultAuthGlobal => "vaultauthglobals",
            Kind::VaultStaticSecret => "vaultstaticsecrets",
            Kind::VaultDynamicSecret => "vaultdynamicsecrets",
            Kind::VaultPkiSecret => "vaultpkisecrets",
            Kind::SecretTransformation => "secrettransformations",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Namespace and name of an object whose kind the context gives.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct ObjectKey {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Object name.
    pub name: String,
}

impl ObjectKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether the API server takes this as the name of a Secret, a ServiceAccount
/// or a resource of ours (RFC 1123 subdomain, Kubernetes `IsDNS1123Subdomain`).
///
/// The client puts names into URLs as they are: what is no name could there be
/// another object's, as `x/token?` is.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_plain_label)
}

/// Whether it is the name of a namespace (RFC 1123 label).
#[must_use]
pub fn is_namespace_name(name: &str) -> bool {
    name.len() <= 63 && is_plain_label(name)
}

/// Whether the API server takes it as the key of an annotation or a label
/// (Kubernetes, `IsQualifiedName`): a name, perhaps with a domain before it.
#[must_use]
pub fn is_metadata_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => is_object_name(domain) && is_plain_text(name),
        None => is_plain_text(key),
    }
}

/// Whether it takes it as the value of a label (Kubernetes, `IsValidLabelValue`).
#[must_use]
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_plain_text(value)
}

/// Letters and digits, within them also `-`, `_` and `.`; 1 to 63 characters.
fn is_plain_text(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Lower-case letters, digits and inner hyphens, at least one of them.
fn is_plain_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A custom resource of ours: kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// Which of our kinds.
    pub kind: Kind,
    /// Where it is.
    pub object: ObjectKey,
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.object)
    }
}

/// A value that can be used but not shown: `Debug` prints a placeholder, and
/// there is no `Display` and no `Serialize`.
///
/// The operator's allocator zeroes memory when it is freed, so dropping a
/// `Redacted` wipes what it held on the heap.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps a secret value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that sends or writes it.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself; the wrapper is gone.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_api_server_takes() {
        for name in ["app", "a-1.b", "0", &"x".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        for name in [
            "",
            "App",
            "a_b",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "a/token?",
            "a%2Db",
            "a b",
            "\u{430}pp",
            &"x".repeat(254),
        ] {
            assert!(!is_object_name(name), "{name}");
        }
        for key in ["a", "Team_1.x", "example.com/Team", &"x".repeat(63)] {
            assert!(
                is_metadata_key(key) && (key.contains('/') || is_label_value(key)),
                "{key}"
            );
        }
        for key in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "A.b/c",
            "a b",
            "-a",
            "a.",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(!is_metadata_key(key), "{key}");
            assert!(key.is_empty() || !is_label_value(key), "{key}");
        }
        assert!(is_label_value(""));
        assert!(is_namespace_name("team-1") && is_namespace_name(&"x".repeat(63)));
        assert!(!is_namespace_name("a.b") && !is_namespace_name(&"x".repeat(64)));
    }
}
