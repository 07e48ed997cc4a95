//! What an operator takes of the machine: memory and processor time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::judges::Memory;
use ground::{Operator, wait_for};

use crate::table::{Bound, Table};

/// Bytes of a megabyte (decimal, as in the product's promises).
pub const MB: f64 = 1e6;

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// How long an operator must do next to nothing to be at rest.
const STILL: Duration = Duration::from_secs(3);

/// What the renewals of its Leases may take meanwhile.
const NEXT_TO_NOTHING: f64 = 0.03;

/// Ticks a second of the times in `/proc` (`USER_HZ`, the same on all of Linux' common platforms).
const TICKS: f64 = 100.0;

/// Processor time of a process since its start, user and system, in seconds.
pub fn processor_time(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The second field is the name, in parentheses; 14 and 15 are the times, see proc(5).
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || anyhow::Ok(times.next().context("no time")?.parse::<f64>()?);
    Ok((next()? + next()?) / TICKS)
}

/// Waits until the operator has nothing to do; then its memory.
pub async fn at_rest(operator: &Operator) -> Result<Memory> {
    let pid = operator.process.pid();
    wait_for("the operator to come to rest", LONG, || async {
        let before = processor_time(pid)?;
        tokio::time::sleep(STILL).await;
        let took = processor_time(pid)? - before;
        ensure!(took <= NEXT_TO_NOTHING, "it worked for {took:.2} s");
        Memory::of(pid)
    })
    .await
}

/// Resident memory with its parts, each against its bound. How many pages of the binary are in memory is up to the kernel,
/// and differs by some 0.4 MB from run to run: a limit is for the anonymous part, and for the size of the binary.
pub fn tell_memory(
    table: &mut Table,
    when: &str,
    memory: Memory,
    resident: Bound,
    anonymous: Bound,
) {
    let mb = |bytes: u64| bytes as f64 / MB;
    table.one(
        format!("resident, {when}"),
        "MB",
        mb(memory.resident),
        resident,
    );
    table.one(
        "  of it anonymous (the rest the kernel can take back)",
        "MB",
        mb(memory.anonymous),
        anonymous,
    );
    table.one("  at its peak", "MB", mb(memory.peak), Bound::None);
}
