//! Which hosts, IP addresses and redirects an address that the configuration
//! does not list may lead to. Pure: nothing is resolved here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reqwest::Url;

use super::{OwnIdentity, Policy, denied, rule};
use crate::config::address::Address;
use crate::problem::Problem;

/// Addresses outside the link-local ranges under which clouds serve the
/// credentials of a machine.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// Beginnings of unique local addresses that clouds keep for such services:
/// Amazon's (also of pod identities) and Google's.
const METADATA_V6: [[u16; 2]; 2] = [[0xfd00, 0x0ec2], [0xfd20, 0x00ce]];

/// Host names that lead to the machine itself, to a metadata service or to the
/// API server, whatever the cluster's domain. One that ends in a dot is also
/// the beginning of longer names.
const HOSTS: [&str; 10] = [
    "localhost",
    "metadata",
    "metadata.google.internal",
    "metadata.azure.internal",
    "instance-data",
    "instance-data.ec2.internal",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.",
];

/// Whether a connection may go to an IP address that an allowed name resolved
/// to. To be asked for every address before it is connected to; `listed` is
/// [`Policy::lists`] of the connection's address.
///
/// # Errors
/// [`Problem::PolicyDenied`] for multicast; and, unless listed, for the
/// machine itself, link-local addresses, metadata services of clouds and the
/// API server.
pub fn address_allowed(ip: IpAddr, listed: bool, own: &OwnIdentity) -> Result<(), Problem> {
    let ip = embedded(ip);
    let refused = |what: &str| {
        Err(denied(
            rule::VAULT_ADDRESSES,
            format!("the address leads to {ip}, {what}"),
        ))
    };
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return refused("a multicast address");
    }
    if listed {
        return Ok(());
    }
    if ip.is_loopback() || is_unspecified(ip) {
        return refused("the operator's own machine");
    }
    if is_link_local(ip) || is_metadata(ip) {
        return refused("where clouds serve the machine's credentials");
    }
    if own.api_server_ips().any(|server| embedded(server) == ip) {
        return refused("the Kubernetes API server");
    }
    Ok(())
}

/// Whether a redirect may be followed, given the URL that was asked and the
/// absolute one that it leads to: to the same scheme, host and port, or to an
/// address that the configuration lists. Tokens travel along. The addresses
/// that the new host resolves to are still to be asked for, as listed.
///
/// # Errors
/// [`Problem::PolicyDenied`].
pub fn redirect_allowed(from: &Url, to: &Url, policy: &Policy) -> Result<(), Problem> {
    let refused = |why: String| Err(denied(rule::VAULT_ADDRESSES, why));
    let (from, to) = match (Address::of_origin(from), Address::of_origin(to)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(why), _) | (_, Err(why)) => return refused(format!("Vault redirects, and {why}")),
    };
    // The path of a redirect is Vault's business; only who is there counts.
    let listed = || {
        policy
            .listed
            .iter()
            .any(|pattern| pattern.matches_origin(&to))
    };
    if from.same_origin(&to) || listed() {
        return Ok(());
    }
    refused(format!("Vault at {from} redirects to {to}"))
}

/// What an address that the configuration does not list must be: `https` to a
/// name that is neither the machine, a metadata service nor the API server.
pub(super) fn unlisted_allowed(address: &Address, own: &OwnIdentity) -> Result<(), Problem> {
    let refused = |what: &str| {
        Err(denied(
            rule::VAULT_ADDRESSES,
            format!("the address {address} {what}"),
        ))
    };
    let host = address.host();
    if address.scheme() != "https" {
        return refused("is not https");
    }
    if address.ip().is_some() {
        return refused("is an IP address instead of a name");
    }
    if !address.path().is_empty() {
        return refused("has a path");
    }
    let reserved = HOSTS.iter().any(|name| match name.strip_suffix('.') {
        Some(_) => host.starts_with(name),
        None => host == *name,
    });
    if reserved || host.ends_with(".localhost") {
        return refused("leads to the machine, to a metadata service or to the API server");
    }
    if own.api_server_hosts().any(|server| server == host) {
        return refused("is the Kubernetes API server's");
    }
    Ok(())
}

impl OwnIdentity {
    /// Names and addresses of the API server without ports and brackets.
    fn api_server_hosts(&self) -> impl Iterator<Item = String> + '_ {
        self.api_server.iter().map(|entry| {
            let entry = entry
                .split_once("://")
                .map_or(entry.as_str(), |(_, rest)| rest);
            let entry = entry.split('/').next().unwrap_or_default();
            if let Ok(socket) = entry.parse::<SocketAddr>() {
                return socket.ip().to_string();
            }
            if entry.parse::<IpAddr>().is_ok() {
                return entry.to_owned();
            }
            let host = entry.rsplit_once(':').map_or(entry, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.trim_end_matches('.').to_ascii_lowercase()
        })
    }

    fn api_server_ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.api_server_hosts().filter_map(|host| host.parse().ok())
    }
}

/// The IPv4 address that an IPv6 address stands for (mapped, compatible,
/// NAT64, 6to4), or the address itself.
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => ip,
    }
}

fn is_unspecified(ip: IpAddr) -> bool {
    match ip {
        // The whole of 0.0.0.0/8 means "this host".
        IpAddr::V4(v4) => v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unspecified(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => METADATA_V6
            .iter()
            .any(|begin| v6.segments().starts_with(begin)),
    }
}
