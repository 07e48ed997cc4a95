//! What happens to a whole node: it runs short of something and evicts pods, or it restarts and with it every pod at once.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ground::wait_for;

use crate::site::installation::address;
use crate::site::{LONG, Site};
use crate::tenancy::Tenancy;

crate::trials![
    "power": after_an_eviction_by_its_node_nothing_has_rotated,
    after_a_restart_of_its_node_nothing_has_rotated,
];

async fn after_an_eviction_by_its_node_nothing_has_rotated(site: &Site) -> Result<()> {
    let tenancy = Tenancy::start(site, "evicted").await?;
    let pod = tenancy.operator().await?;
    let name = pod.metadata.name.as_deref().context("no name")?;
    let node = site.node()?;
    node.short_of_processes(true).await?;
    wait_for("the kubelet to evict the operator", LONG, || async {
        let pod = tenancy.pods().get(name).await?;
        let status = pod.status.unwrap_or_default();
        // Which of the two depends on whether it ended before the kubelet wrote why.
        let evicted = status.reason.as_deref() == Some("Evicted");
        let over = status.phase.as_deref() == Some("Succeeded");
        ensure!(evicted || over, "{status:?}");
        Ok(())
    })
    .await?;
    // The next pod has no node to go to until then.
    let begun = Instant::now();
    node.short_of_processes(false).await?;
    tenancy.comes_back("evicted by its node", begun).await
}

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
