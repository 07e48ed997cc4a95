//! What the watches have shown so far: plain data, trimmed on entry to what the
//! decisions need. It may lag behind the API server, and every write is fenced
//! so that acting on an old view does no harm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::discovery::Discovery;
use super::index::Index;
use super::queue::Urgency;
use super::sources::{SecretResource, destination_of, named_targets};
use super::stores::Stores;
use super::wanted::Naming;
use crate::api::{
    SecretTransformation, VaultAuth, VaultAuthGlobal, VaultConnection, VaultDynamicSecret,
    VaultPKISecret, VaultStaticSecret,
};
use jiff::Timestamp;
use litemap::LiteMap;

pub use super::stores::Store;
pub use super::workloads::{Rollout, Use, WorkloadKey, WorkloadKind, WorkloadMeta};
use crate::key::{Kind, ObjectKey, ResourceKey};

/// One entry of an object's managed fields, reduced to what ownership needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// The field manager's name.
    pub name: String,
    /// Time of its last change.
    pub time: Option<Timestamp>,
    /// Digest of the names of what it owns (module `fields`).
    pub fields: String,
    /// Whether it owns the Secret's type. Whoever creates a Secret and sends one
    /// does, and since the type never changes, no later update gets a share of it.
    pub owns_type: bool,
    /// Whether it owns a key of the data, or put one there as `stringData`.
    pub owns_data: bool,
}

/// What the operator keeps of a Secret: never its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMeta {
    /// Uid, the first half of the fence.
    pub uid: String,
    /// resourceVersion, the second half.
    pub resource_version: String,
    /// Whether a deletion has begun.
    pub deleting: bool,
    /// Uids of its owners.
    pub owners: Vec<String>,
    /// Our `state-…` annotations by full name. Nearly always it is one, and the node of a
    /// tree has room for eleven.
    pub states: LiteMap<String, String>,
    /// Who owns its fields.
    pub managers: Vec<Manager>,
    /// Whether the Vault Secrets Operator made it, by a label that our first
    /// write replaces.
    pub vso_made: bool,
    /// Whether that operator's field manager still owns what it wrote.
    pub vso_owns: bool,
}

impl SecretMeta {
    /// Whether it is of this very Secret at this version.
    #[must_use]
    pub fn is_at(&self, uid: &str, resource_version: &str) -> bool {
        self.uid == uid && self.resource_version == resource_version
    }

    /// Whether anything but the resourceVersion differs.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let same_version = |meta: &Self| Self {
            resource_version: String::new(),
            ..meta.clone()
        };
        same_version(self) != same_version(other)
    }
}

/// A point in the order of what the watches show.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

/// Something that the watches saw go.
#[derive(Clone, Copy, Debug)]
struct Departure {
    /// After how many others.
    number: u64,
    /// Whether an event said that it is deleted.
    told: bool,
}

/// Everything that the watches have shown.
#[derive(Debug, Default)]
pub struct View {
    /// VaultConnections.
    pub connections: BTreeMap<ObjectKey, Rc<VaultConnection>>,
    /// VaultAuths.
    pub auths: BTreeMap<ObjectKey, Rc<VaultAuth>>,
    /// VaultAuthGlobals.
    pub globals: BTreeMap<ObjectKey, Rc<VaultAuthGlobal>>,
    /// SecretTransformations.
    pub transformations: BTreeMap<ObjectKey, Rc<SecretTransformation>>,
    /// VaultStaticSecrets; the indexes follow all that have Secrets written, through
    /// [`super::kept::Kept::put`].
    pub statics: BTreeMap<ObjectKey, Rc<VaultStaticSecret>>,
    /// VaultDynamicSecrets.
    pub dynamics: BTreeMap<ObjectKey, Rc<VaultDynamicSecret>>,
    /// VaultPKISecrets.
    pub pkis: BTreeMap<ObjectKey, Rc<VaultPKISecret>>,
    /// Metadata of Secrets.
    pub secrets: BTreeMap<ObjectKey, SecretMeta>,
    /// Workloads.
    pub workloads: BTreeMap<WorkloadKey, WorkloadMeta>,
    /// Those of them whose pods are being replaced, or can't be.
    pub(super) rolling: BTreeSet<WorkloadKey>,
    /// How the watches themselves fare.
    pub stores: Stores,
    /// Uids of what the watches saw go.
    gone: HashMap<String, Departure>,
    /// How often something went.
    departures: u64,
    /// Resources that need to see what they name.
    pub(super) asking: BTreeSet<ResourceKey>,
    /// Secrets that nobody names, to be looked at once.
    pub(super) hints: BTreeSet<ObjectKey>,
    /// Told when other names are to be followed than before.
    pub(super) naming: Naming,
    /// Secrets that carry the state of a resource whose destination is another.
    pub(super) strays: BTreeSet<ObjectKey>,
    by_destination: Index<ObjectKey>,
    pub(super) by_workload: Index<WorkloadKey>,
    pub(super) discovery: Discovery,
}

