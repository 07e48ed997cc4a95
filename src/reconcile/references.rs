//! VaultConnection and VaultAuth: whether they can be used, said in their own
//! status; and an answer for kinds that this version does not serve yet.
//!
//! A connection is asked for its health once for each generation and, by one
//! prober, while there is an outage. A login is claimed only where one happened.

use std::rc::Rc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde_json::json;

use super::engine::{Engine, Next};
use super::kept::Kept;
use super::ports::{Clock, Cluster};
use super::queue::Urgency;
use super::report::{self, Truth, Verdict, is_ready};
use super::resolve;
use super::view::Store;
use crate::api::{VaultAuth, VaultAuthStatus, VaultConnection, VaultConnectionStatus};
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::policy::{permit_connection, permit_login};
use crate::problem::Problem;
use crate::vault::Vault;

/// The condition of a VaultAuth that is true only once a login was seen. `Ready` says
/// that it can be used, which nobody may have done yet.
const LOGIN_SEEN: &str = "Healthy";

/// The reason of a login that Vault refused.
const REFUSED: &str = "VaultLoginFailed";

/// Before the reason why changes of a connection's CA are not seen.
const UNSEEN_AUTHORITY: &str = "; another CA would go unseen, since its Secret cannot be watched: ";

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    pub(super) async fn reconcile_connection(&self, key: &ResourceKey) -> Next {
        let needed = [Store::Resource(Kind::VaultConnection), Store::Secrets];
        if let Some(next) = self.blind(key, &needed).await {
            return next;
        }
        let Some(resource) = self.view.borrow().connections.get(&key.object).cloned() else {
            self.sessions.forget(&key.object);
            self.drop_breaker(&key.object);
            self.view.borrow_mut().ask(key, false);
            self.forget(key);
            return Next::Settled(None);
        };
        if let Err(problem) = self.drop_foreign_finalizers(key, &resource.metadata).await {
            return Next::Failed(problem);
        }
        if resource.metadata.deletion_timestamp.is_some() {
            return Next::Settled(None);
        }
        let status = resource.status.clone().unwrap_or_default();
        let known = is_ready(&status.conditions, resource.metadata.generation);
        let resolved = self.resolve_connection(&resource);
        if self.knows_names_only() {
            let mut view = self.view.borrow_mut();
            view.ask(key, resolved.is_ok());
            // It may name another CA than before.
            view.naming.moved();
        }
        let suspicion = self.suspicion(&key.object);
        let remark = self.remark_on_authority(&key.object, &resource).await;
        let asked = match resolved {
            Ok(permitted) => {
                let breaker = self.breaker(&permitted);
                match breaker.problem() {
                    Some(outage) => Err(outage),
                    None if known && suspicion.is_none() => {
                        if is_remarked(&status.conditions, &remark) {
                            return Next::Settled(None);
                        }
                        Ok(())
                    }
                    None => self.vet(&breaker).await,
                }
            }
            Err(problem) => Err(problem),
        };
        let asked = self.told(asked).await;
        let verdict = match &asked {
            Ok(()) => Verdict::good(
                "Accepted",
                format!(
                    "Vault at {} answers and can serve{remark}",
                    shown(&resource.spec.address)
                ),
            ),
            Err(problem) => Verdict::bad(problem),
        };
        let problem = asked.as_ref().err();
        let reported = self
            .report_connection(key, &resource, &verdict, problem)
            .await;
        if reported.is_ok() && self.suspicion(&key.object) == suspicion {
            self.suspects.borrow_mut().remove(&key.object);
        }
        match asked.and(reported) {
            Ok(()) => Next::Settled(None),
            Err(problem) => Next::Failed(problem),
        }
    }

    /// What is to be said of a CA Secret that is followed by name and that the Role
    /// does not let be seen: the connection serves, until its CA becomes another.
    async fn remark_on_authority(&self, key: &ObjectKey, resource: &VaultConnection) -> String {
        let Some(name) = resource.spec.ca_cert_secret_ref.as_deref() else {
            return String::new();
        };
        let secret = ObjectKey::new(key.namespace.as_str(), name);
        let refused = {
            let view = self.view.borrow();
            view.stores.unseen(Store::Secrets, &secret)
        };
        match refused {
            Some(problem @ Problem::KubernetesForbidden { .. }) => {
                format!("{UNSEEN_AUTHORITY}{}", self.explained(problem).await)
            }
            _ => String::new(),
        }
    }

    fn resolve_connection(
        &self,
        resource: &VaultConnection,
    ) -> Result<crate::policy::PermittedConnection, Problem> {
        let view = self.view.borrow();
        let connection = resolve::connection(self.scope(&view), resource)?;
        permit_connection(connection, &self.policy, &self.own)
    }

    async fn report_connection(
        &self,
        key: &ResourceKey,
        resource: &Rc<VaultConnection>,
        verdict: &Verdict,
        problem: Option<&Problem>,
    ) -> Result<(), Problem> {
        let previous = resource.status.clone().unwrap_or_default();
        let valid = verdict.truth == Truth::True;
        let findings = verdict.findings(&["ResourceValidation", "VaultPing", "Healthy", "Ready"]);
        let conditions = self.conditions(&previous.conditions, &findings, &resource.metadata);
        let status = VaultConnectionStatus {
            valid,
            observed_generation: resource.metadata.generation,
            conditions,
        };
        if self.same_status(key.kind, &status, &previous) {
            return Ok(());
        }
        let turned = reason_of(&previous.conditions) != reason_of(&status.conditions);
        let value = report::status(
            &status.conditions,
            resource.metadata.generation,
            json!({ "valid": valid }),
        );
        let version = self.write_status(key, &previous, value).await?;
        let mut new = VaultConnection::clone(resource);
        new.status = Some(status);
        new.metadata.resource_version = Some(version);
        self.put_unless_changed(&key.object, resource, new);
        if let (Some(problem), true) = (problem, turned) {
            self.warn(key, resource.metadata.uid.as_deref(), problem)
                .await;
        }
        Ok(())
    }

    pub(super) async fn reconcile_auth(&self, key: &ResourceKey) -> Next {
        let needed = [
            Store::Resource(Kind::VaultConnection),
            Store::Resource(Kind::VaultAuth),
            Store::Secrets,
        ];
        if let Some(next) = self.blind(key, &needed).await {
            return next;
        }
        let Some(resource) = self.view.borrow().auths.get(&key.object).cloned() else {
            self.sessions.forget_login(&key.object);
            self.forget(key);
            return Next::Settled(None);
        };
        if let Err(problem) = self.drop_foreign_finalizers(key, &resource.metadata).await {
            return Next::Failed(problem);
        }
        if resource.metadata.deletion_timestamp.is_some() {
            return Next::Settled(None);
        }
        let verdict = self.told(self.judge_auth(key, &resource)).await;
        match self.report_auth(key, &resource, &verdict).await {
            Ok(()) => Next::Settled(None),
            Err(problem) => Next::Failed(problem),
        }
    }

    fn judge_auth(&self, key: &ResourceKey, resource: &VaultAuth) -> Result<Verdict, Problem> {
        let view = self.view.borrow();
        let (connection, login) = resolve::auth(self.scope(&view), resource)?;
        let connection = permit_connection(connection, &self.policy, &self.own)?;
        permit_login(login, connection, &self.policy, &self.own)?;
        let unused = if resource.spec.storage_encryption.is_some() {
            "; spec.storageEncryption has no effect, since this operator stores no token"
        } else {
            ""
        };
        match self
            .sessions
            .last_login(&key.object)
            .map(|outcome| outcome.result)
        {
            Some(Ok(())) => Ok(Verdict::good(
                "LoggedIn",
                format!("Vault accepted the login{unused}"),
            )),
            Some(Err(problem)) => Err(problem),
            None => {
                let status = resource.status.clone().unwrap_or_default();
                // What an earlier process saw of this generation stands.
                if has_logged_in(&status.conditions, resource.metadata.generation) {
                    return Ok(Verdict::good(
                        "LoggedIn",
                        format!("Vault accepted the login{unused}"),
                    ));
                }
                Ok(Verdict::unknown(
                    "NotUsedYet",
                    format!("complete and allowed; no resource has logged in with it yet{unused}"),
                ))
            }
        }
    }

    async fn report_auth(
        &self,
        key: &ResourceKey,
        resource: &Rc<VaultAuth>,
        judged: &Result<Verdict, Problem>,
    ) -> Result<(), Problem> {
        let previous = resource.status.clone().unwrap_or_default();
        let verdict = judged.as_ref().map_or_else(Verdict::bad, Clone::clone);
        // What an earlier process met stands until there is another login.
        if verdict.truth == Truth::Unknown
            && has_failed(&previous.conditions, resource.metadata.generation)
        {
            return Ok(());
        }
        let error = judged.as_ref().err().map(ToString::to_string);
        let mut findings = verdict.findings(&[LOGIN_SEEN, "Ready"]);
        // Who applies what uses it only once it is ready would wait for ever.
        for finding in &mut findings {
            if finding.type_ == "Ready" && finding.truth == Truth::Unknown {
                finding.truth = Truth::True;
            }
        }
        let conditions = self.conditions(&previous.conditions, &findings, &resource.metadata);
        let status = VaultAuthStatus {
            valid: Some(error.is_none()),
            error: Some(error.unwrap_or_default()),
            spec_hash: None,
            observed_generation: resource.metadata.generation,
            conditions,
        };
        if self.same_status(key.kind, &status, &previous) {
            return Ok(());
        }
        let turned = reason_of(&previous.conditions) != reason_of(&status.conditions);
        let further = json!({ "valid": status.valid, "error": status.error });
        let value = report::status(&status.conditions, resource.metadata.generation, further);
        let version = self.write_status(key, &previous, value).await?;
        let mut new = VaultAuth::clone(resource);
        new.status = Some(status);
        new.metadata.resource_version = Some(version);
        self.put_unless_changed(&key.object, resource, new);
        if let (Err(problem), true) = (judged, turned) {
            self.warn(key, resource.metadata.uid.as_deref(), problem)
                .await;
        }
        Ok(())
    }

    /// The view holds what was written at once, so that the next look does not
    /// write it again before the watch has brought it; but not if the watch has
    /// brought something newer meanwhile.
    pub(super) fn put_unless_changed<T: Kept>(
        &self,
        object: &ObjectKey,
        looked_at: &Rc<T>,
        new: T,
    ) {
        let mut view = self.view.borrow_mut();
        if T::get(&view, object).is_some_and(|now| Rc::ptr_eq(&now, looked_at)) {
            T::put(&mut view, object, Some(Rc::new(new)));
        }
    }

    /// Kinds that manifests may hold but that nothing serves yet.
    pub(super) async fn reconcile_not_served(&self, key: &ResourceKey) -> Next {
        let Some((metadata, status)) = self.plain(key) else {
            self.forget(key);
            return Next::Settled(None);
        };
        if let Err(problem) = self.drop_foreign_finalizers(key, &metadata).await {
            return Next::Failed(problem);
        }
        if metadata.deletion_timestamp.is_some() {
            return Next::Settled(None);
        }
        let problem = Problem::NotServed {
            what: format!("the kind {}", key.kind),
        };
        match self.report_plain(key, &metadata, &status, &problem).await {
            Ok(()) => Next::Settled(None),
            Err(problem) => Next::Failed(problem),
        }
    }

    pub(super) fn conditions(
        &self,
        previous: &[Condition],
        findings: &[report::Finding],
        metadata: &ObjectMeta,
    ) -> Vec<Condition> {
        report::conditions(previous, findings, metadata.generation, self.clock.now())
    }

    /// Something that this connection depends on changed.
    pub fn recheck(&self, connection: &ObjectKey) {
        *self
            .suspects
            .borrow_mut()
            .entry(connection.clone())
            .or_default() += 1;
        self.wake_resource(Kind::VaultConnection, connection);
        self.wake_dependents(Kind::VaultConnection, Urgency::Routine);
    }

    /// How often it was suspected since it was last looked at: a number, so that
    /// one that comes while it is looked at is not lost.
    fn suspicion(&self, connection: &ObjectKey) -> Option<u64> {
        self.suspects.borrow().get(connection).copied()
    }
}

/// Whether a remark about the CA is made already, or none as none is due.
fn is_remarked(conditions: &[Condition], remark: &str) -> bool {
    let message = report::find(conditions, "Ready").map_or("", |told| told.message.as_str());
    match remark {
        "" => !message.contains(UNSEEN_AUTHORITY),
        remark => message.ends_with(remark),
    }
}

/// Whether the conditions of a VaultAuth tell of a login with this generation.
pub(super) fn has_logged_in(conditions: &[Condition], generation: Option<i64>) -> bool {
    report::is_true(conditions, LOGIN_SEEN, generation)
}

/// Whether the conditions of a VaultAuth tell that Vault refused it with this generation.
fn has_failed(conditions: &[Condition], generation: Option<i64>) -> bool {
    report::find(conditions, LOGIN_SEEN)
        .is_some_and(|seen| seen.reason == REFUSED && seen.observed_generation == generation)
}

pub(super) fn reason_of(conditions: &[Condition]) -> Option<(&str, &str)> {
    report::find(conditions, "Ready").map(|c| (c.status.as_str(), c.reason.as_str()))
}

/// An address without user info, for messages.
fn shown(address: &str) -> String {
    crate::problem::printable(address, 200)
}
