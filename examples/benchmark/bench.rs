//! What all measurements stand on: one ground, the shipped operator, and the logs that count requests.

use anyhow::Result;
use ground::judges::{ApiAudit, VaultAudit};
use ground::{Ground, OperatorBinary, Options, shipped};

/// A running ground and the operator as it is shipped.
pub struct Bench {
    /// Control plane and Vault.
    pub ground: Ground,
    /// The operator as it is shipped.
    pub binary: OperatorBinary,
    /// All requests to the API server.
    pub api: ApiAudit,
    /// All requests to Vault.
    pub vault: VaultAudit,
}

impl Bench {
    /// Builds the operator and starts the ground.
    pub async fn start() -> Result<Self> {
        let binary = OperatorBinary {
            path: shipped::Sources::present().build()?,
            args_prefix: Vec::new(),
        };
        let ground = Ground::start(Options::default()).await?;
        Ok(Self {
            api: ApiAudit::new(&ground.plane.audit_log),
            vault: VaultAudit::new(&ground.vault.audit_log),
            ground,
            binary,
        })
    }
}
