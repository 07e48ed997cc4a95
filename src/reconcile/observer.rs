//! What is common to all watches: the place that one follows, the list in
//! progress, and who is to be told that the place can be seen, or cannot.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use super::stores::Place;
use super::view::{Store, View};
use crate::key::ObjectKey;
use crate::problem::Problem;
use crate::vault::Vault;

/// What becomes of what a watch of one store saw.
pub trait Observer<T> {
    /// An object is there, or changed; `None` when it cannot be read.
    fn seen(&self, key: ObjectKey, object: Option<T>);
    /// An object is gone; its uid, where known.
    fn gone(&self, key: &ObjectKey, uid: Option<&str>);
    /// A list begins: what is not seen until [`Observer::listed`] is gone.
    fn listing(&self);
    /// The list is complete.
    fn listed(&self);
    /// The place cannot be watched.
    fn failing(&self, problem: &Problem);
}

/// What all observers share: the place that they watch, and the list in progress.
pub struct Base<E> {
    pub(super) engine: Rc<E>,
    place: Place,
    listing: RefCell<Option<HashSet<ObjectKey>>>,
}

impl<C: Cluster, V: Vault, K: Clock> Base<Engine<C, V, K>> {
    /// An observer's base for one store in one namespace.
    pub fn new(engine: Rc<Engine<C, V, K>>, store: Store, namespace: &str) -> Self {
        let mut view = engine.view.borrow_mut();
        view.stores.expect(store, namespace, false);
        drop(view);
        let place = Place {
            store,
            namespace: namespace.to_owned(),
            name: None,
        };
        Self::at(engine, place)
    }

    /// An observer's base for one name; its store in its namespace is expected
    /// by names ([`Engine::follow_names`]).
    pub fn at(engine: Rc<Engine<C, V, K>>, place: Place) -> Self {
        Self {
            engine,
            place,
            listing: RefCell::default(),
        }
    }

    /// What is watched.
    pub fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn note(&self, key: &ObjectKey) {
        if let Some(seen) = self.listing.borrow_mut().as_mut() {
            seen.insert(key.clone());
        }
    }

    /// Whether the list in progress should have shown this object and has not.
    pub(super) fn misses(&self, key: &ObjectKey) -> bool {
        let listing = self.listing.borrow();
        self.place.covers(key) && listing.as_ref().is_some_and(|seen| !seen.contains(key))
    }

    /// What the view knows of the place.
    pub(super) fn known(
        &self,
        all: impl FnOnce(&View) -> Vec<ObjectKey>,
        has: impl FnOnce(&View, &ObjectKey) -> bool,
    ) -> Vec<ObjectKey> {
        let view = self.engine.view.borrow();
        match &self.place.name {
            None => all(&view),
            Some(name) => {
                let key = ObjectKey::new(&self.place.namespace, name);
                has(&view, &key).then_some(key).into_iter().collect()
            }
        }
    }

    pub(super) fn begin(&self) {
        *self.listing.borrow_mut() = Some(HashSet::new());
    }

    /// Ends a list: each that was known and not seen is gone. Whoever waited for
    /// the list is woken.
    pub(super) fn end(&self, known: Vec<ObjectKey>, gone: impl Fn(ObjectKey)) {
        let seen = self.listing.borrow_mut().take().unwrap_or_default();
        let mut view = self.engine.view.borrow_mut();
        let news = view.stores.completed(&self.place);
        drop(view);
        let missing = |key: &ObjectKey| self.place.covers(key) && !seen.contains(key);
        known.into_iter().filter(missing).for_each(gone);
        // A name that is polled is listed again and again: only what it shows is news.
        if news || self.place.name.is_none() {
            self.tell();
        }
    }

    pub(super) fn fail(&self, problem: &Problem) {
        let mut view = self.engine.view.borrow_mut();
        let news = view.stores.failed(&self.place, problem);
        drop(view);
        if news {
            self.tell();
        }
    }

    /// Another answer than before to whether the place can be seen.
    fn tell(&self) {
        let engine = &self.engine;
        engine.count_failures(self.place.store, &self.place.namespace);
        match &self.place.name {
            None => engine.wake_all(),
            Some(name) => {
                let key = ObjectKey::new(&self.place.namespace, name);
                engine.wake_users(self.place.store, &key);
            }
        }
    }
}
