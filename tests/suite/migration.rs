//! docs/migrating.md does what it says: its commands run as they stand there,
//! over two namespaces that the Vault Secrets Operator has served.

use std::path::Path;

use anyhow::{Result, ensure};
use ground::documents::{blocks, path_with_tools};
use ground::judges::workloads::Kind;
use ground::{Tenant, wait_for};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::adoption::made_by_that_operator;
use crate::applied::render_own;
use crate::support::{LONG, Suite, Team, config, deployment, prepare, resources};

crate::trials!["migration": the_switch_runs_as_written];

const DOCUMENT: &str = include_str!("../../docs/migrating.md");

/// The block that installs the operators; in a trial they start after it.
const INSTALL: usize = 3;

async fn the_switch_runs_as_written(suite: &Suite) -> Result<()> {
    the_other_operator(suite).await?;
    let folder = suite.ground.dir().join("overlays of the switch");
    let mut tenants = Vec::new();
    for name in ["switch-a", "switch-b"] {
        let tenant = suite.ground.tenant(name).await?;
        served_before(&tenant).await?;
        overlay(suite, &tenant, &folder).await?;
        tenants.push(tenant);
    }
    let names: Vec<&str> = tenants.iter().map(|t| t.namespace.as_str()).collect();
    let names = names.join(" ");
    let commands = blocks(DOCUMENT);
    let (before, after) = commands.split_at(INSTALL + 1);
    ensure!(
        before[INSTALL].contains("apply -k \"$OVERLAYS"),
        "{before:?}"
    );
    run(suite, &folder, &names, before).await?;
    let mut teams = Vec::new();
    for tenant in tenants {
        let config = config(&tenant, "");
        let operator = tenant.operator(&suite.binary).config(&config);
        let operator = operator.start().await?;
        teams.push(Team { tenant, operator });
    }
    // An event may come a moment after what it is about.
    let (takeover, rest) = after.split_at(1);
    wait_for("an event about each Secret", 3 * LONG, || async {
        let said = run(suite, &folder, &names, takeover).await?;
        let told = said.matches("SecretAdopted").count();
        ensure!(told == teams.len(), "{said}");
        Ok(())
    })
    .await?;
    run(suite, &folder, &names, rest).await?;
    for team in &teams {
        team.wait_restarts(Kind::Deployment, "web", 0).await?;
        ensure!(team.value("app", "password").await? == "vault");
        team.put("app", json!({ "password": "newer" })).await?;
        team.wait_restarts(Kind::Deployment, "web", 1).await?;
    }
    Ok(())
}

/// What stands for that operator: a Deployment of its name.
async fn the_other_operator(suite: &Suite) -> Result<()> {
    let namespace = "vault-secrets-operator-system";
    let made =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
    let apply = async |manifest: serde_json::Value| {
        ground::manifests::apply(&suite.ground.client, namespace, &manifest.to_string()).await
    };
    apply(made).await?;
    apply(deployment("vault-secrets-operator", "none"))
        .await
        .map(drop)
}

/// A namespace as that operator leaves it.
async fn served_before(tenant: &Tenant) -> Result<()> {
    prepare(tenant).await?;
    let held = json!({ "password": "vault" });
    tenant.vault.kv2_put(&tenant.kv2, "app", &held).await?;
    made_by_that_operator(tenant, "app", held).await?;
    tenant.apply(&deployment("web", "app").to_string()).await?;
    let params = PatchParams {
        field_manager: Some("vault-secrets-operator".to_owned()),
        ..PatchParams::default()
    };
    let kinds = [
        ("VaultStaticSecret", "app"),
        ("VaultAuth", "default"),
        ("VaultConnection", "default"),
    ];
    for (kind, name) in kinds {
        let finalizer = format!("{}.secrets.hashicorp.com/finalizer", kind.to_lowercase());
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": [finalizer] } }));
        resources(tenant, kind).patch(name, &params, &patch).await?;
    }
    wait_for("a second to pass", LONG, || async {
        let object = resources(tenant, "VaultStaticSecret").get("app").await?;
        let last = object.metadata.managed_fields.unwrap_or_default();
        let last = last.into_iter().filter_map(|entry| entry.time).max();
        let now = jiff::Timestamp::now().as_second();
        ensure!(last.is_some_and(|last| last.0.as_second() < now));
        Ok(())
    })
    .await
}

/// The tenant's overlay for the switch, without a Deployment: the operator of a
/// trial is a process.
async fn overlay(suite: &Suite, tenant: &Tenant, folder: &Path) -> Result<()> {
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": tenant.namespace, "resources": ["rbac", "rbac/migration"],
    });
    let folder = folder.join(&tenant.namespace);
    let rendered = render_own(suite, &folder, kustomization, &["resources"]).await?;
    ensure!(
        rendered.contains("vault-tenant-operator-migration"),
        "{rendered}"
    );
    Ok(())
}

/// Runs blocks of commands in one shell at the repository's root; what they said.
async fn run(suite: &Suite, overlays: &Path, tenants: &str, blocks: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new("bash")
        .args(["-euc", &format!("set -o pipefail\n{}", blocks.join("\n"))])
        .current_dir(ground::paths::repository())
        .env(
            "PATH",
            path_with_tools(suite.ground.components(), &suite.ground.dir().join("bin"))?,
        )
        .env("KUBECONFIG", &suite.ground.plane.kubeconfig)
        .env("TENANTS", tenants)
        .env("OVERLAYS", overlays)
        .output()
        .await?;
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{out}\n{err}");
    Ok(out.into_owned())
}
