//! What the trial does for Prometheus to see: a tenant with an operator, a standby and an
//! operator of others that would serve the same tenant.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::{PkiEngine, PkiRole};
use ground::faults::{Answer, HttpProxy, Match};
use ground::judges::workloads::Kind;
use ground::{Operator, Right, Tenant, wait_for};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{REFUSED, Seen};
use crate::bearer;
use crate::grades::Grade;
use crate::lessee;
use crate::namespaces::serve;
use crate::probes::{api_proxy, workload};
use crate::support::{LONG, Suite, Team, config, prepare};

/// A port that nobody listens at.
pub const AWAY: &str = "https://127.0.0.1:9";

/// How many repairs of one Secret there are before it is left alone.
const REPAIRS: usize = 5;

pub struct Scene {
    pub team: Team,
    pub standby: Operator,
    /// The home of `neighbour`.
    pub beside: Tenant,
    pub neighbour: Operator,
    proxy: HttpProxy,
    engine: PkiEngine,
}

impl Scene {
    pub async fn start(suite: &Suite) -> Result<Self> {
        let tenant = suite.ground.tenant("scraped").await?;
        let beside = suite.ground.tenant("neighbour").await?;
        serve(Grade::Namespace, &tenant, &beside, &[]).await?;
        let proxy = api_proxy(&suite.ground).await?;
        let engine = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
        let listed = format!("\"{}\"", tenant.vault_address);
        let config = config(&tenant, "").replace(&listed, &format!("{listed}, \"{AWAY}\""));
        ensure!(config.contains(AWAY), "{config}");
        prepare(&tenant).await?;
        let operator = tenant.operator(&suite.binary).config(&config);
        let leader = operator.api_url(&proxy.url()).start().await?;
        leader.wait_ready(LONG).await?;
        let standby = tenant.operator(&suite.binary).config(&config);
        let standby = standby.start().await?;
        let neighbour = beside.operator(&suite.binary).config(&config);
        let neighbour = neighbour.watch_namespaces(&[&tenant.namespace]);
        let neighbour = neighbour.start().await?;
        for other in [&standby, &neighbour] {
            other.wait_ready(LONG).await?;
        }
        Ok(Self {
            team: Team {
                tenant,
                operator: leader,
            },
            standby,
            beside,
            neighbour,
            proxy,
            engine,
        })
    }

