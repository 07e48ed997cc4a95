//! A TCP proxy that delays, cuts, freezes or refuses what passes through it.
//!
//! It knows no protocol, so TLS stays end to end between client and upstream. Every change takes effect on live
//! connections too. Bytes are never changed, dropped or reordered: a connection is whole, frozen, or reset.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The most bytes read in one piece; [`TcpProxy::delay`] holds each piece.
const PIECE: usize = 64 * 1024;

/// How long the port may take to become ours again when it stops listening.
const RESERVED_WITHIN: Duration = Duration::from_secs(5);

/// What the proxy does to traffic right now.
#[derive(Clone, Copy, Default)]
struct Mode {
    delay: Duration,
    frozen: bool,
    refusing: bool,
    /// Raised by each cut: connections older than the present value are reset.
    cuts: u64,
}

/// What passed through a [`TcpProxy`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub live: usize,
    /// Bytes that went from clients to the upstream.
    pub sent: u64,
    /// Bytes that went from the upstream to clients.
    pub received: u64,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    live: AtomicUsize,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A proxy from a free port on 127.0.0.1 to one upstream address. Dropping it closes its connections and frees the port.
pub struct TcpProxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
}

impl TcpProxy {
    /// Starts in front of `upstream`, which need not listen yet.
    ///
    /// # Errors
    /// When no port on 127.0.0.1 can be had.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("the TCP proxy found no free port on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let mode = watch::Sender::new(Mode::default());
        let counters = Arc::new(Counters::default());
        let accepting = tokio::spawn(accept(
            Gate::Open(listener),
            address,
            upstream,
            mode.subscribe(),
            counters.clone(),
        ));
        Ok(Self {
            address,
            mode,
            counters,
            accepting,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds every piece of data (up to 64 KiB) this long, in each direction: a round trip takes twice as long.
    /// Zero ends it, also for what is being held.
    pub fn delay(&self, delay: Duration) {
        self.mode.send_modify(|mode| mode.delay = delay);
    }

    /// Resets all live connections now; new ones are served.
    pub fn cut(&self) {
        self.mode.send_modify(|mode| mode.cuts += 1);
    }

    /// While on, connections are accepted and their bytes taken, but nothing is answered, and live connections freeze,
    /// as behind a network that loses every packet. Off: all of them go on where they stopped, with nothing lost.
    pub fn blackhole(&self, on: bool) {
        self.mode.send_modify(|mode| mode.frozen = on);
    }

    /// Refuses new connections and resets the live ones, as if the upstream's process had been killed. The port stays ours.
    pub fn refuse(&self) {
        self.mode.send_modify(|mode| {
            mode.refusing = true;
            mode.cuts += 1;
        });
    }

    /// Ends every fault; frozen connections go on.
    pub fn back_to_normal(&self) {
        self.mode.send_modify(|mode| {
            *mode = Mode {
                cuts: mode.cuts,
                ..Mode::default()
            }
        });
    }

    /// What passed through so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            accepted: self.counters.accepted.load(Ordering::Relaxed),
            live: self.counters.live.load(Ordering::Relaxed),
            sent: self.counters.sent.load(Ordering::Relaxed),
            received: self.counters.received.load(Ordering::Relaxed),
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The listening end: a socket that is bound but doesn't listen refuses connections and keeps its port from others.
enum Gate {
    Open(TcpListener),
    Shut(TcpSocket),
    Moving,
}

impl Gate {
    async fn set(&mut self, address: SocketAddr, refusing: bool) -> io::Result<()> {
        *self = match std::mem::replace(self, Gate::Moving) {
            Gate::Shut(socket) if !refusing => Gate::Open(socket.listen(1024)?),
            Gate::Open(listener) if refusing => {
                drop(listener);
                Gate::Shut(reserve(address).await?)
            }
            same => same,
        };
        Ok(())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Gate::Open(listener) => Ok(listener.accept().await?.0),
            Gate::Shut(_) | Gate::Moving => std::future::pending().await,
        }
    }
}

/// Binds without listening. A child that this process is just starting holds a copy of the closed listener until its
/// exec; so long the address counts as in use.
async fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let start = Instant::now();
    loop {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && start.elapsed() < RESERVED_WITHIN =>
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            bound => return bound.map(|()| socket),
        }
    }
}

async fn accept(
    mut gate: Gate,
    address: SocketAddr,
    upstream: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    loop {
        let refusing = mode.borrow_and_update().refusing;
        if let Err(error) = gate.set(address, refusing).await {
            tracing::error!(%address, %error, "the TCP proxy lost its port");
            return;
        }
        tokio::select! {
            accepted = gate.accept() => match accepted {
                Ok(client) => {
                    counters.accepted.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(carry(client, upstream, mode.clone(), counters.clone()));
                }
                Err(error) => tracing::warn!(%error, "the TCP proxy could not accept a connection"),
            },
            changed = mode.changed() => if changed.is_err() { return },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection as live for as long as it exists, also when its task is aborted.
struct Live(Arc<Counters>);

impl Live {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.live.fetch_add(1, Ordering::Relaxed);
        Self(counters.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Carries one connection until both sides are done, one breaks, or a cut resets it.
async fn carry(
    mut client: TcpStream,
    upstream: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    counters: Arc<Counters>,
) {
    let live = Live::new(&counters);
    let born = mode.borrow_and_update().cuts;
    let mut server = None;
    let ended_well = tokio::select! {
        result = through(&mut client, &mut server, upstream, mode.clone(), &counters) => result.is_ok(),
        _ = mode.wait_for(|mode| mode.cuts != born) => false,
    };
    // Counted out first: who sees the end must find it gone from the count.
    drop(live);
    if !ended_well {
        reset(&client);
        server.iter().for_each(reset);
    }
}

async fn through(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    upstream: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    counters: &Counters,
) -> io::Result<()> {
    if mode.wait_for(|mode| !mode.frozen).await.is_err() {
        return Ok(()); // The proxy is gone.
    }
    let server = server.insert(TcpStream::connect(upstream).await?);
    both_ways(client, server, &mode, counters).await
}

/// Makes the close that follows a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection could not be set to reset");
    }
}

async fn both_ways(
    client: &mut TcpStream,
    server: &mut TcpStream,
    mode: &watch::Receiver<Mode>,
    counters: &Counters,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(from_client, to_server, mode.clone(), &counters.sent),
        pump(from_server, to_client, mode.clone(), &counters.received),
    )?;
    Ok(())
}

/// Moves bytes one way, obeying freeze and delay before each piece.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        held(&mut mode, Instant::now()).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..read]).await?;
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Returns once nothing is frozen and the delay since `arrived`, as it is set by then, has passed.
async fn held(mode: &mut watch::Receiver<Mode>, arrived: Instant) {
    loop {
        let now = *mode.borrow_and_update();
        let due = arrived + now.delay;
        if !now.frozen && due <= Instant::now() {
            return;
        }
        tokio::select! {
            () = sleep_until(due), if !now.frozen => {}
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
