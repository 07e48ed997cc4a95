//! What ends with a session's token: what hangs on it, so that its end must be known,
//! and a later one asked for before.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Sessions;
use crate::key::ObjectKey;
use crate::policy::PermittedLogin;
use crate::problem::Problem;
use crate::vault::life::CertainEnd;
use crate::vault::ports::{Credentials, Token, Vault};

/// What is known of the life of a session's token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    /// What is left of it; `None`: it does not end.
    pub left: Option<Duration>,
    /// Its end, where no renewal puts that off.
    pub end: Option<CertainEnd>,
}

impl<C: Credentials, V: Vault> Sessions<C, V> {
    /// The life of a token, if it is that of the login's session.
    #[must_use]
    pub fn life_of(&self, login: &PermittedLogin, token: &Token, now: Timestamp) -> Option<Life> {
        let held = self.session(login, now).held()?;
        let same = held.token.secret.expose() == token.secret.expose();
        same.then(|| Life {
            left: held.left(now),
            end: held.certain_end(),
        })
    }

    /// When the first of the tokens ends that the sessions of each VaultAuth hold. One
    /// that has ended is none.
    #[must_use]
    pub fn token_ends(&self, now: Timestamp) -> BTreeMap<ObjectKey, Timestamp> {
        let mut ends = BTreeMap::new();
        for session in self.sessions.borrow().iter() {
            let held = session.held().and_then(|held| held.ends());
            let held = held.filter(|end| *end > now);
            let Some((origin, end)) = session.login.get().origin.as_ref().zip(held) else {
                continue;
            };
            let first = ends.entry(origin.clone()).or_insert(end);
            *first = end.min(*first);
        }
        ends
    }

    /// Logs in anew where the session's token ends for certain and soon, or `is_spent`,
    /// so that what is asked for next does not end with it.
    ///
    /// # Errors
    /// Why there is no token.
    pub async fn outlast(
        &self,
        login: &PermittedLogin,
        now: Timestamp,
        is_spent: &impl Fn(&Token) -> bool,
    ) -> Result<(), Problem> {
        let session = self.session(login, now);
        let held = self.token(&session, now).await?;
        let ends = held.certain_end().is_some();
        let spent = ends && is_spent(&held.token);
        if !spent && !held.wanes(now) {
            return Ok(());
        }
        let _gate = session.gate.lock().await;
        let newer = session
            .held()
            .is_some_and(|other| other.login != held.login);
        if newer {
            return Ok(());
        }
        self.log_in(&session, false, now).await.map(drop)
    }
}
