//! What the process takes, under the names that all of Prometheus' clients use
//! ("Writing client libraries", process metrics), so without a prefix. Read from
//! `/proc` (proc(5)) when somebody asks; where that is not there, nothing is told.

use std::fmt;
use std::fs;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Ticks in a second of the times in `/proc`: `USER_HZ`, the same on all platforms
/// that Linux shares its common interface with.
const TICKS: f64 = 100.0;

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    started: Timestamp,
}

impl Process {
    /// It has just started.
    pub(super) fn starting() -> Self {
        Self {
            started: Timestamp::now(),
        }
    }
}

/// Bytes of a line of `/proc/self/status` that is in kB.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Seconds of processor time, user and system, of a line like that of `/proc/self/stat`.
fn processor(stat: &str) -> Option<f64> {
    // The second field is the name, in parentheses; 14 and 15 are the times.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS)
}

/// The soft limit of open files, of `/proc/self/limits`; `None` where there is none.
fn most_files(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    value: Option<&impl EncodeMetric>,
) -> Result<(), fmt::Error> {
    let Some(value) = value else {
        return Ok(());
    };
    value.encode(encoder.encode_descriptor(name, help, unit, value.metric_type())?)
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        let Some(status) = read("status") else {
            return Ok(());
        };
        let gauge = |value: u64| ConstGauge::new(value);
        let size = |name| bytes(&status, name).map(gauge);
        tell(
            &mut encoder,
            (
                "process_resident_memory",
                "Memory of the process that is resident",
            ),
            Some(&Unit::Bytes),
            size("VmRSS:").as_ref(),
        )?;
        tell(
            &mut encoder,
            (
                "process_virtual_memory",
                "Addresses that the process has mapped",
            ),
            Some(&Unit::Bytes),
            size("VmSize:").as_ref(),
        )?;
        let processor = read("stat").and_then(|stat| processor(&stat));
        tell(
            &mut encoder,
            (
                "process_cpu",
                "Processor time of the process, user and system",
            ),
            Some(&Unit::Seconds),
            processor.map(ConstCounter::new).as_ref(),
        )?;
        // The folder is itself open while it is read.
        let open = fs::read_dir("/proc/self/fd").map(|open| open.count().saturating_sub(1));
        let open = open.ok().and_then(|open| u64::try_from(open).ok());
        tell(
            &mut encoder,
            (
                "process_open_fds",
                "File descriptors that the process has open",
            ),
            None,
            open.map(gauge).as_ref(),
        )?;
        let most = read("limits").and_then(|limits| most_files(&limits));
        tell(
            &mut encoder,
            (
                "process_max_fds",
                "File descriptors that the process may have open",
            ),
            None,
            most.map(gauge).as_ref(),
        )?;
        tell(
            &mut encoder,
            ("process_start_time", "When the process started"),
            Some(&Unit::Seconds),
            Some(&ConstGauge::new(self.started.as_second())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read_as_proc_5_writes_it() {
        let status = "Name:\tvto\nVmPeak:\t   99 kB\nVmSize:\t   20 kB\nVmRSS:\t       3 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(3 * 1024));
        assert_eq!(bytes(status, "VmSize:"), Some(20 * 1024));
        assert_eq!(bytes("Name:\tvto\n", "VmRSS:"), None);
        let stat = "7 (a) b c) S 1 7 7 0 -1 4194560 9 0 0 0 150 25 0 0 20 0 3 0 9";
        assert_eq!(processor(stat), Some(1.75));
        assert_eq!(processor("7 (a"), None);
        let limits = |soft: &str| {
            most_files(&format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax open files  {soft}  4096  files\n"
            ))
        };
        assert_eq!(limits("1024"), Some(1024));
        assert_eq!(limits("unlimited"), None);
    }
}
