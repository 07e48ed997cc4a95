//! The vault-tenant-operator: syncs secrets from HashiCorp Vault into the
//! Kubernetes Secrets of one tenant, by a Role alone.

pub mod api;
pub mod cli;
pub mod config;
pub mod key;
pub mod kubectl;
pub mod operator;
pub mod policy;
pub mod problem;
pub mod reconcile;
pub mod render;
pub mod rights;
pub mod telemetry;
pub mod vault;

/// The commit that this was built from, as whoever built it says in the variable `VTO_REVISION`.
pub const REVISION: &str = match option_env!("VTO_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

// The fuzz target and a unit test share a file, which names this crate from outside.
#[cfg(test)]
extern crate self as vault_tenant_operator;
