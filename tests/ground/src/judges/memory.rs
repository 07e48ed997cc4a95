//! How much memory a process takes, as the kernel counts it.
//!
//! `resident` includes file pages of the binary, which the kernel can take back; `anonymous` is what the process itself
//! asked for and filled. Linux only; the process must be the caller's own.

use std::fs;

use anyhow::{Context, Result, anyhow};

/// Memory of one process at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident set size.
    pub resident: u64,
    /// The part of it that no file backs.
    pub anonymous: u64,
    /// Proportional set size: pages shared with other processes count by their share.
    pub proportional: u64,
    /// The highest resident set size since the start, or since [`Memory::reset_peak`].
    pub peak: u64,
}

impl Memory {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When there is no such process (any more), or it belongs to someone else.
    pub fn of(pid: u32) -> Result<Self> {
        let rollup = read(pid, "smaps_rollup")?;
        let status = read(pid, "status")?;
        let resident = kilobytes(&rollup, "Rss")?;
        Ok(Self {
            resident,
            anonymous: kilobytes(&rollup, "Anonymous")?,
            proportional: kilobytes(&rollup, "Pss")?,
            // The kernel counts the peak in batches for each CPU: it can lag behind.
            peak: kilobytes(&status, "VmHWM")?.max(resident),
        })
    }

    /// Sets the peak back to what is resident now.
    ///
    /// # Errors
    /// As for [`Memory::of`].
    pub fn reset_peak(pid: u32) -> Result<()> {
        // 5: reset the high water mark, see proc(5).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .with_context(|| format!("the peak of process {pid}"))
    }
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| {
        format!("the memory of process {pid} can't be read; is it still there, and ours?")
    })
}

/// The value of a line such as `Rss:  7124 kB`, in bytes.
fn kilobytes(text: &str, field: &str) -> Result<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(
        kilobytes.ok_or_else(|| anyhow!("the kernel shows no {field}; has the process ended?"))?
            * 1024,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// What the test takes, and the part of it that must show, whatever other tests of this process free meanwhile.
    const BLOCK: u64 = 192 * MIB;
    const SHOWS: u64 = BLOCK / 2;

    #[test]
    fn sees_what_this_process_takes() {
        let pid = std::process::id();
        let before = Memory::of(pid).unwrap();
        let block = std::hint::black_box(vec![1_u8; usize::try_from(BLOCK).unwrap()]);
        let during = Memory::of(pid).unwrap();
        assert!(
            during.resident >= before.resident + SHOWS,
            "{before:?} {during:?}"
        );
        assert!(
            during.anonymous >= before.anonymous + SHOWS,
            "{before:?} {during:?}"
        );
        assert!(during.peak >= during.resident, "{during:?}");
        drop(block);
        let after = Memory::of(pid).unwrap();
        assert!(
            after.resident + SHOWS <= during.resident,
            "{during:?} {after:?}"
        );
        assert!(after.peak >= after.resident + SHOWS, "{during:?} {after:?}");
        Memory::reset_peak(pid).unwrap();
        let reset = Memory::of(pid).unwrap();
        assert!(reset.peak + SHOWS <= during.peak, "{during:?} {reset:?}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = Memory::of(child.id()).unwrap_err();
        assert!(error.to_string().contains("is it still there"), "{error:#}");
    }
}
