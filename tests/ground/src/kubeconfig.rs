//! Kubeconfig files: what kubectl, the components and the operator reach the API server with.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::pki::Identity;

/// Who a kubeconfig makes its reader.
#[derive(Clone, Copy, Debug)]
pub enum User<'a> {
    /// The bearer of a client certificate.
    Certificate(&'a Identity),
    /// The bearer of the token in this file; it is read again when it changes.
    TokenFile(&'a Path),
}

/// Writes a kubeconfig with one context; all paths in it are absolute.
///
/// # Errors
/// The file can't be written, or a path in it isn't UTF-8.
pub fn write(
    file: &Path,
    server: &str,
    ca_file: &Path,
    user: User<'_>,
    namespace: &str,
) -> Result<()> {
    let user = match user {
        User::Certificate(identity) => json!({
            "client-certificate": text(&identity.cert_file)?,
            "client-key": text(&identity.key_file)?,
        }),
        User::TokenFile(token) => json!({ "tokenFile": text(token)? }),
    };
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "ground", "cluster": { "server": server, "certificate-authority": text(ca_file)? } }],
        "users": [{ "name": "ground", "user": user }],
        "contexts": [{ "name": "ground", "context": { "cluster": "ground", "user": "ground", "namespace": namespace } }],
        "current-context": "ground",
    });
    std::fs::write(file, serde_yaml::to_string(&config)?)
        .with_context(|| format!("can't write {}", file.display()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| {
        format!(
            "the path {} is not UTF-8: move the repository or set CARGO_TARGET_DIR",
            path.display()
        )
    })
}
