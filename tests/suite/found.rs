//! Workloads that restart without being named: what uses the Secret, and what has the labels of a selector.

use anyhow::{Result, ensure};
use ground::judges::workloads::Kind;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::wait_for;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::api::RolloutState;

use crate::grades::{Grade, Names};
use crate::probes::workload;
use crate::support::{LONG, Suite, Team, config, merge, prepare};

crate::trials![
    "found": each_use_of_a_secret_is_found, a_selector_follows_labels,
    what_may_not_be_listed_is_told_and_named_ones_restart,
    a_kind_that_cannot_be_watched_is_told_and_the_others_restart,
];

/// A workload whose pods have this spec beside a container that uses nothing.
fn using(kind: Kind, name: &str, pod: Value) -> Value {
    let mut manifest = workload(kind, name, "none", json!({}));
    let spec = &mut manifest["spec"]["template"]["spec"];
    *spec = json!({ "containers": [{ "name": "app", "image": "app:1" }] });
    merge(spec, pod);
    manifest
}

impl Team {
    /// Waits until these are the targets of `app`, as its status has them, and all run the content.
    async fn wait_targets(&self, expected: &[&str]) -> Result<()> {
        wait_for("the targets", LONG, || async {
            let rows = self.rollouts("app").await?.rollout_targets;
            let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            ensure!(names == expected, "{names:?}");
            Ok(())
        })
        .await?;
        self.wait_current("app").await
    }

    /// New content, and how often each of these Deployments is restarted by then.
    async fn restarts_with(&self, value: &str, expected: &[(&str, usize)]) -> Result<()> {
        self.put("app", json!({ "password": value })).await?;
        self.wait_value("app", "password", value).await?;
        for (name, restarts) in expected {
            self.wait_restarts(Kind::Deployment, name, *restarts)
                .await?;
        }
        self.wait_current("app").await
    }

    /// Labels of a Deployment itself; `null` removes one.
    async fn label(&self, name: &str, labels: Value) -> Result<()> {
        let merge = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        let deployments = self.deployments();
        deployments
            .patch(name, &PatchParams::default(), &merge)
            .await?;
        Ok(())
    }
}

