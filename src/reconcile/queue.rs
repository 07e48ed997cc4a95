//! One bounded queue of keys: each key at most once, ready ones ordered by
//! urgency, later ones by time, never the same key twice at a time. Single
//! threaded; holds no business state, so losing it loses nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::sources;
use super::view::WorkloadKey;
use crate::key::{ObjectKey, ResourceKey};

/// What can be worked on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkKey {
    /// A custom resource.
    Resource(ResourceKey),
    /// A workload that may have to restart.
    Workload(WorkloadKey),
    /// A Vault that is away, to be asked whether it is back.
    Vault(Lane),
    /// The ledger, to be read.
    Ledger,
    /// A token that leases hang on, by the name of its entry in the ledger.
    Token(String),
}

/// What goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Somebody waits: a new or edited resource, a missing or edited Secret.
    Now,
    /// Periodic work.
    Routine,
}

/// What a key's work may wait for: the VaultConnection that it goes through
/// (without a name for the configuration's own), or `None` for no Vault. So that a
/// Vault that hangs takes up its own places alone.
pub type Lane = Option<ObjectKey>;

/// Trees throughout: unlike tables they give back what a storm of keys took.
#[derive(Debug, Default)]
struct Inner {
    ready: BTreeSet<(Urgency, u64, WorkKey)>,
    ready_as: BTreeMap<WorkKey, (Urgency, u64)>,
    later: BTreeMap<(Timestamp, WorkKey), Urgency>,
    later_as: BTreeMap<WorkKey, Timestamp>,
    running: BTreeMap<WorkKey, Urgency>,
    parked: BTreeMap<Lane, BTreeSet<(Urgency, u64, WorkKey)>>,
    parked_as: BTreeMap<WorkKey, (Lane, Urgency, u64)>,
    again: BTreeMap<WorkKey, Urgency>,
    /// Since when those are due that came to their time and are not done.
    due: BTreeMap<WorkKey, Timestamp>,
    held: bool,
    sequence: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    inner: RefCell<Inner>,
    changed: Notify,
}

impl Queue {
    /// Asks for work on `key` as soon as possible. While it is being worked on,
    /// it is noted and comes again afterwards.
    pub fn wake(&self, key: WorkKey, urgency: Urgency) {
        let mut inner = self.inner.borrow_mut();
        if inner.running.contains_key(&key) {
            let noted = inner.again.entry(key).or_insert(urgency);
            *noted = urgency.min(*noted);
            return;
        }
        // It may have changed lanes meanwhile.
        let parked = inner.take_parked(&key);
        let urgency = parked.map_or(urgency, |parked| parked.min(urgency));
        inner.make_ready(key, urgency);
        self.changed.notify_one();
    }

    /// Asks for work on `key` at `time`, unless it is due earlier.
    pub fn wake_at(&self, key: WorkKey, time: Timestamp, urgency: Urgency) {
        let mut inner = self.inner.borrow_mut();
        if inner.ready_as.contains_key(&key)
            || inner.parked_as.contains_key(&key)
            || inner.later_as.get(&key).is_some_and(|at| *at <= time)
        {
            return;
        }
        inner.drop_later(&key);
        inner.later.insert((time, key.clone()), urgency);
        inner.later_as.insert(key, time);
        self.changed.notify_one();
    }

    /// Takes the most urgent key that is ready at `now`; it then counts as
    /// being worked on until [`Queue::done`].
    pub fn take(&self, now: Timestamp) -> Option<WorkKey> {
        let mut inner = self.inner.borrow_mut();
        if inner.held {
            return None;
        }
        while let Some(((time, _), _)) = inner.later.first_key_value() {
            if *time > now {
                break;
            }
            let Some(((time, key), urgency)) = inner.later.pop_first() else {
                break;
            };
            inner.later_as.remove(&key);
            inner.due.insert(key.clone(), time);
            if inner.running.contains_key(&key) {
                // Put off by somebody, and woken meanwhile by another.
                let noted = inner.again.entry(key).or_insert(urgency);
                *noted = urgency.min(*noted);
                continue;
            }
            inner.make_ready(key, urgency);
        }
        let (urgency, _, key) = inner.ready.pop_first()?;
        inner.ready_as.remove(&key);
        inner.running.insert(key.clone(), urgency);
        Some(key)
    }

    /// Puts back a key that was taken, until a place in its lane is free.
    pub fn park(&self, key: WorkKey, lane: Lane) {
        let mut inner = self.inner.borrow_mut();
        let Some(urgency) = inner.running.remove(&key) else {
            return;
        };
        inner.sequence += 1;
        let place = (urgency, inner.sequence, key.clone());
        inner
            .parked_as
            .insert(key, (lane.clone(), urgency, place.1));
        inner.parked.entry(lane).or_default().insert(place);
    }

