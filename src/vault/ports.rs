//! The port through which the pipeline speaks to a Vault: one request, one
//! answer. The real one is [`super::http`], the simulation brings a model.
//! Sessions, retries and budgets live above it, so that both share them.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::key::{ObjectKey, Redacted};
use crate::policy::{PermittedConnection, PermittedLogin, Read};
use crate::problem::Problem;

/// A connection with the CA certificates that its source gave.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where and how.
    pub connection: PermittedConnection,
    /// PEM of the CA certificates; `None` uses the system's roots.
    pub ca_pem: Option<Vec<u8>>,
}

/// What a login gave.
#[derive(Clone, Debug)]
pub struct Token {
    /// The client token.
    pub secret: Redacted<String>,
    /// Its accessor; empty for batch tokens.
    pub accessor: String,
    /// Life as Vault granted it; zero means that it does not end.
    pub ttl: Duration,
    /// Whether `auth/token/renew-self` may prolong it.
    pub renewable: bool,
}

/// Vault's answer to a read: a 2xx, or a 404 (which KV v2 also uses, with a
/// body, for deleted versions). Every other status is a [`Problem`].
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The field `data` as Vault spelled it; `None` when absent or null.
    pub data: Option<Redacted<Box<RawValue>>>,
    /// Vault's `errors`, cut to printable text.
    pub errors: Vec<String>,
    /// Vault's `warnings`, cut to printable text.
    pub warnings: Vec<String>,
}

/// The requests that the operator makes to a Vault.
///
/// Every future is cancel-safe in the sense that dropping it ends the request;
/// whether Vault carried it out is then unknown.
#[allow(
    async_fn_in_trait,
    reason = "static dispatch on one thread; no Send bound is wanted"
)]
pub trait Vault {
    /// `POST auth/<mount>/login` with the method's fields and, for methods of
    /// ServiceAccounts, `jwt`.
    ///
    /// # Errors
    /// [`Problem::LoginFailed`] when Vault refuses; transport problems as they are.
    async fn login(
        &self,
        endpoint: &Endpoint,
        login: &PermittedLogin,
        jwt: &Redacted<String>,
    ) -> Result<Token, Problem>;

    /// `POST auth/token/renew-self`.
    ///
    /// # Errors
    /// [`Problem::VaultDenied`] when the token is gone or may not be renewed.
    async fn renew_self(
        &self,
        endpoint: &Endpoint,
        login: &PermittedLogin,
        token: &Token,
    ) -> Result<Token, Problem>;

    /// `GET <path>` with the token, in the read's Vault namespace.
    ///
    /// # Errors
    /// [`Problem::VaultDenied`] on 403; see [`Reply`].
    async fn read(&self, endpoint: &Endpoint, token: &Token, read: &Read)
    -> Result<Reply, Problem>;

    /// `GET sys/health`: is a Vault there that can serve? Carries no token.
    ///
    /// # Errors
    /// Why it cannot serve.
    async fn health(&self, endpoint: &Endpoint) -> Result<(), Problem>;
}

/// Where logins get their credentials from: the Kubernetes side of a session.
#[allow(
    async_fn_in_trait,
    reason = "static dispatch on one thread; no Send bound is wanted"
)]
pub trait Credentials {
    /// A token of the ServiceAccount by TokenRequest.
    ///
    /// # Errors
    /// [`Problem::KubernetesForbidden`], [`Problem::CredentialUnusable`] when
    /// the account does not exist, transport problems as they are.
    async fn service_account_token(
        &self,
        account: &ObjectKey,
        audiences: &[String],
        expiration_seconds: i64,
    ) -> Result<Redacted<String>, Problem>;

    /// One key of a Secret.
    ///
    /// # Errors
    /// [`Problem::CredentialUnusable`] when Secret or key are missing.
    async fn secret_value(
        &self,
        secret: &ObjectKey,
        key: &str,
    ) -> Result<Redacted<Vec<u8>>, Problem>;
}

impl<T: Credentials> Credentials for std::rc::Rc<T> {
    async fn service_account_token(
        &self,
        account: &ObjectKey,
        audiences: &[String],
        expiration_seconds: i64,
    ) -> Result<Redacted<String>, Problem> {
        T::service_account_token(self, account, audiences, expiration_seconds).await
    }

    async fn secret_value(
        &self,
        secret: &ObjectKey,
        key: &str,
    ) -> Result<Redacted<Vec<u8>>, Problem> {
        T::secret_value(self, secret, key).await
    }
}
