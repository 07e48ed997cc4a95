//! Events about what is given back.

use jiff::Timestamp;

use super::entry::LeaseEntry;
use super::release::Back;
use crate::reconcile::engine::Engine;
use crate::reconcile::ports::{Clock, Cluster, Note};
use crate::reconcile::secret::Work;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// An event about what a newer one has taken the place of.
    pub(super) async fn tell_released(
        &self,
        work: &Work,
        entry: &LeaseEntry,
        back: Back,
        changed_at: Timestamp,
    ) {
        let why = if !work.rotation.overlap {
            " and the rotation's strategy is replace"
        } else if self.targets(&*work.resource).is_empty() {
            ""
        } else if self.rolled_since(work, changed_at).is_some() {
            " and every target runs it"
        } else {
            " and rotation.timeout has passed"
        };
        let because = format!("{} holds a newer one{why}", work.me.secret);
        self.tell_back(work, entry, back, &because).await;
    }

    /// An event about what a resource of the same name was given that is gone.
    pub(super) async fn tell_gone(&self, work: &Work, entry: &LeaseEntry, back: Back) {
        let because = "it was made for a resource of the same name that is gone";
        self.tell_back(work, entry, back, because).await;
    }

    /// An event about a lease that ended although pods may still use it.
    pub(super) async fn tell_ended(&self, work: &Work, entry: &LeaseEntry) {
        let message = format!(
            "{} ended before every target ran the newer one that {} holds: pods that still use it are refused",
            entry.shown(),
            work.me.secret
        );
        let note = Note {
            about: work.key.clone(),
            uid: work.me.uid.clone(),
            warning: true,
            reason: "LeaseEnded",
            message,
            action: "Release",
            at: self.clock.now(),
        };
        self.publish(note).await;
    }

    async fn tell_back(&self, work: &Work, entry: &LeaseEntry, back: Back, because: &str) {
        let certificate = entry.lease.is_empty();
        let shown = entry.shown();
        if back == Back::Unknown {
            let message = format!(
                "{shown} is of no use any more, and cannot be revoked: Vault does not know it, as with a role that has no_store; it lives to its end: take no_store off the role, or spec.revoke off this resource"
            );
            let note = Note {
                about: work.key.clone(),
                uid: work.me.uid.clone(),
                warning: true,
                reason: "CertificateRevocationError",
                message,
                action: "Revoke",
                at: self.clock.now(),
            };
            self.publish(note).await;
            return;
        }
        let (reason, what) = match (certificate, back) {
            (true, Back::Revoked) => ("CertificateRevoked", "is revoked"),
            // Nothing happened to it.
            (true, _) => return,
            (false, Back::Left(_)) => ("LeaseReleased", "is left to its end"),
            (false, _) => ("LeaseReleased", "is given back"),
        };
        let message = format!("{shown} {what}: {because}");
        self.tell(work, reason, message).await;
    }
}
