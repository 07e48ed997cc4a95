//! Certificates and keys of one ground: one CA and the one that may take its place, server and client certificates
//! (X.509 v3), the ServiceAccount key.
//!
//! Everything lives as long as the run: keys are made in memory at start and written below the run's folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// The CA of a ground, and the folder that its certificates are written to.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    /// The CA certificate, PEM.
    pub ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// The certificate, PEM, of the CA that may take the first one's place at the API server.
    pub successor_pem: String,
    successor: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both as files and in memory (PEM).
#[derive(Clone, Debug)]
pub struct Identity {
    /// File of the certificate.
    pub cert_file: PathBuf,
    /// File of the private key (PKCS #8).
    pub key_file: PathBuf,
    /// The certificate.
    pub cert_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl Pki {
    /// Makes both CAs and writes their certificates.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn new(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
        let (ca_pem, issuer) = authority("ground-ca")?;
        let (successor_pem, successor) = authority("ground-successor-ca")?;
        let pki = Self {
            dir: dir.to_owned(),
            ca_pem,
            issuer,
            successor_pem,
            successor,
        };
        write(&pki.ca_file(), &pki.ca_pem)?;
        write(&pki.trust_file(), &pki.trust_pem())?;
        Ok(pki)
    }

    /// The file of the CA certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The certificates of both CAs, PEM: who trusts these doesn't notice when the API server changes its own.
    pub fn trust_pem(&self) -> String {
        format!("{}{}", self.ca_pem, self.successor_pem)
    }

    /// The file of the certificates of both CAs.
    pub fn trust_file(&self) -> PathBuf {
        self.dir.join("trust.crt")
    }

    /// A server certificate for these DNS names and IP addresses, named `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    /// A name is neither a DNS name nor an address, or the folder can't be written.
    pub fn server(&self, file: &str, names: &[&str]) -> Result<Identity> {
        self.sign(&self.issuer, file, serving(file, names)?)
    }

    /// The same of the CA that takes the first one's place.
    ///
    /// # Errors
    /// As [`Pki::server`].
    pub fn successors_server(&self, file: &str, names: &[&str]) -> Result<Identity> {
        self.sign(&self.successor, file, serving(file, names)?)
    }

    /// The same, but its time ended at the beginning of the year 2001.
    ///
    /// # Errors
    /// As [`Pki::server`].
    pub fn expired_server(&self, file: &str, names: &[&str]) -> Result<Identity> {
        let mut params = serving(file, names)?;
        (params.not_before, params.not_after) =
            (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        self.sign(&self.issuer, file, params)
    }

    /// A client certificate for the API server: `user` is its CN, `group` its O.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&self.issuer, file, params)
    }

    /// The key pair that ServiceAccount tokens are signed with: files of the private and of the public key.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn service_account_keys(&self) -> Result<(PathBuf, PathBuf)> {
        let key = KeyPair::generate()?;
        let (private, public) = (self.dir.join("sa.key"), self.dir.join("sa.pub"));
        write(&private, &key.serialize_pem())?;
        write(&public, &key.public_key_pem())?;
        Ok((private, public))
    }

    fn sign(
        &self,
        issuer: &Issuer<'static, KeyPair>,
        file: &str,
        mut params: CertificateParams,
    ) -> Result<Identity> {
        let key = KeyPair::generate()?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let identity = Identity {
            cert_file: self.dir.join(format!("{file}.crt")),
            key_file: self.dir.join(format!("{file}.key")),
            cert_pem: params.signed_by(&key, issuer)?.pem(),
            key_pem: key.serialize_pem(),
        };
        write(&identity.cert_file, &identity.cert_pem)?;
        write(&identity.key_file, &identity.key_pem)?;
        Ok(identity)
    }
}

fn authority(common: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(common, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}

fn serving(file: &str, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = name(file, None);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn name(common: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}
