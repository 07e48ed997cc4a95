//! A workload restarts for new content, once, and for nothing else.

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::{Kind, Templates};
use ground::wait_for;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{Eye, workload};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "rollouts": ; in each grade:
    each_kind_restarts_once_for_new_content, nothing_but_content_restarts,
    a_lost_key_restarts_nothing, a_paused_deployment_is_rolled_once_on_resume,
    a_missing_target_is_told_and_taken_up, rollouts_that_are_off_are_told,
];

pub const KINDS: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];

/// The Secret `app`, and `web` of each kind.
pub const OF_ALL_KINDS: Names<'_> = Names {
    workloads: &[
        (Kind::Deployment, "web"),
        (Kind::StatefulSet, "web"),
        (Kind::DaemonSet, "web"),
    ],
    ..Names::APP
};

/// The operator's own key for hashes.
pub const KEY: &str = "vault-tenant-operator-key";

/// The member of a spec that names `web` of these kinds as targets.
pub fn targets(kinds: &[Kind]) -> Value {
    let targets: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({ "kind": format!("{kind:?}"), "name": "web" }))
        .collect();
    json!({ "rolloutRestartTargets": targets })
}

impl Team {
    /// The resource `app` with `web` of these kinds as targets, all at rest.
    pub async fn with_targets(&self, kinds: &[Kind]) -> Result<()> {
        self.put("app", json!({ "password": "first" })).await?;
        for kind in kinds {
            self.workload(*kind, json!({})).await?;
        }
        self.static_secret("app", targets(kinds)).await?;
        self.wait_ready("app").await?;
        self.baselined(kinds).await
    }

    /// Applies `web`, and waits until its controller has seen it.
    pub async fn workload(&self, kind: Kind, more: Value) -> Result<()> {
        let manifest = workload(kind, "web", "app", more);
        self.tenant.apply(&manifest.to_string()).await?;
        wait_for("the controller of web", LONG, || async {
            Templates::of(&self.tenant.client, kind, &self.tenant.namespace, "web").await
        })
        .await
        .map(drop)
    }

    /// Waits until every target carries a baseline and the status says all is current.
    pub async fn baselined(&self, kinds: &[Kind]) -> Result<()> {
        self.wait_current("app").await?;
        wait_for("baselines", LONG, || async {
            for kind in kinds {
                let annotations = self.annotations(*kind).await?;
                ensure!(annotations.contains("/base-"), "{kind:?}: {annotations}");
            }
            Ok(())
        })
        .await
    }

    /// Annotations of `web` itself, as text.
    pub async fn annotations(&self, kind: Kind) -> Result<String> {
        Ok(match kind {
            Kind::Deployment => format!(
                "{:?}",
                self.deployments().get("web").await?.metadata.annotations
            ),
            Kind::StatefulSet => {
                let api = self.tenant.api::<k8s_openapi::api::apps::v1::StatefulSet>();
                format!("{:?}", api.get("web").await?.metadata.annotations)
            }
            Kind::DaemonSet => {
                let api = self.tenant.api::<k8s_openapi::api::apps::v1::DaemonSet>();
                format!("{:?}", api.get("web").await?.metadata.annotations)
            }
        })
    }

    /// Changes the content and waits for exactly one restart more than `before` of each kind.
    pub async fn rolls_once(&self, kinds: &[Kind], value: &str, before: usize) -> Result<()> {
        self.put("app", json!({ "password": value })).await?;
        self.wait_value("app", "password", value).await?;
        for kind in kinds {
            self.wait_restarts(*kind, "web", before + 1).await?;
        }
        self.wait_current("app").await
    }
}

async fn each_kind_restarts_once_for_new_content(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "kinds", OF_ALL_KINDS).await?;
    team.with_targets(&KINDS).await?;
    team.rolls_once(&KINDS, "second", 0).await?;
    // The third proves that the second made no more than one.
    team.rolls_once(&KINDS, "third", 1).await
}

