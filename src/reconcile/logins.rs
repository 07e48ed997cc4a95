//! Logins that requests led to: a VaultAuth's status tells of them, and older tokens
//! are looked at with the new one.

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use super::references::has_logged_in;
use crate::key::{Kind, ObjectKey};
use crate::policy::PermittedLogin;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Makes a request; the VaultAuth's status follows where it led to a login.
    pub(super) async fn telling_of_login<T>(
        &self,
        login: &PermittedLogin,
        request: impl Future<Output = T>,
    ) -> T {
        let origin = login.get().origin.clone();
        let last = || self.sessions.last_login(origin.as_ref()?);
        let before = last();
        let answer = request.await;
        if let Some(origin) = &origin {
            let new = last() != before;
            if new || self.login_unreported(origin) {
                self.wake_resource(Kind::VaultAuth, origin);
            }
            if new {
                // What the token before was denied this one may do, for older ones too.
                self.wake_tokens();
            }
        }
        answer
    }

    /// Whether a login succeeded that the VaultAuth's status does not tell of,
    /// since the reconcile that made it was cut off before it could say so.
    fn login_unreported(&self, origin: &ObjectKey) -> bool {
        let view = self.view.borrow();
        let Some(auth) = view.auths.get(origin) else {
            return false;
        };
        let conditions = auth
            .status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        let told = has_logged_in(conditions.unwrap_or_default(), auth.metadata.generation);
        !told
            && self
                .sessions
                .last_login(origin)
                .is_some_and(|outcome| outcome.result.is_ok())
    }
}
