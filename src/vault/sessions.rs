//! Sessions: one token for each connection, login, ServiceAccount and Vault
//! namespace, shared by all resources that use it. Tokens live here and in the
//! request that carries them; they are never stored or printed.
//!
//! Whatever many readers need at once (a CA, a token, a renewal) is fetched by
//! one of them behind a gate; the others wait and share what came of it,
//! success or failure. No borrow of a cell lasts over an await.

mod endings;
mod logins;
mod retired;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jiff::Timestamp;

use crate::key::ObjectKey;
use crate::policy::{Permitted, PermittedConnection, PermittedLogin};
use crate::problem::{Problem, Retry};

use super::authority::Authority;
use super::life::{Failed, Held};
use super::ports::{Credentials, Endpoint, Reply, Token, Upkeep, Vault};
use super::session::{Asking, Session};

pub use endings::Life;
pub use retired::Retired;

/// The most sessions, connections, and VaultAuths with an outcome.
const KEPT: usize = 256;

/// What came of the last login for a VaultAuth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginOutcome {
    /// When, on the clock of the caller who needed the login.
    pub at: Timestamp,
    /// Logged in, or why not.
    pub result: Result<(), Problem>,
}

/// Told of every login that ended: the method of the VaultAuth, and `ok` or a
/// problem's reason.
pub type LoginObserver = Rc<dyn Fn(&'static str, &'static str)>;

/// All sessions of this process.
pub struct Sessions<C, V> {
    credentials: C,
    vault: V,
    sessions: RefCell<Vec<Rc<Session>>>,
    authorities: RefCell<Vec<Rc<Authority>>>,
    outcomes: RefCell<BTreeMap<ObjectKey, LoginOutcome>>,
    /// Tokens that no session uses any more.
    retired: RefCell<Vec<Retired>>,
    observer: Option<LoginObserver>,
}

impl<C: Credentials, V: Vault> Sessions<C, V> {
    /// No session yet.
    pub fn new(credentials: C, vault: V) -> Self {
        Self {
            credentials,
            vault,
            sessions: RefCell::default(),
            authorities: RefCell::default(),
            outcomes: RefCell::default(),
            retired: RefCell::default(),
            observer: None,
        }
    }

    /// The same, with somebody who is told of every login.
    #[must_use]
    pub fn observed(mut self, observer: LoginObserver) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Reads at Vault with the session's token, logging in where needed.
    ///
    /// A 403 leads to one new login, shared by all who got it, and one more
    /// read; unless the token is too young to be the cause: 30 seconds, or 5
    /// minutes for a path that a new login did not help before. So, however
    /// many resources are denied and however often they try, a session logs in
    /// at most every 30 seconds for newly denied paths, and every 5 minutes for
    /// all that stay denied together.
    ///
    /// A `Retry-After` holds for all readers of the session, whatever woke them.
    ///
    /// # Errors
    /// Why there is no answer: [`Problem::VaultDenied`] when Vault denies the
    /// path to a token that is not the cause, the login's or transport's
    /// problem as it is.
    pub async fn read(&self, permitted: &Permitted, now: Timestamp) -> Result<Reply, Problem> {
        self.read_after(permitted, now, &async |_: &Token| Ok(()))
            .await
    }

    /// The same; before each request, `before` is told the token that it will
    /// carry, and its problem ends the attempt.
    ///
    /// # Errors
    /// As above, and those of `before`.
    pub async fn read_after(
        &self,
        permitted: &Permitted,
        now: Timestamp,
        before: &impl AsyncFn(&Token) -> Result<(), Problem>,
    ) -> Result<Reply, Problem> {
        let read = permitted.read();
        let asking = Asking::of(read.vault_namespace.as_deref(), &read.path);
        let send = async |endpoint: &Endpoint, token: &Token| {
            before(token).await?;
            self.vault.read(endpoint, token, read).await
        };
        self.send(permitted.login(), asking, now, &send).await
    }

    /// Makes a request that keeps or ends what Vault gave, with the token of a
    /// session; a 403 is met as in [`Sessions::read`]. Where nobody may log in any more,
    /// since VaultAuth, ServiceAccount and Role went at once, a token of before does.
    ///
    /// # Errors
    /// As [`Sessions::read`].
    pub async fn upkeep(
        &self,
        login: &PermittedLogin,
        request: &Upkeep,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        // The policy speaks of the path up to what names one of many.
        let form = request.path.rsplit_once('/').map_or("", |(form, _)| form);
        let asking = Asking::of(request.vault_namespace.as_deref(), form);
        let send = async |endpoint: &Endpoint, token: &Token| {
            self.vault.upkeep(endpoint, token, request).await
        };
        match self.send(login, asking, now, &send).await {
            Err(problem) if !self.session(login, now).works(now) => {
                self.upkeep_by_retired(login, request, problem).await
            }
            answer => answer,
        }
    }

    /// The same, but a 403 is taken as it is, and for this kind of request the
    /// answer until the next login: there is another way.
    ///
    /// # Errors
    /// As above.
    pub async fn upkeep_unless_denied(
        &self,
        login: &PermittedLogin,
        request: &Upkeep,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let session = self.session(login, now);
        let form = request.path.rsplit_once('/').map_or("", |(form, _)| form);
        let asking = Asking::of(request.vault_namespace.as_deref(), form);
        if session.is_refused(asking) {
            return Err(Problem::VaultDenied {
                path: form.to_owned(),
                why: "denied before".to_owned(),
            });
        }
        let held = match self.token(&session, now).await {
            Ok(held) => held,
            Err(problem) => return self.upkeep_by_retired(login, request, problem).await,
        };
        let send = async |endpoint: &Endpoint, token: &Token| {
            self.vault.upkeep(endpoint, token, request).await
        };
        let mut answer = self.send_with(&session, &held, asking, now, &send).await;
        // One that another took the place of meanwhile says nothing about the policy.
        let newer = session.held().filter(|newer| newer.login != held.login);
        if let (Err(Problem::VaultDenied { .. }), Some(newer)) = (&answer, newer) {
            answer = self.send_with(&session, &newer, asking, now, &send).await;
        }
        if matches!(answer, Err(Problem::VaultDenied { .. })) {
            session.refuse(asking);
        }
        answer
    }

