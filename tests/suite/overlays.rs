//! The operator changes places, or all that it serves goes and comes again: the
//! content stands still, so nothing restarts, and what is recorded stays true.

use anyhow::{Context, Result, ensure};
use ground::judges::workloads::Kind;
use ground::{Operator, Tenant, manifests, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::grades::{Grade, Names, grant, widened};
use crate::install::{beside, install_beside, kind_of};
use crate::leadership::CLAIM;
use crate::rollouts::{KEY, KINDS, OF_ALL_KINDS, targets};
use crate::support::{LONG, Suite, Team, config, merge, prepare};

crate::trials![
    "overlays": ; in each grade:
    moved_beside_its_tenant_and_back_it_restarts_nothing,
    all_deleted_and_applied_again_restarts_nothing,
];

impl Team {
    /// The hash that the Secret `app` records, once all that is compared with it
    /// agrees and was made by another key than `before`'s.
    async fn hash_after(&self, before: &str) -> Result<String> {
        let key_id = |hash: &str| hash.split(':').next().map(str::to_owned);
        wait_for("all hashes to be of one new key", LONG, || async {
            let annotations = self.secret("app").await?.metadata.annotations;
            let state = annotations
                .into_iter()
                .flatten()
                .find(|(name, _)| name.contains("/state-"));
            let state: Value = serde_json::from_str(&state.context("no state")?.1)?;
            let hash = state["hash"].as_str().context("no hash")?;
            ensure!(key_id(hash) != key_id(before), "the key of {before}");
            let told = self.resources("VaultStaticSecret").get("app").await?;
            let told = &told.data["status"]["secretMAC"];
            ensure!(told == hash, "{told} in the status, {hash} at the Secret");
            for kind in KINDS {
                let annotations = self.annotations(kind).await?;
                ensure!(annotations.contains(hash), "{annotations} without {hash}");
            }
            Ok(hash.to_owned())
        })
        .await
    }

    /// Ends the operator and its claim, which it leaves for its successor.
    pub async fn end_operator(&self) -> Result<()> {
        ensure!(self.operator.terminate(LONG).await.success());
        let leases: Api<Lease> = self.tenant.api();
        leases.delete(CLAIM, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The resource is well, and its targets were restarted so often.
    async fn at_rest(&self, times: usize) -> Result<()> {
        self.wait_ready("app").await?;
        self.wait_current("app").await?;
        for kind in KINDS {
            let seen = self.restarts(kind, "web").await?;
            ensure!(seen == times, "{seen} restarts of {kind:?}");
        }
        Ok(())
    }
}

/// Where the operator lives that is beside a tenant.
pub fn home_of(tenant: &Tenant) -> String {
    format!("vto-{}", tenant.namespace)
}

/// Installs the overlay `beside` for a tenant, and starts its operator with these
/// Secrets of an earlier one.
pub async fn start_beside(
    suite: &Suite,
    grade: Grade,
    tenant: &Tenant,
    names: Names<'_>,
    along: &[Secret],
) -> Result<Operator> {
    let home = home_of(tenant);
    install_beside(suite, tenant, &home).await?;
    let config = config(tenant, grade.lines());
    if grade == Grade::Named {
        grant(&[tenant], &home, &config, &names.resources(tenant)).await?;
    }
    let secrets: Api<Secret> = Api::namespaced(tenant.client.clone(), &home);
    for secret in along {
        let metadata = ObjectMeta {
            name: secret.metadata.name.clone(),
            ..ObjectMeta::default()
        };
        let secret = Secret {
            metadata,
            ..secret.clone()
        };
        secrets.create(&PostParams::default(), &secret).await?;
    }
    let operator = beside(tenant, &home)?
        .operator(&suite.binary)
        .config(&config)
        .watch_namespaces(&[&tenant.namespace])
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    Ok(operator)
}

async fn moved_beside_its_tenant_and_back_it_restarts_nothing(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let mut team = Team::graded(suite, grade, "moves-house", OF_ALL_KINDS).await?;
    team.with_targets(&KINDS).await?;
    team.rolls_once(&KINDS, "second", 0).await?;
    let at_home = team.operator.clone();
    let first = team.hash_after("").await?;
    for key_is_lost in [false, true] {
        team.end_operator().await?;
        team.operator = start_beside(suite, grade, &team.tenant, OF_ALL_KINDS, &[]).await?;
        let beside = team.hash_after(&first).await?;
        team.at_rest(1).await?;

        team.end_operator().await?;
        if key_is_lost {
            let gone = DeleteParams::default();
            team.secrets().delete(KEY, &gone).await?;
        }
        for object in team.tenant.operator_manifests().await? {
            if kind_of(&object) != "Deployment" {
                let (client, namespace) = (&team.tenant.client, &team.tenant.namespace);
                manifests::apply_object(client, namespace, &object).await?;
            }
        }
        match grade {
            Grade::Namespace => widened(&team.tenant, &team.tenant.namespace).await?,
            Grade::Named => team.regrant(OF_ALL_KINDS).await?,
        }
        team.operator = at_home.clone();
        team.operator.restart().await?;
        team.operator.wait_ready(LONG).await?;
        let back = team.hash_after(&beside).await?;
        ensure!((back == first) != key_is_lost, "{first}, then {back}");
        team.at_rest(1).await?;
    }
    team.rolls_once(&KINDS, "third", 1).await
}

async fn all_deleted_and_applied_again_restarts_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names {
        secrets: &["app", "kept"],
        ..OF_ALL_KINDS
    };
    let team = Team::graded(suite, grade, "all-again", names).await?;
    team.with_targets(&KINDS).await?;
    let kept = || {
        let mut spec = targets(&KINDS);
        merge(
            &mut spec,
            json!({ "destination": { "retainOnDelete": true } }),
        );
        spec
    };
    team.put("kept", json!({ "password": "first" })).await?;
    team.static_secret("kept", kept()).await?;
    team.wait_current("kept").await?;
    team.rolls_once(&KINDS, "second", 0).await?;
    let uid = team.uid("kept").await?;

    let all = [
        ("VaultAuth", "default"),
        ("VaultConnection", "default"),
        ("VaultStaticSecret", "app"),
        ("VaultStaticSecret", "kept"),
    ];
    for (kind, name) in all {
        let gone = DeleteParams::default();
        team.resources(kind).delete(name, &gone).await?;
    }
    wait_for("one Secret to go and one to stay", LONG, || async {
        ensure!(team.tenant.secret("app").await?.is_none(), "app is there");
        let annotations = team.secret("kept").await?.metadata.annotations;
        let marked = format!("{annotations:?}");
        ensure!(marked.contains("/orphaned-at"), "{marked}");
        Ok(())
    })
    .await?;
    prepare(&team.tenant).await?;
    team.static_secret("app", targets(&KINDS)).await?;
    team.static_secret("kept", kept()).await?;
    team.wait_ready("kept").await?;
    team.wait_current("kept").await?;
    team.at_rest(1).await?;
    ensure!(team.uid("kept").await? == uid, "it was not kept");
    team.hash_after("").await?;
    team.rolls_once(&KINDS, "third", 1).await?;
    team.put("kept", json!({ "password": "second" })).await?;
    team.wait_restarts(Kind::Deployment, "web", 3).await?;
    team.wait_current("kept").await
}
