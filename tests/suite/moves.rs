//! A resource that moves: to another Secret, to another type of Secret, or away
//! from an immutable one.

use anyhow::{Result, ensure};
use ground::faults::{KillPoint, Match};
use ground::judges::workloads::Kind;
use ground::wait_for;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team, deployment, merge};

/// The operator's own key for hashes.
const KEY: &str = "vault-tenant-operator-key";

crate::trials![
    "moves": ; in each grade:
    after_a_rename_the_old_secret_goes_when_the_new_one_is_there,
    after_a_rename_keys_of_others_stay_in_a_secret_that_is_not_ours_alone,
    killed_between_writing_the_new_and_deleting_the_old_it_still_goes,
    what_only_looks_like_ours_is_never_deleted, another_type_makes_the_secret_anew_and_restarts_nothing,
    an_immutable_secret_is_made_anew_for_new_content, an_immutable_secret_of_others_is_told_with_the_mend,
    another_type_of_a_secret_that_others_use_is_told_with_the_mend,
];

/// The names before and after.
const RENAMED: Names<'_> = Names::secrets(&["app", "new"]);

async fn after_a_rename_the_old_secret_goes_when_the_new_one_is_there(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "renamed", RENAMED).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    // While the new one cannot be written, the old one stays.
    let missing = json!({ "path": "nowhere", "destination": { "name": "new" } });
    team.edit("app", missing).await?;
    team.wait_problem("app", "SecretNotFound").await?;
    ensure!(team.value("app", "password").await? == "vault");
    team.edit("app", json!({ "path": "app" })).await?;
    team.wait_value("new", "password", "vault").await?;
    team.gone("app").await?;
    team.wait_ready("app").await?;
    let words = "DestinationMoved the Secret app was replaced by new and is deleted";
    team.wait_described("app", words).await?;
    // And back again, without a trace.
    team.edit("app", json!({ "destination": { "name": "app" } }))
        .await?;
    team.wait_value("app", "password", "vault").await?;
    team.gone("new").await
}

async fn after_a_rename_keys_of_others_stay_in_a_secret_that_is_not_ours_alone(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = Names::secrets(&["app", "theirs"]);
    let team = Team::graded(suite, grade, "renamed-theirs", names).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.make_secret("theirs", json!({ "more": "kept" }))
        .await?;
    let destination = json!({ "name": "theirs", "create": false });
    team.static_secret("app", json!({ "destination": destination }))
        .await?;
    team.wait_value("theirs", "password", "vault").await?;
    team.wait_ready("app").await?;
    team.edit(
        "app",
        json!({ "destination": { "name": "app", "create": true } }),
    )
    .await?;
    team.wait_value("app", "password", "vault").await?;
    wait_for("our keys to go", LONG, || async {
        let keys = team.keys("theirs").await?;
        ensure!(keys == ["more"], "{keys:?}");
        Ok(())
    })
    .await?;
    wait_for("our field manager to go", LONG, || async {
        let metadata = team.metadata("theirs").await?;
        ensure!(metadata["annotations"].is_null(), "{metadata}");
        let managers = metadata["managedFields"].to_string();
        ensure!(!managers.contains("vto-"), "{managers}");
        Ok(())
    })
    .await
}

async fn killed_between_writing_the_new_and_deleting_the_old_it_still_goes(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let name = "renamed-killed";
    let (team, proxy) = Team::graded_behind_api_proxy(suite, grade, name, RENAMED).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    let process = team.operator.process.clone();
    let deletion = Match::method("DELETE").path_contains("/secrets/app");
    let struck = KillPoint::at_request(&proxy, deletion, move || process.pid());
    team.edit("app", json!({ "destination": { "name": "new" } }))
        .await?;
    struck.killed(LONG).await?;
    team.operator.process.wait().await;
    ensure!(team.value("app", "password").await? == "vault");
    let eye = Eye::on(suite, &team);
    let (mark, _) = eye.mark()?;
    team.operator.restart().await?;
    team.gone("app").await?;
    ensure!(team.value("new", "password").await? == "vault");
    team.wait_ready("app").await?;
    let reads = eye.settled(&eye.reads().since(mark)).await?;
    ensure!(reads.len() <= 1, "{reads:?}");
    Ok(())
}

async fn what_only_looks_like_ours_is_never_deleted(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "lookalike", RENAMED).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    // Everything of ours but the field manager: annotations, labels, owner reference.
    team.make_secret("victim", json!({ "more": "theirs" }))
        .await?;
    let metadata = team.metadata("app").await?;
    let forged = json!({ "metadata": {
        "annotations": metadata["annotations"], "labels": metadata["labels"],
        "ownerReferences": metadata["ownerReferences"],
    }});
    team.secrets()
        .patch("victim", &PatchParams::default(), &Patch::Merge(&forged))
        .await?;
    // All of it, the field manager too, but on the operator's own key.
    let resource = team.resources("VaultStaticSecret").get("app").await?;
    let manager = format!("vto-{}", resource.metadata.uid.unwrap_or_default());
    let mut whole = forged.clone();
    merge(
        &mut whole,
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": KEY },
            "stringData": { "more": "forged" },
        }),
    );
    team.secrets()
        .patch(KEY, &PatchParams::apply(&manager), &Patch::Apply(whole))
        .await?;
    let key = team.secret(KEY).await?.data;
    team.edit("app", json!({ "destination": { "name": "new" } }))
        .await?;
    team.gone("app").await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    eye.settled(&eye.reads()).await?;
    ensure!(
        team.secret(KEY).await?.data == key,
        "not one key of it changed"
    );
    ensure!(team.keys("victim").await? == ["more"]);
    let deleted = eye.api.counts(&eye.at_api())?;
    ensure!(deleted.get("delete secrets") == Some(&1), "{deleted:?}");
    Ok(())
}

