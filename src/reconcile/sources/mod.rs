//! What a Secret is filled from. Each custom resource that has a Secret written
//! is a [`SecretResource`]: what to ask of its secrets engine, when it is due
//! again, and what the answer means, in one file for each kind. Nothing else
//! knows the kinds apart, and no file here knows another.

/// What every kind's spec says in the same words.
macro_rules! spec_of_all {
    () => {
        fn metadata(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            &self.metadata
        }

        fn vault_auth_ref(&self) -> Option<&str> {
            self.spec.vault_auth_ref.as_deref()
        }

        fn vault_namespace(&self) -> Option<&str> {
            self.spec.namespace.as_deref()
        }

        fn destination(&self) -> &$crate::api::Destination {
            &self.spec.destination
        }

        fn rollout_restart_targets(&self) -> &[$crate::api::RolloutRestartTarget] {
            let targets = self.spec.rollout_restart_targets.as_deref();
            targets.unwrap_or_default()
        }

        fn rollout(&self) -> Option<&$crate::api::RolloutSpec> {
            self.spec.rollout.as_ref()
        }
    };
}

pub mod dynamic;
pub mod pki;
pub mod static_kv;

use std::time::Duration;

use jiff::Timestamp;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde_json::Value;
use serde_json::value::RawValue;

use super::grants::{Renewed, Terms};
use super::view::WorkloadKey;
use super::view::WorkloadKind;
use crate::api::{
    Destination, Lifetime, RolloutRestartTarget, RolloutSpec, RolloutTargetStatus, RotationSpec,
};
use crate::key::{Kind, ObjectKey, Redacted, ResourceKey};
use crate::policy::Read;
use crate::problem::{Problem, printable};
use crate::render::{Content, Grant, Material};
use crate::vault::{Reply, object};

/// The kinds that are.
pub const KINDS: [Kind; 3] = [
    Kind::VaultStaticSecret,
    Kind::VaultDynamicSecret,
    Kind::VaultPkiSecret,
];

/// The types of sources, as `spec.type` has them, or else by kind.
pub const TYPES: [&str; 4] = ["kv-v1", "kv-v2", "dynamic", "pki"];

/// A custom resource that has a Secret written.
pub trait SecretResource: std::fmt::Debug {
    /// Its kind.
    fn kind(&self) -> Kind;
    /// Which of [`TYPES`] its source is; another one where its spec names none.
    fn source_type(&self) -> &str;
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
    /// `spec.vaultAuthRef`.
    fn vault_auth_ref(&self) -> Option<&str>;
    /// `spec.namespace`, the Vault namespace of the request.
    fn vault_namespace(&self) -> Option<&str>;
    /// `spec.destination`.
    fn destination(&self) -> &Destination;
    /// `spec.rolloutRestartTargets`.
    fn rollout_restart_targets(&self) -> &[RolloutRestartTarget];
    /// `spec.rollout`.
    fn rollout(&self) -> Option<&RolloutSpec>;
    /// What its status says.
    fn told(&self) -> Told<'_>;

    /// The request for its data.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`].
    fn request(&self, vault_namespace: Option<String>) -> Result<Read, Problem>;
    /// After what time its source is read again; `None`: never by itself.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`].
    fn refresh_after(&self) -> Result<Option<Duration>, Problem>;
    /// Whether a deletion of the source is one of the Secret, too.
    fn follows_source(&self) -> bool {
        false
    }
    /// When what Vault makes for it is renewed or replaced; `None` where the
    /// source is only read. `share`, between 0 and 1, is the resource's own.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`].
    fn terms(&self, _share: f64) -> Result<Option<Terms>, Problem> {
        Ok(None)
    }
    /// Fields that differ with each answer and are no reason to restart anything.
    fn volatile(&self) -> &'static [&'static str] {
        &[]
    }
    /// How what Vault makes takes the place of what it made before.
    fn rotation(&self) -> Option<&RotationSpec> {
        None
    }
    /// Whether what Vault made for it is given back when the resource goes.
    fn revokes(&self) -> bool {
        false
    }
    /// Whether its keys go with it out of a Secret that it did not make.
    fn clears(&self) -> bool {
        false
    }
    /// A field of its own that is not served yet and would change what is written.
    fn not_served(&self) -> Option<&'static str> {
        None
    }
    /// What becomes of the data of an answer, also of one that a Secret holds as
    /// `_raw`.
    ///
    /// # Errors
    /// [`Problem::VaultAnswerUnusable`], which quotes no data.
    fn content(&self, data: &RawValue, path: &str) -> Result<Content, Problem> {
        Ok(Content {
            fields: parse(data, path, "spec.path")?,
            ..Content::default()
        })
    }
    /// A grant that was read back, as the data that came with it say.
    ///
    /// # Errors
    /// As [`SecretResource::content`].
    fn granted(&self, _data: &RawValue, _path: &str, grant: Grant) -> Result<Grant, Problem> {
        Ok(grant)
    }
    /// A problem of its request, in the words of its engine.
    fn explained(&self, problem: Problem) -> Problem {
        problem
    }
    /// What Vault's answer, which came at `now`, holds.
    ///
    /// # Errors
    /// Why it cannot be used; none of them quotes data.
    fn material(&self, read: &Read, reply: Reply, now: Timestamp) -> Result<Material, Problem>;
    /// The source by name, with its version where it has one, for messages.
    fn source_name(&self, version: &str) -> String;
    /// Status fields of the kind's own, those that its schema requires among
    /// them: of what is held, or as they stand; and of what stands against it.
    fn status_fields(&self, held: Option<&Held>, problem: Option<&Problem>) -> Value;
}

