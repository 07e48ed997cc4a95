//! The CustomResourceDefinitions as they are shipped: the files of `kustomize/crds`, which a test holds to the types.
//! Generating them here would be a thirtieth of the binary.

/// API group of all kinds.
pub const GROUP: &str = "secrets.hashicorp.com";

/// The version that is stored, and the one the operator itself speaks.
pub const STORED_VERSION: &str = "v1beta1";

/// All versions that are served, the stored one first. They share one schema, so no conversion is
/// needed.
pub const VERSIONS: [&str; 2] = [STORED_VERSION, "v1alpha1"];

/// Name and content of a file of `kustomize/crds`.
pub type DefinitionFile = (&'static str, &'static str);

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../kustomize/crds/", $name)))),+]
    };
}

/// The definitions of all seven kinds, a file each, with every version of [`VERSIONS`].
pub const DEFINITIONS: [DefinitionFile; 7] = files![
    "vaultconnections.yaml",
    "vaultauths.yaml",
    "vaultauthglobals.yaml",
    "vaultstaticsecrets.yaml",
    "vaultdynamicsecrets.yaml",
    "vaultpkisecrets.yaml",
    "secrettransformations.yaml",
];

/// The kustomization that lists them.
pub const KUSTOMIZATION: DefinitionFile = files!["kustomization.yaml"][0];
