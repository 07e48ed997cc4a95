//! Manifests: rendering with the real kustomize, parsing, and server-side apply of any kind.
//!
//! What is applied goes through the API server's own discovery, so a kind that isn't installed is an error that says so.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{ApiResource, Scope, pinned_kind};
use serde::Deserialize;

use crate::wait::wait_for;

/// The field manager of everything that a test applies.
pub const FIELD_MANAGER: &str = "ground";

/// Renders a kustomization with the real kustomize.
///
/// # Errors
/// kustomize refuses it; its own message is kept.
pub async fn kustomize(program: &Path, dir: &Path) -> Result<String> {
    let output = tokio::process::Command::new(program)
        .arg("build")
        .arg(dir)
        .output()
        .await;
    let output = output.with_context(|| format!("can't run {}", program.display()))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kustomize refuses {}: {message}",
        dir.display()
    );
    String::from_utf8(output.stdout).context("kustomize wrote something that isn't UTF-8")
}

/// Copies a folder of plain files and folders, such as `kustomize/`, whose overlays a platform copies and changes.
///
/// # Errors
/// Something can't be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("can't copy {} to {}", from.display(), to.display());
    std::fs::create_dir_all(to).with_context(failed)?;
    for entry in std::fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target)?;
        } else {
            std::fs::copy(&source, &target).with_context(failed)?;
        }
    }
    Ok(())
}

/// The objects of a YAML text with any number of documents; empty ones are left out.
///
/// # Errors
/// A document isn't YAML, or isn't an object with apiVersion, kind and metadata.name.
pub fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(serde_yaml::Value::deserialize)
        .filter(|document| !matches!(document, Ok(serde_yaml::Value::Null)))
        .map(|document| object(document?))
        .collect()
}

fn object(document: serde_yaml::Value) -> Result<DynamicObject> {
    let object = serde_yaml::from_value::<DynamicObject>(document.clone()).ok();
    let complete = object.filter(|object| object.types.is_some() && object.metadata.name.is_some());
    complete.with_context(|| {
        let text = serde_yaml::to_string(&document).unwrap_or_default();
        format!("no object with apiVersion, kind and metadata.name:\n{text}")
    })
}

/// Applies all objects of a YAML text in their order; `namespace` is for those namespaced ones that name none.
///
/// # Errors
/// See [`apply_object`].
pub async fn apply(
    client: &kube::Client,
    namespace: &str,
    yaml: &str,
) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for object in parse(yaml)? {
        applied.push(apply_object(client, namespace, &object).await?);
    }
    Ok(applied)
}

/// Server-side apply of one object with strict field validation, as the field manager `ground`.
///
/// # Errors
/// The kind isn't installed, or the API server refuses the object.
pub async fn apply_object(
    client: &kube::Client,
    namespace: &str,
    object: &DynamicObject,
) -> Result<DynamicObject> {
    let name = object
        .metadata
        .name
        .as_deref()
        .context("an object has no metadata.name")?;
    let api = api_of(client, namespace, object).await?;
    let params = PatchParams::apply(FIELD_MANAGER)
        .force()
        .validation_strict();
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    let kind = object.types.as_ref().map_or("", |types| &types.kind);
    applied.with_context(|| format!("apply {kind} {name}"))
}

/// The API that this object belongs to, by the API server's discovery.
///
/// # Errors
/// The object has no apiVersion or kind, or the API server doesn't serve it.
pub async fn api_of(
    client: &kube::Client,
    namespace: &str,
    object: &DynamicObject,
) -> Result<Api<DynamicObject>> {
    let types = object
        .types
        .as_ref()
        .context("an object has no apiVersion and kind")?;
    let (resource, scope) = resource_of(client, types).await?;
    Ok(match scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    })
}

async fn resource_of(client: &kube::Client, types: &TypeMeta) -> Result<(ApiResource, Scope)> {
    let kind = GroupVersionKind::try_from(types)?;
    let found = pinned_kind(client, &kind).await;
    let (resource, capabilities) = found.with_context(|| {
        format!(
            "the API server serves no {} {}: is its CRD installed?",
            types.api_version, types.kind
        )
    })?;
    Ok((resource, capabilities.scope))
}

/// Applies CustomResourceDefinitions and waits until the API server serves every version of each.
///
/// # Errors
/// The API server refuses one, or doesn't serve it in time.
pub async fn install_crds(client: &kube::Client, yaml: &str) -> Result<()> {
    let crds = apply(client, "default", yaml).await?;
    for crd in &crds {
        let text = |pointer: &str| {
            crd.data
                .pointer(pointer)
                .and_then(|value| value.as_str())
                .unwrap_or_default()
        };
        let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
        let versions = crd
            .data
            .pointer("/spec/versions")
            .and_then(|versions| versions.as_array());
        for version in versions
            .into_iter()
            .flatten()
            .filter_map(|version| version["name"].as_str())
        {
            let kind = GroupVersionKind::gvk(group, version, kind);
            wait_for(
                &format!("{kind:?} to be served"),
                Duration::from_secs(60),
                || async { Ok(pinned_kind(client, &kind).await?) },
            )
            .await?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn empty_documents_are_left_out_and_what_is_no_object_is_shown() {
        let objects =
            parse("---\n# nothing\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\n")
                .unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0].metadata.name.as_deref(), Some("a"));
        let error = parse("apiVersion: v1\nkind: 3\n").unwrap_err();
        assert!(format!("{error:#}").contains("kind: 3"), "{error:#}");
    }
}
