//! How an entry's login is made today.

use super::TokenEntry;
use crate::policy::LoginMethod;
use crate::reconcile::engine::Engine;
use crate::reconcile::ports::{Clock, Cluster};
use crate::reconcile::resolve;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// The entry of a token, with connection and login as their objects are now where
    /// those still speak of the same Vault and the same owner of the token: an edit of
    /// anything else, a new CA also, must not cost a login and a session of its own, nor
    /// keep the old way in use. What is gone, or not seen yet, is as the entry says.
    pub(in crate::reconcile) fn token_entry(&self, name: &str) -> Option<TokenEntry> {
        let mut entry = self.ledger.token(name)?;
        let view = self.view.borrow();
        let origin = entry.login.origin.as_ref();
        let auth = origin.and_then(|origin| view.auths.get(origin));
        if let (
            Some(auth),
            LoginMethod::Kubernetes {
                service_account, ..
            },
        ) = (auth, &entry.login.method)
            && let Ok((connection, login)) =
                resolve::auth_for(self.scope(&view), auth, &service_account.namespace)
            && login.has_owner_of(&entry.login)
            && !connection.ca.is_unseen()
            && connection.origin == entry.connection.origin
            && connection.address == entry.connection.address
        {
            (entry.connection, entry.login) = (connection, login);
        }
        Some(entry)
    }
}