/// What a resource holds of Vault.
#[derive(Clone, Debug)]
pub struct Held {
    /// As the destination's state says.
    pub grant: Grant,
    /// The last renewal that is known of.
    pub renewed: Option<Renewed>,
}

impl Held {
    /// When it was last given, and for how long.
    #[must_use]
    pub fn since(&self) -> (Timestamp, Duration) {
        let first = (self.grant.since, self.grant.duration());
        let renewed = self.renewed.filter(|renewed| renewed.at >= first.0);
        renewed.map_or(first, |renewed| (renewed.at, renewed.duration))
    }
}

/// What the status of a resource says, as far as all kinds have it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// `status.conditions`
    pub conditions: &'a [Condition],
    /// `status.observedGeneration`
    pub observed_generation: Option<i64>,
    /// `status.secretMAC`
    pub secret_mac: Option<&'a str>,
    /// `status.lastResync`
    pub last_resync: Option<&'a str>,
    /// `status.destinations`
    pub destinations: &'a [String],
    /// The last renewal.
    pub renewed: Option<Renewed>,
    /// How long what is held lasts.
    pub lifetime: Option<&'a Lifetime>,
    /// The lease of what was given for the spec as it is.
    pub lease: Option<&'a str>,
    /// `status.rolloutTargets`
    pub targets: &'a [RolloutTargetStatus],
}

/// An answer's data as an object of some form; `field` is that of the spec which may
/// ask for another one.
///
/// # Errors
/// [`Problem::VaultAnswerUnusable`].
fn parse<'a, T: serde::Deserialize<'a>>(
    raw: &'a RawValue,
    path: &str,
    field: &str,
) -> Result<T, Problem> {
    object(raw.get().as_bytes()).map_err(|error| Problem::VaultAnswerUnusable {
        path: path.to_owned(),
        why: format!(
            "its data is not an object of the expected form (column {}); correct {field}, or look at what answers at the connection's address",
            error.column()
        ),
        refusal: false,
    })
}

/// The data of an answer to a request that makes something.
///
/// # Errors
/// [`Problem::SourceMissing`] with the mend, [`Problem::VaultAnswerUnusable`].
fn answered(read: &Read, reply: Reply, mend: &str) -> Result<Redacted<Box<RawValue>>, Problem> {
    let unusable = |why: String| Problem::VaultAnswerUnusable {
        path: read.path.clone(),
        why,
        refusal: false,
    };
    if reply.wrapped {
        return Err(unusable(
            "it is wrapped, so that it holds a token for the credentials in place of them; take the wrapping off the role or policy in Vault".to_owned(),
        ));
    }
    if reply.status == 404 {
        let said = reply.errors.iter().chain(&reply.warnings).cloned();
        let said = said.collect::<Vec<_>>().join("; ");
        let said = if said.is_empty() {
            said
        } else {
            format!(" ({said})")
        };
        return Err(Problem::SourceMissing {
            path: read.path.clone(),
            why: format!("Vault has nothing there{said}: {mend}"),
            by_mount: false,
        });
    }
    reply.data.ok_or_else(|| unusable(format!(
        "HTTP {} without data; does the path hold credentials, and is it Vault that answers at the connection's address?",
        reply.status
    )))
}

/// Its key.
#[must_use]
pub fn key_of(resource: &dyn SecretResource) -> ResourceKey {
    let metadata = resource.metadata();
    ResourceKey {
        kind: resource.kind(),
        object: ObjectKey::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        ),
    }
}

/// Its uid; no resource that the API server keeps is without.
#[must_use]
pub fn uid_of(resource: &dyn SecretResource) -> &str {
    resource.metadata().uid.as_deref().unwrap_or_default()
}

/// The Secret that it writes.
#[must_use]
pub fn destination_of(resource: &dyn SecretResource) -> ObjectKey {
    ObjectKey::new(
        resource.metadata().namespace.clone().unwrap_or_default(),
        &resource.destination().name,
    )
}

/// The workloads that it names, as far as their kinds are served; those that it restarts
/// are these and the ones that it finds (`View::targets_of`).
pub fn named_targets(resource: &dyn SecretResource) -> impl Iterator<Item = WorkloadKey> {
    let namespace = resource.metadata().namespace.clone().unwrap_or_default();
    let targets = resource.rollout_restart_targets().iter();
    targets.filter_map(move |target| {
        let kind = WorkloadKind::parse(target.kind.as_str())?;
        let object = ObjectKey::new(namespace.clone(), &target.name);
        Some(WorkloadKey { kind, object })
    })
}

/// Fields that exist but are not served yet are answered, never ignored.
///
/// # Errors
/// [`Problem::NotServed`] naming the field.
pub fn check_served(resource: &dyn SecretResource) -> Result<(), Problem> {
    let transformation = resource.destination().transformation.as_ref();
    let templates = transformation
        .and_then(|t| t.templates.as_ref())
        .is_some_and(|t| !t.is_empty());
    let refs = transformation
        .and_then(|t| t.transformation_refs.as_ref())
        .is_some_and(|r| !r.is_empty());
    let mut targets = resource.rollout_restart_targets().iter();
    let target = targets.find(|target| WorkloadKind::parse(target.kind.as_str()).is_none());
    let what = if templates {
        "spec.destination.transformation.templates".to_owned()
    } else if refs {
        "spec.destination.transformation.transformationRefs".to_owned()
    } else if let Some(field) = resource.not_served() {
        field.to_owned()
    } else if let Some(target) = target {
        format!(
            "spec.rolloutRestartTargets of kind {}",
            printable(target.kind.as_str(), 40)
        )
    } else {
        return Ok(());
    };
    Err(Problem::NotServed { what })
}
