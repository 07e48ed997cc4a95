//! Faults that a test puts between the operator and what it talks to.
//!
//! Everything here works from outside: a proxy on loopback takes the place of the API server or of Vault, so the binary
//! under test needs no hook. A fault touches only who was given the proxy's address; neighbours on the same ground never
//! notice. Tasks belong to the value that started them and end when it is dropped.

pub mod http;
pub mod killer;
pub mod pause;
pub mod sink;
pub mod tcp;
#[cfg(test)]
mod test_pki;

pub use http::{Answer, HttpProxy, Match, Record, RuleHandle};
pub use killer::KillPoint;
pub use pause::Pause;
pub use sink::Sink;
pub use tcp::TcpProxy;
