//! The ledger: what Vault made and must be given back one day, with all that
//! takes, in Secrets of the operator's own. The resource, its VaultAuth and its
//! Role may be gone by then.
//!
//! ```text
//! token entry   accessor, connection, login       written before the first request with the token
//!   ^
//! lease entry   resource, lease id, path, revoke   written before the Secret that holds the credentials
//! ```
//!
//! Entries are merged in and taken out one by one, so that nobody's else is
//! dropped; what is read back is input, and permitted again before it is used.

mod alive;
mod certificates;
mod entry;
mod events;
mod keep;
mod parents;
mod present;
mod release;
mod retire;
mod tokens;
mod unseen;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub(super) use alive::KeptAlive;
pub use entry::{Entry, LeaseEntry, TokenEntry};
pub(in crate::reconcile) use release::Release;
pub use release::shortened;
pub use tokens::TokenLife;

use super::parents::TokenEnd;
use crate::key::{ObjectKey, ResourceKey};
use crate::render::Grant;

/// In how many Secrets the ledger lies. One holds some two thousand leases.
pub const SHARDS: usize = 2;

/// The names of those Secrets.
#[must_use]
pub fn secret_names() -> [String; SHARDS] {
    std::array::from_fn(|shard| format!("vault-tenant-operator-ledger-{shard}"))
}

/// The Secret that an entry lies in.
fn place(home: &str, entry: &str) -> ObjectKey {
    let sum = entry.bytes().map(usize::from).sum::<usize>();
    let shard = sum % SHARDS;
    ObjectKey::new(home, secret_names()[shard].as_str())
}

/// What the ledger holds, as far as this process has read and written it.
#[derive(Debug, Default)]
pub struct Ledger {
    loaded: Cell<bool>,
    /// Whether it was read again once nothing of another process could arrive any more.
    complete: Cell<bool>,
    entries: RefCell<BTreeMap<String, Entry>>,
    /// Those that another process wrote.
    older: RefCell<BTreeSet<String>>,
    /// When tokens end, by the names of their entries, as Vault said last; `None`: never.
    told_ends: RefCell<BTreeMap<String, Option<Timestamp>>>,
    /// When tokens end for certain, by the names of their entries.
    ends: RefCell<BTreeMap<String, TokenEnd>>,
    /// Tokens that requests for something new carry, with how many.
    carried: RefCell<BTreeMap<String, usize>>,
    /// One writer at a time: whoever comes second may find it done.
    gate: tokio::sync::Mutex<()>,
    /// Since when leases could not be given back, by the names of their entries.
    stuck: RefCell<BTreeMap<String, Timestamp>>,
    /// Of which of them the log warns, by the names of their entries.
    warned: RefCell<BTreeSet<String>>,
}

impl Ledger {
    /// Forgets all that it knows: another process may have written since.
    pub fn forget(&self) {
        self.loaded.set(false);
        self.complete.set(false);
        self.entries.borrow_mut().clear();
        self.older.borrow_mut().clear();
        self.ends.borrow_mut().clear();
        self.told_ends.borrow_mut().clear();
        self.stuck.borrow_mut().clear();
        self.warned.borrow_mut().clear();
    }

    /// The leases of a resource, under whatever uid, with the names of their entries.
    pub fn leases_of(&self, resource: &ResourceKey) -> Vec<(String, LeaseEntry)> {
        let entries = self.entries.borrow();
        let whose = entry::named(resource);
        let of = leases(&entries).filter(|(_, lease)| lease.of == whose);
        of.map(|(name, lease)| (name.clone(), lease.clone()))
            .collect()
    }

    /// Whether a resource has a lease beside its present one.
    pub fn has_others(&self, resource: &ResourceKey, uid: &str, present: &Grant) -> bool {
        !self.others(resource, uid, present).is_empty()
    }

