//! Several resources that name one Secret, and Secrets that outlive theirs.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::wait_for;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "sharing": ; in each grade:
    two_that_share_own_their_own_keys_and_one_that_goes_takes_its_own,
    an_overlap_names_resource_and_key, the_configuration_can_keep_all_secrets,
    the_second_of_two_is_told_of_the_first_and_takes_over_from_it,
    a_secret_to_be_kept_outlives_its_resource,
];

/// The spec of a resource that writes into the Secret `one`.
fn into_one(more: Value) -> Value {
    let mut destination = json!({ "name": "one" });
    crate::support::merge(&mut destination, more);
    json!({ "refreshAfter": "720h", "destination": destination })
}

async fn the_second_of_two_is_told_of_the_first_and_takes_over_from_it(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = Names::secrets(&["one", "elsewhere"]);
    let team = Team::graded(suite, grade, "contested", names).await?;
    for name in ["first", "second"] {
        team.put(name, json!({ "password": name })).await?;
    }
    team.static_secret("first", into_one(json!({}))).await?;
    team.wait_ready("first").await?;
    let eye = Eye::on(suite, &team);
    let (vault, api) = eye.mark()?;
    team.static_secret("second", into_one(json!({}))).await?;
    let message = team.wait_problem("second", "DestinationConflict").await?;
    ensure!(
        message.contains("VaultStaticSecret first")
            && message.contains("spec.destination.share: true"),
        "{message}"
    );
    let reads = eye.settled(&eye.reads().since(vault)).await?;
    ensure!(reads.is_empty(), "nothing is fetched for it: {reads:?}");
    let writes = eye.api.counts(&eye.at_api().writes().since(api))?;
    ensure!(
        !writes.contains_key("patch secrets"),
        "nobody flaps: {writes:?}"
    );
    // The first moves away: the second takes over, and now it is the one to stay.
    team.edit("first", json!({ "destination": { "name": "elsewhere" } }))
        .await?;
    team.wait_value("one", "password", "second").await?;
    team.wait_ready("second").await?;
    team.wait_value("elsewhere", "password", "first").await?;
    team.edit("first", json!({ "destination": { "name": "one" } }))
        .await?;
    let message = team.wait_problem("first", "DestinationConflict").await?;
    ensure!(message.contains("VaultStaticSecret second"), "{message}");
    ensure!(
        team.value("elsewhere", "password").await? == "first",
        "it keeps what it has"
    );
    team.remove("second").await?;
    team.wait_value("one", "password", "first").await?;
    team.wait_ready("first").await?;
    team.gone("elsewhere").await
}

async fn two_that_share_own_their_own_keys_and_one_that_goes_takes_its_own(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "shared", Names::secrets(&["one"])).await?;
    let shared = || json!({ "share": true, "transformation": { "excludeRaw": true } });
    for name in ["a", "b", "c"] {
        team.put(name, json!({ format!("of-{name}"): name }))
            .await?;
        team.static_secret(name, into_one(shared())).await?;
    }
    for name in ["a", "b", "c"] {
        team.wait_ready(name).await?;
        team.wait_value("one", &format!("of-{name}"), name).await?;
    }
    let uid = team.uid("one").await?;
    let metadata = team.metadata("one").await?;
    let owners = metadata["ownerReferences"].as_array().map(Vec::len);
    ensure!(owners == Some(3), "{metadata}");
    let entries = metadata["managedFields"].as_array().into_iter().flatten();
    let managers: BTreeSet<&str> = entries
        .filter_map(|entry| entry["manager"].as_str())
        .filter(|name| name.starts_with("vto-"))
        .collect();
    ensure!(managers.len() == 3, "one for each: {managers:?}");
    // Each writes its own, and nobody the others'.
    let eye = Eye::on(suite, &team);
    eye.settled(&eye.reads()).await?;
    let (_, mark) = eye.mark()?;
    tokio::time::sleep(QUIET).await;
    let writes = eye.api.counts(&eye.at_api().writes().since(mark))?;
    ensure!(writes.is_empty(), "{writes:?}");
    team.remove("a").await?;
    team.wait_keys("one", &["of-b", "of-c"]).await?;
    // Those that stay write nothing for it. What takes the keys out is refused, and
    // sent again, where the garbage collector came in between.
    eye.settled(&eye.reads()).await?;
    ensure!(team.keys("one").await? == ["of-b", "of-c"]);
    let taken = eye.at_api().since(mark).resource("secrets").writes();
    let taken = eye.api.requests(&taken.code(200))?;
    ensure!((1..=2).contains(&taken.len()), "{taken:?}");
    // The same for one that goes while the operator is down.
    team.operator.process.kill();
    team.operator.process.wait().await;
    team.remove("b").await?;
    team.operator.restart().await?;
    team.wait_keys("one", &["of-c"]).await?;
    team.wait_ready("c").await?;
    ensure!(team.uid("one").await? == uid, "still the same Secret");
    team.remove("c").await?;
    team.gone("one").await
}

