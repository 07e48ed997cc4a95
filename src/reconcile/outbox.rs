//! Events that wait. While somebody waits for a Secret, an event that only says
//! what went well would take its turn at the API server, where it costs as much
//! as the Secret itself: it is told afterwards, with the time of its cause.
//! Warnings never wait for that, and nothing waits long: a Vault that hangs has people
//! waiting all the time. What repeats waits for its number ([`Repeats`]). All of this
//! may be lost: events inform.

use std::cell::RefCell;
use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::engine::Engine;
use super::ports::{Clock, Cluster, Note};
use super::repeats::Repeats;
use crate::vault::Vault;

/// The most that wait: of more, each is told at once again.
const LIMIT: usize = 1000;

/// How long the oldest waits, at most.
pub(super) const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(10);

/// The events that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: RefCell<VecDeque<Note>>,
    repeats: Repeats,
}

impl Outbox {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Whether the oldest has waited long enough.
    fn is_overdue(&self, now: Timestamp) -> bool {
        let oldest = self.waiting.borrow().front().map(|note| note.at);
        oldest.is_some_and(|at| now.duration_since(at).abs() >= LONGEST_WAIT)
    }

    /// Lets an event wait; gives it back where no more may.
    fn put(&self, note: Note) -> Option<Note> {
        let mut notes = self.waiting.borrow_mut();
        if notes.len() >= LIMIT {
            return Some(note);
        }
        notes.push_back(note);
        None
    }

    /// Forgets all: who leads no longer tells nothing.
    pub(super) fn clear(&self) {
        self.waiting.take();
        self.repeats.clear();
    }

    fn take(&self) -> Option<Note> {
        let mut notes = self.waiting.borrow_mut();
        let note = notes.pop_front();
        if note.is_none() {
            notes.shrink_to_fit();
        }
        note
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Tells an event, or lets it wait for its turn. Events inform; a reconcile
    /// does not fail because one could not be told.
    pub(super) async fn publish(&self, note: Note) {
        let Some(note) = self.outbox.repeats.first(note) else {
            return;
        };
        let note = if note.warning || !self.queue.is_urgent(Some(&note.about)) {
            Some(note)
        } else {
            self.outbox.put(note)
        };
        if let Some(note) = note {
            self.publish_now(&note).await;
        }
    }

    /// Whether one that waits is to be told now.
    pub(super) fn has_to_tell(&self) -> bool {
        let now = self.clock.now();
        let waits = !self.outbox.is_empty();
        waits && (!self.queue.is_urgent(None) || self.outbox.is_overdue(now))
            || self.outbox.repeats.is_due(now)
    }

    /// Tells those that wait, until others have to wait for a Secret again.
    pub(super) async fn publish_waiting(&self) {
        while self.has_to_tell() {
            let repeated = self.outbox.repeats.take(Some(self.clock.now()));
            let Some(note) = repeated.or_else(|| self.outbox.take()) else {
                return;
            };
            self.publish_now(&note).await;
        }
    }

    /// Tells all that wait, whoever waits for what: the operator ends.
    pub(super) async fn publish_rest(&self) {
        while let Some(note) = self
            .outbox
            .take()
            .or_else(|| self.outbox.repeats.take(None))
        {
            self.publish_now(&note).await;
        }
    }

    async fn publish_now(&self, note: &Note) {
        if let Err(problem) = self.cluster.publish(note).await {
            tracing::warn!(resource = %note.about, reason = note.reason, %problem, "event not published");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Kind, ObjectKey, ResourceKey};

    fn note(number: usize) -> Note {
        Note {
            about: ResourceKey {
                kind: Kind::VaultStaticSecret,
                object: ObjectKey::new("team", number.to_string()),
            },
            uid: String::new(),
            warning: false,
            reason: "SecretSynced",
            message: String::new(),
            action: "Sync",
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn they_wait_in_order_not_without_end_and_not_for_long() {
        let outbox = Outbox::default();
        for number in 0..LIMIT {
            assert_eq!(outbox.put(note(number)), None);
        }
        assert_eq!(outbox.put(note(LIMIT)), Some(note(LIMIT)), "one too many");
        assert_eq!(outbox.take(), Some(note(0)));
        assert_eq!(outbox.put(note(LIMIT)), None, "there is room again");
        let after = |wait| Timestamp::UNIX_EPOCH + wait;
        assert!(!outbox.is_overdue(after(LONGEST_WAIT / 2)));
        assert!(outbox.is_overdue(after(LONGEST_WAIT)));
        outbox.clear();
        assert!(outbox.is_empty() && !outbox.is_overdue(after(LONGEST_WAIT)));
    }
}
