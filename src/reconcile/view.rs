//! What the watches have shown so far: plain data, trimmed on entry to what the
//! decisions need. It may lag behind the API server, and every write is fenced
//! so that acting on an old view does no harm.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::index::Index;
use super::queue::Urgency;
use super::stores::Stores;
use super::wanted::Naming;
use crate::api::{
    SecretTransformation, VaultAuth, VaultAuthGlobal, VaultConnection, VaultDynamicSecret,
    VaultPKISecret, VaultStaticSecret,
};

pub use super::stores::Store;
use crate::key::{Kind, ObjectKey, ResourceKey};

/// Kinds of workloads that a rollout can restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// `apps/v1 Deployment`
    Deployment,
    /// `apps/v1 StatefulSet`
    StatefulSet,
    /// `apps/v1 DaemonSet`
    DaemonSet,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [WorkloadKind; 3] = [
        WorkloadKind::Deployment,
        WorkloadKind::StatefulSet,
        WorkloadKind::DaemonSet,
    ];

    /// As manifests write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "Deployment",
            WorkloadKind::StatefulSet => "StatefulSet",
            WorkloadKind::DaemonSet => "DaemonSet",
        }
    }

    /// The kind of that name, if it is one of these.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Where it is.
    pub object: ObjectKey,
}

impl std::fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.object.name)
    }
}

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
    /// Whether the entry is of applies, not of updates.
    pub applied: bool,
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
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether a deletion has begun.
    pub deleting: bool,
    /// Uids of its owners.
    pub owners: Vec<String>,
    /// Our `state-…` annotations by full name.
    pub states: BTreeMap<String, String>,
    /// Who owns its fields.
    pub managers: Vec<Manager>,
    /// Whether the Vault Secrets Operator made it, by a label that our first
    /// write replaces.
    pub vso_made: bool,
    /// Whether that operator's field manager still owns what it wrote.
    pub vso_owns: bool,
}

impl SecretMeta {
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

/// What the operator keeps of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadMeta {
    /// Uid, the first half of the fence.
    pub uid: String,
    /// resourceVersion, the second half.
    pub resource_version: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether a deletion has begun.
    pub deleting: bool,
    /// `spec.paused` of a Deployment.
    pub paused: bool,
    /// Our annotations on the workload itself, by full name.
    pub annotations: BTreeMap<String, String>,
    /// Our annotations on the pod template, by full name.
    pub template: BTreeMap<String, String>,
}

impl WorkloadMeta {
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
    /// VaultStaticSecrets; change through [`View::put_static`].
    pub statics: BTreeMap<ObjectKey, Rc<VaultStaticSecret>>,
    /// VaultDynamicSecrets.
    pub dynamics: BTreeMap<ObjectKey, Rc<VaultDynamicSecret>>,
    /// VaultPKISecrets.
    pub pkis: BTreeMap<ObjectKey, Rc<VaultPKISecret>>,
    /// Metadata of Secrets.
    pub secrets: BTreeMap<ObjectKey, SecretMeta>,
    /// Workloads.
    pub workloads: BTreeMap<WorkloadKey, WorkloadMeta>,
    /// How the watches themselves fare.
    pub stores: Stores,
    /// Uids of what the watches saw go.
    gone: HashSet<String>,
    /// Resources that need to see what they name.
    pub(super) asking: BTreeSet<ResourceKey>,
    /// Secrets that nobody names, to be looked at once.
    pub(super) hints: BTreeSet<ObjectKey>,
    /// Told when other names are to be followed than before.
    pub(super) naming: Naming,
    /// Secrets that carry the state of a resource whose destination is another.
    pub(super) strays: BTreeSet<ObjectKey>,
    by_destination: Index<ObjectKey>,
    by_workload: Index<WorkloadKey>,
}

