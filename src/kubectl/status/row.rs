//! What is shown of one resource: its state by its conditions, its times, its
//! source. Pure. All text in it is fit for a terminal, since tenants choose names
//! and paths, and some may write status.

use crate::api::{VaultDynamicSecret, VaultPKISecret, VaultStaticSecret};
use crate::key::Kind;
use crate::problem::{FOREIGN_TEXT_LIMIT, printable};
use crate::reconcile::Slots;
use crate::reconcile::sources::{SecretResource, uid_of};
use jiff::Timestamp;
use kube::CustomResourceExt as _;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which resource a row is about; rows are in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// Kubernetes namespace.
    pub namespace: String,
    /// One of the kinds that have a Secret written.
    pub kind: Kind,
    /// Object name.
    pub name: String,
}

impl RowKey {
    /// The key of an object that was listed as one of `kind`.
    pub fn of(kind: Kind, object: &DynamicObject) -> Self {
        let text = |text: &Option<String>| shown(text.as_deref().unwrap_or_default());
        Self {
            namespace: text(&object.metadata.namespace),
            kind,
            name: text(&object.metadata.name),
        }
    }

    /// `vss/app`, as kubectl takes it.
    pub fn short(&self) -> String {
        let names = match self.kind {
            Kind::VaultStaticSecret => VaultStaticSecret::shortnames(),
            Kind::VaultDynamicSecret => VaultDynamicSecret::shortnames(),
            Kind::VaultPkiSecret => VaultPKISecret::shortnames(),
            _ => &[],
        };
        let kind = names.first().copied().unwrap_or(self.kind.plural());
        format!("{kind}/{}", self.name)
    }
}

/// How a resource stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// Its Secret is as its spec says.
    Ready,
    /// Something stands against that.
    NotReady,
    /// The operator has said nothing yet, or nothing about the spec as it is.
    Pending,
    /// The operator does not know.
    Unknown,
    /// It is being deleted.
    Terminating,
    /// It is gone; seen while it was watched.
    Deleted,
}

/// When something is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Not by itself, or nobody knows.
    Unknown,
    /// As status says.
    At(Timestamp),
    /// Again and again: the times at which the operator reads the source.
    Slots(Slots),
}

/// What is shown of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which one.
    pub key: RowKey,
    /// How it stands.
    pub state: State,
    /// The reason of its condition `Ready`; empty where there is none.
    pub reason: String,
    /// The message of that condition; empty where there is none.
    pub message: String,
    /// The path in Vault, with its Vault namespace and version where the spec has them.
    pub source: String,
    /// The Secret that it writes.
    pub destination: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    due: Due,
    /// `status.expiry`: when what the Secret holds ends if nobody renews it.
    pub expiry: Option<Timestamp>,
    /// `status.survivesUntil`: until when it works if Vault or the operator stopped.
    pub survives_until: Option<Timestamp>,
    /// `status.phase`; empty where there is none.
    pub phase: String,
    /// How its targets stand.
    pub rollout: Rollout,
}

/// How the targets of a resource stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// `status.rollout`: the worst of them in one word; empty where there are none.
    pub state: String,
    /// Of the first target that stands so and says why, the reason; empty where none does.
    pub reason: String,
    /// Not before when a restart happens that waits for that reason.
    pub until: Option<Timestamp>,
}

impl Rollout {
    fn of(status: &Value) -> Self {
        let text = |value: &Value| shown(value.as_str().unwrap_or_default());
        let targets = status["rolloutTargets"].as_array();
        let mut targets = targets.into_iter().flatten();
        let why = targets
            .find(|one| one["state"] == status["rollout"] && one["reason"].is_string())
            .unwrap_or(&Value::Null);
        Self {
            state: text(&status["rollout"]),
            reason: text(&why["reason"]),
            until: why["until"].as_str().and_then(|at| at.parse().ok()),
        }
    }
}

/// Text of the cluster, fit for a terminal.
fn shown(text: &str) -> String {
    printable(text, FOREIGN_TEXT_LIMIT)
}

impl Row {
    /// The row of an object that was listed as one of `kind`.
    pub fn of(kind: Kind, object: DynamicObject) -> Self {
        let key = RowKey::of(kind, &object);
        let rollout = Rollout::of(&object.data["status"]);
        let is_leaving = object.metadata.deletion_timestamp.is_some();
        let created = object.metadata.creation_timestamp.as_ref().map(|at| at.0);
        match typed(kind, object) {
            Ok(resource) => Self {
                created,
                rollout,
                ..Self::of_resource(key, &*resource, is_leaving)
            },
            // Only under definitions that are not ours.
            Err(why) => Self {
                reason: "Unreadable".to_owned(),
                message: shown(&format!(
                    "it does not fit the definition of its kind: {why}"
                )),
                created,
                rollout,
                ..Self::blank(key, State::NotReady)
            },
        }
    }

