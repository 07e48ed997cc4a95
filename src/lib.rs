//! The vault-tenant-operator.

pub mod api;
