//! What the status of a resource says of its lease: the condition `LeaseRenewal`,
//! which existing tools read, and a warning where the lease is at risk.

use super::engine::Engine;
use super::grants::{Due, Terms};
use super::ledger::{secret_names, shortened};
use super::ownership::state_of_tag;
use super::parents::Parent;
use super::ports::{Clock, Cluster, Note};
use super::report::{self, Finding, Truth};
use super::sources::{Held, SecretResource, destination_of, uid_of};
use super::time::later;
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::render::{Grant, ResourceTag};
use crate::vault::Vault;

/// Type of the condition.
const LEASE_RENEWAL: &str = "LeaseRenewal";

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// How the lease stands, where there is one.
    pub(super) fn lease_finding(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        problem: Option<&Problem>,
    ) -> Option<Finding> {
        let terms = self.terms_of(resource)?;
        if let Some(finding) = self.orphan_finding(key, resource, terms) {
            return Some(finding);
        }
        let grant = self.grant_of(key, resource)?;
        if grant.lease.is_empty() || grant.seconds == 0 {
            return None;
        }
        let renewed = self.last_renewal(key, resource, &grant);
        let started = self.term.borrow().started;
        let now = self.clock.now();
        let due = terms.due(&grant, renewed, started, now);
        let lease = shortened(&grant.lease);
        let terms = Terms {
            renews: self.remembered(key).denied.is_none(),
            ..terms
        };
        let end = self.token_end_finding(key, resource, &grant, terms);
        let held = Held { grant, renewed };
        let (from, lasts) = held.since();
        let ends = later(from, lasts);
        let finding = |truth, reason, message| Finding::new(LEASE_RENEWAL, truth, reason, message);
        // Until a renewal succeeds: one is tried with each lease.
        if self.remembered(key).denied.is_some() {
            let path = held
                .grant
                .lease
                .rsplit_once('/')
                .map_or("", |(path, _)| path);
            return Some(finding(
                Truth::False,
                "LeaseRenewalDenied",
                format!(
                    "Vault's policy denies the renewal of the lease {lease}, so the credentials are replaced before it ends; with path \"sys/leases/renew/{path}/*\" {{ capabilities = [\"update\"] }} in the policy of the login's role they would stay"
                ),
            ));
        }
        if let Some(finding) = end.filter(|_| problem.is_none()) {
            return Some(finding);
        }
        Some(match problem {
            Some(problem) if !matches!(due, Due::Nothing(_)) => finding(
                Truth::False,
                "LeaseAtRisk",
                format!(
                    "the lease {lease} ends at {ends:.0} unless it can be renewed or replaced before, which is tried on: {}",
                    problem.reason()
                ),
            ),
            _ if held.grant.renewable => finding(
                Truth::True,
                "SecretLeaseRenewal",
                format!(
                    "the lease {lease}, given or renewed at {from:.0}, is renewed before it ends at {ends:.0}"
                ),
            ),
            _ => finding(
                Truth::True,
                "NotRenewable",
                format!(
                    "the lease {lease} cannot be renewed; the credentials are replaced before it ends at {ends:.0}"
                ),
            ),
        })
    }

    /// What is told of a lease whose token nobody keeps alive.
    fn orphan_finding(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        terms: Terms,
    ) -> Option<Finding> {
        let (now, started) = (self.clock.now(), self.term.borrow().started);
        let told = resource.told();
        let (lease, ends) = match self.grant_of(key, resource) {
            Some(grant) => {
                let parent = (self.ledger).parent_of(key, uid_of(resource), &grant.lease);
                if grant.lease.is_empty() || parent != Some(Parent::Unknown) {
                    return None;
                }
                let renewed = self.last_renewal(key, resource, &grant);
                let ends = Terms::expiry(&grant, renewed, now);
                (grant.lease, ends)
            }
            None => {
                let theirs = self.is_of_vso(resource) && terms.mints;
                let (lease, at) = told.lease.zip(told.renewed).filter(|_| theirs)?;
                (lease.to_owned(), Some(later(at.at, at.duration)))
            }
        };
        let at = terms.handed_over(ends, self.config.rotation.unknown_parent_spread, started);
        let [first, second] = secret_names();
        Some(Finding::new(
            LEASE_RENEWAL,
            Truth::False,
            "LeaseParentUnknown",
            format!(
                "the ledger does not know the lease {}, so nobody keeps the token alive that it hangs on; it is neither renewed nor given back, and the credentials are replaced at {at:.0}; leases stay where an operator that moves takes its Secrets {first}, {second} and {} along",
                shortened(&lease),
                "vault-tenant-operator-key"
            ),
        ))
    }

    /// What is told of a lease that would outlive the token that it hangs on.
    fn token_end_finding(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        grant: &Grant,
        terms: Terms,
    ) -> Option<Finding> {
        let parent = (self.ledger).parent_of(key, uid_of(resource), &grant.lease);
        let Some(Parent::Known(Some(token))) = parent else {
            return None;
        };
        let renewed = self.last_renewal(key, resource, grant);
        if !terms.is_outlived(grant, renewed, token, self.clock.now()) {
            return None;
        }
        let at = terms.before_token_ends(grant, token, self.term.borrow().started);
        let message = format!(
            "the lease {} would outlive the token that it hangs on, which ends at {:.0}, so the credentials are replaced at {at:.0}; {}",
            shortened(&grant.lease),
            token.at,
            token.why.mend()
        );
        let (truth, reason) = (Truth::False, "TokenOutlivedByLease");
        Some(Finding::new(LEASE_RENEWAL, truth, reason, message))
    }

    /// Whether the Secret is as the Vault Secrets Operator left it.
    fn is_of_vso(&self, resource: &dyn SecretResource) -> bool {
        let view = self.view.borrow();
        let meta = view.secrets.get(&destination_of(resource));
        meta.is_some_and(|meta| meta.vso_made)
    }

    /// A warning event, where a finding that is no good is a new one.
    pub(super) async fn warn_of(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        finding: &Finding,
        action: &'static str,
    ) {
        let before = report::find(resource.told().conditions, finding.type_);
        let known = before.is_some_and(|before| before.reason == finding.reason);
        if finding.truth == Truth::True || known {
            return;
        }
        let note = Note {
            about: key.clone(),
            uid: uid_of(resource).to_owned(),
            warning: true,
            reason: finding.reason,
            message: finding.message.clone(),
            action,
            at: self.clock.now(),
        };
        self.publish(note).await;
    }

    /// What the destination's state says that Vault gave.
    pub(super) fn grant_of(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
    ) -> Option<Grant> {
        let view = self.view.borrow();
        let meta = view.secrets.get(&destination_of(resource))?;
        state_of_tag(&ResourceTag::of(key), uid_of(resource), meta)?.grant
    }
}
