//! Vault: requests, sessions and the classification of its answers. Accepts
//! only what `policy` permitted.

mod ports;

pub use ports::{Credentials, Endpoint, Reply, Token, Vault};
