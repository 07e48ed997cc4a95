//! Stopping, killing and restarting the parts of a ground, on one that nobody else uses.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{LONG, pods, stands_still_while_stopped};
use crate::control_plane::Part;
use crate::manifests;
use crate::process::Exit;
use crate::wait::wait_for;
use crate::{Ground, Options, VaultStorage};

pub(super) async fn second_ground(first: &Ground) -> Result<()> {
    let options = Options {
        crds: false,
        vault_storage: VaultStorage::File,
        ..Options::default()
    };
    let ground = Ground::start(options).await?;
    ensure!(
        ground.plane.url != first.plane.url && ground.dir() != first.dir(),
        "two grounds share something"
    );
    every_part_comes_back(&ground).await?;
    let vault = &ground.vault;
    vault.api.mount_kv2("kv").await?;
    vault.api.kv2_put("kv", "a", &json!({ "b": "c" })).await?;
    vault.seal().await?;
    ensure!(
        vault.api.read("kv/data/a").await.is_err(),
        "a sealed Vault gave out a secret"
    );
    // For a moment after each start a kv-v2 mount answers that it is being upgraded.
    let served = || wait_for("the mount", LONG, || vault.api.read("kv/data/a"));
    vault.unseal().await?;
    served().await?;
    vault.restart().await?;
    ensure!(
        served().await?["data"]["data"]["b"] == "c",
        "the restart lost the data"
    );
    let log = std::fs::read_to_string(&vault.access_log)?;
    ensure!(
        log.contains("sys/health"),
        "the access log holds no sys/health"
    );
    ensure!(
        std::fs::metadata(&vault.audit_log)?.len() > 0,
        "the audit log is empty"
    );
    let dir = ground.dir().to_owned();
    ground.stop().await?;
    ensure!(!dir.exists(), "{} was left", dir.display());
    Ok(())
}

/// Stops, continues, kills and restarts each part in turn; afterwards they work together as before.
async fn every_part_comes_back(ground: &Ground) -> Result<()> {
    for part in Part::ALL {
        let process = ground.plane.process(part).context("a fake node")?;
        stands_still_while_stopped(process).await?;
        let before = process.pid();
        process.kill();
        ensure!(
            process.wait().await == Exit::Signal(9),
            "{part:?} was not killed"
        );
        ground.plane.restart(part).await?;
        ensure!(
            process.is_running() && process.pid() != before,
            "{part:?} was not restarted"
        );
    }
    ground.plane.ready_for_pods(&ground.client).await?;
    let deployment = pods::manifest("after-restarts", 3).to_string();
    manifests::apply(&ground.client, "default", &deployment).await?;
    pods::ready(&ground.client, "default", "after-restarts", 3).await
}
