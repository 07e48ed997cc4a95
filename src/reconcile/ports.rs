//! The port through which the pipeline writes to Kubernetes, and its clock. The
//! real ones are in `operator`, the simulation brings models. One method is one
//! request.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::view::{SecretMeta, WorkloadKey, WorkloadMeta};
use crate::key::{Kind, ObjectKey, Redacted, ResourceKey};
use crate::problem::Problem;
use crate::render::SecretData;
use crate::rights::Right;
use crate::vault::Credentials;

/// The time.
pub trait Clock {
    /// Now, on the wall clock.
    fn now(&self) -> Timestamp;
}

/// The owner that a destination gets when the resource creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Kind of the resource.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// The managed fields of a Secret at one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManagedFields {
    /// Uid of the Secret.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// One entry for each manager and operation.
    pub entries: Vec<ManagedFieldsEntry>,
}

/// What a live look at a custom resource of one uid found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is there, at this generation.
    Alive(i64),
    /// Its deletion has begun.
    Leaving,
    /// It is not there: no such name, or another uid under it.
    Gone,
}

/// Entries of the ledger by name: what to write, or `None` to take one out.
pub type LedgerChange = BTreeMap<String, Option<Redacted<Vec<u8>>>>;

/// Which object a write may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// There must be no such object: an apply never merges into one that is there.
    Create,
    /// Exactly this object at this version; forced, since ownership was checked.
    Update {
        /// Uid as seen.
        uid: String,
        /// resourceVersion as seen.
        resource_version: String,
    },
}

/// A status as the API server keeps it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The resource's resourceVersion.
    pub version: String,
    /// Its status, all of it.
    pub status: serde_json::Value,
}

/// One server-side apply of a Secret.
#[derive(Clone, Debug)]
pub struct SecretWrite {
    /// The Secret.
    pub secret: ObjectKey,
    /// Field manager.
    pub manager: String,
    /// What it may touch.
    pub fence: Fence,
    /// Type, when the write also decides that.
    pub type_: Option<String>,
    /// All keys that are ours.
    pub data: SecretData,
    /// All labels that are ours.
    pub labels: BTreeMap<String, String>,
    /// All annotations that are ours.
    pub annotations: BTreeMap<String, String>,
    /// Owner reference, when the resource owns the Secret.
    pub owner: Option<Owner>,
}

/// What a live look at a Secret finds.
#[derive(Clone, Debug)]
pub struct SecretContent {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its type.
    pub type_: String,
    /// The data keys that were asked for.
    pub data: SecretData,
}

/// One merge patch of a workload, fenced by uid and resourceVersion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadPatch {
    /// Uid as seen.
    pub uid: String,
    /// resourceVersion as seen.
    pub resource_version: String,
    /// Annotations of the workload itself.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the pod template; any entry here is a restart.
    pub template: BTreeMap<String, String>,
}

/// An event to publish about a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The resource.
    pub about: ResourceKey,
    /// Its uid.
    pub uid: String,
    /// Whether it is a warning.
    pub warning: bool,
    /// CamelCase reason.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
    /// What was being done, CamelCase.
    pub action: &'static str,
    /// When it happened.
    pub at: Timestamp,
}

/// The requests that the pipeline makes to the API server.
#[allow(
    async_fn_in_trait,
    reason = "static dispatch on one thread; no Send bound is wanted"
)]
pub trait Cluster: Credentials {
    /// Server-side apply of a Secret; answers with its metadata afterwards.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when the fence does not hold.
    async fn apply_secret(&self, write: &SecretWrite) -> Result<SecretMeta, Problem>;

    /// Live metadata of a Secret; `None` when there is none.
    ///
    /// # Errors
    /// Rights and transport.
    async fn secret_meta(&self, secret: &ObjectKey) -> Result<Option<SecretMeta>, Problem>;

    /// A Secret as it is now, with the keys that `manager` owns; `None` when
    /// there is none.
    ///
    /// # Errors
    /// Rights and transport.
    async fn secret_content(
        &self,
        secret: &ObjectKey,
        manager: &str,
    ) -> Result<Option<SecretContent>, Problem>;

    /// Deletes a Secret, exactly as `seen`: its uid and resourceVersion are
    /// preconditions.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when it is another one by now, or gone.
    async fn delete_secret(&self, secret: &ObjectKey, seen: &SecretMeta) -> Result<(), Problem>;

    /// Sets or removes one annotation of a Secret, as `seen`.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when it is another one by now, or gone.
    async fn annotate_secret(
        &self,
        secret: &ObjectKey,
        seen: &SecretMeta,
        annotation: (&str, Option<&str>),
    ) -> Result<SecretMeta, Problem>;

    /// Who owns which fields of a Secret, in full; `None` when there is none.
    ///
    /// # Errors
    /// Rights and transport.
    async fn managed_fields(&self, secret: &ObjectKey) -> Result<Option<ManagedFields>, Problem>;

    /// Replaces who owns which fields of a Secret, and nothing else.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when it is another one by now, or gone.
    async fn set_managed_fields(
        &self,
        secret: &ObjectKey,
        fields: &ManagedFields,
    ) -> Result<SecretMeta, Problem>;

    /// The entries of one of the ledger's Secrets; `None` when there is none.
    ///
    /// # Errors
    /// Rights and transport.
    async fn ledger(&self, secret: &ObjectKey) -> Result<Option<SecretData>, Problem>;

    /// Sets or removes entries of one of the ledger's Secrets, and touches no
    /// other; answers with whether there is such a Secret.
    ///
    /// # Errors
    /// Rights and transport.
    async fn merge_ledger(
        &self,
        secret: &ObjectKey,
        changes: &LedgerChange,
    ) -> Result<bool, Problem>;

    /// Makes one of the ledger's Secrets, where it is missing.
    ///
    /// # Errors
    /// Rights and transport.
    async fn make_ledger(&self, secret: &ObjectKey) -> Result<(), Problem>;

    /// Whether the custom resource with this uid is there, asked live. Gone is
    /// only what the API server, asked for that very name, says is not there.
    ///
    /// # Errors
    /// Rights and transport.
    async fn life(&self, key: &ResourceKey, uid: &str) -> Result<Life, Problem>;

    /// Merge patch of a workload; answers with what it is afterwards.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when the fence does not hold.
    async fn patch_workload(
        &self,
        workload: &WorkloadKey,
        patch: &WorkloadPatch,
    ) -> Result<WorkloadMeta, Problem>;

    /// Sets these fields of the status; answers with what the API server keeps.
    ///
    /// # Errors
    /// Rights and transport; a resource that is gone is a [`Problem::Conflict`].
    async fn apply_status(
        &self,
        key: &ResourceKey,
        status: &serde_json::Value,
    ) -> Result<Stored, Problem>;

    /// Publishes an event.
    ///
    /// # Errors
    /// Rights and transport.
    async fn publish(&self, note: &Note) -> Result<(), Problem>;

    /// Whether the operator has a right in a namespace; `anew`: by no answer of
    /// before.
    ///
    /// # Errors
    /// Transport.
    async fn may(&self, namespace: &str, right: &Right, anew: bool) -> Result<bool, Problem>;

    /// Removes one finalizer, fenced by the resourceVersion; all others stay.
    ///
    /// # Errors
    /// Rights and transport; a changed resource is a [`Problem::Conflict`].
    async fn set_finalizers(
        &self,
        key: &ResourceKey,
        resource_version: &str,
        finalizers: &[String],
    ) -> Result<(), Problem>;
}
