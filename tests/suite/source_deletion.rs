//! `onSourceDelete: delete`: a Secret goes with its source, but only when Vault
//! says that somebody deleted it.

use anyhow::{Result, ensure};
use ground::faults::{Answer, Match};
use ground::judges::workloads::Kind;
use ground::wait_for;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{vault_proxy, workload};
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "source_deletion": ; in each grade:
    a_secret_follows_a_deletion_and_comes_back, what_is_not_its_alone_loses_its_keys_only,
    an_empty_or_mistaken_source_deletes_nothing, another_vault_that_lacks_it_deletes_nothing,
];

const FOLLOWS: &str = "delete";

async fn a_secret_follows_a_deletion_and_comes_back(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "follows", Names::ROLLED).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    team.tenant.apply(&web.to_string()).await?;
    team.put("app", json!({ "value": "same" })).await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    team.follows("app", json!({ "rolloutRestartTargets": targets }))
        .await?;
    team.wait_current("app").await?;
    let kv2 = &team.tenant.kv2;
    let (data, metadata) = (format!("{kv2}/data/app"), format!("{kv2}/metadata/app"));

    team.tenant.vault.delete(&data).await?;
    let message = team.wait_gone("app", "SecretDeleted").await?;
    ensure!(message.contains("version 1 was deleted at"), "{message}");
    ensure!(
        message.contains("goes too (spec.onSourceDelete)"),
        "{message}"
    );
    team.put("app", json!({ "value": "same" })).await?;
    team.wait_value("app", "value", "same").await?;
    team.wait_ready("app").await?;

    let destroy = format!("{kv2}/destroy/app");
    team.tenant
        .vault
        .write(&destroy, &json!({ "versions": [2] }))
        .await?;
    team.wait_gone("app", "SecretDeleted").await?;
    team.put("app", json!({ "value": "same" })).await?;
    team.wait_value("app", "value", "same").await?;
    team.wait_ready("app").await?;

    team.tenant.vault.delete(&metadata).await?;
    team.wait_gone("app", "SecretNotFound").await?;
    wait_for("three events", LONG, || async {
        let events = team.events("app").await?;
        let told = |(reason, note): &&(String, String)| {
            reason == "DestinationDeleted" && note.contains("as spec.onSourceDelete says")
        };
        ensure!(events.iter().filter(told).count() == 3, "{events:?}");
        Ok(())
    })
    .await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    Ok(())
}

async fn what_is_not_its_alone_loses_its_keys_only(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "follows-shared", Names::APP).await?;
    team.put("app", json!({ "value": "ours" })).await?;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "app" },
        "stringData": { "extra": "theirs" },
    });
    team.tenant.apply(&theirs.to_string()).await?;
    team.follows("app", json!({ "destination": { "create": false } }))
        .await?;
    team.wait_value("app", "value", "ours").await?;
    let data = format!("{}/data/app", team.tenant.kv2);
    team.tenant.vault.delete(&data).await?;
    team.wait_problem("app", "SecretDeleted").await?;
    wait_for("our keys to go", LONG, || async {
        let keys = team.keys("app").await?;
        ensure!(keys == ["extra"], "{keys:?}");
        Ok(())
    })
    .await
}

async fn an_empty_or_mistaken_source_deletes_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "follows-not", Names::APP).await?;
    team.put("app", json!({ "value": "good" })).await?;
    team.follows("app", json!({})).await?;
    let uid = team.uid("app").await?;
    team.put("app", json!({})).await?;
    team.wait_problem("app", "SecretDeleted").await?;
    ensure!(
        team.uid("app").await? == uid,
        "an empty version deletes nothing"
    );
    team.edit("app", json!({ "path": "mistaken" })).await?;
    team.wait_problem("app", "SecretNotFound").await?;
    ensure!(
        team.uid("app").await? == uid,
        "another path deletes nothing"
    );
    ensure!(team.value("app", "value").await? == "good");
    Ok(())
}

async fn another_vault_that_lacks_it_deletes_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let one = vault_proxy(&suite.ground).await?;
    let (mut tenant, more) = tenant_of(suite, grade, "follows-one", Names::APP, "").await?;
    tenant.vault_address = one.url();
    prepare(&tenant).await?;
    // The same server at two addresses stands for two.
    let another = vault_proxy(&suite.ground).await?;
    let other = another.url();
    let read = Match::method("GET").path_contains("/data/app");
    let lacks = another.on(read).answer(Answer::vault_error(404, &[]));
    let listed = config(&tenant, &more).replace(
        "vaultAddresses: [",
        &format!("vaultAddresses: [\"{other}\", "),
    );
    let operator = tenant
        .operator(&suite.binary)
        .config(&listed)
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "value": "good" })).await?;
    team.follows("app", json!({})).await?;
    let uid = team.uid("app").await?;

    let moved = Patch::Merge(json!({ "spec": { "address": other } }));
    let connections = team.resources("VaultConnection");
    connections
        .patch("default", &PatchParams::default(), &moved)
        .await?;
    team.wait_problem("app", "SecretNotFound").await?;
    lacks.hit(lacks.hits() + 2, LONG).await?;
    ensure!(
        team.uid("app").await? == uid,
        "another Vault deletes nothing"
    );
    lacks.remove();
    team.wait_ready("app").await?;
    // What was read there once is followed there.
    let data = format!("{}/data/app", team.tenant.kv2);
    team.tenant.vault.delete(&data).await?;
    team.wait_gone("app", "SecretDeleted").await.map(drop)
}

impl Team {
    async fn follows(&self, name: &str, more: Value) -> Result<()> {
        let mut spec = json!({ "onSourceDelete": FOLLOWS });
        crate::support::merge(&mut spec, more);
        self.static_secret(name, spec).await?;
        self.wait_ready(name).await.map(drop)
    }

    async fn wait_gone(&self, name: &str, reason: &str) -> Result<String> {
        let message = self.wait_problem(name, reason).await?;
        wait_for("the Secret to go", LONG, || async {
            ensure!(self.tenant.secret(name).await?.is_none(), "it is there");
            Ok(())
        })
        .await?;
        Ok(message)
    }
}
