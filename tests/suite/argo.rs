//! Rollouts of Argo Rollouts, by their real definition and as the example has them. Nothing runs their controller: the trials
//! write the status that it would.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::argo::rollout_crd;
use ground::manifests::{apply_object, install_crds, parse};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Ground, Options, Tenant, wait_for};
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::api::{RolloutState, RolloutTargetStatus};

use crate::applied::render_own;
use crate::grades::{Grade, grant, placed};
use crate::install::kind_of;
use crate::pacing::{start, with};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team, prepare, static_secret};

crate::trials![
    "argo": without_its_definition_or_its_right_a_rollout_is_told;
    in each grade: a_rollout_restarts_once_for_new_content_and_is_followed,
];

const KINDS: &str = "  kinds: [Deployment, StatefulSet, DaemonSet, argo.Rollout]\n";
const FAMILY: &str = "vault-tenant-operator.io/";

/// The object of this kind in the example.
fn example(kind: &str) -> Result<Value> {
    let all = parse(include_str!("../../examples/argo-rollout.yaml"))?;
    let found = all.into_iter().find(|one| kind_of(one) == kind);
    Ok(serde_json::to_value(found.context("not in the example")?)?)
}

/// The member of a spec that names the example's Rollout as the target.
fn targets() -> Result<Value> {
    let targets = &example("VaultStaticSecret")?["spec"]["rolloutRestartTargets"];
    Ok(json!({ "rolloutRestartTargets": targets }))
}

/// The objects of an installation with the component.
async fn component(suite: &Suite, tenant: &Tenant) -> Result<Vec<DynamicObject>> {
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": tenant.namespace,
        "resources": ["kustomize/base"],
        "components": ["kustomize/components/argo-rollouts"],
    });
    let dir = tenant.dir.join("argo");
    parse(&render_own(suite, &dir, overlay, &["resources", "components"]).await?)
}

/// The Role with the component's rule.
async fn with_rule(tenant: &Tenant, objects: &[DynamicObject]) -> Result<()> {
    let role = |object: &&DynamicObject| {
        kind_of(object) == "Role" && object.metadata.name.as_deref() == Some(OPERATOR_ACCOUNT)
    };
    let role = objects.iter().find(role).context("no Role")?;
    apply_object(&tenant.client, &tenant.namespace, role)
        .await
        .map(drop)
}

/// What the component has the operator restart.
fn kinds(objects: &[DynamicObject]) -> Result<&str> {
    let deployment = objects.iter().find(|one| kind_of(one) == "Deployment");
    let spec = &deployment.context("no Deployment")?.data["spec"];
    let env = &spec["template"]["spec"]["containers"][0]["env"][0];
    ensure!(env["name"] == "VTO_ROLLOUT__KINDS", "{env}");
    env["value"].as_str().context("no value")
}

/// What the controller (1.10) says while an update stands at a step, with this time of the last restart.
fn at_a_step(restarted: &Value) -> Value {
    json!({
        "phase": "Paused", "message": "CanaryPauseStep", "controllerPause": true,
        "pauseConditions": [{ "reason": "CanaryPauseStep", "startTime": "2026-01-02T03:04:05Z" }],
        "currentPodHash": "b", "currentStepIndex": 1, "restartedAt": restarted,
        "conditions": [{
            "type": "Progressing", "status": "Unknown", "reason": "RolloutPaused",
            "message": "Rollout is paused",
            "lastTransitionTime": "2026-01-02T03:04:05Z", "lastUpdateTime": "2026-01-02T03:04:05Z",
        }],
    })
}

/// What it says once somebody has given the update up.
fn given_up(restarted: &str) -> Value {
    let message = "Rollout aborted update to revision 2";
    json!({
        "phase": "Degraded", "message": format!("RolloutAborted: {message}"), "abort": true,
        "currentPodHash": "b", "currentStepIndex": 0, "restartedAt": restarted,
        "conditions": [{
            "type": "Progressing", "status": "False", "reason": "RolloutAborted", "message": message,
            "lastTransitionTime": "2026-01-02T03:04:05Z", "lastUpdateTime": "2026-01-02T03:04:05Z",
        }],
    })
}

struct Web<'a> {
    team: &'a Team,
    api: Api<DynamicObject>,
}

impl<'a> Web<'a> {
    /// Applies the Rollout `web`, and has it be well.
    async fn of(team: &'a Team) -> Result<Self> {
        let tenant = &team.tenant;
        let kind = ApiResource {
            group: "argoproj.io".into(),
            version: "v1alpha1".into(),
            api_version: "argoproj.io/v1alpha1".into(),
            kind: "Rollout".into(),
            plural: "rollouts".into(),
        };
        let manifest = example("Rollout")?;
        tenant.apply(&manifest.to_string()).await?;
        let api = Api::namespaced_with(tenant.client.clone(), &tenant.namespace, &kind);
        let web = Self { team, api };
        web.controller(json!({ "phase": "Healthy" })).await?;
        Ok(web)
    }

    async fn get(&self) -> Result<Value> {
        Ok(serde_json::to_value(self.api.get("web").await?)?)
    }

