//! What the ledger knows of the lease that a Secret names, and of the token that it
//! hangs on.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::entry::named;
use super::{LeaseEntry, Ledger, leases};
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::reconcile::decide::Why;
use crate::reconcile::engine::Engine;
use crate::reconcile::ownership::state_of;
use crate::reconcile::parents::{Limit, Parent, TokenEnd};
use crate::reconcile::ports::{Clock, Cluster};
use crate::reconcile::queue::{Urgency, WorkKey};
use crate::reconcile::secret::Work;
use crate::render::Grant;
use crate::vault::{Token, Vault};

/// Two looks at the same end differ by rounding and by the time of the request.
const AS_GOOD_AS: SignedDuration = SignedDuration::from_secs(3);

impl Ledger {
    /// What is known of a lease of this resource; `None` while nothing is read.
    pub fn parent_of(&self, resource: &ResourceKey, uid: &str, lease: &str) -> Option<Parent> {
        if !self.loaded.get() {
            return None;
        }
        let ends = self.ends.borrow();
        let known = self.with(resource, uid, lease, |entry| entry.token.clone());
        Some(match known.filter(|token| self.has(token)) {
            Some(token) => Parent::Known(ends.get(&token).copied()),
            None => Parent::Unknown,
        })
    }

    /// Something of the entry of a lease of this resource.
    fn with<T>(
        &self,
        resource: &ResourceKey,
        uid: &str,
        lease: &str,
        of: impl FnOnce(&LeaseEntry) -> T,
    ) -> Option<T> {
        let entries = self.entries.borrow();
        let whose = named(resource);
        let found = leases(&entries)
            .find(|(_, one)| one.lease == lease && one.uid == uid && one.of == whose);
        found.map(|(_, one)| of(one))
    }

    /// The resources with a lease that hangs on a token.
    fn hanging_on(&self, token: &str) -> BTreeSet<ResourceKey> {
        let entries = self.entries.borrow();
        let hang = leases(&entries).filter(|(_, lease)| lease.token == token);
        hang.filter_map(|(_, lease)| lease.resource()).collect()
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// What the Secret says that it holds.
    fn named_grant(&self, work: &Work) -> Option<Grant> {
        let view = self.view.borrow();
        let meta = view.secrets.get(&work.permitted.destination().secret)?;
        state_of(&work.me, meta)?.grant
    }

    /// The lease that the Secret names.
    fn named_lease(&self, work: &Work) -> Option<String> {
        let grant = self.named_grant(work)?;
        Some(grant.lease).filter(|lease| !lease.is_empty())
    }

    /// Whether the Secret names a lease that the ledger does not know.
    pub(in crate::reconcile) fn is_orphaned(&self, work: &Work) -> bool {
        self.named_lease(work).is_some_and(|lease| {
            let parent = self.ledger.parent_of(&work.key, &work.me.uid, &lease);
            parent == Some(Parent::Unknown)
        })
    }

    /// Whether the Secret names a lease or a certificate that the ledger does not know.
    pub(super) fn names_a_stranger(&self, work: &Work) -> bool {
        self.named_grant(work).is_some_and(|grant| {
            let nothing = grant.lease.is_empty() && grant.serial.is_empty();
            let mut known = self.ledger.leases_of(&work.key).into_iter();
            !nothing && !known.any(|(_, entry)| entry.uid == work.me.uid && entry.is_of(&grant))
        })
    }

    /// Makes sure that what is asked for next hangs on a token that lives on, where the
    /// present one ends for certain.
    ///
    /// # Errors
    /// Why there is no token.
    pub(in crate::reconcile) async fn outlast(&self, work: &Work) -> Result<(), Problem> {
        let login = work.permitted.login();
        let due = work.why == Some(Why::Due);
        let spent = self.named_lease(work).filter(|_| due).and_then(|lease| {
            let token = |entry: &LeaseEntry| entry.token.clone();
            self.ledger.with(&work.key, &work.me.uid, &lease, token)
        });
        let is_spent = |token: &Token| Some(self.token_name(token)) == spent;
        let ready = self.sessions.outlast(login, self.clock.now(), &is_spent);
        self.ask(&work.key, login.connection(), ready).await
    }

    /// Remembers when a token ends for certain; whoever hangs on it looks again.
    pub(super) fn note_end(&self, name: &str, end: Option<(Timestamp, Limit)>) {
        let known = self.ledger.ends.borrow().get(name).copied();
        let same = match (known, end) {
            (None, None) => true,
            (Some(known), Some((at, why))) => {
                known.why == why && known.at.duration_since(at).abs() < AS_GOOD_AS
            }
            _ => false,
        };
        if same {
            return;
        }
        let mut ends = self.ledger.ends.borrow_mut();
        if let Some((at, why)) = end {
            let known = known.map_or_else(|| self.clock.now(), |known| known.known);
            ends.insert(name.to_owned(), TokenEnd { at, known, why });
        } else {
            ends.remove(name);
        }
        drop(ends);
        for resource in self.ledger.hanging_on(name) {
            self.wake_targets(&resource);
            self.queue
                .wake(WorkKey::Resource(resource), Urgency::Routine);
        }
    }
}