impl View {
    /// Stores a VaultStaticSecret and keeps the indexes in step; `None` removes it.
    pub fn put_static(&mut self, key: &ObjectKey, new: Option<Rc<VaultStaticSecret>>) {
        let resource = ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: key.clone(),
        };
        let old = self.statics.remove(key);
        self.naming.compare(old.as_deref(), new.as_deref());
        if let Some(old) = old {
            let left = destination_of(&old);
            self.by_destination.unlink(&left, &resource);
            self.judge_stray(&left);
            for workload in targets_of(&old) {
                self.by_workload.unlink(&workload, &resource);
            }
        }
        if new.is_none() {
            self.ask(&resource, false);
        }
        if let Some(new) = new {
            let named = destination_of(&new);
            self.by_destination.link(named.clone(), &resource);
            self.judge_stray(&named);
            for workload in targets_of(&new) {
                self.by_workload.link(workload, &resource);
            }
            self.statics.insert(key.clone(), new);
        }
    }

    /// Stores a Secret's metadata, unless what is there is newer.
    pub fn put_secret(&mut self, key: &ObjectKey, meta: SecretMeta) {
        let older = self.secrets.get(key).is_some_and(|known| {
            known.uid == meta.uid && is_older(&meta.resource_version, &known.resource_version)
        });
        if !older {
            self.gone.remove(&meta.uid);
            let uid = meta.uid.clone();
            let before = self.secrets.insert(key.clone(), meta);
            self.bury(before.map(|before| before.uid).filter(|one| *one != uid));
            self.judge_stray(key);
        }
    }

    /// Stores what a request answered about a Secret, unless a watch has seen
    /// that very Secret go since, or another in its place: no later event would
    /// take it out again. (One
    /// that a list of an older state lacked comes back with the watch.)
    pub fn put_secret_answer(&mut self, key: &ObjectKey, meta: SecretMeta) {
        if !self.gone.contains(&meta.uid) {
            self.put_secret(key, meta);
        }
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

    /// Stores a workload, unless what is there is newer.
    pub fn put_workload(&mut self, key: &WorkloadKey, meta: WorkloadMeta) {
        let older = self.workloads.get(key).is_some_and(|known| {
            known.uid == meta.uid && is_older(&meta.resource_version, &known.resource_version)
        });
        if !older {
            self.gone.remove(&meta.uid);
            let uid = meta.uid.clone();
            let before = self.workloads.insert(key.clone(), meta);
            self.bury(before.map(|before| before.uid).filter(|one| *one != uid));
        }
    }

    /// As [`View::put_secret_answer`], for a workload.
    pub fn put_workload_answer(&mut self, key: &WorkloadKey, meta: WorkloadMeta) {
        if !self.gone.contains(&meta.uid) {
            self.put_workload(key, meta);
        }
    }

    /// A workload is gone.
    pub fn remove_workload(&mut self, key: &WorkloadKey) {
        let before = self.workloads.remove(key);
        self.bury(before.map(|before| before.uid));
    }

    /// Remembers the uid of what went, for as long as an answer about it may be
    /// on its way; the limit is only there so that they do not pile up.
    pub(super) fn bury(&mut self, uid: Option<String>) {
        const LIMIT: usize = 1024;
        if self.gone.len() >= LIMIT {
            self.gone.clear();
        }
        self.gone.extend(uid);
    }

    /// Whether a watch has seen the object with this uid go: a list of an older
    /// state may show it again.
    #[must_use]
    pub fn saw_go(&self, uid: &str) -> bool {
        self.gone.contains(uid)
    }

    /// The resources whose destination is this Secret.
    pub fn resources_of_secret(&self, secret: &ObjectKey) -> impl Iterator<Item = &ResourceKey> {
        self.by_destination.of(secret)
    }

    /// The resources that name this workload as a restart target.
    pub fn resources_of_workload(
        &self,
        workload: &WorkloadKey,
    ) -> impl Iterator<Item = &ResourceKey> {
        self.by_workload.of(workload)
    }

    /// What work that nobody asked for now has to wait for: a Secret that is not
    /// there is somebody's who waits, refreshes do not hurry.
    #[must_use]
    pub fn urgency(&self, key: &ResourceKey) -> Urgency {
        let missing = key.kind == Kind::VaultStaticSecret
            && self.statics.get(&key.object).is_some_and(|found| {
                let secret = destination_of(found);
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

/// The Secret that a VaultStaticSecret writes.
#[must_use]
pub fn destination_of(resource: &VaultStaticSecret) -> ObjectKey {
    ObjectKey::new(
        resource.namespace().unwrap_or_default(),
        &resource.spec.destination.name,
    )
}

/// The workloads that a VaultStaticSecret restarts, as far as their kinds are served.
pub fn targets_of(resource: &VaultStaticSecret) -> impl Iterator<Item = WorkloadKey> {
    let namespace = resource.namespace().unwrap_or_default();
    resource
        .spec
        .rollout_restart_targets
        .iter()
        .flatten()
        .filter_map(move |target| {
            let kind = WorkloadKind::parse(target.kind.as_str())?;
            Some(WorkloadKey {
                kind,
                object: ObjectKey::new(namespace.clone(), &target.name),
            })
        })
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
