//! The model API server: objects with uid, resourceVersion and field ownership,
//! server-side apply and merge patch with the fences of the real one, and a log
//! that watches read (architecture.md, "Facts about the API").

mod secrets;

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::Value;
use vault_tenant_operator::key::{Kind, ObjectKey, ResourceKey};
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::ports::WorkloadPatch;
use vault_tenant_operator::reconcile::view::{Store, WorkloadKind};

use crate::objects::{Field, Object, Secret, Workload, object};

/// One step of a store's history.
#[derive(Clone, Debug)]
pub struct Change {
    pub store: Store,
    pub key: ObjectKey,
    /// What is there now; `Err` holds the uid of what is gone.
    pub now: Result<Object, String>,
}

#[derive(Debug, Default)]
pub struct ApiServer {
    pub secrets: BTreeMap<String, Secret>,
    pub workloads: BTreeMap<String, Workload>,
    /// Whether they are StatefulSets, whose controller never says that they don't get on;
    /// Deployments otherwise.
    pub sets: bool,
    pub resources: BTreeMap<ResourceKey, Object>,
    pub log: Vec<Change>,
    /// The operator's ledger: entries by Secret.
    pub ledger: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Published events: reason and message.
    pub events: Vec<(&'static str, String)>,
    counter: u64,
    /// How much of the log garbage was looked for after.
    collected: usize,
}

fn conflict(what: &str, why: impl Into<String>) -> Problem {
    Problem::Conflict {
        what: what.to_owned(),
        why: why.into(),
    }
}

fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap()
}

impl ApiServer {
    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn new_uid(&mut self) -> String {
        format!("uid-{}", self.next())
    }

    fn logged(&mut self, store: Store, key: ObjectKey, now: Result<Object, String>) {
        self.log.push(Change { store, key, now });
    }

    /// What a list saw when the log was `length` long.
    pub fn listed(&self, store: Store, length: usize) -> BTreeMap<ObjectKey, Object> {
        let mut found = BTreeMap::new();
        for change in self.log[..length]
            .iter()
            .filter(|change| change.store == store)
        {
            match &change.now {
                Ok(object) => found.insert(change.key.clone(), object.clone()),
                Err(_) => found.remove(&change.key),
            };
        }
        found
    }

    pub fn workload_kind(&self) -> WorkloadKind {
        match self.sets {
            true => WorkloadKind::StatefulSet,
            false => WorkloadKind::Deployment,
        }
    }

    fn workload_store(&self) -> Store {
        Store::Workloads(self.workload_kind())
    }

    pub fn put_workload(&mut self, name: &str, mut workload: Workload) -> Workload {
        workload.version = self.next();
        self.workloads.insert(name.to_owned(), workload.clone());
        self.logged(
            self.workload_store(),
            object(name),
            Ok(Object::Workload(workload.clone())),
        );
        workload
    }

    pub fn delete_workload(&mut self, name: &str) {
        if let Some(workload) = self.workloads.remove(name) {
            self.logged(self.workload_store(), object(name), Err(workload.uid));
        }
    }

    /// Merge patch: a stale resourceVersion is compared first, then the uid.
    pub fn patch_workload(
        &mut self,
        name: &str,
        patch: &WorkloadPatch,
        fenced: bool,
    ) -> Result<Workload, Problem> {
        let what = format!("patch Deployment {name}");
        let Some(found) = self.workloads.get(name) else {
            return Err(conflict(&what, "not found"));
        };
        if fenced && found.version.to_string() != patch.resource_version {
            return Err(conflict(&what, "the object has been modified"));
        }
        if fenced && found.uid != patch.uid {
            return Err(conflict(
                &what,
                "metadata.uid: Invalid value: field is immutable",
            ));
        }
        let mut after = found.clone();
        after.annotations.extend(patch.annotations.clone());
        let mut template = after.template.clone();
        template.extend(patch.template.clone());
        after.set_template(template);
        if after == *found {
            Ok(after)
        } else {
            Ok(self.put_workload(name, after))
        }
    }

    pub fn put_resource(&mut self, key: &ResourceKey, mut new: Object) {
        let version = Some(self.next().to_string());
        match &mut new {
            Object::Connection(one) => Rc::make_mut(one).metadata.resource_version = version,
            Object::Auth(one) => Rc::make_mut(one).metadata.resource_version = version,
            Object::Static(one) => Rc::make_mut(one).metadata.resource_version = version,
            Object::Dynamic(one) => Rc::make_mut(one).metadata.resource_version = version,
            Object::Pki(one) => Rc::make_mut(one).metadata.resource_version = version,
            Object::Secret(_) | Object::Workload(_) => {}
        }
        self.resources.insert(key.clone(), new.clone());
        self.logged(Store::Resource(key.kind), key.object.clone(), Ok(new));
    }

