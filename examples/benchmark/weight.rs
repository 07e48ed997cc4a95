//! Weight: the size of the shipped binary, and the memory of an operator that has nothing to do, or nothing but leases to
//! renew one day.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ground::engines::PkiRole;
use ground::resources::{prepare, resources};
use ground::{Right, wait_for};
use kube::api::{DynamicObject, PostParams};
use serde_json::json;

use crate::bench::Bench;
use crate::load::{MB, at_rest, tell_memory};
use crate::site::{LONG, Site, UNLIMITED};
use crate::table::{Bound, Table};

/// How many resources are made at a time.
const AT_ONCE: usize = 16;

/// The kind whose content is leased.
const LEASED: &str = "VaultDynamicSecret";

/// Weighs the binary, an operator of one tenant with a connection and a login and no secret, and one with so many leases.
pub async fn measure(bench: &Bench, table: &mut Table, leases: usize) -> Result<()> {
    let size = bench.binary.path.metadata()?.len();
    table.one("binary", "MB", size as f64 / MB, Bound::Limit(12.0));
    let site = Site::make(bench, "weight", 0, "1h").await?;
    let operator = site.operator(bench, "{}").await?;
    let memory = at_rest(&operator).await?;
    tell_memory(table, "idle", memory, Bound::Goal(9.0), Bound::Limit(2.5));
    with_leases(bench, table, leases).await
}

/// An operator that holds so many leases, none of them due: of certificates with a key on a curve, which Vault makes in a
/// millisecond.
async fn with_leases(bench: &Bench, table: &mut Table, leases: usize) -> Result<()> {
    let tenant = bench.ground.tenant("leases").await?;
    prepare(&tenant).await?;
    let engine = tenant
        .pki_engine(Duration::from_secs(7 * 24 * 3600))
        .await?;
    let role = PkiRole {
        ttl: Duration::from_secs(24 * 3600),
        generate_lease: true,
        ..PkiRole::default()
    };
    let path = engine.role("leased", &role).await?;
    tenant.grant(&[&path], &Right::ALL).await?;
    let kind = resources(&tenant, LEASED);
    let make = async |number: usize| {
        let name = Site::name(number);
        let manifest = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": LEASED,
            "metadata": { "name": name },
            "spec": {
                "mount": engine.mount, "path": "issue/leased", "params": { "common_name": "web.test" },
                "destination": { "name": name, "create": true },
            },
        });
        let object: DynamicObject = serde_json::from_value(manifest)?;
        kind.create(&PostParams::default(), &object).await?;
        anyhow::Ok(())
    };
    futures::stream::iter(0..leases)
        .map(make)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let site = Site {
        tenant,
        resources: leases,
    };
    let operator = site.operator(bench, UNLIMITED).await?;
    wait_for("all leases", LONG, || async {
        let ready = site.count_ready_of(LEASED, "True").await?;
        ensure!(ready == leases, "{ready} of {leases}");
        Ok(())
    })
    .await?;
    let memory = at_rest(&operator).await?;
    let metrics = operator.metrics().await?;
    let held = format!("vto_leases_held {leases}");
    ensure!(metrics.contains(&held), "not {held}");
    let goal = Bound::goal_if(leases == 1_000, 16.0);
    let what = format!("{leases} leases");
    tell_memory(table, &what, memory, goal, Bound::None);
    Ok(())
}
