//! Certificates and keys in the forms in which a PKI engine answers: PEM, a PEM
//! bundle with the key in it, or DER in Base64 (Vault API docs, "Generate
//! certificate and key", `format`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Characters of a line of PEM (RFC 7468, 2).
const LINE: usize = 64;

/// A certificate, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) pem: String,
    /// `aa:bb:…`, as Vault spells it.
    pub(super) serial: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// The certificates of a text, in their order; of a bundle the key is left out.
///
/// # Errors
/// What cannot be read; nothing is quoted.
pub(super) fn certificates(text: &str) -> Result<Vec<Certificate>, String> {
    let unreadable = |_| "a certificate in it cannot be read".to_owned();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let ders: Vec<CertificateDer<'static>> = if is_pem(text) {
        let found = CertificateDer::pem_slice_iter(text.as_bytes());
        found
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable(()))?
    } else {
        let der = STANDARD.decode(text.trim()).map_err(|_| unreadable(()))?;
        vec![CertificateDer::from(der)]
    };
    let certificate = |der: &CertificateDer<'_>| {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| unreadable(()))?;
        let validity = parsed.validity();
        let time = |time: x509_parser::time::ASN1Time| {
            let seconds = time.timestamp();
            // 99991231235959Z, "no end" in RFC 5280, is a day later than times can be.
            let end = (seconds > 0).then_some(Timestamp::MAX);
            let time = Timestamp::from_second(seconds).ok();
            time.or(end).ok_or_else(|| unreadable(()))
        };
        Ok(Certificate {
            pem: pem("CERTIFICATE", der),
            serial: serial(parsed.raw_serial()),
            not_before: time(validity.not_before)?,
            not_after: time(validity.not_after)?,
        })
    };
    ders.iter().map(certificate).collect()
}

/// A private key as PEM. In DER its form follows from the kind of key, unless
/// PKCS #8 was asked for: PKCS #1 for RSA, SEC 1 for elliptic curves.
///
/// # Errors
/// It is no Base64.
pub(super) fn key_pem(text: &str, type_: &str, format: &str) -> Result<String, String> {
    if is_pem(text) {
        return Ok(text.to_owned());
    }
    let label = match (format, type_) {
        ("pkcs8", _) => "PRIVATE KEY",
        (_, "rsa") => "RSA PRIVATE KEY",
        (_, "ec") => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let der = STANDARD.decode(text.trim());
    let der = der.map_err(|_| "the private key in it cannot be read".to_owned())?;
    Ok(pem(label, &der))
}

/// As Vault spells it: without the byte that keeps a number in DER positive.
pub(super) fn serial(der: &[u8]) -> String {
    let bytes = match der {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

/// Without a line break at its end, as Vault's own.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(der);
    for (at, letter) in encoded.char_indices() {
        if at > 0 && at % LINE == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text + &format!("\n-----END {label}-----")
}
