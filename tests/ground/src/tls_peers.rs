//! A TLS server whose certificate can be swapped while it runs, and a client that checks chain, name and revocation: what
//! an application does with a certificate that was given to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::tls;

/// How long a handshake may take; on loopback it is milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A server that shakes hands and says nothing more; it ends when this is dropped.
pub struct TlsServer {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    acceptor: Arc<Mutex<TlsAcceptor>>,
    task: JoinHandle<()>,
}

impl TlsServer {
    /// Listens with this certificate (leaf first, then its chain) and key, both PEM.
    ///
    /// # Errors
    /// They are no PEM or don't fit.
    pub async fn start(cert_pem: &str, key_pem: &str) -> Result<Self> {
        let acceptor = Arc::new(Mutex::new(tls::acceptor(cert_pem, key_pem)?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self {
            address: listener.local_addr()?,
            task: tokio::spawn(serve(listener, Arc::clone(&acceptor))),
            acceptor,
        })
    }

    /// Presents another certificate to all who connect from now on.
    ///
    /// # Errors
    /// It and its key are no PEM or don't fit; the old one stays.
    pub fn swap(&self, cert_pem: &str, key_pem: &str) -> Result<()> {
        let acceptor = tls::acceptor(cert_pem, key_pem)?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
        Ok(())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: Arc<Mutex<TlsAcceptor>>) {
    while let Ok((connection, _)) = listener.accept().await {
        let acceptor = acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        tokio::spawn(tokio::time::timeout(HANDSHAKE, async move {
            // A client that refuses the certificate hangs up; it is the one who tells.
            if let Ok(mut stream) = acceptor.accept(connection).await {
                let _ = stream.shutdown().await;
            }
        }));
    }
}

/// A client that trusts one root and knows the CRLs that it was given.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
}

/// How a handshake ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Handshake {
    /// The certificate was accepted: this one.
    Done(CertificateDer<'static>),
    /// It was refused, for example as [`CertificateError::Revoked`].
    Refused(CertificateError),
}

impl TlsClient {
    /// A client that trusts these roots (PEM), and refuses a server certificate that the CRLs (DER) hold, that none of
    /// them covers, or whose CRL is out of date.
    ///
    /// # Errors
    /// A root is no PEM, or a CRL can't be read.
    pub fn new(root_pem: &str, crls: &[Vec<u8>]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in tls::certificates(root_pem)? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let crls = crls
            .iter()
            .map(|crl| CertificateRevocationListDer::from(crl.clone()));
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .with_crls(crls)
                .only_check_end_entity_revocation()
                .enforce_revocation_expiration()
                .build()
                .context("the roots and CRLs of the client")?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Connects to `address`, where a server of this name is expected.
    ///
    /// # Errors
    /// Anything but a refused certificate.
    pub async fn handshake(&self, address: SocketAddr, name: &str) -> Result<Handshake> {
        let name = ServerName::try_from(name.to_owned())?;
        let shake = async {
            let connection = TcpStream::connect(address).await?;
            self.connector.connect(name, connection).await
        };
        let outcome = tokio::time::timeout(HANDSHAKE, shake)
            .await
            .context("the server does not shake hands")?;
        let stream = match outcome {
            Ok(stream) => stream,
            Err(error) => return refusal(error),
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        ensure!(!shown.is_empty(), "the server showed no certificate");
        Ok(Handshake::Done(shown[0].clone().into_owned()))
    }
}

fn refusal(error: std::io::Error) -> Result<Handshake> {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => Ok(Handshake::Refused(reason.clone())),
        _ => Err(error.into()),
    }
}
