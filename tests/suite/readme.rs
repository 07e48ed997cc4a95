//! The README's tour does what it says: its commands run as they stand there,
//! in one shell, with the variables that the sandbox prints. Only the names of
//! the sandbox's tenant give way to those of the trial's own.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ground::documents::{blocks, path_with_tools, section};
use ground::tenant::Tenant;
use serde_json::json;

use crate::support::{Suite, Team};

crate::trials!["readme": the_tour_runs_as_written];

const README: &str = include_str!("../../README.md");

async fn the_tour_runs_as_written(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "tour").await?;
    let commands = blocks(section(README, "Five minutes")?).join("\n");
    let commands = of_tenant(&commands, &team.tenant)?;
    login_called_app(&team).await?;
    let vault = &team.tenant.vault;
    let created = vault.write("auth/token/create", &json!({})).await?;
    let token = created["auth"]["client_token"].as_str();
    let output = tokio::process::Command::new("bash")
        .args(["-euc", &format!("set -o pipefail\n{commands}")])
        .env(
            "PATH",
            path_with_tools(suite.ground.components(), &team.tenant.dir.join("bin"))?,
        )
        .env("KUBECONFIG", kubeconfig(suite, &team.tenant)?)
        .env("VAULT_ADDR", &team.tenant.vault_address)
        .env("VAULT_CACERT", suite.ground.pki.ca_file())
        .env("VAULT_TOKEN", token.context("no token")?)
        .output()
        .await?;
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{out}\n{err}");
    ensure!(
        out.contains("sesame"),
        "it does not show the password: {out}"
    );
    ensure!(
        out.contains("policy.vaultAddresses"),
        "it does not show the refusal: {out}"
    );
    Ok(())
}

/// The commands with the tenant's names instead of the sandbox's.
fn of_tenant(commands: &str, tenant: &Tenant) -> Result<String> {
    let mut commands = commands.to_owned();
    for (sandbox, trial) in [
        (
            "--namespace=example\n",
            format!("--namespace={}\n", tenant.namespace),
        ),
        ("KV=example\n", format!("KV={}\n", tenant.kv2)),
    ] {
        ensure!(
            commands.contains(sandbox),
            "the tour does not say {sandbox:?}"
        );
        commands = commands.replace(sandbox, &trial);
    }
    Ok(commands)
}

/// The sandbox's VaultAuth is called `app`, that of a team `default`.
async fn login_called_app(team: &Team) -> Result<()> {
    let known = team.resources("VaultAuth").get("default").await?;
    let auth = json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultAuth",
        "metadata": { "name": "app" }, "spec": known.data["spec"],
    });
    team.tenant.apply(&auth.to_string()).await.map(drop)
}

/// A copy of the administrator's kubeconfig, which the tour changes.
fn kubeconfig(suite: &Suite, tenant: &Tenant) -> Result<PathBuf> {
    let file = tenant.dir.join("kubeconfig of the tour");
    std::fs::copy(&suite.ground.plane.kubeconfig, &file)?;
    Ok(file)
}
