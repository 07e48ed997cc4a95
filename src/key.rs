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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Whether an object may have this name: the API server takes DNS subdomains of
/// at most 253 characters (RFC 1123).
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|&c| inner(c) || c == b'-')
            && bytes.first().is_some_and(|&c| inner(c))
            && bytes.last().is_some_and(|&c| inner(c))
    };
    text.len() <= 253 && text.split('.').all(label)
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
