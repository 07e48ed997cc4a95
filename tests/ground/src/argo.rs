//! The definition of Argo Rollouts' kind, from its own Go module. Its controller is not run: tests play it.

use anyhow::{Context, Result};

use crate::go_build;

/// The module, with its hash. Later versions ask for a newer Go than the components do.
const MODULE: [&str; 3] = [
    "github.com/argoproj/argo-rollouts",
    "v1.10.0",
    "h1:1/DTeu/eGzJzcz8FxMBFzr0jlNQia/lnctkw83AUph0=",
];

/// The definition of the kind Rollout.
///
/// # Errors
/// The module can't be downloaded.
pub fn rollout_crd() -> Result<String> {
    let [module, version, sum] = MODULE;
    let file = go_build::files(module, version, sum)?.join("manifests/crds/rollout-crd.yaml");
    let text = std::fs::read_to_string(&file);
    text.with_context(|| format!("can't read {}", file.display()))
}
