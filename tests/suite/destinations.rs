//! Which Secret is written, what of it is ours, and what becomes of it.

use anyhow::{Context, Result, ensure};
use ground::faults::{Match, Pause};
use ground::wait_for;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::grades::{Grade, Names};
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "destinations": ; in each grade:
    labels_annotations_and_type_are_as_asked, what_others_own_survives,
    a_foreign_secret_is_refused_until_it_may_be_overwritten,
    without_create_it_waits_for_the_secret_and_goes_on_at_once,
    a_deleted_resource_takes_its_secret_along, an_edit_while_the_operator_was_down_is_repaired,
    a_secret_that_nobody_saw_is_never_written_into, a_hand_edit_costs_one_read_and_one_write,
    what_no_secret_can_hold_is_named_before_anything_is_written,
];

async fn labels_annotations_and_type_are_as_asked(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "labels", Names::secrets(&["web"])).await?;
    let pair = suite
        .ground
        .pki
        .server("tls-of-a-tenant", &["web.example"])?;
    team.put(
        "web",
        json!({ "tls.crt": pair.cert_pem, "tls.key": pair.key_pem }),
    )
    .await?;
    let destination = json!({
        "type": "kubernetes.io/tls",
        "labels": { "team": "web", "tier": "front", "app.kubernetes.io/managed-by": "mine" },
        "annotations": { "example.com/owner": "web", "example.com/note": "old" },
    });
    team.static_secret("web", json!({ "destination": destination }))
        .await?;
    team.wait_ready("web").await?;
    let secret = team.secret("web").await?;
    ensure!(
        secret.type_.as_deref() == Some("kubernetes.io/tls"),
        "{:?}",
        secret.type_
    );
    ensure!(team.value("web", "tls.crt").await? == pair.cert_pem);
    let before = secret.metadata.uid.context("no uid")?;
    let metadata = team.metadata("web").await?;
    ensure!(
        metadata["labels"]["tier"] == "front"
            && metadata["annotations"]["example.com/note"] == "old"
            && metadata["annotations"]["example.com/owner"] == "web",
        "{metadata}"
    );
    let made_by = &metadata["labels"]["app.kubernetes.io/managed-by"];
    ensure!(
        made_by == "vault-tenant-operator",
        "a label that is ours says what it always says: {metadata}"
    );
    // What leaves the spec leaves the Secret, what is added arrives, and the Secret is the same one.
    let destination = json!({
        "labels": { "tier": null, "stage": "test" },
        "annotations": { "example.com/note": "new", "example.com/owner": null },
    });
    team.edit("web", json!({ "destination": destination }))
        .await?;
    wait_for("the other labels", LONG, || async {
        let metadata = team.metadata("web").await?;
        let labels = &metadata["labels"];
        ensure!(
            labels["tier"].is_null() && labels["stage"] == "test" && labels["team"] == "web",
            "{metadata}"
        );
        ensure!(
            labels["app.kubernetes.io/component"] == "secret-sync",
            "{metadata}"
        );
        ensure!(
            metadata["annotations"]["example.com/note"] == "new"
                && metadata["annotations"]["example.com/owner"].is_null(),
            "{metadata}"
        );
        Ok(())
    })
    .await?;
    ensure!(team.uid("web").await? == before);
    Ok(())
}

