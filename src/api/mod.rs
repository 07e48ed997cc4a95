//! The custom resources: what tenants write and what the operator reports back.
//!
//! One file per kind, shared parts in files of their own. Every field of the kinds that
//! existing manifests use is here, under the same JSON name, with the same type, default and
//! constraint; what we add is optional. Types only: no I/O, no rule of the operator.
//!
//! # What still deserializes
//! An enumeration keeps a value that this version doesn't know (`Unknown`), so that it can be
//! reported on the resource. Status fields may be missing. Anything else that doesn't fit its type
//! can only be stored under foreign definitions: watch through `kube::core::DeserializeGuard`, so
//! that one such object is reported instead of ending the watch of all.

// The lint takes the parts of one `printcolumn(..)` for repetitions of those of another.
#![allow(clippy::duplicated_attributes)]

mod definitions;
mod destination;
mod enumeration;
mod lifetime;
mod rollout;
mod rollout_spec;
mod rotation;
mod schema;
mod secret_transformation;
mod status;
mod vault_auth;
mod vault_auth_global;
mod vault_connection;
mod vault_dynamic_secret;
mod vault_pki_secret;
mod vault_static_secret;

#[cfg(test)]
mod tests;

pub use definitions::{
    DEFINITIONS, DefinitionFile, GROUP, KUSTOMIZATION, STORED_VERSION, VERSIONS,
};
pub use destination::{Destination, Template, TemplateRef, Transformation, TransformationRef};
pub use lifetime::{Lifetime, Phase};
pub use rollout::{
    RolloutRestartTarget, RolloutState, RolloutTargetStatus, Rollouts, WorkloadKind,
};
pub use rollout_spec::{LabelSelector, LabelSelectorRequirement, RolloutSpec, SelectorOperator};
pub use rotation::{RotationSpec, RotationStrategy};
pub use secret_transformation::{
    SecretTransformation, SecretTransformationSpec, SecretTransformationStatus, SourceTemplate,
};
pub use status::{Condition, VaultClientMeta};
pub use vault_auth::{
    AppRoleAuth, AuthMethod, AwsAuth, DEFAULT_TOKEN_EXPIRATION_SECONDS, GcpAuth, JwtAuth,
    KubernetesAuth, MergeStrategy, MergeStrategyKind, StorageEncryption, VaultAuth,
    VaultAuthGlobalRef, VaultAuthSpec, VaultAuthStatus,
};
pub use vault_auth_global::{
    GlobalMethod, MethodDefaults, VaultAuthGlobal, VaultAuthGlobalSpec, VaultAuthGlobalStatus,
};
pub use vault_connection::{VaultConnection, VaultConnectionSpec, VaultConnectionStatus};
pub use vault_dynamic_secret::{
    DEFAULT_RENEWAL_PERCENT, HttpMethod, SecretLease, StaticCredsMetaData, VaultDynamicSecret,
    VaultDynamicSecretSpec, VaultDynamicSecretStatus,
};
pub use vault_pki_secret::{VaultPKISecret, VaultPKISecretSpec, VaultPKISecretStatus};
pub use vault_static_secret::{
    KvType, OnSourceDelete, SyncConfig, VaultStaticSecret, VaultStaticSecretSpec,
    VaultStaticSecretStatus,
};