async fn an_overlap_names_resource_and_key(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "overlap", Names::secrets(&["one"])).await?;
    team.put("a", json!({ "password": "a", "of-a": "a" }))
        .await?;
    team.put("b", json!({ "password": "b", "of-b": "b" }))
        .await?;
    let shared = json!({ "share": true, "transformation": { "excludeRaw": true } });
    team.static_secret("a", into_one(shared.clone())).await?;
    team.wait_ready("a").await?;
    team.static_secret("b", into_one(shared)).await?;
    let message = team.wait_problem("b", "DestinationConflict").await?;
    ensure!(
        message.contains("the key password") && message.contains("VaultStaticSecret a"),
        "{message}"
    );
    ensure!(team.value("one", "password").await? == "a");
    ensure!(team.keys("one").await? == ["of-a", "password"]);
    // Labels of the same name need the same value.
    let excludes =
        json!({ "transformation": { "excludes": ["^password$"] }, "labels": { "team": "b" } });
    team.edit("b", json!({ "destination": excludes })).await?;
    team.edit("a", json!({ "destination": { "labels": { "team": "a" } } }))
        .await?;
    wait_for("one of them to be told", LONG, || async {
        let told = team.described("VaultStaticSecret", "a").await?
            + &team.described("VaultStaticSecret", "b").await?;
        ensure!(
            told.contains("sets the label team to another value"),
            "{told}"
        );
        Ok(())
    })
    .await?;
    team.edit("b", json!({ "destination": { "labels": { "team": "a" } } }))
        .await?;
    team.wait_ready("a").await?;
    team.wait_ready("b").await?;
    team.wait_keys("one", &["of-a", "of-b", "password"]).await?;
    ensure!(team.value("one", "password").await? == "a");
    Ok(())
}

async fn a_secret_to_be_kept_outlives_its_resource(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["app", "down"]);
    let team = Team::graded(suite, grade, "retained", names).await?;
    let kept = || json!({ "refreshAfter": "720h", "destination": { "retainOnDelete": true } });
    for name in ["app", "down"] {
        team.put(name, json!({ "password": "vault", "user": "u" }))
            .await?;
        team.static_secret(name, kept()).await?;
        team.wait_ready(name).await?;
        let metadata = team.metadata(name).await?;
        ensure!(metadata["ownerReferences"].is_null(), "{metadata}");
    }
    let uid = team.uid("app").await?;
    team.remove("app").await?;
    let since = team.wait_orphaned("app").await?;
    since.parse::<jiff::Timestamp>().context(since)?;
    team.operator.process.kill();
    team.operator.process.wait().await;
    team.remove("down").await?;
    team.operator.restart().await?;
    team.wait_orphaned("down").await?;
    ensure!(team.value("down", "password").await? == "vault");
    // Applied again, the resource goes on with it.
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", kept()).await?;
    team.wait_ready("app").await?;
    team.wait_keys("app", &["_raw", "password"]).await?;
    let metadata = team.metadata("app").await?;
    ensure!(
        team.uid("app").await? == uid
            && metadata["annotations"]["vault-tenant-operator.io/orphaned-at"].is_null(),
        "{metadata}"
    );
    // No longer to be kept: it gets its owner back, and goes with it.
    team.edit("app", json!({ "destination": { "retainOnDelete": false } }))
        .await?;
    wait_for("an owner", LONG, || async {
        let metadata = team.metadata("app").await?;
        ensure!(metadata["ownerReferences"].is_array(), "{metadata}");
        Ok(())
    })
    .await?;
    team.remove("app").await?;
    team.gone("app").await
}

async fn the_configuration_can_keep_all_secrets(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["kept", "not"]);
    let more = "  retainOnDelete: true\n";
    let (tenant, more) = tenant_of(suite, grade, "retained-all", names, more).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    for name in ["kept", "not"] {
        team.put(name, json!({ "password": "vault" })).await?;
    }
    team.static_secret("kept", json!({})).await?;
    team.static_secret("not", json!({ "destination": { "retainOnDelete": false } }))
        .await?;
    for name in ["kept", "not"] {
        team.wait_ready(name).await?;
        team.remove(name).await?;
    }
    team.wait_orphaned("kept").await?;
    team.gone("not").await
}

impl Team {
    async fn remove(&self, name: &str) -> Result<()> {
        self.resources("VaultStaticSecret")
            .delete(name, &DeleteParams::default())
            .await?;
        Ok(())
    }

    async fn wait_keys(&self, secret: &str, expected: &[&str]) -> Result<()> {
        let what = format!("the keys of {secret} to be {expected:?}");
        wait_for(&what, LONG, || async {
            let keys = self.keys(secret).await?;
            ensure!(keys == expected, "{keys:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a Secret says that its resource is gone, and answers since when.
    async fn wait_orphaned(&self, secret: &str) -> Result<String> {
        wait_for(&format!("{secret} to be marked"), LONG, || async {
            let metadata = self.metadata(secret).await?;
            let mark = metadata["annotations"]["vault-tenant-operator.io/orphaned-at"].as_str();
            mark.map(str::to_owned)
                .with_context(|| metadata.to_string())
        })
        .await
    }
}
