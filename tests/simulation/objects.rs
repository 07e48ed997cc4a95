//! The objects of the model API server, and what the operator keeps of them.
//! Field ownership is a set of fields per manager: enough for what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use litemap::LiteMap;
use serde_json::Value;
use vault_tenant_operator::api::{
    VaultAuth, VaultConnection, VaultDynamicSecret, VaultPKISecret, VaultStaticSecret,
};
use vault_tenant_operator::key::{Kind, ObjectKey};
use vault_tenant_operator::reconcile::view::{
    Manager, Rollout, SecretMeta, Use, WorkloadKind, WorkloadMeta,
};
use vault_tenant_operator::reconcile::{PREFIX, digest_of_managed};
use vault_tenant_operator::render::ResourceTag;

use crate::api_server::resource;
use crate::managed;

/// One field of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Data(String),
    Label(String),
    Annotation(String),
    /// An owner reference, by uid.
    Owner(String),
    Type,
}

pub type Fields = BTreeMap<Field, Vec<u8>>;

/// What the pods of a workload get from a Secret: its content without `_raw`.
pub type Content = BTreeMap<String, Vec<u8>>;

/// What tells a credential or a certificate from all others.
const MARKS: [&str; 2] = ["password", "serial_number"];

/// That of a content.
pub fn mark(content: &Content) -> Option<&Vec<u8>> {
    MARKS.iter().find_map(|key| content.get(*key))
}

/// An entry of the managed fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Whole seconds, as the API server keeps it.
    pub time: Timestamp,
    pub fields: BTreeSet<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub uid: String,
    pub version: u64,
    /// The manager that created it.
    pub creator: String,
    pub fields: Fields,
    pub managers: BTreeMap<String, Owned>,
}

impl Secret {
    pub fn is_certificate(&self) -> bool {
        let serial = Field::Data("serial_number".to_owned());
        self.fields.contains_key(&serial)
    }

    /// What it holds, by its mark.
    pub fn mark(&self) -> Option<&Vec<u8>> {
        let field = |key: &&str| self.fields.get(&Field::Data((*key).to_owned()));
        MARKS.iter().find_map(field)
    }

    /// The data keys that a manager owns.
    pub fn data_of(&self, manager: &str) -> Content {
        let owned = self.managers.get(manager).map(|owned| &owned.fields);
        let data = self.fields.iter().filter_map(|(field, value)| match field {
            Field::Data(key) if owned.is_some_and(|owned| owned.contains(field)) => {
                Some((key.clone(), value.clone()))
            }
            _ => None,
        });
        data.collect()
    }

    /// The content hash in the state that the resource `name` wrote.
    pub fn hash(&self, name: &str) -> String {
        let mut states = self.meta().states;
        let text = tags(name).find_map(|tag| states.remove(&format!("{PREFIX}state-{tag}")));
        let state: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
        let hash = state.and_then(|state| state["hash"].as_str().map(str::to_owned));
        hash.unwrap_or_default()
    }

    /// What a manager put into it, for the trace.
    pub fn summary(&self, manager: &str) -> String {
        let data = self
            .data_of(manager)
            .into_iter()
            // Certificates and their keys are long, and tell nothing.
            .filter(|(key, value)| key != "_raw" && value.len() < 100);
        let data: Vec<String> = data
            .map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(&value)))
            .collect();
        let states = self.meta().states;
        let states: Vec<&String> = states.values().collect();
        format!("{}; {states:?}", data.join(" "))
    }

    pub fn meta(&self) -> SecretMeta {
        let mut states = LiteMap::new();
        let mut owners = Vec::new();
        for (field, value) in &self.fields {
            match field {
                Field::Annotation(name) if name.starts_with(PREFIX) => {
                    states.insert(name.clone(), String::from_utf8_lossy(value).into_owned());
                }
                Field::Owner(uid) => owners.push(uid.clone()),
                _ => {}
            }
        }
        SecretMeta {
            uid: self.uid.clone(),
            resource_version: self.version.to_string(),
            deleting: false,
            vso_made: false,
            vso_owns: false,
            owners,
            states,
            managers: self
                .managers
                .iter()
                .map(|(name, owned)| Manager {
                    name: name.clone(),
                    time: Some(owned.time),
                    fields: digest_of_managed(&managed::fields_v1(owned)),
                    owns_type: owned.fields.contains(&Field::Type),
                    owns_data: owned.fields.iter().any(|f| matches!(f, Field::Data(_))),
                })
                .collect(),
        }
    }
}

