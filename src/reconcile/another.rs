//! Another controller at work on our resources: the Vault Secrets Operator, say,
//! which serves the whole cluster. Two of them would rotate and restart against
//! each other, so this one writes nothing for such a resource, says so once, and
//! goes on when the other one has been quiet for a while. Leases it renews meanwhile.
//!
//! Managed fields tell (Kubernetes, "Server-Side Apply"): who wrote the status,
//! or a finalizer that only that operator sets.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::engine::{Engine, Next};
use super::finalizers::FOREIGN;
use super::grants::{Due, Terms};
use super::kept::{Kept, of_kind};
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::secret::Work;
use super::time::later;
use super::view::View;
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::problem::{Problem, printable};
use crate::render::Grant;
use crate::vault::Vault;

/// Our own manager of status, and those of people and of Kubernetes itself.
const EXPECTED: [&str; 2] = [super::CONTROLLER, "kube-controller-manager"];

/// `kubectl`, and what its commands call themselves: `kubectl-edit`.
const PEOPLE: &str = "kubectl";

/// After its last write another controller is taken to be alive for so long.
const ALIVE: SignedDuration = SignedDuration::from_mins(15);

/// Between two tries to renew a lease meanwhile.
const PAUSE: Duration = Duration::from_secs(5);

/// The entries of other controllers, without the fields.
#[must_use]
pub fn of_others(entries: Vec<ManagedFieldsEntry>) -> Option<Vec<ManagedFieldsEntry>> {
    let others: Vec<ManagedFieldsEntry> = entries
        .into_iter()
        .filter(is_of_another)
        .map(|entry| ManagedFieldsEntry {
            fields_v1: None,
            ..entry
        })
        .collect();
    (!others.is_empty()).then_some(others)
}

fn is_of_another(entry: &ManagedFieldsEntry) -> bool {
    let name = entry.manager.as_deref().unwrap_or_default();
    if EXPECTED.contains(&name) || name.starts_with(PEOPLE) {
        return false;
    }
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    let finalizers = fields.and_then(|fields| fields.pointer("/f:metadata/f:finalizers"));
    let sets = |finalizer: &&str| {
        let item = format!("v:\"{finalizer}\"");
        finalizers.is_some_and(|owned| owned.get(item).is_some())
    };
    // Manifests that somebody applies anew may bring the finalizers along.
    let updates = entry.operation.as_deref() == Some("Update");
    entry.subresource.as_deref() == Some("status") || updates && FOREIGN.iter().any(sets)
}

/// The manager that wrote last since `started`, while it is taken to be alive; `known` is
/// what was found before. An entry goes when all its fields have been written by others.
fn at_work(
    entries: &[ManagedFieldsEntry],
    known: Option<(String, Timestamp)>,
    started: Timestamp,
    now: Timestamp,
) -> Option<(String, Timestamp)> {
    let named = entries.iter().filter_map(|entry| {
        let name = printable(entry.manager.as_deref().unwrap_or_default(), 80);
        Some((name, time(entry)?))
    });
    let (name, wrote) = named.chain(known).max_by_key(|(_, wrote)| *wrote)?;
    // Times of managed fields are whole seconds.
    let since = wrote.as_second() > started.as_second();
    (since && now.duration_since(wrote).abs() < ALIVE).then_some((name, wrote))
}