    fn blank(key: RowKey, state: State) -> Self {
        Self {
            key,
            state,
            reason: String::new(),
            message: String::new(),
            source: String::new(),
            destination: String::new(),
            created: None,
            due: Due::Unknown,
            expiry: None,
            survives_until: None,
            phase: String::new(),
            rollout: Rollout::default(),
        }
    }

    fn of_resource(key: RowKey, resource: &dyn SecretResource, is_leaving: bool) -> Self {
        let told = resource.told();
        let generation = resource.metadata().generation;
        let is_old = |told: Option<i64>| told.is_some() && told != generation;
        let ready = told.conditions.iter().find(|one| one.type_ == "Ready");
        let ready = ready
            .filter(|one| !is_old(one.observed_generation) && !is_old(told.observed_generation));
        let state = match ready.map(|ready| ready.status.as_str()) {
            _ if is_leaving => State::Terminating,
            None => State::Pending,
            Some("True") => State::Ready,
            Some("False") => State::NotReady,
            Some(_) => State::Unknown,
        };
        let lifetime = told.lifetime.cloned().unwrap_or_default();
        // What is wrong is tried again by another rule than that of the slots.
        let slots = || {
            let every = resource.refresh_after().ok().flatten();
            let every = every.filter(|_| state == State::Ready);
            every.map(|every| Due::Slots(Slots::new(every, uid_of(resource))))
        };
        let next = lifetime.next_renewal.map(|at| Due::At(at.0));
        Self {
            reason: shown(ready.map_or("", |ready| &ready.reason)),
            message: shown(ready.map_or("", |ready| &ready.message)),
            source: source(resource),
            destination: shown(&resource.destination().name),
            due: next.or_else(slots).unwrap_or(Due::Unknown),
            expiry: lifetime.expiry.map(|at| at.0),
            survives_until: lifetime.survives_until.map(|at| at.0),
            phase: shown(lifetime.phase.as_ref().map_or("", |phase| phase.as_str())),
            ..Self::blank(key, state)
        }
    }

    /// Whether its Secret is as its spec says.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// When what the Secret holds is read, renewed or replaced next; a time that has
    /// passed where that is overdue.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        match self.due {
            Due::Unknown => None,
            Due::At(at) => Some(at),
            Due::Slots(slots) => Some(slots.next(now)),
        }
    }

    /// As JSON shows it.
    pub fn as_json(&self, now: Timestamp) -> RowJson<'_> {
        let text = |text| Some(text).filter(|text: &&String| !text.is_empty());
        RowJson {
            kind: self.key.kind.as_str(),
            namespace: &self.key.namespace,
            name: &self.key.name,
            ready: self.is_ready(),
            state: self.state,
            reason: text(&self.reason),
            message: text(&self.message),
            phase: text(&self.phase),
            source: &self.source,
            destination: &self.destination,
            created: self.created.map(in_seconds),
            next_due: self.next_due(now).map(in_seconds),
            expiry: self.expiry.map(in_seconds),
            survives_until: self.survives_until.map(in_seconds),
            rollout: text(&self.rollout.state),
            rollout_reason: text(&self.rollout.reason),
            rollout_until: self.rollout.until.map(in_seconds),
        }
    }
}

/// A row in JSON. What is not known is null, so that every key is always there;
/// times are RFC 3339, in whole seconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowJson<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    ready: bool,
    state: State,
    reason: Option<&'a String>,
    message: Option<&'a String>,
    phase: Option<&'a String>,
    source: &'a str,
    destination: &'a str,
    created: Option<String>,
    next_due: Option<String>,
    expiry: Option<String>,
    survives_until: Option<String>,
    rollout: Option<&'a String>,
    rollout_reason: Option<&'a String>,
    rollout_until: Option<String>,
}

fn in_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

/// The object as its kind.
fn typed(kind: Kind, object: DynamicObject) -> Result<Box<dyn SecretResource>, String> {
    fn of<K>(object: DynamicObject) -> Result<Box<dyn SecretResource>, String>
    where
        K: SecretResource + kube::Resource + for<'a> Deserialize<'a> + 'static,
    {
        let typed = object.try_parse::<K>().map_err(|error| error.to_string())?;
        Ok(Box::new(typed))
    }
    match kind {
        Kind::VaultStaticSecret => of::<VaultStaticSecret>(object),
        Kind::VaultDynamicSecret => of::<VaultDynamicSecret>(object),
        Kind::VaultPkiSecret => of::<VaultPKISecret>(object),
        other => Err(format!("{other} has no Secret written")),
    }
}

/// `[NAMESPACE/]MOUNT/PATH[ version N]`.
fn source(resource: &dyn SecretResource) -> String {
    let request = resource.request(None).ok();
    let pinned = request.into_iter().flat_map(|read| read.query);
    let pinned = pinned.map(|(_, version)| version).next();
    let name = resource.source_name(&pinned.unwrap_or_default());
    let namespace = resource
        .vault_namespace()
        .map(|name| name.trim_matches('/'));
    match namespace.filter(|name| !name.is_empty()) {
        Some(namespace) => shown(&format!("{namespace}/{name}")),
        None => shown(&name),
    }
}
