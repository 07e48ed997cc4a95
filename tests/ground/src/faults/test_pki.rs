//! Certificates for the tests of this crate: a CA and a server certificate for 127.0.0.1.
#![allow(clippy::unwrap_used)]

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// PEM texts.
pub(crate) struct TestPki {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

impl TestPki {
    pub fn new() -> Self {
        // Only the first caller in a process installs it; it is the same one anyway.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let ca = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);

        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let cert = server.signed_by(&key, &issuer).unwrap().pem();
        Self {
            ca,
            cert,
            key: key.serialize_pem(),
        }
    }

    /// A client that trusts this CA alone and follows no redirect.
    pub fn client(&self) -> reqwest::Client {
        let ca = reqwest::Certificate::from_pem(self.ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        client
            .user_agent("the-client/1")
            .timeout(std::time::Duration::from_secs(10))
            .build()
            .unwrap()
    }
}
