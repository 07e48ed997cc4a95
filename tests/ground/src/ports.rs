//! Free ports on loopback, and starting a program that listens on them.
//!
//! A port that is free when it is chosen can be taken before the program binds it; then the program says so and is
//! started again with others. Nothing here reserves a port.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Process, Spec};

/// How often other ports are tried.
const ATTEMPTS: usize = 5;

/// `N` different ports that are free now.
///
/// # Errors
/// The system has no free port.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held before the first is given back: so they differ.
    let listeners: [Result<TcpListener, std::io::Error>; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        let listener = listener.context("no free port on 127.0.0.1")?;
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Starts a program on `N` free ports and waits until `probe` answers; tries other ports when it finds them taken.
///
/// # Errors
/// The program can't be started, ends, or isn't ready within the time.
pub async fn start_on_free_ports<const N: usize, T, Fut>(
    within: Duration,
    spec: impl Fn([u16; N]) -> Result<Spec>,
    probe: impl Fn([u16; N]) -> Fut,
) -> Result<(Process, [u16; N])>
where
    Fut: Future<Output = Result<T>>,
{
    let mut attempt = 1;
    loop {
        let ports = free_ports()?;
        let spec = spec(ports)?;
        // The log is continued by each start: only what comes now speaks of these ports.
        let before = std::fs::read(&spec.log).map_or(0, |log| log.len());
        let process = Process::start(spec).await?;
        match process.ready(within, || probe(ports)).await {
            Ok(_) => return Ok((process, ports)),
            Err(error) if !found_port_taken(&process, before) => return Err(error),
            Err(error) if attempt == ATTEMPTS => {
                return Err(error.context(format!(
                    "{} found its ports taken {ATTEMPTS} times, though they were free when they were chosen: end what \
                     takes ports of 127.0.0.1 one after another, or widen net.ipv4.ip_local_port_range, then run again",
                    process.name()
                )));
            }
            Err(error) => {
                tracing::debug!(
                    process = process.name(),
                    ?error,
                    "port taken, trying another"
                );
                attempt += 1;
            }
        }
    }
}

/// Whether the program ended because of a port, by what its log holds after the first `before` bytes.
fn found_port_taken(process: &Process, before: usize) -> bool {
    let log = std::fs::read(process.log()).unwrap_or_default();
    let lines = String::from_utf8_lossy(log.get(before..).unwrap_or_default()).to_lowercase();
    !process.is_running()
        && [
            "address already in use",
            "is taken by another process",
            "address in use",
            "addrinuse",
        ]
        .iter()
        .any(|sign| lines.contains(sign))
}
