//! Weight: the size of the shipped binary, and the memory of an operator that has nothing to do.

use anyhow::Result;

use crate::bench::Bench;
use crate::load::{MB, at_rest, tell_memory};
use crate::site::Site;
use crate::table::{Bound, Table};

/// Weighs the binary and an operator of one tenant with a connection and a login and no secret.
pub async fn measure(bench: &Bench, table: &mut Table) -> Result<()> {
    let size = bench.binary.path.metadata()?.len();
    table.one("binary", "MB", size as f64 / MB, Bound::Limit(12.0));
    let site = Site::make(bench, "weight", 0, "1h").await?;
    let operator = site.operator(bench, "{}").await?;
    let memory = at_rest(&operator).await?;
    tell_memory(table, "idle", memory, Bound::Limit(12.0));
    Ok(())
}
