//! The node restarts, and with it every pod at once.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::site::Site;
use crate::site::installation::address;
use crate::troubles::Tenancy;

crate::trials!["power": after_a_restart_of_its_node_nothing_has_rotated];

async fn after_a_restart_of_its_node_nothing_has_rotated(site: &Site) -> Result<()> {
    let tenancy = Tenancy::start(site, "restarted-node").await?;
    let before = tenancy.installation.rolled_out("app", 1).await?;
    let begun = Instant::now();
    site.node()?.power_cycle().await?;
    tenancy.comes_back("node restarted", begun).await?;
    // The same pod object: nobody made another.
    let after = tenancy.installation.rolled_out("app", 1).await?;
    let [before, after] = [&before[0], &after[0]];
    ensure!(before.metadata.uid == after.metadata.uid, "another pod");
    let restarts = after.status.as_ref().and_then(|status| {
        let container = status.container_statuses.as_ref()?.first()?;
        Some(container.restart_count)
    });
    let restarts = restarts.context("no container")?;
    ensure!(restarts > 0, "its container was not started again");
    println!("the application is back at {}", address(after)?);
    Ok(())
}