    /// The token of a login's session, once there is one that works.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token_of(&self, login: &PermittedLogin, now: Timestamp) -> Result<Token, Problem> {
        let session = self.session(login, now);
        let held = self.token(&session, now).await?;
        Ok(held.token.clone())
    }

    async fn send(
        &self,
        login: &PermittedLogin,
        asking: Asking,
        now: Timestamp,
        send: &impl AsyncFn(&Endpoint, &Token) -> Result<Reply, Problem>,
    ) -> Result<Reply, Problem> {
        let session = self.session(login, now);
        let was_limited = session.limited.borrow().is_some();
        let trial = match was_limited {
            true => Some(session.trial.lock().await),
            false => None,
        };
        if let Some(problem) = Failed::of(&session.limited) {
            return Err(problem);
        }
        // Only the first of those who waited here is on trial.
        let _trial = trial.filter(|_| session.limited.borrow().is_some());
        let held = self.token(&session, now).await?;
        match self.send_with(&session, &held, asking, now, send).await {
            Err(denied @ Problem::VaultDenied { .. }) => {
                match self.replace(&session, &held, asking, now).await? {
                    Some(fresh) => {
                        let answered = self.send_with(&session, &fresh, asking, now, send).await;
                        if matches!(answered, Err(Problem::VaultDenied { .. })) {
                            session.deny(asking);
                        }
                        answered
                    }
                    None => Err(denied),
                }
            }
            answered => answered,
        }
    }

    /// Asks whether a Vault that can serve is there.
    ///
    /// # Errors
    /// Why not.
    pub async fn health(&self, connection: &PermittedConnection) -> Result<(), Problem> {
        let authority = self.authority(connection);
        let endpoint = authority.endpoint(&self.credentials).await?;
        authority.after(self.vault.health(&endpoint).await)
    }

    /// What came of the last login for a VaultAuth; `None` if there was none.
    #[must_use]
    pub fn last_login(&self, origin: &ObjectKey) -> Option<LoginOutcome> {
        self.outcomes.borrow().get(origin).cloned()
    }

    /// Drops the sessions over a VaultConnection that was changed or deleted.
    /// Requests under way end as they would have.
    pub fn forget(&self, connection: &ObjectKey) {
        let other = |c: &PermittedConnection| c.get().origin.as_ref() != Some(connection);
        self.authorities
            .borrow_mut()
            .retain(|a| other(&a.connection));
        self.end_sessions(|s| !other(s.login.connection()));
    }

    /// Drops the sessions of a VaultAuth that was changed or deleted, and what
    /// came of its last login.
    pub fn forget_login(&self, auth: &ObjectKey) {
        self.outcomes.borrow_mut().remove(auth);
        self.end_sessions(|s| s.login.get().origin.as_ref() == Some(auth));
    }

    async fn send_with(
        &self,
        session: &Session,
        held: &Held,
        asking: Asking,
        now: Timestamp,
        send: &impl AsyncFn(&Endpoint, &Token) -> Result<Reply, Problem>,
    ) -> Result<Reply, Problem> {
        let endpoint = session.authority.endpoint(&self.credentials).await?;
        let answer = session.timed(send(&endpoint, &held.token).await, now);
        if answer.is_ok() {
            session.denied.borrow_mut().remove(&asking);
        }
        match &answer {
            Err(problem) if matches!(problem.retry(), Retry::NotBefore(_)) => {
                session.limited.replace(Some(Failed::new(problem)));
            }
            _ if Failed::of(&session.limited).is_none() => {
                session.limited.replace(None);
                session.limited_since.set(None);
            }
            _ => {}
        }
        session.authority.after(answer)
    }

    /// The session of a login, a new one if there is none.
    fn session(&self, login: &PermittedLogin, now: Timestamp) -> Rc<Session> {
        let mut sessions = self.sessions.borrow_mut();
        if let Some(found) = sessions.iter().find(|s| s.login == *login) {
            found.used.set(now);
            return Rc::clone(found);
        }
        sessions.retain(|s| !s.is_idle(now));
        if sessions.len() >= KEPT
            && let Some(oldest) = (0..sessions.len()).min_by_key(|i| sessions[*i].used.get())
        {
            sessions.swap_remove(oldest);
        }
        let authority = self.authority(login.connection());
        let session = Rc::new(Session::new(login.clone(), authority, now));
        sessions.push(Rc::clone(&session));
        session
    }

    /// The connection's certificates, shared by its sessions.
    fn authority(&self, connection: &PermittedConnection) -> Rc<Authority> {
        let mut authorities = self.authorities.borrow_mut();
        if let Some(found) = authorities.iter().find(|a| a.connection == *connection) {
            return Rc::clone(found);
        }
        if authorities.len() >= KEPT {
            authorities.retain(|a| Rc::strong_count(a) > 1);
        }
        let authority = Rc::new(Authority::new(connection.clone()));
        authorities.push(Rc::clone(&authority));
        authority
    }
}
