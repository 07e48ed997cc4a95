//! Which requests a tenant's operator makes.

use super::{ApiFilter, VaultFilter};
use crate::tenant::{OPERATOR_ACCOUNT, Tenant};

impl Tenant {
    /// Requests to Vault that the tenant's operator makes.
    pub fn at_vault(&self) -> VaultFilter {
        VaultFilter::new().user_agent_contains(&format!("({})", self.namespace))
    }

    /// Those of them that read a secret.
    pub fn reads(&self) -> VaultFilter {
        let mounts = format!("{}-kv", self.namespace);
        self.at_vault().path_prefix(&mounts).operation("read")
    }

    /// Those of them that log in.
    pub fn logins(&self) -> VaultFilter {
        self.at_vault().path("auth/kubernetes/login")
    }

    /// Requests to the API server that the tenant's operator makes for its work.
    pub fn at_api(&self) -> ApiFilter {
        ApiFilter::service_account(&self.namespace, OPERATOR_ACCOUNT).without("leases")
    }

    /// Those that it makes to be allowed to work: leadership and claims.
    pub fn at_leases(&self) -> ApiFilter {
        ApiFilter::service_account(&self.namespace, OPERATOR_ACCOUNT).resource("leases")
    }
}
