//! No edit of a resource turns a Secret that it may write into one that goes
//! with it, and nothing is given up for nothing.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "ownership": ; in each grade:
    what_was_only_written_into_is_not_taken_over_by_an_edit,
    a_sharer_that_creates_does_not_join_one_that_does_not,
    a_rename_onto_an_empty_source_gives_nothing_up,
];

async fn what_was_only_written_into_is_not_taken_over_by_an_edit(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "written-into", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.make_secret("app", json!({ "more": "theirs" })).await?;
    team.static_secret("app", json!({ "destination": { "create": false } }))
        .await?;
    team.wait_value("app", "password", "vault").await?;
    team.wait_ready("app").await?;
    team.edit("app", json!({ "destination": { "create": true } }))
        .await?;
    let message = team.wait_problem("app", "DestinationNotOwned").await?;
    ensure!(message.contains("spec.destination.overwrite"), "{message}");
    team.outlives_the_resource(suite, "app").await
}

async fn a_sharer_that_creates_does_not_join_one_that_does_not(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "joins-theirs", Names::secrets(&["theirs"])).await?;
    for name in ["first", "second"] {
        team.put(name, json!({ name: "vault" })).await?;
    }
    team.make_secret("theirs", json!({ "more": "theirs" }))
        .await?;
    let into = |create: bool| {
        json!({ "destination": { "name": "theirs", "create": create, "share": true,
            "transformation": { "excludeRaw": true } } })
    };
    team.static_secret("first", into(false)).await?;
    team.wait_value("theirs", "first", "vault").await?;
    team.static_secret("second", into(true)).await?;
    let message = team.wait_problem("second", "DestinationConflict").await?;
    ensure!(message.contains("spec.destination.create"), "{message}");
    team.edit("second", json!({ "destination": { "create": false } }))
        .await?;
    team.wait_value("theirs", "second", "vault").await?;
    let owners = team.secret("theirs").await?.metadata.owner_references;
    ensure!(owners.is_none(), "{owners:?}");
    Ok(())
}

async fn a_rename_onto_an_empty_source_gives_nothing_up(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["app", "new"]);
    let team = Team::graded(suite, grade, "renamed-empty", names).await?;
    team.put("app", json!({ "password": "kept" })).await?;
    let plain = json!({ "destination": { "transformation": { "excludeRaw": true } } });
    team.static_secret("app", plain).await?;
    team.wait_ready("app").await?;
    team.put("app", json!({})).await?;
    team.edit("app", json!({ "destination": { "name": "new" } }))
        .await?;
    let eye = Eye::on(suite, &team);
    team.wait_ready("app").await?;
    eye.api.settle(&eye.at_api(), QUIET, LONG).await?;
    ensure!(team.value("app", "password").await? == "kept");
    ensure!(team.secret("new").await?.data.is_none());
    team.put("app", json!({ "password": "next" })).await?;
    team.wait_value("new", "password", "next").await?;
    team.gone("app").await
}

impl Team {
    /// Deletes the resource; the Secret of the same name has no owner and stays.
    async fn outlives_the_resource(&self, suite: &Suite, name: &str) -> Result<()> {
        self.resources("VaultStaticSecret")
            .delete(name, &DeleteParams::default())
            .await?;
        let eye = Eye::on(suite, self);
        eye.api.settle(&eye.at_api(), QUIET, LONG).await?;
        let left = self.secrets().list(&ListParams::default()).await?;
        let left = left
            .items
            .into_iter()
            .find(|secret| secret.metadata.name.as_deref() == Some(name));
        ensure!(
            left.is_some_and(|secret| secret.metadata.owner_references.is_none()),
            "it went, or is going to"
        );
        ensure!(self.value(name, "more").await? == "theirs");
        Ok(())
    }
}
