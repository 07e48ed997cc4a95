//! What all measurements stand on: one ground, the shipped operator, and the logs that count requests.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ground::judges::{ApiAudit, VaultAudit};
use ground::{Ground, OperatorBinary, Options, paths};

/// A running ground and the operator as it is shipped.
pub struct Bench {
    /// Control plane and Vault.
    pub ground: Ground,
    /// The operator, built with the profile `dist`.
    pub binary: OperatorBinary,
    /// All requests to the API server.
    pub api: ApiAudit,
    /// All requests to Vault.
    pub vault: VaultAudit,
}

impl Bench {
    /// Builds the operator and starts the ground.
    pub async fn start() -> Result<Self> {
        let binary = shipped_binary()?;
        let ground = Ground::start(Options::default()).await?;
        Ok(Self {
            api: ApiAudit::new(&ground.plane.audit_log),
            vault: VaultAudit::new(&ground.vault.audit_log),
            ground,
            binary,
        })
    }
}

/// Builds the operator as it is shipped: alone, so that no test's features come in.
fn shipped_binary() -> Result<OperatorBinary> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(paths::repository())
        .args(["build", "--profile", "dist", "--message-format=json"])
        .args(["--package", "vault-tenant-operator"])
        .args(["--bin", "vault-tenant-operator"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can't be started")?;
    ensure!(built.status.success(), "the operator does not compile");
    let path = String::from_utf8(built.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .context("cargo names no program that it built")?;
    Ok(OperatorBinary {
        path,
        args_prefix: Vec::new(),
    })
}
