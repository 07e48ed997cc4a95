//! The API server's certificate comes from another CA, and the operator's pod goes on as it is.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ground::wait_for;

use crate::site::{LONG, Site};
use crate::tenancy::Tenancy;

crate::trials!["authority": it_outlives_the_authority_of_the_api_server];

/// Where every pod has the CAs that it trusts at the API server.
const ROOTS: &str = "var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// In the order in which a CA is replaced (<https://kubernetes.io/docs/tasks/tls/manual-rotation-of-ca-certificates/>):
/// first everybody trusts both, then the server changes, then the first is trusted no more.
async fn it_outlives_the_authority_of_the_api_server(site: &Site) -> Result<()> {
    let tenancy = Tenancy::start(site, "trusting").await?;
    let before = tenancy.operator().await?;
    let uid = before.metadata.uid.clone().context("no uid")?;
    let processes = site.node()?.processes_of(&uid, "vault-tenant-operator");
    let process = *processes.first().context("no process")?;
    let plane = &site.ground.plane;
    let pki = &site.ground.pki;
    let trusts = async |pem: &str| {
        plane.publish_roots(pem).await?;
        wait_for("the kubelet to tell the operator's pod", LONG, || async {
            let held = std::fs::read_to_string(format!("/proc/{process}/root/{ROOTS}"))?;
            ensure!(held == pem, "not yet");
            Ok(())
        })
        .await
    };
    trusts(&pki.trust_pem()).await?;
    let begun = Instant::now();
    plane.change_authority(pki).await?;
    tenancy.comes_back("another authority", begun).await?;
    trusts(&pki.successor_pem).await?;
    let begun = Instant::now();
    // Everybody has to look at the certificate again.
    plane
        .restart(ground::control_plane::Part::ApiServer)
        .await?;
    tenancy
        .comes_back("the first authority trusted no more", begun)
        .await?;
    let after = tenancy.operator().await?;
    let statuses = after.status.and_then(|status| status.container_statuses);
    let statuses = statuses.unwrap_or_default();
    ensure!(
        after.metadata.uid == Some(uid) && statuses.iter().all(|one| one.restart_count == 0),
        "{statuses:?}"
    );
    Ok(())
}
