//! The vault-tenant-operator.