async fn another_type_makes_the_secret_anew_and_restarts_nothing(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let (team, proxy) =
        Team::graded_behind_api_proxy(suite, grade, "retyped", Names::ROLLED).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    let web = deployment("web", "app");
    team.tenant.apply(&web.to_string()).await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    team.static_secret(
        "app",
        json!({ "refreshAfter": "720h", "rolloutRestartTargets": targets }),
    )
    .await?;
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    let first = team.uid("app").await?;
    // A type that the data does not fit costs nothing.
    team.edit(
        "app",
        json!({ "destination": { "type": "kubernetes.io/tls" } }),
    )
    .await?;
    let message = team.wait_problem("app", "DestinationInvalid").await?;
    ensure!(
        message.contains("tls.crt") && message.contains("nothing was changed"),
        "{message}"
    );
    ensure!(team.uid("app").await? == first);
    let mark = proxy.mark();
    team.edit(
        "app",
        json!({ "destination": { "type": "example.com/own" } }),
    )
    .await?;
    team.wait_ready("app").await?;
    let secret = team.secret("app").await?;
    ensure!(
        secret.type_.as_deref() == Some("example.com/own"),
        "{:?}",
        secret.type_
    );
    ensure!(team.value("app", "password").await? == "vault" && team.uid("app").await? != first);
    let at_secret = Match::any().path_contains("/secrets/app");
    let methods: Vec<String> = proxy
        .requests_since(mark, &at_secret)
        .into_iter()
        .map(|record| record.method.to_string())
        .collect();
    let deleted = methods.iter().position(|method| method == "DELETE");
    let next = deleted.and_then(|at| methods.get(at + 1));
    ensure!(next.is_some_and(|method| method == "PATCH"), "{methods:?}");
    let words = "DestinationReplaced the Secret app was deleted and made anew";
    team.wait_described("app", words).await?;
    team.wait_current("app").await?;
    team.wait_restarts(Kind::Deployment, "web", 0).await?;
    // New content afterwards restarts as ever: what the pods run was not forgotten.
    team.put("app", json!({ "password": "second" })).await?;
    team.edit("app", json!({ "refreshAfter": "2s" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}

async fn an_immutable_secret_is_made_anew_for_new_content(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "immutable", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    team.make_immutable("app").await?;
    let before = team.uid("app").await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_ready("app").await?;
    ensure!(team.uid("app").await? != before);
    Ok(())
}

async fn an_immutable_secret_of_others_is_told_with_the_mend(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "immutable-theirs", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.make_secret("app", json!({ "more": "theirs" })).await?;
    team.make_immutable("app").await?;
    team.static_secret("app", json!({ "destination": { "create": false } }))
        .await?;
    let message = team.wait_problem("app", "DestinationImmutable").await?;
    ensure!(
        message.contains("immutable") && message.contains("delete it"),
        "{message}"
    );
    ensure!(team.keys("app").await? == ["more"]);
    // Made anew by its owner, it is filled at once.
    team.secrets()
        .delete("app", &DeleteParams::default())
        .await?;
    team.make_secret("app", json!({ "more": "theirs" })).await?;
    team.wait_value("app", "password", "vault").await?;
    team.wait_ready("app").await.map(drop)
}

async fn another_type_of_a_secret_that_others_use_is_told_with_the_mend(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "type-theirs", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    team.edit_secret("app", "more", "theirs").await?;
    let before = team.uid("app").await?;
    let typed = json!({ "destination": { "type": "kubernetes.io/basic-auth" } });
    team.edit("app", typed).await?;
    let message = team.wait_problem("app", "DestinationImmutable").await?;
    ensure!(
        message.contains("keys of others") && message.contains("leave its type as it is"),
        "{message}"
    );
    let kept = team.secret("app").await?;
    ensure!(
        kept.metadata.uid.as_ref() == Some(&before) && kept.type_.as_deref() == Some("Opaque"),
        "it is another one: {:?}",
        kept.metadata
    );
    ensure!(team.keys("app").await? == ["_raw", "more", "password"]);
    // As it was told: with its type as it is, it is written as ever.
    team.edit("app", json!({ "destination": { "type": null } }))
        .await?;
    team.wait_ready("app").await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    ensure!(team.value("app", "more").await? == "theirs" && team.uid("app").await? == before);
    Ok(())
}

impl Team {
    async fn make_immutable(&self, secret: &str) -> Result<()> {
        let patch = Patch::Merge(json!({ "immutable": true }));
        self.secrets()
            .patch(secret, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Waits until a Secret is gone.
    pub async fn gone(&self, secret: &str) -> Result<()> {
        wait_for(&format!("the Secret {secret} to go"), LONG, || async {
            let found = self.tenant.secret(secret).await?;
            ensure!(found.is_none(), "it is still there");
            Ok(())
        })
        .await
    }
}
