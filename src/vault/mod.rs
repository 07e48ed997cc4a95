//! Vault: requests, sessions and the classification of its answers. Accepts
//! only what `policy` permitted.
//!
//! ```text
//! session   one token for each login, shared; renewed, logged in again   (over the ports)
//!   └─ ports     login, renew, read, health; credentials
//!        └─ http      vaultrs over one client a connection: budget, redirects, classification
//!             └─ transport, channel, resolver      limits, TLS, addresses
//! ```

mod authority;
mod budget;
mod channel;
mod classify;
mod http;
mod life;
mod ports;
mod requests;
mod resolver;
mod session;
mod sessions;
mod transport;

#[cfg(test)]
mod tests;

pub use budget::Limits;
pub(crate) use classify::object;
pub use http::{HttpVault, RedirectRule, RequestObserver, TravelRules};
pub use life::CertainEnd;
pub use ports::{Credentials, Endpoint, Lease, Reply, Task, Token, Upkeep, Vault};
#[doc(hidden)] // For fuzz/paths.rs: what goes out.
pub use requests::target;
pub use resolver::AddressRule;
pub use sessions::{Life, LoginObserver, LoginOutcome, Retired, Sessions};
