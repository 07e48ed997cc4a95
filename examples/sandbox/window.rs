//! The part of the tour about restarts that wait, and about `kubectl vto status`, which tells of them.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use jiff::{Timestamp, ToSpan as _};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::api::{RolloutState, VaultStaticSecret};

use crate::observe::{self, LONG};
use crate::platform::{NAMESPACE, Site};
use crate::screen::Screen;
use crate::tour::{APP, Told, put, step};
use crate::visit::quoted;

/// Walks through these steps.
///
/// # Errors
/// The first step that doesn't see what it should.
pub async fn walk(screen: &Screen, site: &Site<'_>) -> Result<()> {
    step(
        screen,
        "9. A restart waits for its window, and kubectl vto status says so",
        waits(site),
    )
    .await?;
    for line in table(site).await?.lines() {
        screen.command(line);
    }
    step(
        screen,
        "10. The window is taken away, and the Deployment rolls",
        rolls(site),
    )
    .await
}

async fn waits(site: &Site<'_>) -> Result<Told> {
    let before = observe::restarts(&site.tenant, APP).await?;
    // The first hour of a day that is neither today nor tomorrow, whatever the time is now.
    let day = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC) + 2.days();
    let window = format!("{} 00:00-01:00", day.strftime("%a"));
    ask(site, json!({ "windows": [window] })).await?;
    put(site, "third").await?;
    observe::secret_with(&site.tenant, APP, "password", "third").await?;
    let until = ground::wait_for("the restart to wait for its window", LONG, || async {
        let status = secrets(site).get(APP).await?.status.unwrap_or_default();
        let [target] = &status.rollouts.rollout_targets[..] else {
            anyhow::bail!("{:?}", status.rollouts);
        };
        let waits = target.state == RolloutState::Pending;
        ensure!(
            waits && target.reason.as_deref() == Some("Window"),
            "{target:?}"
        );
        target.until.clone().context("it does not say until when")
    })
    .await?;
    let restarts = observe::restarts(&site.tenant, APP).await?;
    ensure!(restarts == before, "the Deployment has rolled");
    Ok(Told {
        done: format!(
            "set spec.rollout.windows: [{window}], and wrote password=third to example/app"
        ),
        seen: vec![
            "the Secret app with password=third, and the Deployment as it was".to_owned(),
            format!(
                "its row in status is Pending, for the reason Window, until {}",
                until.0
            ),
        ],
    })
}

async fn rolls(site: &Site<'_>) -> Result<Told> {
    let before = observe::restarts(&site.tenant, APP).await?;
    ask(site, Value::Null).await?;
    ground::wait_for("the Deployment app to roll", LONG, || async {
        let seen = observe::restarts(&site.tenant, APP).await?;
        ensure!(seen == before + 1, "it has rolled {seen} times");
        Ok(())
    })
    .await?;
    let pods = observe::rolled_out(&site.tenant, APP).await?;
    Ok(Told {
        done: "took spec.rollout out of the VaultStaticSecret app".to_owned(),
        seen: vec![format!(
            "the Deployment has rolled once, and {pods} new pod is available"
        )],
    })
}

fn secrets(site: &Site<'_>) -> Api<VaultStaticSecret> {
    Api::namespaced(site.tenant.client.clone(), NAMESPACE)
}

/// Sets `spec.rollout` of the first secret.
async fn ask(site: &Site<'_>, rollout: Value) -> Result<()> {
    let patch = Patch::Merge(json!({ "spec": { "rollout": rollout } }));
    secrets(site)
        .patch(APP, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// What the command tells of the tenant.
async fn table(site: &Site<'_>) -> Result<String> {
    let program = plugin(site)?.join("kubectl-vto");
    let told = tokio::process::Command::new(program)
        .args(["status", "--namespace", NAMESPACE])
        .env("KUBECONFIG", &site.ground.plane.kubeconfig)
        .output()
        .await
        .context("kubectl vto can't be started")?;
    let (out, err) = [&told.stdout, &told.stderr]
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .into();
    // Not all is ready: one was refused.
    ensure!(
        told.status.code() == Some(1),
        "it ended with {}: {err}",
        told.status
    );
    let row = out.lines().find(|line| line.starts_with("vss/app "));
    let row = row.with_context(|| format!("no row of app:\n{out}"))?;
    ensure!(row.contains("Pending (Window, in "), "{row}");
    Ok(out)
}

/// The folder of `kubectl-vto` for this run: this program under another name.
///
/// # Errors
/// It can't be written.
pub fn plugin(site: &Site<'_>) -> Result<PathBuf> {
    let folder = site.ground.dir().join("bin");
    std::fs::create_dir_all(&folder)?;
    let this = std::env::current_exe().context("the sandbox can't find its own program")?;
    let this = quoted(&this.display().to_string());
    let program = folder.join("kubectl-vto");
    let text = format!("#!/bin/sh\nexec {this} {} \"$@\"\n", crate::PLUGIN);
    std::fs::write(&program, text)
        .and_then(|()| std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)))
        .with_context(|| format!("can't write {}", program.display()))?;
    Ok(folder)
}
