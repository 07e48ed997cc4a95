//! Tokens that no session uses any more: they are given back, not left to their end.
//! Whether something hangs on one is for the caller to know.

use std::rc::Rc;

use super::Sessions;
use super::logins::passes;
use crate::policy::PermittedLogin;
use crate::problem::Problem;
use crate::vault::authority::Authority;
use crate::vault::ports::{Credentials, Reply, Task, Token, Upkeep, Vault};
use crate::vault::session::Session;

/// The most that are remembered; older ones are left to their end.
const KEPT: usize = 64;

/// A token and how to give it back.
pub struct Retired {
    login: PermittedLogin,
    authority: Rc<Authority>,
    token: Token,
}

impl Retired {
    /// What a session holds, if it can be given back: batch tokens cannot.
    pub(super) fn of(session: &Session) -> Option<Self> {
        let held = session.held()?;
        (!held.token.accessor.is_empty()).then(|| Self {
            login: session.login.clone(),
            authority: Rc::clone(&session.authority),
            token: held.token.clone(),
        })
    }

    /// The token.
    #[must_use]
    pub const fn token(&self) -> &Token {
        &self.token
    }
}

impl<C: Credentials, V: Vault> Sessions<C, V> {
    /// Remembers what the session holds, which another token takes the place of.
    pub(super) fn retire(&self, session: &Session) {
        let mut retired = self.retired.borrow_mut();
        retired.extend(Retired::of(session));
        let surplus = retired.len().saturating_sub(KEPT);
        retired.drain(..surplus);
    }

    /// Ends sessions.
    pub(super) fn end_sessions(&self, which: impl Fn(&Session) -> bool) {
        self.sessions.borrow_mut().retain(|session| {
            let ends = which(session);
            if ends {
                self.retire(session);
            }
            !ends
        });
    }

    /// Makes a request that keeps or ends what Vault gave with a token of the same login
    /// that no session uses any more, after `problem` kept a new login away. It is the
    /// answer where there is no such token, or where that login may succeed soon.
    pub(super) async fn upkeep_by_retired(
        &self,
        login: &PermittedLogin,
        request: &Upkeep,
        problem: Problem,
    ) -> Result<Reply, Problem> {
        let latest = {
            let retired = self.retired.borrow();
            let latest = retired.iter().rev().find(|one| one.login == *login);
            latest.map(|one| (Rc::clone(&one.authority), one.token.clone()))
        };
        let Some((authority, token)) = latest.filter(|_| !passes(&problem)) else {
            return Err(problem);
        };
        let endpoint = authority.endpoint(&self.credentials).await?;
        let answer = self.vault.upkeep(&endpoint, &token, request).await;
        match authority.after(answer) {
            // It has ended, perhaps: why there is no other one says more.
            Err(Problem::VaultDenied { .. }) => Err(problem),
            answer => answer,
        }
    }

    /// Whether there are tokens that no session uses any more.
    #[must_use]
    pub fn has_retired(&self) -> bool {
        !self.retired.borrow().is_empty()
    }

    /// Those of them that `may` go; the others wait.
    pub fn take_retired(&self, may: impl Fn(&Token) -> bool) -> Vec<Retired> {
        let mut retired = self.retired.borrow_mut();
        let all = std::mem::take(&mut *retired);
        let (free, kept) = all.into_iter().partition(|one| may(&one.token));
        *retired = kept;
        free
    }

    /// Ends all sessions.
    pub fn retire_all(&self) {
        let sessions = std::mem::take(&mut *self.sessions.borrow_mut());
        for session in sessions {
            self.retire(&session);
        }
    }

    /// Gives a token back.
    ///
    /// # Errors
    /// Vault's refusal, such as of a token that has ended, or its trouble.
    pub async fn give_back(&self, retired: &Retired) -> Result<(), Problem> {
        let endpoint = retired.authority.endpoint(&self.credentials).await?;
        let request = Upkeep {
            task: Task::RevokeToken,
            vault_namespace: retired.login.get().vault_namespace.clone(),
            path: "auth/token/revoke-self".to_owned(),
            body: serde_json::Map::new(),
        };
        let answer = self.vault.upkeep(&endpoint, &retired.token, &request).await;
        answer.map(drop)
    }
}