async fn what_others_own_survives(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "others", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret(
        "app",
        json!({ "destination": { "labels": { "ours": "yes" } } }),
    )
    .await?;
    team.wait_ready("app").await?;
    let theirs = json!({
        "metadata": { "labels": { "theirs": "yes" }, "annotations": { "theirs": "yes" } },
        "stringData": { "extra": "theirs" },
    });
    team.secrets()
        .patch("app", &PatchParams::default(), &Patch::Merge(theirs))
        .await?;
    team.put("app", json!({ "other": "second" })).await?;
    team.wait_value("app", "other", "second").await?;
    ensure!(
        team.keys("app").await? == ["_raw", "extra", "other"],
        "the key that left Vault is gone"
    );
    team.edit(
        "app",
        json!({ "destination": { "labels": { "ours": null } } }),
    )
    .await?;
    wait_for("our label to go", LONG, || async {
        let metadata = team.metadata("app").await?;
        ensure!(metadata["labels"]["ours"].is_null(), "{metadata}");
        Ok(())
    })
    .await?;
    let metadata = team.metadata("app").await?;
    ensure!(
        metadata["labels"]["theirs"] == "yes" && metadata["annotations"]["theirs"] == "yes",
        "{metadata}"
    );
    ensure!(team.value("app", "extra").await? == "theirs");
    Ok(())
}

async fn a_foreign_secret_is_refused_until_it_may_be_overwritten(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "foreign", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.make_secret("app", json!({ "password": "theirs", "more": "kept" }))
        .await?;
    let before = team.secret("app").await?;
    team.static_secret("app", json!({})).await?;
    let message = team.wait_problem("app", "DestinationNotOwned").await?;
    ensure!(
        message.contains("spec.destination.overwrite: true")
            && message.contains("spec.destination.create: false"),
        "{message}"
    );
    ensure!(
        team.secret("app").await? == before,
        "not one byte of it changed"
    );
    team.wait_described("app", "Warning DestinationNotOwned")
        .await?;
    team.edit("app", json!({ "destination": { "overwrite": true } }))
        .await?;
    team.wait_value("app", "password", "vault").await?;
    team.wait_ready("app").await?;
    ensure!(
        team.uid("app").await? == before.metadata.uid.context("no uid")?,
        "taken over, not replaced"
    );
    Ok(())
}

async fn without_create_it_waits_for_the_secret_and_goes_on_at_once(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "not-created", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    let spec = json!({ "refreshAfter": "720h", "destination": { "create": false } });
    team.static_secret("app", spec).await?;
    let message = team.wait_problem("app", "InexistentDestination").await?;
    ensure!(
        message.contains("create the Secret") && message.contains("set create to true"),
        "{message}"
    );
    let eye = Eye::on(suite, &team);
    ensure!(
        eye.settled(&eye.reads()).await?.is_empty(),
        "nothing is read for nothing"
    );
    team.make_secret("app", json!({ "more": "theirs" })).await?;
    team.wait_value("app", "password", "vault").await?;
    team.wait_ready("app").await?;
    ensure!(team.keys("app").await? == ["_raw", "more", "password"]);
    let metadata = team.metadata("app").await?;
    ensure!(
        metadata["ownerReferences"].is_null() && metadata["labels"].is_null(),
        "{metadata}"
    );
    // An edit of what is ours is repaired here too.
    team.edit_secret("app", "password", "wrong").await?;
    team.wait_value("app", "password", "vault").await
}