    /// A place in the lane is free: its most urgent key becomes ready.
    pub fn unpark(&self, lane: &Lane) {
        let mut inner = self.inner.borrow_mut();
        let first = inner.parked.get(lane).and_then(BTreeSet::first).cloned();
        if let Some((urgency, _, key)) = first {
            inner.take_parked(&key);
            inner.make_ready(key, urgency);
            self.changed.notify_one();
        }
    }

    /// Work on `key` ended.
    pub fn done(&self, key: &WorkKey) {
        let mut inner = self.inner.borrow_mut();
        inner.running.remove(key);
        inner.due.remove(key);
        if let Some(urgency) = inner.again.remove(key) {
            inner.make_ready(key.clone(), urgency);
            self.changed.notify_one();
        }
    }

    /// Whether a key that somebody waits for is still to be taken, or a resource
    /// that somebody waits for is in work; of these not `beside`.
    pub fn is_urgent(&self, beside: Option<&ResourceKey>) -> bool {
        let inner = self.inner.borrow();
        let in_work = inner.running.iter().any(|(key, urgency)| {
            let WorkKey::Resource(resource) = key else {
                return false;
            };
            *urgency == Urgency::Now
                && sources::KINDS.contains(&resource.kind)
                && beside != Some(resource)
        });
        if in_work {
            return true;
        }
        let is_urgent = |keys: &BTreeSet<(Urgency, u64, WorkKey)>| {
            keys.first()
                .is_some_and(|(first, ..)| *first == Urgency::Now)
        };
        is_urgent(&inner.ready) || inner.parked.values().any(is_urgent)
    }

    /// When the next key becomes ready by itself.
    pub fn next_time(&self) -> Option<Timestamp> {
        let inner = self.inner.borrow();
        let first = inner.later.first_key_value().filter(|_| !inner.held);
        first.map(|((time, _), _)| *time)
    }

    /// When a key comes to its turn, or when it should have, where it waits for it or is
    /// in work: `now` where it was asked for without a time; `None` where nobody has asked.
    pub fn due(&self, key: &WorkKey, now: Timestamp) -> Option<Timestamp> {
        let inner = self.inner.borrow();
        if let Some(since) = inner.due.get(key) {
            return Some(*since);
        }
        let at_once = inner.ready_as.contains_key(key)
            || inner.parked_as.contains_key(key)
            || inner.running.contains_key(key);
        let later = || inner.later_as.get(key).copied();
        at_once.then_some(now).or_else(later)
    }

    /// How many keys wait for their turn that could be worked on, by lane; `lane` tells
    /// that of a key.
    pub fn in_line(&self, lane: impl Fn(&WorkKey) -> Lane) -> BTreeMap<Lane, usize> {
        let inner = self.inner.borrow();
        let mut counts = BTreeMap::new();
        for (lane, keys) in &inner.parked {
            counts.insert(lane.clone(), keys.len());
        }
        for key in inner.ready_as.keys() {
            *counts.entry(lane(key)).or_default() += 1;
        }
        counts
    }

    /// Gives out nothing until [`Queue::resume`]; what is asked for gathers.
    pub fn hold(&self) {
        self.inner.borrow_mut().held = true;
    }

    /// Gives out keys again.
    pub fn resume(&self) {
        self.inner.borrow_mut().held = false;
        self.changed.notify_one();
    }

    /// Waits until something was added.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Inner {
    fn make_ready(&mut self, key: WorkKey, urgency: Urgency) {
        self.drop_later(&key);
        if let Some((known, sequence)) = self.ready_as.get(&key).copied() {
            if known <= urgency {
                return;
            }
            self.ready.remove(&(known, sequence, key.clone()));
        }
        self.sequence += 1;
        self.ready.insert((urgency, self.sequence, key.clone()));
        self.ready_as.insert(key, (urgency, self.sequence));
    }

    fn take_parked(&mut self, key: &WorkKey) -> Option<Urgency> {
        let (lane, urgency, sequence) = self.parked_as.remove(key)?;
        if let Some(parked) = self.parked.get_mut(&lane) {
            parked.remove(&(urgency, sequence, key.clone()));
            if parked.is_empty() {
                self.parked.remove(&lane);
            }
        }
        Some(urgency)
    }

