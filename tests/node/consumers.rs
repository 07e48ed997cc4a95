//! An application's pods use a Secret in every way that Kubernetes has, and get what is new in Vault.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ground::resources::static_secret;
use ground::wait_for;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::site::installation::{Installation, Overlay, address, deployment, from_secret};
use crate::site::{LONG, Site};

crate::trials!["consumers": a_new_version_reaches_environment_volume_and_api];

/// What an application of ours shows of itself.
async fn shown(pod: &Pod, path: &str) -> Result<String> {
    let url = format!("http://{}:8080/{path}", address(pod)?);
    let answer = reqwest::get(url).await?.error_for_status()?;
    Ok(answer.text().await?)
}

/// What the application reads at the API server.
async fn by_api(pod: &Pod) -> Result<String> {
    let secret: Value = serde_json::from_str(&shown(pod, "secret/app").await?)?;
    let text = secret["data"]["password"].as_str().context("no password")?;
    Ok(String::from_utf8(STANDARD.decode(text)?)?)
}

async fn a_new_version_reaches_environment_volume_and_api(site: &Site) -> Result<()> {
    let installation = Installation::prepare(site, Overlay::Beside, "consumers").await?;
    let tenant = &installation.tenant;
    let put = |value: &'static str| {
        let data = json!({ "password": value });
        async move { tenant.vault.kv2_put(&tenant.kv2, "app", &data).await }
    };
    put("one").await?;
    let uses = |name: &str| {
        let container = json!({
            "env": [from_secret("PASSWORD", "app", "password")],
            "volumeMounts": [{ "name": "app", "mountPath": "/etc/app" }],
        });
        let volumes = json!({ "volumes": [{ "name": "app", "secret": { "secretName": "app" } }] });
        deployment(name, 2, container, volumes)
    };
    let targets =
        json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "restarted" }] });
    let reads = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "app" },
        "rules": [{ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["app"], "verbs": ["get"] }],
    });
    let bound = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "app" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "app" },
        "subjects": [{ "kind": "ServiceAccount", "name": "app" }],
    });
    let secret = static_secret(tenant, "app", targets);
    let objects = [secret, reads, bound, uses("restarted"), uses("left")];
    installation.bring(&objects).await?;
    installation.install(site).await?;
    installation.ready("VaultStaticSecret", "app").await?;
    for name in ["restarted", "left"] {
        for pod in installation.rolled_out(name, 2).await? {
            for place in ["env/PASSWORD", "file/etc/app/password"] {
                ensure!(shown(&pod, place).await? == "one", "{name}: {place}");
            }
            ensure!(by_api(&pod).await? == "one", "{name}");
        }
    }

    put("two").await?;
    let begun = Instant::now();
    wait_for("the restart", LONG, || async {
        let restarts = installation.restarts("restarted").await?;
        ensure!(restarts == 1, "{restarts}");
        Ok(())
    })
    .await?;
    for pod in installation.rolled_out("restarted", 2).await? {
        ensure!(shown(&pod, "env/PASSWORD").await? == "two");
        ensure!(shown(&pod, "file/etc/app/password").await? == "two");
        ensure!(by_api(&pod).await? == "two");
    }
    println!(
        "all pods have the new version after {:.1?}",
        begun.elapsed()
    );
    // What nobody restarts keeps its environment, and sees the rest.
    for pod in installation.rolled_out("left", 2).await? {
        ensure!(by_api(&pod).await? == "two");
        wait_for("the volume", Duration::from_secs(180), || async {
            let content = shown(&pod, "file/etc/app/password").await?;
            ensure!(content == "two", "{content}");
            Ok(())
        })
        .await?;
        ensure!(shown(&pod, "env/PASSWORD").await? == "one");
    }
    println!(
        "the volumes of the others have it after {:.1?}",
        begun.elapsed()
    );
    ensure!(installation.restarts("restarted").await? == 1);
    ensure!(installation.restarts("left").await? == 0);
    Ok(())
}
