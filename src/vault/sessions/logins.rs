//! From a login to a token that works: the one that is held, renewed in time, or a new one.

use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use super::{KEPT, LoginOutcome, Sessions};
use crate::policy::{LoginMethod, PermittedLogin};
use crate::problem::Problem;
use crate::vault::life::{Due, Failed, Held};
use crate::vault::ports::{Credentials, Token, Vault};
use crate::vault::session::{Asking, Session};

/// A 403 does not throw away a token younger than this: it is not the token.
const FRESH: SignedDuration = SignedDuration::from_secs(30);
/// The same for a path that a new login did not help and that hasn't been read
/// since: another one is only a try whether the role's policies changed.
const FRESH_FOR_DENIED: SignedDuration = SignedDuration::from_mins(5);

impl<C: Credentials, V: Vault> Sessions<C, V> {
    /// A token that works as far as is known.
    pub(super) async fn token(
        &self,
        session: &Session,
        now: Timestamp,
    ) -> Result<Rc<Held>, Problem> {
        let held = session.held();
        let _gate = match held.map(|h| (h.due(now), h)) {
            Some((Due::Nothing, held)) => return Ok(held),
            Some((Due::Prolonging, held)) => match session.gate.try_lock() {
                Ok(gate) => gate,
                // Somebody is at it, and the token works meanwhile.
                Err(_) => return Ok(held),
            },
            Some((Due::Login, _)) | None => session.gate.lock().await,
        };
        // Again: the one before may have done it.
        match session.held().map(|h| (h.due(now), h)) {
            Some((Due::Nothing, held)) => Ok(held),
            Some((Due::Prolonging, held)) => Ok(self.prolong(session, held, now).await),
            Some((Due::Login, _)) | None => self.log_in(session, false, now).await,
        }
    }

    /// Renews a token that still works, or replaces it. Where neither can be
    /// done now, it is used on: Vault's trouble must not end what works. The
    /// caller holds the gate.
    async fn prolong(&self, session: &Session, held: Rc<Held>, now: Timestamp) -> Rc<Held> {
        if Failed::of(&session.failed_renewal).is_some()
            || Failed::of(&session.failed_login).is_some()
        {
            return held;
        }
        if held.token.renewable {
            match self.renew(session, &held.token).await {
                Ok(token) => {
                    if let Some(renewed) = held.renewed(token, now) {
                        return session.hold(renewed);
                    }
                }
                Err(
                    problem @ (Problem::VaultUnreachable { .. }
                    | Problem::VaultUnavailable { .. }
                    | Problem::VaultRateLimited { .. }),
                ) => {
                    session.failed_renewal.replace(Some(Failed::new(&problem)));
                    return held;
                }
                Err(_) => {}
            }
        }
        self.log_in(session, false, now).await.unwrap_or(held)
    }

    async fn renew(&self, session: &Session, token: &Token) -> Result<Token, Problem> {
        let endpoint = session.authority.endpoint(&self.credentials).await?;
        let answer = self.vault.renew_self(&endpoint, &session.login, token);
        session.authority.after(answer.await)
    }

    /// A token to try again with after `held` was denied something, or `None` if
    /// the token is not the cause. See [`Sessions::read`] for the rule.
    pub(super) async fn replace(
        &self,
        session: &Session,
        held: &Held,
        asking: Asking,
        now: Timestamp,
    ) -> Result<Option<Rc<Held>>, Problem> {
        let _gate = session.gate.lock().await;
        if let Some(current) = session.held()
            && current.login != held.login
        {
            return Ok(Some(current));
        }
        if held.is_younger(FRESH, now) {
            if held.after_denial {
                session.deny(asking);
            }
            return Ok(None);
        }
        if session.stays_denied(asking) && held.is_younger(FRESH_FOR_DENIED, now) {
            return Ok(None);
        }
        self.log_in(session, true, now).await.map(Some)
    }

    /// Logs in, unless a failure of a moment ago answers for it. The caller
    /// holds the gate.
    pub(super) async fn log_in(
        &self,
        session: &Session,
        after_denial: bool,
        now: Timestamp,
    ) -> Result<Rc<Held>, Problem> {
        if let Some(problem) = Failed::of(&session.failed_login) {
            return Err(problem);
        }
        let result = session.timed(self.request_login(session).await, now);
        let works = session.works(now);
        let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.count(&session.login, &outcome);
        let forgotten = !self
            .sessions
            .borrow()
            .iter()
            .any(|kept| std::ptr::eq(Rc::as_ptr(kept), session));
        // That this instance may not log in says nothing about the login, nor does
        // what a session meets that was forgotten meanwhile, nor an outage that a
        // token outlasts: nobody would log in soon and say that all is well.
        let tells = match &outcome {
            Ok(()) => true,
            Err(problem) => problem.is_finding() && !(works && passes(problem)),
        };
        if tells && !forgotten {
            self.note(&session.login, now, outcome);
        }
        match result {
            Ok(token) => {
                if works {
                    self.retire(session);
                }
                session.logins.set(session.logins.get() + 1);
                session.refused.borrow_mut().clear();
                let held = Held::new(token, session.logins.get(), after_denial, now);
                Ok(session.hold(held))
            }
            Err(problem) => {
                session.failed_login.replace(Some(Failed::new(&problem)));
                Err(problem)
            }
        }
    }

    async fn request_login(&self, session: &Session) -> Result<Token, Problem> {
        let LoginMethod::Kubernetes {
            service_account,
            audiences,
            expiration_seconds,
            ..
        } = &session.login.get().method
        else {
            return Err(Problem::NotServed {
                what: format!("the login method {}", session.login.get().method.name()),
            });
        };
        let endpoint = session.authority.endpoint(&self.credentials).await?;
        let jwt = self
            .credentials
            .service_account_token(service_account, audiences, *expiration_seconds)
            .await?;
        let answer = self.vault.login(&endpoint, &session.login, &jwt).await;
        session.authority.after(answer)
    }

    /// Tells of a login; that this instance may not log in says nothing about it.
    fn count(&self, login: &PermittedLogin, outcome: &Result<(), Problem>) {
        let told = match outcome {
            Ok(()) => "ok",
            Err(problem) if problem.is_finding() => problem.reason(),
            Err(_) => return,
        };
        if let Some(observer) = &self.observer {
            observer(login.get().method.label(), told);
        }
    }

    /// Keeps what came of a login for the VaultAuth's status.
    fn note(&self, login: &PermittedLogin, at: Timestamp, result: Result<(), Problem>) {
        let Some(origin) = &login.get().origin else {
            return;
        };
        let mut outcomes = self.outcomes.borrow_mut();
        if outcomes.len() >= KEPT && !outcomes.contains_key(origin) {
            let oldest = outcomes.iter().min_by_key(|(_, o)| o.at);
            if let Some(oldest) = oldest.map(|(k, _)| k.clone()) {
                outcomes.remove(&oldest);
            }
        }
        outcomes.insert(origin.clone(), LoginOutcome { at, result });
    }
}

/// Whether who could not answer may do so soon.
pub(super) const fn passes(problem: &Problem) -> bool {
    problem.may_be_an_outage()
        || matches!(
            problem,
            Problem::KubernetesUnavailable { .. } | Problem::VaultRateLimited { .. }
        )
}
