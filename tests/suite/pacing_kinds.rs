//! The policy about restarts, kept to with the real controllers of StatefulSets and DaemonSets, too.

use anyhow::{Result, ensure};
use ground::judges::workloads::Kind;
use ground::wait_for;
use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::pacing::{start, with};
use crate::rollouts::{KINDS, targets};
use crate::support::{LONG, Suite, Team, prepare};

crate::trials!["pacing_kinds": sets_that_are_not_available_wait];

const SETS: [Kind; 2] = [Kind::StatefulSet, Kind::DaemonSet];

/// As somebody else edits `web` of a kind.
async fn edit(team: &Team, kind: Kind, template: &Value) -> Result<()> {
    let edit = json!({ "spec": { "template": { "spec": template } } });
    let (params, edit) = (PatchParams::default(), Patch::Merge(&edit));
    match kind {
        Kind::Deployment => drop(team.deployments().patch("web", &params, &edit).await?),
        Kind::StatefulSet => {
            let sets = team.tenant.api::<StatefulSet>();
            drop(sets.patch("web", &params, &edit).await?);
        }
        Kind::DaemonSet => {
            let sets = team.tenant.api::<DaemonSet>();
            drop(sets.patch("web", &params, &edit).await?);
        }
    }
    Ok(())
}

/// Waits for these states and reasons of the targets, in the order in which they are named.
async fn wait_rows(team: &Team, expected: [(&str, Option<&str>); 3]) -> Result<()> {
    wait_for(&format!("{expected:?}"), LONG, || async {
        let all = team.rollouts("app").await?.rollout_targets;
        let rows: Vec<_> = all
            .iter()
            .map(|row| (row.state.as_str(), row.reason.as_deref()))
            .collect();
        ensure!(rows == expected, "{rows:?}");
        Ok(())
    })
    .await
}

async fn sets_that_are_not_available_wait(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("sets").await?;
    prepare(&tenant).await?;
    let waits = with(&tenant, "", "  onlyWhenAvailable: true\n");
    let team = start(suite, tenant, &waits).await?;
    team.put("app", json!({ "password": "first" })).await?;
    for kind in KINDS {
        let more = match kind {
            // Else its controller leaves a pod that never started to a person.
            Kind::StatefulSet => json!({ "podManagementPolicy": "Parallel" }),
            _ => json!({}),
        };
        team.workload(kind, more).await?;
    }
    team.static_secret("app", targets(&KINDS)).await?;
    team.baselined(&KINDS).await?;
    // Pods that no scheduler gives a node.
    for kind in SETS {
        edit(&team, kind, &json!({ "schedulerName": "nobody" })).await?;
    }
    wait_for("the new pods to wait for a node", LONG, || async {
        let set = team.tenant.api::<StatefulSet>().get("web").await?;
        let daemons = team.tenant.api::<DaemonSet>().get("web").await?;
        let ready = set.status.and_then(|status| status.ready_replicas);
        let available = daemons.status.and_then(|status| status.number_available);
        ensure!(
            (ready.unwrap_or_default(), available.unwrap_or_default()) == (0, 0),
            "{ready:?} {available:?}"
        );
        Ok(())
    })
    .await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    let unavailable = ("Pending", Some("Unavailable"));
    wait_rows(&team, [("Rolled", None), unavailable, unavailable]).await?;
    for kind in SETS {
        // That of the edit.
        ensure!(team.restarts(kind, "web").await? == 1, "{kind:?}");
        edit(&team, kind, &json!({ "schedulerName": null })).await?;
    }
    wait_rows(&team, [("Rolled", None); 3]).await?;
    for (kind, restarts) in [
        (Kind::Deployment, 1),
        (Kind::StatefulSet, 2),
        (Kind::DaemonSet, 2),
    ] {
        ensure!(team.restarts(kind, "web").await? == restarts, "{kind:?}");
    }
    Ok(())
}
