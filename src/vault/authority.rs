//! The CA certificates of a connection, read from where it says and checked to
//! be certificates. Read once for each revision of a Secret, by the first who
//! needs them; the others wait for it and share what came of it.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::rc::Rc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use tokio::sync::Mutex;

use crate::policy::{CaSource, Connection, PermittedConnection};
use crate::problem::Problem;

use super::channel::ca_in_words;
use super::life::Failed;
use super::ports::{Credentials, Endpoint};

/// The key of a Secret that holds CA certificates.
const SECRET_KEY: &str = "ca.crt";
/// The longest CA file, in bytes; a Secret cannot be longer either.
const FILE_LIMIT: u64 = 1024 * 1024;

/// A connection and its [`Endpoint`], once somebody needed it.
pub(super) struct Authority {
    /// Whose.
    pub(super) connection: PermittedConnection,
    gate: Mutex<()>,
    endpoint: RefCell<Option<Rc<Endpoint>>>,
    failed: RefCell<Option<Failed>>,
}

impl Authority {
    /// Nothing is read yet.
    pub(super) fn new(connection: PermittedConnection) -> Self {
        Self {
            connection,
            gate: Mutex::default(),
            endpoint: RefCell::default(),
            failed: RefCell::default(),
        }
    }

    /// The endpoint, reading the certificates if nobody did.
    ///
    /// # Errors
    /// As [`certificates`].
    pub(super) async fn endpoint<C: Credentials>(
        &self,
        credentials: &C,
    ) -> Result<Rc<Endpoint>, Problem> {
        if let Some(endpoint) = self.endpoint.borrow().clone() {
            return Ok(endpoint);
        }
        let _gate = self.gate.lock().await;
        if let Some(endpoint) = self.endpoint.borrow().clone() {
            return Ok(endpoint);
        }
        if let Some(problem) = Failed::of(&self.failed) {
            return Err(problem);
        }
        match certificates(credentials, self.connection.get()).await {
            Ok(ca_pem) => {
                let endpoint = Rc::new(Endpoint {
                    connection: self.connection.clone(),
                    ca_pem,
                });
                self.endpoint.replace(Some(Rc::clone(&endpoint)));
                Ok(endpoint)
            }
            Err(problem) => {
                self.failed.replace(Some(Failed::new(&problem)));
                Err(problem)
            }
        }
    }

    /// Passes a request's outcome on. When no connection came about, and the
    /// certificates may have changed unseen, the next request reads them anew.
    pub(super) fn after<T>(&self, outcome: Result<T, Problem>) -> Result<T, Problem> {
        if matches!(outcome, Err(Problem::VaultUnreachable { .. }))
            && may_change_unseen(&self.connection.get().ca)
        {
            self.endpoint.replace(None);
        }
        outcome
    }
}

/// The connection's CA certificates as PEM; `None` for the system's.
///
/// # Errors
/// [`Problem::CredentialUnusable`] when they are missing or hold no
/// certificate; what the Kubernetes side answers.
async fn certificates<C: Credentials>(
    credentials: &C,
    connection: &Connection,
) -> Result<Option<Vec<u8>>, Problem> {
    // With verification off nothing looks at them, so they may be missing.
    if connection.skip_tls_verify {
        return Ok(None);
    }
    let pem = match &connection.ca {
        CaSource::System => return Ok(None),
        CaSource::Secret { secret, .. } => credentials
            .secret_value(secret, SECRET_KEY)
            .await?
            .into_exposed(),
        CaSource::File(path) => read_file(path).map_err(|why| Problem::CredentialUnusable {
            why: format!("the CA file {path} (caCertPath) cannot be read: {why}"),
        })?,
    };
    let mut certificates = CertificateDer::pem_slice_iter(&pem);
    let why = match certificates.next() {
        Some(Ok(_)) if certificates.all(|c| c.is_ok()) => return Ok(Some(pem)),
        None => "there is no certificate in it",
        Some(_) => "a certificate in it is damaged",
    };
    Err(Problem::CredentialUnusable {
        why: format!(
            "{}: {why}; it must hold PEM blocks that begin with -----BEGIN CERTIFICATE-----",
            ca_in_words(connection)
        ),
    })
}

/// A regular file up to the limit. Looked at before it is opened: opening a
/// pipe would wait for its other end.
fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let found = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_LIMIT + 1).read_to_end(&mut content))
        .map_err(|e| e.to_string())?;
    if content.len() as u64 > FILE_LIMIT {
        return Err("it is longer than 1 MiB".to_owned());
    }
    Ok(content)
}

/// Whether certificates from this source may change without the connection's
/// identity changing.
fn may_change_unseen(source: &CaSource) -> bool {
    match source {
        CaSource::System => false,
        CaSource::Secret { .. } => source.is_unseen(),
        CaSource::File(_) => true,
    }
}