    /// The leases of a resource beside its present one.
    pub fn others(&self, resource: &ResourceKey, uid: &str, present: &Grant) -> Vec<LeaseEntry> {
        let others = self.leases_of(resource).into_iter();
        let others = others.filter(|(_, lease)| lease.uid == uid && !lease.is_of(present));
        others.map(|(_, lease)| lease).collect()
    }

    /// When the token of this entry ends, where nothing puts that off.
    pub fn certain_end(&self, token: &str) -> Option<Timestamp> {
        self.ends.borrow().get(token).map(|end| end.at)
    }

    /// Whether it was read.
    pub fn is_loaded(&self) -> bool {
        self.loaded.get()
    }

    /// How many leases there are.
    fn count_leases(&self) -> usize {
        let entries = self.entries.borrow();
        let with_id = leases(&entries).filter(|(_, lease)| !lease.lease.is_empty());
        with_id.count()
    }

    /// All resources that a lease was made for.
    pub fn resources(&self) -> BTreeSet<ResourceKey> {
        let entries = self.entries.borrow();
        let of = leases(&entries).filter_map(|(_, lease)| lease.resource());
        of.collect()
    }

    /// The Secrets whose keys go with their resources.
    pub fn cleared(&self) -> Vec<ObjectKey> {
        let entries = self.entries.borrow();
        let of = leases(&entries).filter_map(|(_, lease)| {
            let namespace = lease.resource()?.object.namespace;
            Some(ObjectKey::new(namespace, lease.clears.clone()?))
        });
        of.collect()
    }

    /// The tokens, with the names of their entries.
    pub fn tokens(&self) -> Vec<(String, TokenEntry)> {
        let entries = self.entries.borrow();
        let of = entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Token(token) => Some((name.clone(), (**token).clone())),
            Entry::Lease(_) => None,
        });
        of.collect()
    }

    /// The token of an entry.
    pub fn token(&self, name: &str) -> Option<TokenEntry> {
        match self.entries.borrow().get(name) {
            Some(Entry::Token(token)) => Some((**token).clone()),
            _ => None,
        }
    }

    /// Whether a lease hangs on a token.
    pub fn is_in_use(&self, token: &str) -> bool {
        let entries = self.entries.borrow();
        leases(&entries).any(|(_, lease)| lease.token == token && !lease.lease.is_empty())
    }

    /// Whether a certificate came with a token, whose entry says how to log in for it.
    pub fn has_certificates(&self, token: &str) -> bool {
        let entries = self.entries.borrow();
        leases(&entries).any(|(_, lease)| lease.token == token && lease.lease.is_empty())
    }

    /// When what is not given back ends: entries do not tell of renewals, and there may
    /// have been one until that was first asked. `None`: not by itself.
    fn end_if_not_renewed(
        &self,
        name: &str,
        lease: &LeaseEntry,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut stuck = self.stuck.borrow_mut();
        let asked = *stuck.entry(name.to_owned()).or_insert(now);
        lease.end_since(asked)
    }

    /// Whether the log has not warned yet of what the entry names; from now on it has.
    fn warns_first_of(&self, name: &str) -> bool {
        self.warned.borrow_mut().insert(name.to_owned())
    }

    /// Whether what the entry names was not given back when that was first due.
    fn is_left(&self, name: &str) -> bool {
        self.stuck.borrow().contains_key(name)
    }

    /// Whether the entry is known.
    fn has(&self, name: &str) -> bool {
        self.entries.borrow().contains_key(name)
    }

    /// Whether another process wrote the entry.
    fn is_older(&self, name: &str) -> bool {
        self.older.borrow().contains(name)
    }
}

/// The entries of leases and certificates.
fn leases(entries: &BTreeMap<String, Entry>) -> impl Iterator<Item = (&String, &LeaseEntry)> {
    entries.iter().filter_map(|(name, entry)| match entry {
        Entry::Lease(lease) => Some((name, &**lease)),
        Entry::Token(_) => None,
    })
}
