//! Tokens that nobody uses any more go as soon as no lease hangs on them: when another
//! login took their place, and when the operator ends. What is not known to be without
//! leases stays, and so does what Vault does not take back in time: it ends by itself.

use std::time::Duration;

use futures::future::join_all;

use super::Ledger;
use crate::reconcile::engine::Engine;
use crate::reconcile::ports::{Clock, Cluster};
use crate::vault::{Retired, Token, Vault};

/// No end of the operator, and no other work, waits longer for this.
const LIMIT: Duration = Duration::from_secs(2);

/// A request for something new that carries this token is under way.
pub(in crate::reconcile) struct Carried<'a> {
    ledger: &'a Ledger,
    /// Name of the token's entry.
    pub name: String,
}

impl Ledger {
    /// Notes that a request carries a token, until that is dropped.
    pub(in crate::reconcile) fn carry(&self, name: String) -> Carried<'_> {
        *self.carried.borrow_mut().entry(name.clone()).or_default() += 1;
        Carried { ledger: self, name }
    }
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        let mut carried = self.ledger.carried.borrow_mut();
        if let Some(count) = carried.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                carried.remove(&self.name);
            }
        }
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Gives back the tokens that others took the place of.
    pub(in crate::reconcile) async fn give_back_retired(&self) {
        if !self.sessions.has_retired() {
            return;
        }
        let retired = self.sessions.take_retired(|token| self.is_free(token));
        let all = join_all(retired.iter().map(|one| self.give_back(one)));
        if tokio::time::timeout(LIMIT, all).await.is_err() {
            tracing::info!("tokens were not given back in time and end by themselves");
        }
    }

    /// Gives back all tokens that nothing hangs on: the operator ends.
    pub(in crate::reconcile) async fn give_back_all(&self) {
        self.sessions.retire_all();
        self.give_back_retired().await;
    }

    async fn give_back(&self, retired: &Retired) {
        if let Err(problem) = self.sessions.give_back(retired).await {
            tracing::info!(%problem, "a token that is not used any more could not be given back and ends by itself");
            return;
        }
        let name = self.token_name(retired.token());
        // A certificate's entry says how to log in for it.
        if self.ledger.token(&name).is_some()
            && !self.ledger.has_certificates(&name)
            && let Err(problem) = self.write_entry(&name, None).await
        {
            tracing::info!(%problem, "the ledger could not be told that a token is given back");
        }
    }

    /// Whether no lease hangs on a token of this process. Without the ledger that is
    /// known where nothing asks for leases.
    fn is_free(&self, token: &Token) -> bool {
        let name = self.token_name(token);
        let mints = |one: &dyn crate::reconcile::sources::SecretResource| {
            !one.terms(0.0).is_ok_and(|terms| terms.is_none())
        };
        let known = self.ledger.loaded.get() || !self.view.borrow().writers().any(mints);
        known && !self.ledger.is_in_use(&name) && !self.hangs_on(&name)
    }

    /// Whether something hangs on a token that no entry tells of yet.
    pub(super) fn hangs_on(&self, name: &str) -> bool {
        let unwritten = self.unwritten.borrow();
        self.ledger.carried.borrow().contains_key(name)
            || unwritten.values().any(|hand| hand.token() == name)
    }
}