fn time(entry: &ManagedFieldsEntry) -> Option<Timestamp> {
    entry.time.as_ref().map(|time| time.0)
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// How a reconcile ends where another controller is at work.
    pub(super) async fn leave_to_another(&self, key: &ResourceKey) -> Option<Next> {
        let (started, now) = (self.term.borrow().started, self.clock.now());
        let (uid, entries) = of_kind!(key.kind, entries(&self.view.borrow(), &key.object))?;
        let told = self.remembered(key).told_another;
        let told = told.filter(|(of, _)| *of == uid).map(|(_, told)| told);
        let (manager, wrote) = at_work(&entries, told.clone(), started, now)?;
        let problem = Problem::AnotherController {
            manager: manager.clone(),
        };
        let told = told.is_some_and(|(_, told)| wrote.duration_since(told) < ALIVE);
        // The other one may overwrite what is told; it is not told again and again.
        if !told {
            tracing::warn!(resource = %key, %problem, "another controller is at work");
            if let Err(problem) = self.report_problem(key, &problem).await {
                return Some(Next::Failed(problem));
            }
        }
        let due = self.keep_leases(key).await;
        let work = WorkKey::Resource(key.clone());
        let mut memory = self.memory.borrow_mut();
        let entry = memory.entry(work.clone()).or_default();
        entry.told_another = Some((uid, (manager, wrote)));
        drop(memory);
        if let Some(due) = due {
            self.queue.wake_at(work, due, Urgency::Routine);
        }
        Some(Next::Failed(problem))
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Leases are renewed all the same: that writes nothing into the cluster, and pods
    /// keep what they began with. Says when the next renewal is due.
    async fn keep_leases(&self, key: &ResourceKey) -> Option<Timestamp> {
        let resource = self.view.borrow().writer(key)?;
        let work = self.prepare(key, &resource).ok()?;
        let terms = work.terms?;
        self.load_ledger().await.ok()?;
        let mut again = Vec::new();
        let current = self.grant_of(key, &*resource);
        // A state is what a tenant can write: what is renewed is in the ledger.
        let known = |grant: &Grant| self.ledger.token_of(key, &grant.lease).is_some();
        if let Some(grant) = current.as_ref().filter(|grant| known(grant)) {
            again.extend(self.keep_current(&work, terms, grant).await);
        }
        for (_, lease) in self.ledger.leases_of(key) {
            let is_current = current.as_ref().is_some_and(|current| lease.is_of(current));
            if lease.uid == work.me.uid && !is_current {
                again.extend(self.keep_alive(key, &lease).await.again());
            }
        }
        // For the metrics; status is the other one's.
        let _ = self.lifetime(key, &*resource, None);
        again.into_iter().min()
    }

    /// Renews what the Secret holds where that is due. What can't be renewed ends.
    async fn keep_current(&self, work: &Work, terms: Terms, grant: &Grant) -> Option<Timestamp> {
        let started = self.term.borrow().started;
        let due = || {
            let memory = self.remembered(&work.key);
            let over = [memory.lost, memory.denied].into_iter().flatten();
            let over = over.into_iter().any(|lease| lease == grant.lease);
            let renewed = self.last_renewal(&work.key, &*work.resource, grant);
            let due = terms.due(grant, renewed, started, self.clock.now());
            (!over).then_some(due)
        };
        if due()? == Due::Renewal
            && let Err(problem) = self.renew(work, grant).await
        {
            tracing::info!(resource = %work.key, %problem, "a lease could not be renewed");
        }
        match due()? {
            Due::Nothing(at) => at,
            Due::Renewal => Some(later(self.clock.now(), PAUSE)),
            Due::Replacement => None,
        }
    }
}

/// The uid and the entries of an object, if it is there.
fn entries<T: Kept>(view: &View, object: &ObjectKey) -> Option<(String, Vec<ManagedFieldsEntry>)> {
    let found = T::get(view, object)?;
    let meta = found.meta();
    let uid = meta.uid.clone().unwrap_or_default();
    Some((uid, meta.managed_fields.clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn entry(
        manager: &str,
        subresource: &str,
        second: i64,
        fields: serde_json::Value,
    ) -> ManagedFieldsEntry {
        serde_json::from_value(json!({
            "manager": manager, "operation": "Update", "subresource": subresource,
            "time": Timestamp::from_second(second).unwrap(), "fieldsV1": fields,
        }))
        .unwrap()
    }

    #[test]
    fn who_writes_status_or_those_finalizers_is_another_controller() {
        let status = json!({ "f:status": {} });
        let finalizer = json!({ "f:metadata": { "f:finalizers": {
            "v:\"vaultstaticsecret.secrets.hashicorp.com/finalizer\"": {},
        } } });
        let other = json!({ "f:metadata": { "f:finalizers": { "v:\"argocd\"": {} } } });
        let cases = [
            (
                entry("vault-secrets-operator", "status", 1, status.clone()),
                true,
            ),
            (entry("manager", "", 1, finalizer), true),
            (entry("argocd", "", 1, other), false),
            (entry("helm", "", 1, json!({ "f:spec": {} })), false),
            (entry("kubectl-edit", "status", 1, status.clone()), false),
            (
                entry("kube-controller-manager", "status", 1, status.clone()),
                false,
            ),
            (
                entry(crate::reconcile::CONTROLLER, "status", 1, status),
                false,
            ),
        ];
        for (entry, another) in cases {
            assert_eq!(
                of_others(vec![entry.clone()]).is_some(),
                another,
                "{entry:?}"
            );
        }
    }

    #[test]
    fn it_is_at_work_from_our_start_until_it_is_quiet() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let wrote = |second| vec![entry("other", "status", second, json!({}))];
        let alive = |second, now| at_work(&wrote(second), None, at(1000), at(now)).is_some();
        assert!(!alive(1000, 1001), "before we started");
        assert!(alive(1001, 1001) && alive(1001, 1900) && !alive(1001, 1901));
        assert!(at_work(&[], None, at(0), at(1)).is_none());
    }

    #[test]
    fn it_is_at_work_though_its_fields_were_overwritten() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let known = |second| Some(("other".to_owned(), at(second)));
        let found = |second, now| at_work(&[], known(second), at(1000), at(now));
        assert_eq!(found(1001, 1900), known(1001));
        assert_eq!(found(1001, 1901), None);
        assert_eq!(found(1000, 1001), None);
    }
}
