//! A Vault that asks before each effect whether this process may still act.
//! Reads that make nothing pass: what comes of them is fenced again.

use std::rc::Rc;

use super::tenure::Tenure;
use crate::key::Redacted;
use crate::policy::{PermittedLogin, Read};
use crate::problem::Problem;
use crate::vault::{Endpoint, Reply, Token, Upkeep, Vault};

/// `V`, for the leader alone.
pub struct Fenced<V> {
    vault: V,
    tenure: Rc<Tenure>,
}

impl<V> Fenced<V> {
    /// Fences `vault` by `tenure`.
    pub fn new(vault: V, tenure: Rc<Tenure>) -> Self {
        Self { vault, tenure }
    }
}

impl<V: Vault> Vault for Fenced<V> {
    async fn login(
        &self,
        endpoint: &Endpoint,
        login: &PermittedLogin,
        jwt: &Redacted<String>,
    ) -> Result<Token, Problem> {
        self.tenure.admit()?;
        self.vault.login(endpoint, login, jwt).await
    }

    async fn renew_self(
        &self,
        endpoint: &Endpoint,
        login: &PermittedLogin,
        token: &Token,
    ) -> Result<Token, Problem> {
        self.tenure.admit()?;
        self.vault.renew_self(endpoint, login, token).await
    }

    async fn read(
        &self,
        endpoint: &Endpoint,
        token: &Token,
        read: &Read,
    ) -> Result<Reply, Problem> {
        if read.mints {
            self.tenure.admit()?;
        }
        self.vault.read(endpoint, token, read).await
    }

    async fn upkeep(
        &self,
        endpoint: &Endpoint,
        token: &Token,
        request: &Upkeep,
    ) -> Result<Reply, Problem> {
        self.tenure.admit()?;
        self.vault.upkeep(endpoint, token, request).await
    }

    async fn health(&self, endpoint: &Endpoint) -> Result<(), Problem> {
        self.vault.health(endpoint).await
    }
}