async fn a_deleted_resource_takes_its_secret_along(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "collected", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    team.resources("VaultStaticSecret")
        .delete("app", &DeleteParams::default())
        .await?;
    wait_for("the Secret to be collected", LONG, || async {
        let found = team.tenant.secret("app").await?;
        ensure!(found.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    let eye = Eye::on(suite, &team);
    eye.settled(&eye.reads()).await?;
    ensure!(team.tenant.secret("app").await?.is_none(), "it came back");
    Ok(())
}

async fn an_edit_while_the_operator_was_down_is_repaired(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = ["edited", "deleted", "untouched"];
    let team = Team::graded(suite, grade, "down", Names::secrets(&names)).await?;
    for name in names {
        team.put(name, json!({ "password": "vault" })).await?;
        // So long that no slot falls into the trial.
        team.static_secret(name, json!({ "refreshAfter": "1000h" }))
            .await?;
        team.wait_ready(name).await?;
    }
    team.operator.process.kill();
    team.operator.process.wait().await;
    team.edit_secret("edited", "password", "wrong").await?;
    team.secrets()
        .delete("deleted", &DeleteParams::default())
        .await?;
    let eye = Eye::on(suite, &team);
    let (mark, _) = eye.mark()?;
    team.operator.restart().await?;
    team.wait_value("edited", "password", "vault").await?;
    team.wait_value("deleted", "password", "vault").await?;
    let reads = eye.settled(&eye.reads().since(mark)).await?;
    ensure!(
        reads.len() == 2,
        "one read for each, none for the third: {reads:?}"
    );
    Ok(())
}

async fn a_secret_that_nobody_saw_is_never_written_into(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) = Team::graded_behind_api_proxy(suite, grade, "unseen", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    let apply = Match::method("PATCH").path_contains("/secrets/app");
    let mut late = Pause::at_request(&proxy, apply.clone());
    team.static_secret(
        "app",
        json!({ "refreshAfter": "720h", "destination": { "labels": { "ours": "yes" } } }),
    )
    .await?;
    late.reached(LONG).await?;
    team.make_secret("app", json!({ "more": "theirs" })).await?;
    let made = team.secret("app").await?.metadata.resource_version;
    late.go();
    let message = team.wait_problem("app", "DestinationNotOwned").await?;
    ensure!(message.contains("spec.destination.overwrite"), "{message}");
    let applies = proxy.wait_for_end(&apply, 1, LONG).await?;
    ensure!(applies[0].reached_upstream(), "the apply never arrived");
    let now = team.secret("app").await?.metadata.resource_version;
    ensure!(now == made, "somebody wrote into it");
    Ok(())
}

async fn a_hand_edit_costs_one_read_and_one_write(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "one-read", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    eye.settled(&eye.reads()).await?;
    let (vault, api) = eye.mark()?;
    team.edit_secret("app", "password", "wrong").await?;
    team.wait_value("app", "password", "vault").await?;
    let reads = eye.settled(&eye.at_vault().since(vault)).await?;
    ensure!(reads.len() == 1, "exactly one request: {reads:?}");
    let writes = eye.api.counts(&eye.at_api().writes().since(api))?;
    ensure!(writes.get("patch secrets") == Some(&1), "{writes:?}");
    ensure!(writes.get("create events") == Some(&1), "{writes:?}");
    Ok(())
}

async fn what_no_secret_can_hold_is_named_before_anything_is_written(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "unfit", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let before = team.secret("app").await?;
    let eye = Eye::on(suite, &team);
    let (_, mark) = eye.mark()?;
    let long = "k".repeat(254);
    let large = "x".repeat(600 * 1024);
    for (data, words) in [
        (json!({ "a key": "x" }), ["\"a key\"", "rename it in Vault"]),
        (json!({ long: "x" }), ["kkkk", "at most 253"]),
        (
            json!({ "small": "x", "large": large }),
            ["1048576", "the largest key is large with 614400"],
        ),
    ] {
        team.put("app", data).await?;
        wait_for("the problem to be told", LONG, || async {
            let message = team.wait_problem("app", "DestinationInvalid").await?;
            ensure!(words.iter().all(|word| message.contains(word)), "{message}");
            Ok(())
        })
        .await?;
    }
    let writes = eye.api.counts(&eye.at_api().writes().since(mark))?;
    ensure!(!writes.contains_key("patch secrets"), "{writes:?}");
    ensure!(
        team.secret("app").await? == before,
        "the last good one stays"
    );
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_ready("app").await.map(drop)
}

impl Team {
    /// Metadata of a Secret as JSON.
    pub async fn metadata(&self, secret: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.secret(secret).await?.metadata)?)
    }

    /// A Secret that somebody else made.
    pub async fn make_secret(&self, name: &str, data: Value) -> Result<()> {
        let secret: Secret =
            serde_json::from_value(json!({ "metadata": { "name": name }, "stringData": data }))?;
        self.secrets()
            .create(&PostParams::default(), &secret)
            .await?;
        Ok(())
    }
}
