//! Vault's addresses: one parser for those of resources and of the
//! configuration, so that what is compared is what is connected to, and the
//! patterns of `policy.vaultAddresses`. Decides nothing about permission.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// The address of a Vault in canonical form: scheme, host in lower case or
/// punycode, port, and a path if there is a prefix before `/v1/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    url: Url,
}

impl Address {
    /// Reads an address. Spellings that parsers read differently (control
    /// characters, white space, backslashes, user info) are refused.
    ///
    /// # Errors
    /// A sentence that quotes the address and says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            Err(format!(
                "the address {text:?} {what}; write it like https://vault.example:8200"
            ))
        };
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return wrong("has white space, a control character or a backslash");
        }
        let lower = text.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return wrong("does not begin with https:// or http://");
        }
        if text.contains('@') {
            // Not quoted: what stands before the @ may be a password.
            return Err(
                "the address has user info (something before an @): remove it, Vault needs none"
                    .to_owned(),
            );
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return wrong(&format!("cannot be read ({error})")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("has a query or a fragment");
        }
        if url.host_str().is_none_or(str::is_empty) {
            return wrong("has no host");
        }
        if url.path().contains(['%', ';']) || url.path().contains("//") {
            return wrong("has a path with an escape, a semicolon or an empty segment");
        }
        Ok(Self { url })
    }

    /// The address without path and query that a URL leads to, such as one of a
    /// redirect.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn of_origin(url: &Url) -> Result<Self, String> {
        let mut origin = url.clone();
        origin.set_path("");
        origin.set_query(None);
        origin.set_fragment(None);
        Self::parse(origin.as_str())
    }

    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Host without brackets and without the dot that ends an absolute name.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').unwrap_or(host);
        let host = host.strip_suffix(']').unwrap_or(host);
        host.strip_suffix('.').unwrap_or(host)
    }

    /// The IP address, if the host is one in whatever notation.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        // The parser turns decimal, octal and hexadecimal forms into the usual one.
        let host = self.host();
        host.parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .or_else(|_| host.parse::<Ipv6Addr>().map(IpAddr::V6))
            .ok()
    }

    /// Port, the scheme's own where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// Path before `/v1/` without a slash at its end: empty, or `/prefix`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    /// Whether scheme, host and port are the same.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme() == other.scheme()
            && self.host() == other.host()
            && self.port() == other.port()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl TryFrom<String> for Address {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

/// An entry of `policy.vaultAddresses`: an address whose host may begin with
/// `*.`, which stands for exactly one label, as in a certificate. Scheme, port
/// and path must be the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressPattern {
    /// Without the `*.`.
    address: Address,
    wildcard: bool,
}

impl AddressPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence that quotes the pattern and says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = text.replacen("://*.", "://", 1);
        let wildcard = plain != text;
        if plain.contains('*') {
            return Err(format!(
                "{text:?} has a * that is not the first label of the host; write https://vault.example:8200 or https://*.example.com:8200"
            ));
        }
        let address = Address::parse(&plain)?;
        if wildcard && (address.ip().is_some() || !address.host().contains('.')) {
            return Err(format!(
                "{text:?} allows too much: behind *. must stand a domain of at least two labels, as in https://*.example.com:8200"
            ));
        }
        Ok(Self { address, wildcard })
    }

    /// Whether the address is one of those that the pattern names.
    #[must_use]
    pub fn matches(&self, address: &Address) -> bool {
        self.matches_origin(address) && address.path() == self.address.path()
    }

    /// Whether scheme, host and port are those that the pattern names.
    #[must_use]
    pub fn matches_origin(&self, address: &Address) -> bool {
        let host = if self.wildcard {
            address
                .host()
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == self.address.host())
        } else {
            address.host() == self.address.host()
        };
        host && address.scheme() == self.address.scheme() && address.port() == self.address.port()
    }

    /// The pattern that names just this address.
    #[must_use]
    pub const fn exactly(address: Address) -> Self {
        Self {
            address,
            wildcard: false,
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.address.to_string();
        if self.wildcard {
            f.write_str(&text.replacen("://", "://*.", 1))
        } else {
            f.write_str(&text)
        }
    }
}

impl TryFrom<String> for AddressPattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<AddressPattern> for String {
    fn from(pattern: AddressPattern) -> String {
        pattern.to_string()
    }
}