impl View {
    /// The resource that has a Secret written, if it is there and of such a kind.
    #[must_use]
    pub fn writer(&self, key: &ResourceKey) -> Option<Rc<dyn SecretResource>> {
        fn found<T: SecretResource + 'static>(
            store: &BTreeMap<ObjectKey, Rc<T>>,
            key: &ObjectKey,
        ) -> Option<Rc<dyn SecretResource>> {
            Some(Rc::clone(store.get(key)?) as Rc<dyn SecretResource>)
        }
        match key.kind {
            Kind::VaultStaticSecret => found(&self.statics, &key.object),
            Kind::VaultDynamicSecret => found(&self.dynamics, &key.object),
            Kind::VaultPkiSecret => found(&self.pkis, &key.object),
            _ => None,
        }
    }

    /// All resources that have a Secret written.
    pub fn writers(&self) -> impl Iterator<Item = &dyn SecretResource> {
        let statics = self.statics.values();
        let dynamics = self.dynamics.values();
        let pkis = self.pkis.values();
        statics
            .map(|found| &**found as &dyn SecretResource)
            .chain(dynamics.map(|found| &**found as &dyn SecretResource))
            .chain(pkis.map(|found| &**found as &dyn SecretResource))
    }

    /// Keeps the indexes in step with a resource that became another, or came or
    /// went, and is stored right after.
    pub(super) fn reindex(
        &mut self,
        key: &ResourceKey,
        old: Option<&dyn SecretResource>,
        new: Option<&dyn SecretResource>,
    ) {
        self.naming.compare(old, new);
        self.look_for_workloads(key, new);
        if let Some(old) = old {
            let left = destination_of(old);
            self.by_destination.unlink(&left, key);
            self.judge_stray(&left);
            for workload in named_targets(old) {
                self.by_workload.unlink(&workload, key);
            }
        }
        let Some(new) = new else {
            old.into_iter()
                .for_each(|old| self.look_for_what_it_left(old));
            self.ask(key, false);
            return;
        };
        let named = destination_of(new);
        self.by_destination.link(named.clone(), key);
        self.judge_stray(&named);
        for workload in named_targets(new) {
            self.by_workload.link(workload, key);
        }
    }

    /// Stores a Secret's metadata, unless what is there is newer: also another one
    /// of that name, since a list of an older state may show what is long gone.
    pub fn put_secret(&mut self, key: &ObjectKey, meta: SecretMeta) {
        let known = self.secrets.get(key);
        if known.is_none_or(|known| !is_older(&meta.resource_version, &known.resource_version)) {
            self.gone.remove(&meta.uid);
            let uid = meta.uid.clone();
            let before = self.secrets.insert(key.clone(), meta);
            self.bury(before.map(|before| before.uid).filter(|one| *one != uid));
            self.judge_stray(key);
        }
    }

    /// Before a request is sent: what its answer will be judged by.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment(self.departures)
    }

    /// Stores what a request that was sent at `asked` answered about a Secret,
    /// unless a watch has seen that very Secret go since, or another in its
    /// place: no later event would take it out again. One that went before was
    /// only lacking in a list of an older state: the answer is newer.
    pub fn put_secret_answer(&mut self, key: &ObjectKey, meta: SecretMeta, asked: Moment) {
        if !self.went_since(&meta.uid, asked) {
            self.put_secret(key, meta);
        }
    }

    fn went_since(&self, uid: &str, asked: Moment) -> bool {
        self.gone.get(uid).is_some_and(|went| went.number > asked.0)
    }

    /// A Secret is gone.
    pub fn remove_secret(&mut self, key: &ObjectKey) {
        let before = self.forget_secret(key);
        self.bury(before.map(|before| before.uid));
    }

    /// Takes a Secret out that an answer says is not there; a watch may still
    /// show it again.
    pub fn forget_secret(&mut self, key: &ObjectKey) -> Option<SecretMeta> {
        if self.strays.remove(key) {
            self.naming.moved();
        }
        self.secrets.remove(key)
    }

    /// As [`View::put_secret`], for a workload. Tells for which resources it becomes a
    /// target that they find, or ceases to be one.
    pub fn put_workload(&mut self, key: &WorkloadKey, meta: WorkloadMeta) -> Vec<ResourceKey> {
        let known = self.workloads.get(key);
        if known.is_some_and(|known| is_older(&meta.resource_version, &known.resource_version)) {
            return Vec::new();
        }
        let moved = self.place_workload(key, Some(&meta));
        self.gone.remove(&meta.uid);
        let uid = meta.uid.clone();
        match meta.rollout.under_way || meta.rollout.failing {
            true => self.rolling.insert(key.clone()),
            false => self.rolling.remove(key),
        };
        let before = self.workloads.insert(key.clone(), meta);
        self.bury(before.map(|before| before.uid).filter(|one| *one != uid));
        moved
    }

    /// As [`View::put_secret_answer`], for a workload; tells what [`View::put_workload`] does.
    pub fn put_workload_answer(
        &mut self,
        key: &WorkloadKey,
        meta: WorkloadMeta,
        asked: Moment,
    ) -> Vec<ResourceKey> {
        match self.went_since(&meta.uid, asked) {
            true => Vec::new(),
            false => self.put_workload(key, meta),
        }
    }

    /// A workload is gone. Tells which resources found it.
    pub fn remove_workload(&mut self, key: &WorkloadKey) -> Vec<ResourceKey> {
        let moved = self.place_workload(key, None);
        let before = self.forget_workload(key);
        self.bury(before.map(|before| before.uid));
        moved
    }

    /// It is not followed any more; a watch may show it again.
    pub(super) fn forget_workload(&mut self, key: &WorkloadKey) -> Option<WorkloadMeta> {
        self.rolling.remove(key);
        self.workloads.remove(key)
    }

    /// Remembers the uid of what went, for as long as an answer about it may be
    /// on its way; the limit is only there so that they do not pile up.
    fn bury(&mut self, uid: Option<String>) {
        self.bury_as(uid, false);
    }

    /// The same; `told`: an event said that it is deleted.
    pub(super) fn bury_as(&mut self, uid: Option<String>, told: bool) {
        const LIMIT: usize = 1024;
        if self.gone.len() >= LIMIT {
            // What hangs on what an event told of is given back one by one.
            self.gone.retain(|_, departure| departure.told);
        }
        if self.gone.len() >= 8 * LIMIT {
            self.gone.clear();
        }
        if let Some(uid) = uid {
            self.departures += 1;
            let number = self.departures;
            self.gone.insert(uid, Departure { number, told });
        }
    }

    /// Whether an event told that the object with this uid is deleted: lists may lack
    /// what is there.
    #[must_use]
    pub fn is_told_gone(&self, uid: &str) -> bool {
        self.gone.get(uid).is_some_and(|departure| departure.told)
    }

    /// Whether a watch has seen the object with this uid go: a list of an older
    /// state may show it again.
    #[must_use]
    pub fn saw_go(&self, uid: &str) -> bool {
        self.gone.contains_key(uid)
    }

    /// The resources whose destination is this Secret.
    pub fn resources_of_secret(&self, secret: &ObjectKey) -> impl Iterator<Item = &ResourceKey> {
        self.by_destination.of(secret)
    }

    /// What work that nobody asked for now has to wait for: a Secret that is not
    /// there is somebody's who waits, refreshes do not hurry.
    #[must_use]
    pub fn urgency(&self, key: &ResourceKey) -> Urgency {
        let missing = self.writer(key).is_some_and(|found| {
            let secret = destination_of(&*found);
            self.stores.sees(Store::Secrets, &secret) && !self.secrets.contains_key(&secret)
        });
        if missing {
            Urgency::Now
        } else {
            Urgency::Routine
        }
    }
}

/// Whether one resourceVersion is older than another. Kubernetes compares those
/// of one resource as numbers (API conventions, since 1.34); what is no number
/// is taken as newer.
#[must_use]
pub fn is_older(one: &str, other: &str) -> bool {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one < other,
        _ => false,
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
