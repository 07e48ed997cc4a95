//! Judges: what really happened, read from the logs of the servers, from the cluster and from the process itself.
//!
//! A judge never trusts what the operator says about itself, and changes nothing. What it can't read is an error, never
//! "nothing found": a test that relies on silence must not pass because a file was missing.

pub mod api_audit;
mod arrivals;
pub mod bindings;
pub mod canary;
mod follow;
pub mod memory;
mod of_tenant;
pub mod role_use;
pub mod vault_access;
pub mod vault_audit;
pub mod workloads;

pub use api_audit::{ApiAudit, ApiFilter, ApiRequest};
pub use arrivals::Arrivals;
pub use canary::Canary;
pub use follow::{Log, Mark};
pub use memory::Memory;
pub use role_use::RoleUse;
pub use vault_access::{AccessFilter, AccessLog};
pub use vault_audit::{VaultAudit, VaultFilter};
