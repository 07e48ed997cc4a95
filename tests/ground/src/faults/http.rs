//! An HTTP proxy in front of the API server or Vault that records every request and meets chosen ones with a fault.
//!
//! It ends the client's TLS with a certificate of the ground's, and speaks TLS to the upstream on 127.0.0.1. Bodies stream
//! both ways, so watches work; headers pass unchanged. HTTP/1.1 only: no HTTP/2, no upgrades (exec, WebSocket), no client
//! certificates. One upstream connection serves each client connection, as if there were no proxy.

mod answer;
mod record;
mod rules;
mod serve;
mod tap;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::tls;
pub use answer::Answer;
pub(in crate::faults) use answer::Hook;
pub use record::{CAPTURE_LIMIT, Mark, Outcome, Record};
pub use rules::{Match, RuleBuilder, RuleHandle};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Where requests go that no rule answers.
struct Upstream {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// What the proxy's tasks share with its handle.
struct Shared {
    upstream: Option<Upstream>,
    acceptor: Option<TlsAcceptor>,
    capture: bool,
    connections: AtomicU64,
    rules: rules::Rules,
    log: Arc<record::Log>,
}

/// How a proxy is to be; begun by [`HttpProxy::builder`].
#[derive(Default)]
pub struct Builder {
    server: Option<(String, String)>,
    upstream: Option<(SocketAddr, Option<String>)>,
    capture: bool,
}

impl Builder {
    /// Serve by TLS with this certificate (leaf first) and key; without it, plain HTTP. Clients connect to 127.0.0.1, so
    /// the certificate must name that address.
    #[must_use]
    pub fn tls(mut self, cert_pem: impl Into<String>, key_pem: impl Into<String>) -> Self {
        self.server = Some((cert_pem.into(), key_pem.into()));
        self
    }

    /// Forward to this address by TLS, trusting this CA for the name 127.0.0.1.
    #[must_use]
    pub fn upstream_tls(mut self, address: SocketAddr, ca_pem: impl Into<String>) -> Self {
        self.upstream = Some((address, Some(ca_pem.into())));
        self
    }

    /// Forward to this address by plain HTTP. With no upstream at all, what no rule answers gets a 404.
    #[must_use]
    pub fn upstream_plain(mut self, address: SocketAddr) -> Self {
        self.upstream = Some((address, None));
        self
    }

    /// Keep bodies in the records, each up to [`CAPTURE_LIMIT`].
    #[must_use]
    pub fn capture_bodies(mut self) -> Self {
        self.capture = true;
        self
    }

    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When a PEM text is unusable or no port can be had.
    pub async fn start(self) -> Result<HttpProxy> {
        let acceptor = self
            .server
            .map(|(cert, key)| tls::acceptor(&cert, &key))
            .transpose()?;
        let upstream = match self.upstream {
            Some((address, ca)) => Some(Upstream {
                address,
                tls: ca.map(|ca| tls::connector(&ca)).transpose()?,
            }),
            None => None,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("the HTTP proxy found no free port on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            acceptor,
            capture: self.capture,
            connections: AtomicU64::new(0),
            rules: rules::Rules::default(),
            log: Arc::default(),
        });
        let accepting = tokio::spawn(serve::accept(listener, shared.clone()));
        Ok(HttpProxy {
            address,
            shared,
            accepting,
        })
    }
}

/// The proxy. Dropping it closes its connections and frees the port.
pub struct HttpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl HttpProxy {
    /// A proxy that, as it is, serves plain HTTP and forwards nowhere.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL, with the scheme that is served.
    pub fn url(&self) -> String {
        let scheme = if self.shared.acceptor.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// Begins a rule for the requests that match.
    pub fn on(&self, matcher: Match) -> RuleBuilder {
        RuleBuilder {
            shared: self.shared.clone(),
            matcher,
            limit: None,
            lasts: None,
        }
    }

    /// Ends every rule; all is forwarded again.
    pub fn back_to_normal(&self) {
        self.shared.rules.remove_all();
    }

    /// TCP connections accepted since the start, also those that never became a TLS session or a request.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The present place in the order of requests.
    pub fn mark(&self) -> Mark {
        self.shared.log.mark()
    }

    /// All requests that match, oldest first.
    pub fn requests(&self, matcher: &Match) -> Vec<Record> {
        self.requests_since(Mark::default(), matcher)
    }

    /// Those that arrived since a mark.
    pub fn requests_since(&self, mark: Mark, matcher: &Match) -> Vec<Record> {
        self.shared.log.matching(matcher, mark)
    }

    /// How many requests match.
    pub fn count(&self, matcher: &Match) -> usize {
        self.requests(matcher).len()
    }

    /// Waits until at least `n` matching requests have arrived, and returns them. They may still be running.
    ///
    /// # Errors
    /// After `deadline`, with the last requests that were seen.
    pub async fn wait_for(
        &self,
        matcher: &Match,
        n: usize,
        deadline: Duration,
    ) -> Result<Vec<Record>> {
        self.wait_until(matcher, n, deadline, |_| true).await
    }

    /// Waits until at least `n` matching requests have ended, and returns those.
    ///
    /// # Errors
    /// After `deadline`, with the last requests that were seen.
    pub async fn wait_for_end(
        &self,
        matcher: &Match,
        n: usize,
        deadline: Duration,
    ) -> Result<Vec<Record>> {
        self.wait_until(matcher, n, deadline, |record| {
            record.outcome != Outcome::Running
        })
        .await
    }

    async fn wait_until(
        &self,
        matcher: &Match,
        n: usize,
        deadline: Duration,
        counts: impl Fn(&Record) -> bool,
    ) -> Result<Vec<Record>> {
        let look = |log: &record::Log| {
            let found: Vec<_> = log
                .matching(matcher, Mark::default())
                .into_iter()
                .filter(&counts)
                .collect();
            (found.len() >= n).then_some(found)
        };
        self.shared
            .log
            .wait(
                &format!("{n} requests that match {matcher:?}"),
                deadline,
                look,
            )
            .await
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "http_watch_tests.rs"]
mod watch_tests;