/// A Deployment with its pods, as far as restarts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub uid: String,
    pub version: u64,
    pub created: Timestamp,
    pub paused: bool,
    pub annotations: BTreeMap<String, String>,
    pub template: BTreeMap<String, String>,
    /// The Secrets that its pod template uses, by name, with the keys that its pods need.
    pub uses: Vec<Use>,
    /// Whether a rollout takes time, and whether one is under way.
    pub slow: bool,
    pub rolling: bool,
    /// How many pods it should have.
    pub pods: i64,
    /// How many pods are of the newest template, while one is.
    pub updated: i64,
    /// Seconds within which a rollout must get on, and whether its controller says that it did not.
    pub deadline: u32,
    pub failing: bool,
    /// Earlier templates, for `rollout undo`.
    pub revisions: Vec<BTreeMap<String, String>>,
}

/// The tags of the resources of a name.
pub fn tags(name: &str) -> impl Iterator<Item = ResourceTag> {
    let kinds = [
        Kind::VaultStaticSecret,
        Kind::VaultDynamicSecret,
        Kind::VaultPkiSecret,
    ];
    kinds
        .map(|kind| ResourceTag::of(&resource(kind, name)))
        .into_iter()
}

impl Workload {
    /// The hashes that stand on it for the resource `name`.
    pub fn recorded(&self, name: &str) -> Vec<&str> {
        let all = self.annotations.iter().chain(&self.template);
        let tags: Vec<ResourceTag> = tags(name).collect();
        let ours = all.filter(|(key, _)| tags.iter().any(|tag| key.ends_with(tag.as_str())));
        ours.map(|(_, hash)| hash.as_str()).collect()
    }

    pub fn meta(&self, kind: WorkloadKind) -> WorkloadMeta {
        let ours = |all: &BTreeMap<String, String>| {
            let ours = all.iter().filter(|(name, _)| name.starts_with(PREFIX));
            ours.map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        WorkloadMeta {
            uid: self.uid.clone(),
            resource_version: self.version.to_string(),
            pod_template: self.revisions.len() as u64,
            created: Some(self.created),
            deleting: false,
            paused: self.paused,
            rollout: Rollout {
                under_way: self.rolling,
                pods: self.pods,
                updated: self.updated,
                leaves_old: self.rolling,
                failing: self.failing && kind == WorkloadKind::Deployment,
                deadline: self.deadline,
                ..Rollout::default()
            },
            annotations: ours(&self.annotations),
            template: ours(&self.template),
            uses: self.uses.clone(),
            ..WorkloadMeta::default()
        }
    }
}

/// Any object, as a watch sees it.
#[derive(Clone, Debug)]
pub enum Object {
    Connection(Rc<VaultConnection>),
    Auth(Rc<VaultAuth>),
    Static(Rc<VaultStaticSecret>),
    Dynamic(Rc<VaultDynamicSecret>),
    Pki(Rc<VaultPKISecret>),
    Secret(Secret),
    Workload(Workload),
}

impl Object {
    pub fn uid(&self) -> String {
        self.names().0
    }

    pub fn version(&self) -> String {
        self.names().1
    }

    /// `metadata.generation` of a resource.
    pub fn generation(&self) -> i64 {
        let generation = match self {
            Object::Connection(found) => found.metadata.generation,
            Object::Auth(found) => found.metadata.generation,
            Object::Static(found) => found.metadata.generation,
            Object::Dynamic(found) => found.metadata.generation,
            Object::Pki(found) => found.metadata.generation,
            Object::Secret(_) | Object::Workload(_) => None,
        };
        generation.unwrap_or_default()
    }

    fn names(&self) -> (String, String) {
        let of = |meta: &ObjectMeta| {
            (
                meta.uid.clone().unwrap_or_default(),
                meta.resource_version.clone().unwrap_or_default(),
            )
        };
        match self {
            Object::Connection(found) => of(&found.metadata),
            Object::Auth(found) => of(&found.metadata),
            Object::Static(found) => of(&found.metadata),
            Object::Dynamic(found) => of(&found.metadata),
            Object::Pki(found) => of(&found.metadata),
            Object::Secret(found) => (found.uid.clone(), found.version.to_string()),
            Object::Workload(found) => (found.uid.clone(), found.version.to_string()),
        }
    }
}

/// The namespace of everything that the tenant has.
pub const NAMESPACE: &str = "team";

/// A key in it.
pub fn object(name: &str) -> ObjectKey {
    ObjectKey::new(NAMESPACE, name)
}