async fn nothing_but_content_restarts(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "still", OF_ALL_KINDS).await?;
    team.with_targets(&KINDS).await?;
    // Equal content as a new version, another spec, other labels.
    team.put("app", json!({ "password": "first" })).await?;
    team.wait_told("app", "version 2").await?;
    let raw: Value = serde_json::from_str(&team.value("app", "_raw").await?)?;
    ensure!(raw["metadata"]["version"] == 2, "{raw}");
    team.edit(
        "app",
        json!({ "refreshAfter": "3s", "destination": { "labels": { "a": "b" } } }),
    )
    .await?;
    team.wait_ready("app").await?;
    let merge = Patch::Merge(json!({ "metadata": { "labels": { "of-the-resource": "x" } } }));
    team.resources("VaultStaticSecret")
        .patch("app", &PatchParams::default(), &merge)
        .await?;
    // A hand edit and its repair.
    team.edit_secret("app", "password", "wrong").await?;
    team.wait_value("app", "password", "first").await?;
    // The Secret deleted, the operator restarted, the resource deleted and applied again.
    team.secrets()
        .delete("app", &DeleteParams::default())
        .await?;
    team.wait_value("app", "password", "first").await?;
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    team.resources("VaultStaticSecret")
        .delete("app", &DeleteParams::default())
        .await?;
    wait_for("the Secret to be collected", LONG, || async {
        ensure!(team.tenant.secret("app").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    team.static_secret("app", targets(&KINDS)).await?;
    team.wait_ready("app").await?;
    team.wait_value("app", "password", "first").await?;
    for kind in KINDS {
        ensure!(team.restarts(kind, "web").await? == 0, "{kind:?} restarted");
    }
    // And the next change of content is exactly one: nothing was pending.
    team.rolls_once(&KINDS, "second", 0).await
}

async fn a_lost_key_restarts_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "key", Names::ROLLED).await?;
    team.with_targets(&[Kind::Deployment]).await?;
    let key = || async {
        let secret = team.secret(KEY).await?;
        anyhow::Ok(secret.data.context("no data")?["key"].0.clone())
    };
    let first = key().await?;
    // Under a running operator the same key comes back, where it may be watched.
    if grade == Grade::Namespace {
        team.secrets().delete(KEY, &DeleteParams::default()).await?;
        wait_for("the key to come back", LONG, || async {
            ensure!(key().await? == first, "another key");
            Ok(())
        })
        .await?;
    }
    // While it is down nobody remembers the key: a new one, and all hashes anew.
    team.operator.process.kill();
    team.operator.process.wait().await;
    let old = team.annotations(Kind::Deployment).await?;
    team.secrets().delete(KEY, &DeleteParams::default()).await?;
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    wait_for("a hash of the new key", LONG, || async {
        let now = team.annotations(Kind::Deployment).await?;
        ensure!(now != old, "{now}");
        Ok(())
    })
    .await?;
    ensure!(key().await? != first, "the old key is back");
    team.wait_ready("app").await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    team.rolls_once(&[Kind::Deployment], "second", 0).await
}

async fn a_paused_deployment_is_rolled_once_on_resume(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "paused", Names::ROLLED).await?;
    team.with_targets(&[Kind::Deployment]).await?;
    let pause = |paused: bool| Patch::Merge(json!({ "spec": { "paused": paused } }));
    team.deployments()
        .patch("web", &PatchParams::default(), &pause(true))
        .await?;
    for value in ["second", "third"] {
        team.put("app", json!({ "password": value })).await?;
        team.wait_value("app", "password", value).await?;
    }
    let told = team
        .wait_condition("VaultStaticSecret", "app", "RolloutRestart", "False")
        .await?;
    ensure!(
        told.reason == "Pending"
            && told.message.contains("paused")
            && told.message.contains("resume"),
        "{told:?}"
    );
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    team.deployments()
        .patch("web", &PatchParams::default(), &pause(false))
        .await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.wait_current("app").await?;
    team.rolls_once(&[Kind::Deployment], "fourth", 1).await
}

async fn a_missing_target_is_told_and_taken_up(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "no-target", Names::ROLLED).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", targets(&[Kind::Deployment]))
        .await?;
    team.wait_ready("app").await?;
    let told = team
        .wait_condition("VaultStaticSecret", "app", "RolloutRestart", "False")
        .await?;
    ensure!(
        told.reason == "TargetMissing"
            && told.message.contains("web")
            && told.message.contains("create it"),
        "{told:?}"
    );
    team.workload(Kind::Deployment, json!({})).await?;
    team.baselined(&[Kind::Deployment]).await?;
    ensure!(
        team.restarts(Kind::Deployment, "web").await? == 0,
        "its pods started with the content"
    );
    team.rolls_once(&[Kind::Deployment], "second", 0).await
}

async fn rollouts_that_are_off_are_told(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "rollouts-off", Names::APP, "").await?;
    crate::support::prepare(&tenant).await?;
    let config =
        crate::support::config(&tenant, &more).replace("  debounce: 1s", "  enabled: false");
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "first" })).await?;
    team.workload(Kind::Deployment, json!({})).await?;
    let mut spec = targets(&[Kind::Deployment]);
    spec["rollout"] = json!({ "auto": true });
    team.static_secret("app", spec).await?;
    team.wait_ready("app").await?;
    let told = team
        .wait_condition("VaultStaticSecret", "app", "RolloutRestart", "False")
        .await?;
    ensure!(
        told.reason == "RolloutDisabled"
            && told.message.contains("web not restarted: ")
            && told.message.contains("rollout.enabled")
            && told.message.contains("spec.rollout finds no workload"),
        "{told:?}"
    );
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_told("app", "version 2").await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    let eye = Eye::on(suite, &team);
    let seen = eye.api.requests(&eye.at_api().group("apps"))?;
    ensure!(seen.is_empty(), "workloads are not even watched: {seen:?}");
    Ok(())
}
