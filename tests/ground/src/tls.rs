//! TLS ends for proxies and test servers, made from PEM text.
//!
//! No ALPN protocol is offered. Nothing here is meant for anything but loopback.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The server's end: presents `cert_pem` (leaf first, then its chain) with `key_pem`.
pub(crate) fn acceptor(cert_pem: &str, key_pem: &str) -> Result<TlsAcceptor> {
    let chain = certificates(cert_pem).context("the certificate of the server")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .context("the private key of the server is no PEM key")?;
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the certificate and the key of the server don't fit")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The client's end: trusts `ca_pem` and nothing else.
pub(crate) fn connector(ca_pem: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem).context("the CA of the upstream")? {
        roots
            .add(certificate)
            .context("the CA of the upstream can't be used")?;
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("isn't PEM")?;
    ensure!(!found.is_empty(), "no certificate in the PEM text");
    Ok(found)
}