    fn drop_later(&mut self, key: &WorkKey) {
        if let Some(time) = self.later_as.remove(key) {
            self.later.remove(&(time, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key::{Kind, ObjectKey};

    fn key(name: &str) -> WorkKey {
        WorkKey::Resource(ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", name),
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn drain(queue: &Queue, now: i64) -> Vec<WorkKey> {
        std::iter::from_fn(|| queue.take(at(now))).collect()
    }

    #[test]
    fn urgent_first_then_in_order_each_once() {
        let queue = Queue::default();
        queue.wake(key("a"), Urgency::Routine);
        queue.wake(key("b"), Urgency::Now);
        queue.wake(key("c"), Urgency::Routine);
        queue.wake(key("c"), Urgency::Now);
        queue.wake(key("a"), Urgency::Routine);
        assert_eq!(drain(&queue, 0), [key("b"), key("c"), key("a")]);
    }

    #[test]
    fn later_keys_come_at_their_time_and_the_earliest_time_counts() {
        let queue = Queue::default();
        queue.wake_at(key("a"), at(20), Urgency::Routine);
        queue.wake_at(key("a"), at(10), Urgency::Routine);
        queue.wake_at(key("a"), at(30), Urgency::Routine);
        assert_eq!(
            (queue.next_time(), drain(&queue, 9)),
            (Some(at(10)), vec![])
        );
        assert_eq!(queue.due(&key("a"), at(9)), Some(at(10)));
        assert_eq!(
            (drain(&queue, 10), queue.next_time()),
            (vec![key("a")], None)
        );
        assert_eq!(queue.due(&key("a"), at(11)), Some(at(10)), "in work");
        queue.done(&key("a"));
        assert_eq!(queue.due(&key("a"), at(11)), None);
        queue.wake_at(key("a"), at(50), Urgency::Routine);
        queue.wake(key("a"), Urgency::Now);
        assert_eq!(
            (drain(&queue, 10), queue.next_time()),
            (vec![key("a")], None)
        );
    }

    #[test]
    fn a_held_queue_gathers_and_gives_nothing() {
        let queue = Queue::default();
        queue.wake_at(key("a"), at(10), Urgency::Routine);
        queue.hold();
        queue.wake(key("b"), Urgency::Now);
        assert_eq!((drain(&queue, 20), queue.next_time()), (vec![], None));
        queue.resume();
        assert_eq!(queue.next_time(), Some(at(10)));
        assert_eq!(drain(&queue, 20), [key("b"), key("a")]);
    }

    #[test]
    fn a_parked_key_waits_for_its_lane_the_most_urgent_first() {
        let queue = Queue::default();
        let lane = Some(ObjectKey::new("team", "slow"));
        for (name, urgency) in [("a", Urgency::Routine), ("b", Urgency::Routine)] {
            queue.wake(key(name), urgency);
        }
        queue.wake(key("c"), Urgency::Now);
        for key in drain(&queue, 0) {
            queue.park(key, lane.clone());
        }
        queue.wake_at(key("a"), at(1), Urgency::Routine);
        assert_eq!(drain(&queue, 5), [], "parked keys wait");
        queue.wake(key("d"), Urgency::Routine);
        let in_line = queue.in_line(|_| None);
        assert_eq!(in_line, BTreeMap::from([(lane.clone(), 3), (None, 1)]));
        assert_eq!(drain(&queue, 5), [key("d")]);
        queue.unpark(&None);
        assert_eq!(drain(&queue, 5), [], "for their own lane");
        queue.unpark(&lane);
        assert_eq!(drain(&queue, 5), [key("c")]);
        // An edit may have changed the lane: it is looked at at once.
        queue.wake(key("b"), Urgency::Now);
        assert_eq!(drain(&queue, 5), [key("b")]);
        queue.unpark(&lane);
        queue.unpark(&lane);
        assert_eq!(drain(&queue, 5), [key("a")], "and each comes once");
    }

    #[test]
    fn a_key_in_work_comes_again_afterwards_and_never_twice_at_a_time() {
        let queue = Queue::default();
        queue.wake(key("a"), Urgency::Routine);
        assert_eq!(drain(&queue, 0), [key("a")]);
        queue.wake(key("a"), Urgency::Now);
        assert_eq!(drain(&queue, 0), []);
        queue.done(&key("a"));
        assert_eq!(drain(&queue, 0), [key("a")]);
        queue.wake_at(key("a"), at(5), Urgency::Routine);
        assert_eq!(drain(&queue, 5), [], "nor by the clock");
        queue.done(&key("a"));
        assert_eq!(drain(&queue, 5), [key("a")]);
    }
}
