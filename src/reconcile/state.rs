//! What the operator knows of its own past, as annotations carry it: the state
//! of a destination (one annotation per resource, written in the same apply as
//! the data), and the hashes on workloads. Read back, it is input: whatever
//! does not parse counts as absent.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::render::{ContentHash, Grant, ResourceTag};

/// Prefix of every annotation of ours.
pub const PREFIX: &str = "vault-tenant-operator.io/";

/// When the operator last restarted a workload, on the workload's own metadata.
pub const RESTARTED_AT: &str = "vault-tenant-operator.io/restarted-at";

/// When a Secret that is kept lost its resource, on the Secret.
pub const ORPHANED_AT: &str = "vault-tenant-operator.io/orphaned-at";

/// Annotation of a destination Secret that holds a [`State`].
#[must_use]
pub fn state_annotation(tag: &ResourceTag) -> String {
    format!("{PREFIX}state-{tag}")
}

/// Whether an annotation is one that holds a [`State`].
#[must_use]
pub fn is_state(annotation: &str) -> bool {
    annotation
        .strip_prefix(PREFIX)
        .is_some_and(|name| name.starts_with("state-"))
}

/// Annotation of a pod template: the content that its pods run.
#[must_use]
pub fn template_annotation(tag: &ResourceTag) -> String {
    format!("{PREFIX}c-{tag}")
}

/// Whether an annotation is one that says what pods run.
#[must_use]
pub fn is_of_template(annotation: &str) -> bool {
    annotation
        .strip_prefix(PREFIX)
        .is_some_and(|name| name.starts_with("c-"))
}

/// Annotation of a workload's own metadata: the content that was current when
/// the operator first saw the workload, or last restarted it.
#[must_use]
pub fn baseline_annotation(tag: &ResourceTag) -> String {
    format!("{PREFIX}base-{tag}")
}

/// What a resource last wrote into its destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Uid of the resource that wrote.
    pub uid: String,
    /// The resource's generation at that time.
    pub generation: i64,
    /// Hash of the data without `_raw`.
    pub hash: ContentHash,
    /// Hash of `_raw`, where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<ContentHash>,
    /// Digest of the names of all fields that the write owns; another digest in
    /// the Secret's managed fields means that somebody else changed one.
    pub fields: String,
    /// Number of data keys without `_raw`.
    pub keys: usize,
    /// Version of the source, such as a KV version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Fingerprint of where the source is, where a deletion there is one here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When the content (the hash) last changed.
    pub changed_at: Timestamp,
    /// Whether the content is still that of the resource's first write: what was
    /// there before it, no pod can have started with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub initial: bool,
    /// Whether the last change of content could not be recorded on every target
    /// first: one that was there and has no record runs something older.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrecorded: bool,
    /// `<kind>/<name>` of the resource, where something is to be done once it
    /// is gone: the tag alone does not say whom to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// The data keys, where others may own further ones of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<BTreeSet<String>>,
    /// Whether the Secret stays when the resource goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
    /// Whether the keys go with the resource, although it did not make the Secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear: bool,
    /// What Vault made for this content, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// Whether that took the place of what Vault had made before, when the content
    /// last changed: the pods of before hold something that may end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
    /// Fingerprint of how the content was made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendering: Option<String>,
}

impl State {
    /// Parses the annotation; anything unreadable is no state.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The resource that wrote it, as far as the state names one that the tag
    /// of its annotation stands for.
    #[must_use]
    pub fn writer(&self, namespace: &str, annotation: &str) -> Option<ResourceKey> {
        let (kind, name) = self.of.as_deref()?.split_once('/')?;
        let key = ResourceKey {
            kind: Kind::ALL.into_iter().find(|known| known.as_str() == kind)?,
            object: ObjectKey::new(namespace, name),
        };
        (state_annotation(&ResourceTag::of(&key)) == annotation).then_some(key)
    }

    /// The annotation's text.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        // A struct of strings and numbers always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}