async fn each_use_of_a_secret_is_found(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "found-uses").await?;
    team.put("app", json!({ "password": "first" })).await?;
    let env = json!({ "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "app", "key": "password" } } }] });
    let env_from = json!({ "envFrom": [{ "secretRef": { "name": "app" } }] });
    let container = |name: &str, more: &Value| {
        let mut container = json!({ "name": name, "image": "app:1" });
        merge(&mut container, more.clone());
        json!([container])
    };
    let volume = |volume: Value| json!({ "volumes": [volume] });
    let uses = [
        ("env", json!({ "containers": container("app", &env) })),
        (
            "env-from",
            json!({ "containers": container("app", &env_from) }),
        ),
        (
            "init",
            json!({ "initContainers": container("init", &env_from) }),
        ),
        (
            "projected",
            volume(
                json!({ "name": "v", "projected": { "sources": [{ "secret": { "name": "app" } }] } }),
            ),
        ),
        ("pull", json!({ "imagePullSecrets": [{ "name": "app" }] })),
        (
            "volume",
            volume(json!({ "name": "v", "secret": { "secretName": "app" } })),
        ),
    ];
    for (name, pod) in &uses {
        let manifest = using(Kind::Deployment, name, pod.clone());
        team.tenant.apply(&manifest.to_string()).await?;
    }
    let of_another = json!({ "imagePullSecrets": [{ "name": "another" }] });
    for (kind, name, pod) in [
        (Kind::Deployment, "other", of_another),
        (Kind::StatefulSet, "set", uses[0].1.clone()),
    ] {
        let manifest = using(kind, name, pod);
        team.tenant.apply(&manifest.to_string()).await?;
    }
    team.static_secret("app", json!({ "rollout": { "auto": true } }))
        .await?;
    team.wait_ready("app").await?;
    let mut all: Vec<&str> = uses.iter().map(|(name, _)| *name).collect();
    all.push("set");
    team.wait_targets(&all).await?;
    for (at, value) in ["second", "third"].into_iter().enumerate() {
        // The third proves that the second made no more than one.
        let expected: Vec<(&str, usize)> = uses.iter().map(|(name, _)| (*name, at + 1)).collect();
        team.restarts_with(value, &expected).await?;
        team.wait_restarts(Kind::StatefulSet, "set", at + 1).await?;
    }
    ensure!(
        team.restarts(Kind::Deployment, "other").await? == 0,
        "it uses another Secret"
    );
    Ok(())
}

async fn a_selector_follows_labels(suite: &Suite) -> Result<()> {
    /// One that is younger than this might have started with the old content.
    const DOUBT: SignedDuration = SignedDuration::from_secs(6);
    let team = Team::start(suite, "found-labels").await?;
    team.put("app", json!({ "password": "first" })).await?;
    for name in ["a", "b"] {
        let manifest = using(Kind::Deployment, name, json!({}));
        team.tenant.apply(&manifest.to_string()).await?;
    }
    let front = json!({ "tier": "front" });
    team.label("a", front.clone()).await?;
    team.label("b", front.clone()).await?;
    let selector =
        json!({ "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["front"] }] });
    team.static_secret("app", json!({ "rollout": { "selector": selector } }))
        .await?;
    team.wait_ready("app").await?;
    team.wait_targets(&["a", "b"]).await?;
    team.restarts_with("second", &[("a", 1), ("b", 1)]).await?;
    let doubtful = Timestamp::now() + DOUBT;
    // Who loses the label is left alone, and who gets it is not restarted by that.
    team.label("b", json!({ "tier": null })).await?;
    team.wait_targets(&["a"]).await?;
    wait_for("the end of doubt", LONG, || async {
        let now = Timestamp::now();
        ensure!(now > doubtful, "{now} is not past {doubtful}");
        Ok(())
    })
    .await?;
    let manifest = using(Kind::Deployment, "c", json!({}));
    team.tenant.apply(&manifest.to_string()).await?;
    team.label("c", front).await?;
    team.wait_targets(&["a", "c"]).await?;
    // Its controller may not have made its first template object yet.
    team.wait_restarts(Kind::Deployment, "c", 0).await?;
    team.restarts_with("third", &[("a", 2), ("c", 1)]).await?;
    ensure!(team.restarts(Kind::Deployment, "b").await? == 1);
    // One that finds nothing is no error; an empty one would be everything, and is refused.
    let nobody = json!({ "matchExpressions": null, "matchLabels": { "tier": "none" } });
    team.edit("app", json!({ "rollout": { "selector": nobody } }))
        .await?;
    team.wait_targets(&[]).await?;
    ensure!(team.rollouts("app").await?.rollout.is_none());
    team.edit(
        "app",
        json!({ "rollout": { "selector": { "matchLabels": null } } }),
    )
    .await?;
    let told = team
        .wait_condition("VaultStaticSecret", "app", "Ready", "False")
        .await?;
    ensure!(
        told.reason == "InvalidConfiguration"
            && told.message.contains("spec.rollout.selector")
            && told.message.contains("every workload"),
        "{told:?}"
    );
    Ok(())
}

async fn what_may_not_be_listed_is_told_and_named_ones_restart(suite: &Suite) -> Result<()> {
    let team = Team::graded(suite, Grade::Named, "found-unlisted", Names::ROLLED).await?;
    team.put("app", json!({ "password": "first" })).await?;
    for name in ["web", "jobs"] {
        let manifest = workload(Kind::Deployment, name, "app", json!({}));
        team.tenant.apply(&manifest.to_string()).await?;
    }
    let named = json!([{ "kind": "Deployment", "name": "web" }]);
    let spec = json!({ "rollout": { "auto": true }, "rolloutRestartTargets": named });
    team.static_secret("app", spec).await?;
    team.wait_ready("app").await?;
    let told = team
        .wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |told| {
            told.message.contains("Deployment/web current")
        })
        .await?;
    ensure!(
        told.status == "False"
            && told.reason == "TargetsNotListed"
            && told.message.contains("spec.rolloutRestartTargets")
            && told.message.contains("secretAccess: namespace"),
        "{told:?}"
    );
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    ensure!(team.restarts(Kind::Deployment, "jobs").await? == 0);
    team.wait_ready("app").await.map(drop)
}

async fn a_kind_that_cannot_be_watched_is_told_and_the_others_restart(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("forbidden-kind").await?;
    prepare(&tenant).await?;
    let roles: Api<Role> = tenant.api();
    let shipped = roles.get(OPERATOR_ACCOUNT).await?.rules;
    let mut fewer = shipped.clone().unwrap_or_default();
    for rule in &mut fewer {
        let resources = rule.resources.iter_mut();
        resources.for_each(|all| all.retain(|one| one != "daemonsets"));
    }
    ensure!(Some(&fewer) != shipped.as_ref(), "{shipped:?}");
    let set = async |rules| {
        let patch = Patch::Merge(json!({ "rules": rules }));
        let params = PatchParams::default();
        roles.patch(OPERATOR_ACCOUNT, &params, &patch).await
    };
    set(json!(fewer)).await?;
    // It is not ready as long as a kind can't be seen, and serves all the same.
    let config = config(&tenant, "");
    let operator = tenant.operator(&suite.binary).config(&config);
    let operator = operator.start().await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "first" })).await?;
    for (kind, name) in [(Kind::Deployment, "web"), (Kind::DaemonSet, "log")] {
        let manifest = workload(kind, name, "app", json!({}));
        team.tenant.apply(&manifest.to_string()).await?;
    }
    team.static_secret("app", json!({ "rollout": { "auto": true } }))
        .await?;
    team.wait_ready("app").await?;
    let told = team
        .wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |told| {
            told.message.contains("Deployment/web current")
        })
        .await?;
    ensure!(
        told.status == "Unknown"
            && told.reason == "TargetsNotVisible"
            && told.message.contains("spec.rollout finds no DaemonSet")
            && told.message.contains("resources: [daemonsets]"),
        "{told:?}"
    );
    let all = team.rollouts("app").await?;
    ensure!(all.rollout == Some(RolloutState::NotKnown), "{all:?}");
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    ensure!(team.restarts(Kind::DaemonSet, "log").await? == 0);
    // With the right it is found, and what it missed is one restart.
    set(json!(shipped)).await?;
    team.wait_restarts(Kind::DaemonSet, "log", 1).await?;
    team.wait_targets(&["web", "log"]).await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 1);
    Ok(())
}