    /// A certificate of a role into the Secret `name`.
    async fn certificate(&self, name: &str, role: &str, more: Value) -> Result<()> {
        let mut spec = json!({
            "mount": self.engine.mount, "role": role, "commonName": "web.test",
            "destination": { "name": name, "create": true },
        });
        ground::resources::merge(&mut spec, more);
        let manifest = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": bearer::KIND,
            "metadata": { "name": name }, "spec": spec,
        });
        self.team
            .tenant
            .apply(&manifest.to_string())
            .await
            .map(drop)
    }

    /// A secret that these Deployments restart with.
    async fn with_targets(&self, name: &str, deployments: &[&str], rollout: Value) -> Result<()> {
        let targets: Vec<_> = deployments
            .iter()
            .map(|name| json!({ "kind": "Deployment", "name": name }))
            .collect();
        self.team.put(name, json!({ "password": "first" })).await?;
        let spec = json!({ "rolloutRestartTargets": targets, "rollout": rollout });
        self.team.static_secret(name, spec).await?;
        self.team.wait_ready(name).await?;
        self.team.wait_current(name).await
    }

    /// Three kinds of secrets arrive, one with a workload that restarts.
    pub async fn what_is_well(&self, seen: &Seen<'_>) -> Result<()> {
        let (team, tenant) = (&self.team, &self.team.tenant);
        let leasing = PkiRole {
            generate_lease: true,
            ..PkiRole::default()
        };
        let paths = [
            self.engine.role("web", &PkiRole::default()).await?,
            self.engine.role("leased", &leasing).await?,
        ];
        tenant
            .grant(&paths.each_ref().map(String::as_str), &Right::ALL)
            .await?;
        let web = workload(Kind::Deployment, "web", "app", json!({}));
        tenant.apply(&web.to_string()).await?;
        self.with_targets("app", &["web"], json!({})).await?;
        self.certificate("web", "web", json!({})).await?;
        self.certificate("ending", "web", json!({ "ttl": "9m" }))
            .await?;
        let leased = json!({
            "mount": self.engine.mount, "path": "issue/leased", "params": { "common_name": "web.test" },
        });
        let leased = lessee::dynamic_secret(tenant, "leased", leased);
        tenant.apply(&leased.to_string()).await?;
        for (kind, name) in [
            (bearer::KIND, "web"),
            (bearer::KIND, "ending"),
            (lessee::KIND, "leased"),
        ] {
            team.wait_condition(kind, name, "Ready", "True").await?;
        }
        for (expression, value) in [
            (
                "sum by (namespace) (vto_managed_secrets{namespace=\"$namespace\"})",
                4.0,
            ),
            (
                "sum(vto_resources{namespace=\"$namespace\", kind=~\"Vault.+Secret\"})",
                4.0,
            ),
            ("sum(vto_leader{namespace=\"$namespace\"})", 1.0),
            (
                "sum(vto_resources_not_ready{namespace=\"$namespace\"})",
                0.0,
            ),
            ("count(vto_build_info{namespace=\"$namespace\"})", 2.0),
            (
                "sum(vto_rollout_restarts_total{namespace=\"$namespace\", name=\"web\"})",
                0.0,
            ),
        ] {
            seen.is(expression, value).await?;
        }
        Ok(())
    }

    /// What is done to Secrets, to workloads, to references and on the way to both servers.
    pub async fn what_goes_wrong(&self, suite: &Suite, seen: &Seen<'_>) -> Result<()> {
        let team = &self.team;
        team.put("app", json!({ "password": "second" })).await?;
        team.wait_value("app", "password", "second").await?;
        let restarts = "sum(vto_rollout_restarts_total{namespace=\"$namespace\", name=\"web\"})";
        seen.is(restarts, 1.0).await?;
        self.references(seen).await?;
        self.rollouts(suite).await?;
        self.fight(seen).await?;
        self.requests(seen).await?;
        let role = json!({ "spec": { "role": "nobody" } });
        team.resources(bearer::KIND)
            .patch("ending", &PatchParams::default(), &Patch::Merge(role))
            .await?;
        team.wait_condition(bearer::KIND, "ending", "Ready", "False")
            .await
            .map(drop)
    }

    /// Paths, logins, addresses and destinations that are wrong, and a kind that is not served.
    async fn references(&self, seen: &Seen<'_>) -> Result<()> {
        let team = &self.team;
        // As a definition would have it that drops fields.
        let stored = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "SecretTransformation",
            "metadata": { "name": "unserved", "namespace": team.tenant.namespace, "resourceVersion": "1" },
            "status": { "conditions": [] },
        });
        let _pruning = self
            .proxy
            .on(Match::method("PATCH").path_contains("/secrettransformations/unserved/status"))
            .answer(Answer::json(200, &stored));
        let unserved = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "SecretTransformation",
            "metadata": { "name": "unserved" }, "spec": {},
        });
        team.tenant.apply(&unserved.to_string()).await?;
        team.static_secret("missing", json!({})).await?;
        let same = json!({ "path": "app", "destination": { "name": "app" } });
        team.static_secret("copy", same).await?;
        let references = ground::resources::references(&team.tenant);
        let like = |of: usize, name: &str, spec: Value| {
            let mut manifest = references[of].clone();
            manifest["metadata"]["name"] = json!(name);
            ground::resources::merge(&mut manifest["spec"], spec);
            manifest.to_string()
        };
        let foreign = json!({ "address": "https://vault.foreign.test:8200" });
        for manifest in [
            like(0, "foreign", foreign.clone()),
            like(1, "adrift", json!({ "vaultConnectionRef": "nowhere" })),
            like(1, "stranger", json!({ "kubernetes": { "role": "nobody" } })),
        ] {
            team.tenant.apply(&manifest).await?;
        }
        for name in ["stranger", "orphan"] {
            team.static_secret(name, json!({ "vaultAuthRef": name }))
                .await?;
        }
        team.wait_problem("missing", "SecretNotFound").await?;
        team.wait_problem("stranger", "VaultLoginFailed").await?;
        team.wait_problem("orphan", "InvalidResourceRef").await?;
        // A counter that is new tells of what comes after its first event.
        seen.is(
            "count(vto_policy_denials_total{namespace=\"$namespace\", rule=\"policy.vaultAddresses\"} > 0)",
            1.0,
        )
        .await?;
        let again = like(0, "foreign-too", foreign);
        team.tenant.apply(&again).await?;
        // It is silent while a Vault of the namespace is away.
        seen.fires(REFUSED).await?;
        let away = like(0, "away", json!({ "address": AWAY }));
        team.tenant.apply(&away).await.map(drop)
    }

    /// One restart is held, one fails, and one waits for that.
    async fn rollouts(&self, suite: &Suite) -> Result<()> {
        let team = &self.team;
        // The only node takes no second pod of it, and the first one stays until the second is there.
        let apart = json!([{
            "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "stuck" } },
        }]);
        let stuck = json!({
            "progressDeadlineSeconds": 3,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": { "spec": { "affinity": {
                "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": apart },
            } } },
        });
        for (name, secret, more) in [
            ("held", "held", json!({})),
            ("stuck", "stuck", stuck),
            ("next", "stuck", json!({})),
        ] {
            let manifest = workload(Kind::Deployment, name, secret, more);
            team.tenant.apply(&manifest.to_string()).await?;
            let what = format!("{name} to be available");
            wait_for(&what, LONG, || async {
                let found = team.deployments().get(name).await?;
                let available = found.status.context("no status")?.available_replicas;
                ensure!(available == Some(1), "{available:?}");
                Ok(())
            })
            .await?;
        }
        self.with_targets("held", &["held"], json!({ "hold": true }))
            .await?;
        self.with_targets("stuck", &["stuck", "next"], json!({}))
            .await?;
        team.kubectl(suite, &["rollout", "pause", "deployment/next"])
            .await?;
        for name in ["held", "stuck"] {
            team.put(name, json!({ "password": "second" })).await?;
        }
        wait_for("the rollout to fail", LONG, || async {
            let rows = team.rollouts("stuck").await?.rollout_targets;
            let failed = rows.iter().filter(|row| row.state.as_str() == "Failed");
            ensure!(failed.count() == 1, "{rows:?}");
            Ok(())
        })
        .await?;
        team.kubectl(suite, &["rollout", "resume", "deployment/next"])
            .await
            .map(drop)
    }

    /// Somebody edits a Secret until the operator leaves it alone.
    async fn fight(&self, seen: &Seen<'_>) -> Result<()> {
        let team = &self.team;
        team.put("fought", json!({ "password": "right" })).await?;
        team.static_secret("fought", json!({ "refreshAfter": "1h" }))
            .await?;
        team.wait_ready("fought").await?;
        for number in 1..=REPAIRS {
            team.edit_secret("fought", "password", "wrong").await?;
            team.wait_value("fought", "password", "right").await?;
            let repairs = "sum(vto_drift_repairs_total{namespace=\"$namespace\"})";
            let number = u32::try_from(number)?;
            seen.is(repairs, f64::from(number)).await?;
        }
        team.edit_secret("fought", "password", "wrong").await?;
        team.wait_problem("fought", "DriftFight").await.map(drop)
    }

    /// The API server fails two times.
    async fn requests(&self, seen: &Seen<'_>) -> Result<()> {
        let team = &self.team;
        team.put("flaky", json!({ "password": "first" })).await?;
        team.static_secret("flaky", json!({})).await?;
        team.wait_ready("flaky").await?;
        for (number, value) in [(1.0, "third"), (2.0, "fourth")] {
            let refused = self
                .proxy
                .on(Match::method("PATCH").path_contains("/secrets/flaky"))
                .once()
                .answer(Answer::status(500));
            team.put("flaky", json!({ "password": value })).await?;
            refused.hit(1, LONG).await?;
            team.wait_value("flaky", "password", value).await?;
            let failures =
                "sum(vto_syncs_total{namespace=\"$namespace\", outcome=\"KubernetesUnavailable\"})";
            seen.is(failures, number).await?;
        }
        Ok(())
    }
}
