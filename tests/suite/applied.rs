//! Applies manifests as kubectl does and keeps what kubectl would print as
//! `Warning:`; and renders kustomizations that trials put together.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ground::manifests::{api_of, kustomize, parse};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::client::Body;
use kube::core::Request;
use serde_json::Value;

use crate::support::Suite;

/// Server-side apply of one object; answers the API server's warnings. A field
/// that the schema lacks is an error or one of them.
pub async fn warnings_of(
    client: &kube::Client,
    namespace: &str,
    object: &DynamicObject,
) -> Result<Vec<String>> {
    let api = api_of(client, namespace, object).await?;
    let name = object.metadata.name.as_deref().context("no name")?;
    let mut params = PatchParams::apply(ground::manifests::FIELD_MANAGER).force();
    params.field_validation = Some(kube::api::ValidationDirective::Warn);
    let request = Request::new(api.resource_url()).patch(name, &params, &Patch::Apply(object))?;
    let answer = client.send(request.map(Body::from)).await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.into_body().collect_bytes().await?;
    ensure!(
        status.is_success(),
        "the API server answers {status} to {name}: {}",
        String::from_utf8_lossy(&body)
    );
    let warnings = headers.get_all("warning").iter();
    Ok(warnings
        .map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned())
        .collect())
}

/// Applies all objects of a YAML text, and fails at the first warning.
pub async fn apply_without_warning(
    client: &kube::Client,
    namespace: &str,
    yaml: &str,
) -> Result<Vec<DynamicObject>> {
    let objects = parse(yaml)?;
    for object in &objects {
        let warnings = warnings_of(client, namespace, object).await?;
        ensure!(
            warnings.is_empty(),
            "{}: {warnings:?}",
            object.metadata.name.as_deref().unwrap_or_default()
        );
    }
    Ok(objects)
}

/// Renders a kustomization of the repository, such as `kustomize/crds`.
pub async fn render(suite: &Suite, path: &str) -> Result<String> {
    let program = suite.ground.components().path("kustomize")?;
    kustomize(program, &ground::paths::repository().join(path)).await
}

/// Renders a kustomization that is written to `dir`; in it, the member names
/// of `paths` hold paths of the repository, which become relative ones.
pub async fn render_own(
    suite: &Suite,
    dir: &Path,
    mut kustomization: Value,
    paths: &[&str],
) -> Result<String> {
    std::fs::create_dir_all(dir)?;
    let dir = dir.canonicalize()?;
    let repository = ground::paths::repository().canonicalize()?;
    let up = "../".repeat(dir.components().count() - 1);
    let relative = |path: &str| {
        format!(
            "{up}{}",
            repository
                .join(path)
                .display()
                .to_string()
                .trim_start_matches('/')
        )
    };
    for member in paths {
        for path in kustomization[member].as_array_mut().into_iter().flatten() {
            *path = relative(path.as_str().unwrap_or_default()).into();
        }
    }
    std::fs::write(dir.join("kustomization.yaml"), kustomization.to_string())?;
    kustomize(suite.ground.components().path("kustomize")?, &dir).await
}
