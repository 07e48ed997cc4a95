//! Name resolution for one connection. Every address that a name leads to is
//! shown to the guardrails before a packet goes there, so that DNS cannot
//! point the operator at a link-local address or at the API server.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::policy::Connection;

/// May the operator connect to this address for that connection? The error is
/// a sentence that says why not.
pub type AddressRule = Arc<dyn Fn(IpAddr, &Connection) -> Result<(), String> + Send + Sync>;

/// The guardrails refuse all addresses of a host.
#[derive(Debug)]
pub(super) struct AddressRefused(pub(super) String);

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressRefused {}

/// Resolves whatever name a request carries to one host: the name in the URL
/// may be the TLS server name, the host is always the connection's.
pub(super) struct Resolver {
    /// The connection's real host.
    pub(super) host: String,
    /// For whom it resolves.
    pub(super) connection: Arc<Connection>,
    /// The guardrail.
    pub(super) rule: AddressRule,
}

impl Resolve for Resolver {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.host.clone();
        let connection = Arc::clone(&self.connection);
        let rule = Arc::clone(&self.rule);
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let mut allowed: Vec<SocketAddr> = Vec::new();
            let mut refused = None;
            for address in found {
                match check(&rule, address.ip(), &connection) {
                    Ok(()) => allowed.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match (allowed.is_empty(), refused) {
                (true, Some(why)) => Err(why.into()),
                (true, None) => Err(format!("the name {host} has no addresses").into()),
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Asks the rule about one address; an IPv4 address in IPv6 clothes is asked
/// about as what it is.
pub(super) fn check(
    rule: &AddressRule,
    address: IpAddr,
    connection: &Connection,
) -> Result<(), AddressRefused> {
    rule(address.to_canonical(), connection).map_err(AddressRefused)
}
