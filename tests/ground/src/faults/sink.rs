//! The other end, for tests of guardrails: a server that a tenant controls and that must see nothing.
//!
//! It counts every connection, also one that never says a word, and keeps every request with its headers and body. Each
//! request is answered, so that a client which does come gives away all that it would.

use anyhow::Result;

use super::http::{Answer, Builder, HttpProxy, Match, Record};

/// A server that takes everything and serves nothing of worth.
pub struct Sink(HttpProxy);

impl Sink {
    /// Speaks plain HTTP, answers 200 and `{}`.
    ///
    /// # Errors
    /// When no port on 127.0.0.1 can be had.
    pub async fn plain() -> Result<Self> {
        Self::start(
            HttpProxy::builder(),
            Answer::json(200, &serde_json::json!({})),
        )
        .await
    }

    /// The same by TLS, with this certificate and key.
    ///
    /// # Errors
    /// When a PEM text is unusable or no port can be had.
    pub async fn tls(cert_pem: &str, key_pem: &str) -> Result<Self> {
        Self::start(
            HttpProxy::builder().tls(cert_pem, key_pem),
            Answer::json(200, &serde_json::json!({})),
        )
        .await
    }

    /// With an answer of the caller's choice, on a server of the caller's choice: [`Answer::redirect`] makes it a server
    /// that sends clients elsewhere.
    ///
    /// # Errors
    /// As for [`Builder::start`].
    pub async fn start(server: Builder, answer: Answer) -> Result<Self> {
        let server = server.capture_bodies().start().await?;
        server.on(Match::any()).answer(answer);
        Ok(Self(server))
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.0.connections()
    }

    /// All requests, with headers and bodies.
    pub fn requests(&self) -> Vec<Record> {
        self.0.requests(&Match::any())
    }

    /// The server below, for waiting and for finer questions.
    pub fn server(&self) -> &HttpProxy {
        &self.0
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
