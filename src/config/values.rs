//! The small types of the configuration's values. Each is read from text
//! with a sentence for every refusal, and written back in the same form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An enum whose variants have one spelling each; unknown ones are refused
/// with the list of the known.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident ($what:literal) { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in manifests, configuration and flags.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or_else(|| {
                    format!(concat!("unknown ", $what, " {:?}: known are {}"), text, [$($text),+].join(", "))
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> { text.parse() }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String { value.as_str().to_owned() }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

named! {
    /// A way to log in to Vault, by its name in VaultAuth manifests.
    AuthMethod ("auth method") {
        /// A ServiceAccount token, checked by TokenReview.
        Kubernetes = "kubernetes",
        /// A ServiceAccount token or a JWT of a Secret, checked by its signature.
        Jwt = "jwt",
        /// Role id and secret id.
        AppRole = "appRole",
        /// AWS IAM.
        Aws = "aws",
        /// Google Cloud IAM.
        Gcp = "gcp",
        /// A Vault token as it is; the only one that is off by default.
        Token = "token",
    }
}

named! {
    /// A kind of workload that can be rolled.
    WorkloadKind ("workload kind") {
        /// apps/v1 Deployment
        Deployment = "Deployment",
        /// apps/v1 StatefulSet
        StatefulSet = "StatefulSet",
        /// apps/v1 DaemonSet
        DaemonSet = "DaemonSet",
        /// argoproj.io/v1alpha1 Rollout
        ArgoRollout = "argo.Rollout",
    }
}

named! {
    /// A key of `rollout` that a resource may have stricter.
    RolloutKey ("key of a resource's rollout") {
        /// Whether anything is restarted.
        Hold = "hold",
        /// The wait for further changes.
        Debounce = "debounce",
        /// The least time between two restarts.
        MinInterval = "minInterval",
        /// Whether pods that are not there are waited for.
        OnlyWhenAvailable = "onlyWhenAvailable",
        /// Whether a failed workload holds the others.
        HaltOnFailure = "haltOnFailure",
        /// The times for restarts.
        Windows = "windows",
    }
}

named! {
    /// How far the rights of the operator in a watched namespace go.
    Grade ("grade of rights") {
        /// All Secrets, workloads and ServiceAccount tokens of the namespace.
        Namespace = "namespace",
        /// Those alone that resources name, and nothing else of their kinds.
        Named = "named",
    }
}

named! {
    /// What becomes of credentials when others take their place.
    RotationStrategy ("rotation strategy") {
        /// They stay alive until every target runs the new ones.
        Overlap = "overlap",
        /// They are given back at once.
        Replace = "replace",
    }
}

named! {
    /// How log lines look.
    LogFormat ("log format") {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

named! {
    /// The least severe level that is logged.
    LogLevel ("log level") {
        /// Only what somebody must look at.
        Error = "error",
        /// And what may become that.
        Warn = "warn",
        /// And what changed.
        Info = "info",
        /// And why.
        Debug = "debug",
        /// And every step.
        Trace = "trace",
    }
}

/// Where an HTTP endpoint listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// Nowhere: `0` or empty, as in controller-runtime.
    Off,
    /// On all addresses of the machine, as Go reads `:8080`.
    All(u16),
    /// On one address.
    At(SocketAddr),
}

impl BindAddress {
    /// What to bind, in this order until one succeeds (a machine may lack
    /// IPv6); empty means that nothing is served.
    #[must_use]
    pub fn candidates(self) -> Vec<SocketAddr> {
        match self {
            Self::Off => Vec::new(),
            Self::All(port) => vec![
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            ],
            Self::At(address) => vec![address],
        }
    }
}

impl std::str::FromStr for BindAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no address to listen on: write :8080, 127.0.0.1:8080 or [::1]:8080, or 0 to turn it off"
            )
        };
        if text.is_empty() || text == "0" {
            return Ok(Self::Off);
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>().map_err(|_| wrong())?;
        match host {
            "" => Ok(Self::All(port)),
            "localhost" => Ok(Self::At(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))),
            _ => text.parse().map(Self::At).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("0"),
            Self::All(port) => write!(f, ":{port}"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for BindAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BindAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = BindAddress;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address to listen on, such as :8080, or 0 to turn it off")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<BindAddress, E> {
                text.parse().map_err(E::custom)
            }
            // YAML reads an unquoted 0 as a number.
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<BindAddress, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<BindAddress, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// A name in which each `*` stands for any run of characters, also none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether the whole name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else {
            return false;
        };
        let pieces: Vec<&str> = pieces.collect();
        let Some((last, middle)) = pieces.split_last() else {
            return rest.is_empty();
        };
        for piece in middle {
            // The earliest place leaves the most for the pieces that follow.
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NamePattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!(
                "{text:?} is no name or pattern: write a name, with * for any run of characters"
            ));
        }
        Ok(Self(text))
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> String {
        pattern.0
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path in Vault, or a Vault namespace, as a prefix at segment boundaries:
/// `secret/data/team` covers itself and `secret/data/team/x`, not
/// `secret/data/team2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPrefix(String);

impl PathPrefix {
    /// Whether the canonical path is this one or below it.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The prefix without slashes around it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let path = text.strip_prefix('/').unwrap_or(&text);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.contains('*') {
            return Err(format!(
                "{text:?} has a *: leave it out, a path covers all that is below it"
            ));
        }
        canonical_path(path).map_err(|why| format!("{text:?} {why}"))?;
        Ok(Self(path.to_owned()))
    }
}

impl From<PathPrefix> for String {
    fn from(prefix: PathPrefix) -> String {
        prefix.0
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path of Vault is spelled in the one way that every hop reads
/// alike: no empty, `.` or `..` segment, nothing that ends or escapes a path.
///
/// # Errors
/// What is wrong, to follow the quoted path.
pub fn canonical_path(path: &str) -> Result<(), String> {
    let bad = path
        .chars()
        .find(|c| c.is_control() || matches!(c, '?' | '#' | '%' | '\\'));
    if let Some(bad) = bad {
        return Err(format!(
            "has the character {bad:?}, which has no place in a path of Vault: remove it"
        ));
    }
    for segment in path.split('/') {
        match segment {
            "" => {
                return Err(
                    "has an empty segment: write it without slashes at the ends or twice in a row"
                        .to_owned(),
                );
            }
            "." | ".." => {
                return Err(format!(
                    "has the segment {segment:?}: write the path that is meant"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A Vault namespace without slashes around it, and empty for the root, also
/// where that is named.
///
/// # Errors
/// What is wrong, to follow the quoted namespace: as [`canonical_path`], white
/// space (which Vault allows in no namespace, and HTTP takes off a header's
/// ends), and what no header can carry.
pub fn vault_namespace(text: &str) -> Result<&str, String> {
    let namespace = text.trim_matches('/');
    if matches!(namespace, "" | "root") {
        return Ok("");
    }
    canonical_path(namespace)?;
    if namespace.contains(char::is_whitespace) {
        return Err("has white space, which no Vault namespace has: remove it".to_owned());
    }
    if http::HeaderValue::from_str(namespace).is_err() {
        return Err("cannot be sent in an HTTP header: correct it".to_owned());
    }
    Ok(namespace)
}
