//! What the ledger knows of the lease that a Secret names.

use super::{Entry, Ledger};
use crate::key::ResourceKey;
use crate::reconcile::engine::Engine;
use crate::reconcile::ownership::state_of;
use crate::reconcile::parents::Parent;
use crate::reconcile::ports::{Clock, Cluster};
use crate::reconcile::secret::Work;
use crate::vault::Vault;

impl Ledger {
    /// What is known of a lease of this resource; `None` while nothing is read.
    pub fn parent_of(&self, resource: &ResourceKey, uid: &str, lease: &str) -> Option<Parent> {
        if !self.loaded.get() {
            return None;
        }
        let entries = self.entries.borrow();
        let is_it = |entry: &&Entry| match entry {
            Entry::Lease(one) => {
                let same = one.lease == lease && one.uid == uid;
                same && one.resource().as_ref() == Some(resource)
            }
            Entry::Token(_) => false,
        };
        let known = entries
            .values()
            .find(is_it)
            .is_some_and(|entry| match entry {
                Entry::Lease(one) => entries.contains_key(&one.token),
                Entry::Token(_) => false,
            });
        Some(if known {
            Parent::Known
        } else {
            Parent::Unknown
        })
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Whether the Secret names a lease that the ledger does not know.
    pub(in crate::reconcile) fn is_orphaned(&self, work: &Work) -> bool {
        let view = self.view.borrow();
        let meta = view.secrets.get(&work.permitted.destination().secret);
        let grant = meta.and_then(|meta| state_of(&work.me, meta)?.grant);
        let lease = grant.map(|grant| grant.lease).filter(|l| !l.is_empty());
        lease.is_some_and(|lease| {
            let parent = self.ledger.parent_of(&work.key, &work.me.uid, &lease);
            parent == Some(Parent::Unknown)
        })
    }
}
