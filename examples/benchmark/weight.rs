//! Weight: the size of the shipped binary, and the memory of an operator that has nothing to do.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::judges::Memory;
use ground::resources::{config, prepare};
use ground::{Ground, Operator, OperatorBinary, Options, paths, wait_for};

use crate::table::Table;

/// Bytes of a megabyte (decimal, as in the product's promises).
const MB: f64 = 1e6;

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// How long its memory must stand still for the operator to count as idle.
const STILL: Duration = Duration::from_secs(5);

/// Builds the shipped binary, runs it for one tenant with a connection and a login and no secret, and weighs both.
pub async fn measure() -> Result<Table> {
    let binary = shipped_binary()?;
    let size = binary.path.metadata()?.len();
    let ground = Ground::start(Options::default()).await?;
    let memory = idle_memory(&ground, &binary).await;
    ground.stop().await?;
    let memory = memory?;
    let mut table = Table::default();
    table.limited("binary", "MB", size as f64 / MB, 12.0);
    table.limited("resident, idle", "MB", memory.resident as f64 / MB, 12.0);
    table.figure(
        "of it anonymous (the rest the kernel can take back)",
        "MB",
        memory.anonymous as f64 / MB,
    );
    Ok(table)
}

async fn idle_memory(ground: &Ground, binary: &OperatorBinary) -> Result<Memory> {
    let tenant = ground.tenant("weight").await?;
    prepare(&tenant).await?;
    let config = config(&tenant, "");
    let operator = tenant.operator(binary).config(&config).start().await?;
    operator.wait_ready(LONG).await?;
    still(&operator).await
}

/// The memory of the operator once it no longer changes.
async fn still(operator: &Operator) -> Result<Memory> {
    let pid = operator.process.pid();
    wait_for("the operator's memory to stand still", LONG, || async {
        let before = Memory::of(pid)?;
        tokio::time::sleep(STILL).await;
        let after = Memory::of(pid)?;
        ensure!(before == after, "it went from {before:?} to {after:?}");
        Ok(after)
    })
    .await
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