    pub fn delete_resource(&mut self, key: &ResourceKey) {
        if let Some(found) = self.resources.remove(key) {
            self.logged(
                Store::Resource(key.kind),
                key.object.clone(),
                Err(found.uid()),
            );
        }
    }

    pub fn lives(&self, uid: &str) -> bool {
        self.resources
            .values()
            .any(|resource| resource.uid() == uid)
    }

    /// The generation of the resource with this uid, if it is there.
    pub fn generation(&self, uid: &str) -> Option<i64> {
        let found = self.resources.values().find(|found| found.uid() == uid)?;
        Some(found.generation())
    }

    /// Replaces a status, in which null stands for a field that goes; answers with the
    /// resourceVersion.
    pub fn apply_status(&mut self, key: &ResourceKey, status: &Value) -> Result<String, Problem> {
        let what = format!("write the status of {key}");
        let refused = |error: serde_json::Error| Problem::KubernetesRefused {
            what: what.clone(),
            why: error.to_string(),
        };
        let Some(found) = self.resources.get(key) else {
            return Err(conflict(&what, "not found"));
        };
        let mut status = status.clone();
        if let Some(fields) = status.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        macro_rules! with_status {
            ($variant:ident, $one:ident) => {{
                let mut new = (**$one).clone();
                new.status = serde_json::from_value(status).map_err(refused)?;
                let same = new == **$one;
                (Object::$variant(Rc::new(new)), same)
            }};
        }
        let (new, same) = match found {
            Object::Connection(one) => with_status!(Connection, one),
            Object::Auth(one) => with_status!(Auth, one),
            Object::Static(one) => with_status!(Static, one),
            Object::Dynamic(one) => with_status!(Dynamic, one),
            Object::Pki(one) => with_status!(Pki, one),
            Object::Secret(_) | Object::Workload(_) => return Err(conflict(&what, "not found")),
        };
        let version = found.version();
        if same {
            return Ok(version);
        }
        self.put_resource(key, new);
        Ok(self.counter.to_string())
    }

    fn living(&self) -> HashSet<String> {
        self.resources.values().map(Object::uid).collect()
    }

    /// Takes references to owners that are gone out of Secrets that have others.
    fn drop_dead_owners(&mut self) {
        let living = self.living();
        let secrets = self.secrets.clone();
        for (name, mut secret) in secrets {
            let owner = |field: &Field| match field {
                Field::Owner(uid) => Some(uid.clone()),
                _ => None,
            };
            let owners: Vec<String> = secret.fields.keys().filter_map(owner).collect();
            let (alive, dead): (Vec<_>, Vec<_>) =
                owners.into_iter().partition(|o| living.contains(o));
            if alive.is_empty() || dead.is_empty() {
                continue;
            }
            for field in dead.into_iter().map(Field::Owner) {
                secret.fields.remove(&field);
                for owned in secret.managers.values_mut() {
                    owned.fields.remove(&field);
                }
            }
            self.put_secret(&name, secret);
        }
    }

    /// Removes the Secrets whose only owners are gone, and answers with them.
    pub fn collect_garbage(&mut self) -> Vec<(String, Secret)> {
        // Nothing else makes any.
        let unseen = &self.log[self.collected..];
        let may_be = |change: &Change| change.store == Store::Secrets || change.now.is_err();
        let may_be = unseen.iter().any(may_be);
        self.collected = self.log.len();
        if !may_be {
            return Vec::new();
        }
        self.drop_dead_owners();
        let living = self.living();
        let orphaned = |secret: &Secret| {
            let mut owners = secret
                .fields
                .keys()
                .filter_map(|field| match field {
                    Field::Owner(uid) => Some(uid),
                    _ => None,
                })
                .peekable();
            owners.peek().is_some() && !owners.any(|uid| living.contains(uid))
        };
        let names: Vec<String> = self
            .secrets
            .iter()
            .filter(|(_, s)| orphaned(s))
            .map(|(name, _)| name.clone())
            .collect();
        let gone = names.into_iter().filter_map(|name| {
            let secret = self.delete_secret(&name)?;
            Some((name, secret))
        });
        gone.collect()
    }
}

impl Workload {
    /// Sets the template and remembers the one before.
    pub fn set_template(&mut self, template: BTreeMap<String, String>) {
        if template != self.template {
            self.rolling = self.slow && !self.paused;
            self.failing = false;
            self.updated = 0;
            self.revisions
                .push(std::mem::replace(&mut self.template, template));
        }
    }
}

/// The key of a resource of ours.
pub fn resource(kind: Kind, name: &str) -> ResourceKey {
    ResourceKey {
        kind,
        object: object(name),
    }
}
