//! One HTTP client for each connection: its TLS settings, its pool of TCP
//! connections, and the translation between the address that a manifest names
//! and the one that TLS verifies. No redirects, no proxies, no cookies.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};

use crate::policy::{CaSource, Connection};
use crate::problem::{FOREIGN_TEXT_LIMIT, Problem, printable};

use super::resolver::{AddressRefused, AddressRule, Resolver, check};

/// Idle connections are closed after this: their buffers hold what was read.
const IDLE: Duration = Duration::from_secs(5);
/// The longest wait for TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);

/// The HTTP client of one connection.
pub(super) struct Channel {
    /// Sends requests whose URL came from [`Channel::dialled`].
    pub(super) http: Client,
    /// Whose it is.
    pub(super) connection: Arc<Connection>,
    address: Url,
    server_name: Option<String>,
    rule: AddressRule,
}

impl Channel {
    /// Builds the client.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`] for an address or server name that cannot be
    /// used, [`Problem::CredentialUnusable`] for CA certificates.
    pub(super) fn new(
        connection: &Connection,
        ca_pem: Option<&[u8]>,
        user_agent: &str,
        rule: AddressRule,
    ) -> Result<Self, Problem> {
        let address = parse_address(&connection.address)?;
        let server_name = match &connection.tls_server_name {
            Some(name) if address.scheme() == "https" => Some(parse_server_name(&address, name)?),
            _ => None,
        };
        let connection = Arc::new(connection.clone());
        let host = host_of(&address).to_owned();
        let mut builder = Client::builder()
            .user_agent(user_agent)
            .redirect(Policy::none())
            .no_proxy()
            .timeout(connection.timeout)
            .connect_timeout(connection.timeout.min(CONNECT))
            .pool_idle_timeout(IDLE)
            .dns_resolver(Arc::new(Resolver {
                host,
                connection: Arc::clone(&connection),
                rule: Arc::clone(&rule),
            }));
        if connection.skip_tls_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else if let Some(pem) = ca_pem {
            let roots = Certificate::from_pem_bundle(pem).map_err(|e| unusable(&connection, &e))?;
            builder = builder.tls_certs_only(roots);
        }
        let http = builder.build().map_err(|e| unusable(&connection, &e))?;
        Ok(Self {
            http,
            connection,
            address,
            server_name,
            rule,
        })
    }

    /// The URL of a path that begins with `/`, as the manifest's address has
    /// it: under the address's own path, if it has one.
    pub(super) fn url(&self, path_and_query: &str) -> Result<Url, String> {
        below(&self.address, path_and_query)
    }

    /// The URL to hand to the client for one made by [`Channel::url`], and the
    /// `Host` header to send with it where that differs.
    pub(super) fn dialled(&self, url: &Url) -> (Url, Option<HeaderValue>) {
        let mut dialled = url.clone();
        let Some(name) = &self.server_name else {
            return (dialled, None);
        };
        let authority = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        // Both were checked when the channel was built.
        match (
            dialled.set_host(Some(name)),
            HeaderValue::from_str(&authority),
        ) {
            (Ok(()), Ok(host)) => (dialled, Some(host)),
            _ => (url.clone(), None),
        }
    }

    /// The guardrail for addresses that are IP literals, which no resolver sees.
    pub(super) fn check_literal(&self) -> Result<(), AddressRefused> {
        match host_of(&self.address).parse::<IpAddr>() {
            Ok(address) => check(&self.rule, address, &self.connection),
            Err(_) => Ok(()),
        }
    }

    /// `scheme://host:port` of the address.
    pub(super) fn origin(&self) -> String {
        self.address.origin().ascii_serialization()
    }
}

/// The URL of a path below an address.
pub(super) fn below(address: &Url, path_and_query: &str) -> Result<Url, String> {
    let prefix = address.path().trim_end_matches('/');
    let origin = address.origin().ascii_serialization();
    Url::parse(&format!("{origin}{prefix}{path_and_query}")).map_err(|e| e.to_string())
}

/// Whether two URLs lead to the same scheme, host and port.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Where the CA certificates came from, for messages.
pub(super) fn ca_in_words(connection: &Connection) -> String {
    match &connection.ca {
        CaSource::System => "the system's CA certificates".to_owned(),
        CaSource::Secret { secret, .. } => {
            format!("the CA certificates of key ca.crt in Secret {secret}")
        }
        CaSource::File(path) => format!("the CA certificates in the file {path}"),
    }
}

/// The address as a URL, with nothing in it that a request would drop.
fn parse_address(address: &str) -> Result<Url, Problem> {
    let invalid = |why: String| Problem::InvalidSpec {
        field: "spec.address".to_owned(),
        why,
    };
    let shown = printable(address, 200);
    let url = Url::parse(address).map_err(|e| {
        invalid(format!(
            "{shown} is no address ({e}): it must look like https://vault.example:8200"
        ))
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(format!(
            "{shown} must begin with https:// and name a host"
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("the address must not hold a user".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid(format!(
            "{shown} must not have a query or fragment"
        )));
    }
    Ok(url)
}

/// The server name, when the URL parser takes it for a name. It takes `0x7f.1`
/// for an IP address, and an IP address would be dialled as it stands.
fn parse_server_name(address: &Url, name: &str) -> Result<String, Problem> {
    let invalid = || Problem::InvalidSpec {
        field: "spec.tlsServerName".to_owned(),
        why: format!(
            "{} must be a DNS name; leave it out to verify the address's own host",
            printable(name, 200)
        ),
    };
    let dns = rustls::pki_types::DnsName::try_from(name).map_err(|_| invalid())?;
    let lower = dns.as_ref().to_ascii_lowercase();
    let mut url = address.clone();
    url.set_host(Some(&lower)).map_err(|_| invalid())?;
    if url.host_str() != Some(lower.as_str()) || host_of(&url).parse::<IpAddr>().is_ok() {
        return Err(invalid());
    }
    Ok(lower)
}

/// The host without the brackets of an IPv6 literal.
fn host_of(url: &Url) -> &str {
    url.host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
}

fn unusable(connection: &Connection, error: &dyn std::error::Error) -> Problem {
    let cause = std::iter::successors(Some(error), |e| e.source())
        .last()
        .map_or_else(String::new, ToString::to_string);
    Problem::CredentialUnusable {
        why: format!(
            "{} cannot be used: {}; give the connection a CA by caCertSecretRef, or correct it",
            ca_in_words(connection),
            printable(&cause, FOREIGN_TEXT_LIMIT)
        ),
    }
}
