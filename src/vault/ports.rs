//! The port through which the pipeline speaks to a Vault: one request, one
//! answer. The real one is [`super::http`], the simulation brings a model.
//! Sessions, retries and budgets live above it, so that both share them.

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

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
    /// The entity that it acts for; empty where Vault gave none.
    pub entity: String,
    /// Life as Vault granted it; zero means that it does not end.
    pub ttl: Duration,
    /// Whether `auth/token/renew-self` may prolong it.
    pub renewable: bool,
}

/// A lease as an answer names it (Vault API docs, "sys/leases").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its id: the path that it came from, and a name; empty where there is none.
    pub id: String,
    /// From the answer on.
    pub duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// What the operator asks about a lease or a token, beside reads and logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `sys/leases/renew`
    RenewLease,
    /// `sys/leases/revoke`
    RevokeLease,
    /// `sys/leases/lookup`
    LookUpLease,
    /// `<mount>/revoke` of a PKI engine
    RevokeCertificate,
    /// `auth/token/lookup-accessor`
    LookUpToken,
    /// `auth/token/renew-accessor`
    RenewToken,
    /// `auth/token/revoke-self`
    RevokeToken,
}

impl Task {
    /// Its path, but for what names one of many; `None` where an engine has it.
    #[must_use]
    pub const fn form(self) -> Option<&'static str> {
        Some(match self {
            Task::RenewLease => "sys/leases/renew",
            Task::RevokeLease => "sys/leases/revoke",
            Task::LookUpLease => "sys/leases/lookup",
            Task::LookUpToken => "auth/token/lookup-accessor",
            Task::RenewToken => "auth/token/renew-accessor",
            Task::RevokeToken => "auth/token/revoke-self",
            Task::RevokeCertificate => return None,
        })
    }
}

/// A request that keeps or ends what Vault gave: always a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// What for.
    pub task: Task,
    /// Vault namespace of the request.
    pub vault_namespace: Option<String>,
    /// Path after `/v1/`.
    pub path: String,
    /// Its fields.
    pub body: Map<String, Value>,
}

/// Vault's answer to a read: a 2xx, or a 404 (which KV v2 also uses, with a
/// body, for deleted versions). Every other status is a [`Problem`].
#[derive(Debug, Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The field `data` as Vault spelled it; `None` when absent or null.
    pub data: Option<Redacted<Box<RawValue>>>,
    /// The lease of the data; empty in answers without one.
    pub lease: Lease,
    /// What is left of a token's life, in answers about one.
    pub token_life: Option<Duration>,
    /// Whether the data are wrapped, so that only a token for them came.
    pub wrapped: bool,
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

    /// `GET <path>` with the token, or `PUT` where the read has a body, in the
    /// read's Vault namespace.
    ///
    /// # Errors
    /// [`Problem::VaultDenied`] on 403; see [`Reply`].
    async fn read(&self, endpoint: &Endpoint, token: &Token, read: &Read)
    -> Result<Reply, Problem>;

    /// `PUT <path>` with the token.
    ///
    /// # Errors
    /// [`Problem::VaultDenied`] on 403, [`Problem::LeaseNotFound`] where Vault
    /// does not know the lease or the token.
    async fn upkeep(
        &self,
        endpoint: &Endpoint,
        token: &Token,
        request: &Upkeep,
    ) -> Result<Reply, Problem>;

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