    /// Its controller has seen it, and says this beside.
    async fn controller(&self, more: Value) -> Result<()> {
        let generation = &self.get().await?["metadata"]["generation"];
        let mut status = json!({
            "observedGeneration": generation.to_string(), "replicas": 2, "availableReplicas": 2,
            "stableRS": "a", "currentPodHash": "a", "conditions": [],
        });
        crate::support::merge(&mut status, more);
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        self.api.patch_status("web", &params, &patch).await?;
        Ok(())
    }

    async fn spec(&self, more: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": more }));
        self.api
            .patch("web", &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// The controller has replaced all pods.
    async fn restarted(&self) -> Result<()> {
        let at = &self.get().await?["spec"]["restartAt"];
        self.controller(json!({ "phase": "Healthy", "restartedAt": at }))
            .await
    }

    async fn baseline(&self) -> Result<()> {
        wait_for("the baseline", LONG, || async {
            let annotations = self.get().await?["metadata"]["annotations"].to_string();
            ensure!(annotations.contains("/base-"), "{annotations}");
            ensure!(!annotations.contains("/c-"), "{annotations}");
            Ok(())
        })
        .await
    }

    /// The content changes; when the restart was asked for.
    async fn changes(&self, value: &str) -> Result<String> {
        let before = self.get().await?;
        self.team.put("app", json!({ "password": value })).await?;
        self.team.wait_value("app", "password", value).await?;
        wait_for("the restart", LONG, || async {
            let now = self.get().await?;
            let at = now["spec"]["restartAt"].as_str().context("no restartAt")?;
            ensure!(now["spec"]["restartAt"] != before["spec"]["restartAt"]);
            Ok(at.to_owned())
        })
        .await
    }

    /// The row of it, once it says this.
    async fn row(&self, state: RolloutState, reason: Option<&str>) -> Result<RolloutTargetStatus> {
        wait_for(&format!("the state {state}"), LONG, || async {
            let all = self.team.rollouts("app").await?;
            let [row] = &all.rollout_targets[..] else {
                anyhow::bail!("{all:?}");
            };
            ensure!(
                row.state == state && row.reason.as_deref() == reason && row.kind == "argo.Rollout",
                "{all:?}"
            );
            Ok(row.clone())
        })
        .await
    }
}

async fn a_rollout_restarts_once_for_new_content_and_is_followed(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    use RolloutState::{Current, Failed, NotKnown, Rolled, Rolling};
    let tenant = grade.tenant(&suite.ground, "argo").await?;
    install_crds(&tenant.client, &rollout_crd()?).await?;
    prepare(&tenant).await?;
    let team = match grade {
        Grade::Namespace => {
            let objects = component(suite, &tenant).await?;
            with_rule(&tenant, &objects).await?;
            let config = with(&tenant, "", "");
            let operator = tenant.operator(&suite.binary).config(&config);
            let operator = operator.env("VTO_ROLLOUT__KINDS", kinds(&objects)?);
            let operator = operator.start().await?;
            operator.wait_ready(LONG).await?;
            Team { tenant, operator }
        }
        Grade::Named => {
            let config = with(&tenant, grade.lines(), KINDS);
            let references = ground::resources::references(&tenant).into_iter();
            let resources = references.chain([static_secret(&tenant, "app", targets()?)]);
            let resources: Vec<_> = resources.map(|one| placed(&tenant, one)).collect();
            grant(&[&tenant], &tenant.namespace, &config, &resources).await?;
            start(suite, tenant, &config).await?
        }
    };
    team.put("app", json!({ "password": "first" })).await?;
    let web = Web::of(&team).await?;
    team.static_secret("app", targets()?).await?;
    team.wait_ready("app").await?;
    web.baseline().await?;
    web.row(Current, None).await?;
    let first = web.get().await?;
    ensure!(first["spec"]["restartAt"].is_null(), "{first}");

    // One patch has the restart and what the pods will run, and leaves the template alone.
    let eye = Eye::on(suite, &team);
    let (_, mark) = eye.mark()?;
    let at = web.changes("second").await?;
    let rolling = web.row(Rolling, None).await?;
    eye.api
        .settle(&eye.at_api().since(mark), QUIET, LONG)
        .await?;
    let patches = eye.at_api().since(mark).group("argoproj.io").verb("patch");
    let patches = eye.api.requests(&patches)?;
    ensure!(patches.len() == 1, "{patches:?}");
    let now = web.get().await?;
    ensure!(
        now["spec"]["template"] == first["spec"]["template"],
        "{now}"
    );
    let ours = now["metadata"]["annotations"].as_object().context("none")?;
    let of = |name: &str| {
        let mut all = ours.iter();
        all.find(|(key, _)| key.starts_with(&format!("{FAMILY}{name}")))
            .map(|(_, value)| value)
    };
    ensure!(of("c-").is_some() && of("c-") == of("base-"), "{ours:?}");
    let written = of("restarted-at").and_then(Value::as_str);
    let written: jiff::Timestamp = written.context("no time")?.parse()?;
    let asked: jiff::Timestamp = at.parse()?;
    let after = asked.duration_since(written).as_millis();
    ensure!((0..1000).contains(&after), "{written}, and {asked}");
    let told = rolling.restarted_at.map(|at| at.0.as_second());
    ensure!(told == Some(written.as_second()), "{told:?}");

    // A new revision comes out meanwhile and stops at a step: the restart goes on, of both revisions' pods, and is
    // through there. So is another one, also after the update was given up.
    web.controller(at_a_step(&Value::Null)).await?;
    web.row(Rolling, None).await?;
    web.controller(at_a_step(&json!(at))).await?;
    web.row(Rolled, None).await?;
    let third = web.changes("third").await?;
    ensure!(third > at, "{at}, then {third}");
    web.controller(given_up(&at)).await?;
    web.row(Rolling, None).await?;
    web.controller(given_up(&third)).await?;
    web.row(Rolled, None).await?;

    // While a person has paused it, none begins.
    web.spec(json!({ "paused": true })).await?;
    web.controller(json!({ "phase": "Paused" })).await?;
    team.put("app", json!({ "password": "fourth" })).await?;
    web.row(RolloutState::Pending, Some("Paused")).await?;
    ensure!(web.get().await?["spec"]["restartAt"] == json!(third));
    web.spec(json!({ "paused": false })).await?;
    wait_for("the restart", LONG, || async {
        let now = &web.get().await?["spec"]["restartAt"];
        ensure!(*now != json!(third), "{now}");
        Ok(())
    })
    .await?;
    let exceeded = json!([{
        "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        "message": "it is late", "lastTransitionTime": third, "lastUpdateTime": third,
    }]);
    web.controller(json!({ "phase": "Degraded", "conditions": exceeded }))
        .await?;
    web.row(Failed, None).await?;
    let failed = |(reason, note): &(String, String)| {
        reason == "RolloutFailed" && note.contains("argo.Rollout/web")
    };
    team.wait_events("app", |events| events.iter().any(failed))
        .await?;
    web.restarted().await?;
    web.row(Rolled, None).await?;

    // One that is taken back before it is through is told, and not fought over.
    web.changes("fifth").await?;
    web.spec(json!({ "restartAt": null })).await?;
    web.controller(json!({ "phase": "Healthy" })).await?;
    web.row(NotKnown, Some("RestartUndone")).await?;
    ensure!(web.get().await?["spec"]["restartAt"].is_null());
    let by_hand = jiff::Timestamp::now().checked_add(Duration::from_secs(5))?;
    web.spec(json!({ "restartAt": by_hand.to_string() }))
        .await?;
    web.restarted().await?;
    web.row(Rolled, None).await.map(drop)
}

async fn without_its_definition_or_its_right_a_rollout_is_told(suite: &Suite) -> Result<()> {
    let ground = Ground::start(Options::default()).await?;
    let tenant = ground.tenant("no-argo").await?;
    prepare(&tenant).await?;
    let roles: Api<Role> = tenant.api();
    let shipped = roles.get(OPERATOR_ACCOUNT).await?.rules;
    let objects = component(suite, &tenant).await?;
    with_rule(&tenant, &objects).await?;
    let config = with(&tenant, "", KINDS);
    // All else is served without the definition.
    let team = start(suite, tenant, &config).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", targets()?).await?;
    team.wait_ready("app").await?;
    let told = |words: &'static [&str]| {
        move |found: &Condition| {
            let all = words.iter().all(|word| found.message.contains(word));
            found.reason == "TargetsNotVisible" && all
        }
    };
    let rows = "RolloutRestart";
    let kind = "VaultStaticSecret";
    let words = &["argo.Rollout/web", "install Argo Rollouts", "rollout.kinds"];
    team.wait_for_condition(kind, "app", rows, told(words))
        .await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;

    let patch = Patch::Merge(json!({ "rules": shipped }));
    let params = PatchParams::default();
    roles.patch(OPERATOR_ACCOUNT, &params, &patch).await?;
    install_crds(&team.tenant.client, &rollout_crd()?).await?;
    let words = &[
        "add to its Role the rule {apiGroups: [argoproj.io], resources: [rollouts], verbs: [list, watch, patch]}",
    ];
    team.wait_for_condition(kind, "app", rows, told(words))
        .await?;

    // What changes meanwhile is one restart once the operator may.
    let web = Web::of(&team).await?;
    team.put("app", json!({ "password": "third" })).await?;
    team.wait_value("app", "password", "third").await?;
    with_rule(&team.tenant, &objects).await?;
    wait_for("the restart", LONG, || async {
        let asked = &web.get().await?["spec"]["restartAt"];
        ensure!(asked.is_string(), "{asked}");
        Ok(())
    })
    .await?;
    web.restarted().await?;
    web.row(RolloutState::Rolled, None).await?;
    let eye = Eye::of(&ground, &team.tenant);
    let patches = eye.at_api().group("argoproj.io").verb("patch");
    let patches = eye.api.requests(&patches)?;
    ensure!(patches.len() == 1, "{patches:?}");
    ground.stop().await
}
