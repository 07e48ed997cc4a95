//! Where the Role knows only names: one watch for each of the first names of a
//! store in a namespace, and a look now and then at each further one. Names come
//! and go with the resources that name them. One that is refused keeps no other
//! waiting, and is tried again for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kube::Resource;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::Operator;
use super::watches::{self, Health, apart, selector};
use crate::reconcile::observe::{Base, Observer};
use crate::reconcile::stores::Place;
use crate::reconcile::view::Store;

/// The most names of a store that are watched in a namespace: each watch holds
/// a stream open and costs about 60 kB.
const WATCHES_LIMIT: usize = 32;

/// Looks at the same time.
const LOOKS_LIMIT: usize = 8;

/// Before the second look at a name whose first one failed.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// What is followed, and who observes it.
pub struct Names<K, Cut, Observe> {
    /// Says which names, and takes what is seen.
    pub engine: Rc<Operator>,
    /// The objects of the namespace.
    pub api: Api<K>,
    /// Which store they fill.
    pub store: Store,
    /// Where.
    pub namespace: String,
    /// Where it is told how they fare.
    pub health: Health,
    /// Reduces an object to what is kept of it.
    pub cut: Cut,
    /// An observer of one name.
    pub observe: Observe,
    /// How often a name is looked at that is not watched.
    pub interval: Duration,
}

/// A name that is looked at now and then.
struct Polled<O> {
    observer: O,
    due: Instant,
    failures: u32,
}

/// The names that are followed now.
struct Followed<O> {
    watched: BTreeMap<String, AbortHandle>,
    polled: BTreeMap<String, Polled<O>>,
    /// The names that are not being looked at, by when they are due.
    due: BTreeSet<(Instant, String)>,
    watches: JoinSet<()>,
}

impl<K, T, Cut, O, Observe> Names<K, Cut, Observe>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    Cut: Fn(K) -> Option<T> + Clone + 'static,
    O: Observer<T> + 'static,
    Observe: Fn(Base<Operator>) -> O + 'static,
    T: 'static,
{
    /// Follows the names for ever.
    pub async fn run(self) {
        let changes = self.engine.follow_names(self.store, &self.namespace);
        let mut names = Followed {
            watched: BTreeMap::new(),
            polled: BTreeMap::new(),
            due: BTreeSet::new(),
            watches: JoinSet::new(),
        };
        let mut looks = FuturesUnordered::new();
        self.update(&mut names);
        loop {
            while looks.len() < LOOKS_LIMIT
                && let Some(name) = names.take_due()
            {
                looks.push(self.look(name));
            }
            let next = names.due.first().map(|(due, _)| *due);
            let full = looks.len() >= LOOKS_LIMIT;
            tokio::select! {
                () = changes.notified() => self.update(&mut names),
                Some((name, found)) = looks.next() => self.looked(&mut names, name, found),
                () = until(next), if !full => {}
            }
        }
    }

    fn place(&self, name: &str) -> Place {
        Place {
            store: self.store,
            namespace: self.namespace.clone(),
            name: Some(name.to_owned()),
        }
    }

    /// Begins to follow what is named, and ends following what isn't.
    fn update(&self, names: &mut Followed<O>) {
        let wanted = self.engine.wanted(self.store, &self.namespace);
        let followed = names.watched.keys().chain(names.polled.keys());
        let dropped: Vec<String> = followed
            .filter(|name| !wanted.contains(*name))
            .cloned()
            .collect();
        for name in dropped {
            names.drop(&name);
            let place = self.place(&name);
            self.health.well(&place);
            self.engine.forget_place(&place);
        }
        for name in wanted {
            if names.watched.contains_key(&name) {
                continue;
            }
            if names.watched.len() < WATCHES_LIMIT {
                // One that was only looked at gets the free place.
                names.drop(&name);
                let handle = names.watches.spawn_local(self.watch(&name));
                names.watched.insert(name, handle);
            } else if !names.polled.contains_key(&name) {
                let polled = Polled {
                    observer: self.observer(&name),
                    due: Instant::now(),
                    failures: 0,
                };
                names.due.insert((polled.due, name.clone()));
                names.polled.insert(name, polled);
            }
        }
    }

    fn observer(&self, name: &str) -> O {
        (self.observe)(Base::at(Rc::clone(&self.engine), self.place(name)))
    }

    fn watch(&self, name: &str) -> impl Future<Output = ()> + use<K, T, Cut, O, Observe> {
        let (api, place, health) = (self.api.clone(), self.place(name), self.health.clone());
        let (cut, observer) = (self.cut.clone(), self.observer(name));
        async move { watches::run(api, place, health, cut, observer).await }
    }

    /// One look: a list of what has this name, since that needs no other right
    /// than a watch does, and of Secrets it has the metadata alone.
    async fn look(&self, name: String) -> (String, kube::Result<Vec<K>>) {
        let params = ListParams::default().fields(&selector(&name));
        let found = self.api.list(&params).await;
        (name, found.map(|list| list.items))
    }

    fn looked(&self, names: &mut Followed<O>, name: String, found: kube::Result<Vec<K>>) {
        // It may be watched, or named by nobody, since.
        let Some(polled) = names.polled.get_mut(&name) else {
            return;
        };
        let place = self.place(&name);
        // One that was named by nobody for a moment is due already.
        names.due.remove(&(polled.due, name.clone()));
        polled.due = Instant::now() + apart(&name, self.interval);
        match found {
            Ok(objects) => {
                polled.failures = 0;
                watches::listed(objects, &self.cut, &polled.observer);
                self.health.well(&place);
            }
            Err(error) => {
                polled.failures = polled.failures.saturating_add(1);
                let retry = FIRST_RETRY * (1 << polled.failures.min(16));
                polled.due = polled.due.min(Instant::now() + retry);
                self.health.failed(&place, &error, &polled.observer);
            }
        }
        names.due.insert((polled.due, name));
    }
}

impl<O> Followed<O> {
    /// Ends following a name, if it was.
    fn drop(&mut self, name: &str) {
        if let Some(handle) = self.watched.remove(name) {
            handle.abort();
        }
        if let Some(polled) = self.polled.remove(name) {
            self.due.remove(&(polled.due, name.to_owned()));
        }
        // What has ended needs no place among the tasks.
        while self.watches.try_join_next().is_some() {}
    }

    /// The next name that is due now.
    fn take_due(&mut self) -> Option<String> {
        let (due, _) = self.due.first()?;
        if *due > Instant::now() {
            return None;
        }
        self.due.pop_first().map(|(_, name)| name)
    }
}

/// Until a time, or for ever.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
