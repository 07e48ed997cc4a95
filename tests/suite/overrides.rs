//! What a resource says of its own restarts (`spec.rollout`): what is stricter than the configuration is kept to, and nothing else has an effect.

use anyhow::{Result, ensure};
use ground::judges::workloads::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::pacing::{start, with};
use crate::rollouts::targets;
use crate::support::{Suite, Team, merge, prepare};

crate::trials!["overrides": a_hold_of_one_holds_all_and_nobody_is_looser];

const WEB: [Kind; 1] = [Kind::Deployment];

impl Team {
    /// A resource that restarts `web`, and says this of it.
    async fn rolls(&self, name: &str, rollout: Value) -> Result<()> {
        let mut spec = targets(&WEB);
        merge(&mut spec, json!({ "rollout": rollout }));
        self.static_secret(name, spec).await
    }

    /// Waits until a condition has the reason, and the words in its message.
    async fn wait_words(&self, name: &str, type_: &str, reason: &str, words: &str) -> Result<()> {
        let told = |found: &Condition| found.reason == reason && found.message.contains(words);
        self.wait_for_condition("VaultStaticSecret", name, type_, told)
            .await
            .map(drop)
    }
}

async fn a_hold_of_one_holds_all_and_nobody_is_looser(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("overrides").await?;
    prepare(&tenant).await?;
    let lines = "  minInterval: 10m\n  overrides: [hold, minInterval, windows]\n";
    let config = with(&tenant, "", lines);
    let team = start(suite, tenant, &config).await?;
    team.with_targets(&WEB).await?;
    team.put("other", json!({ "password": "first" })).await?;
    team.rolls("other", json!({})).await?;
    team.wait_current("other").await?;
    let (kind, pending) = ("RolloutRestart", "Pending");
    team.rolls("app", json!({ "hold": true })).await?;
    team.wait_ready("app").await?;
    for name in ["app", "other"] {
        team.put(name, json!({ "password": "second" })).await?;
        team.wait_value(name, "password", "second").await?;
    }
    let until = "until spec.rollout.hold is taken away";
    team.wait_words("app", kind, pending, until).await?;
    let another = "until spec.rollout.hold of another resource that restarts it is taken away";
    team.wait_words("other", kind, pending, another).await?;

    // What is looser or not listed has no effect and ends no sync, and what cannot be read lets no restart go.
    let looser = json!({ "hold": true, "minInterval": "1m" });
    team.rolls("app", looser).await?;
    let words = "spec.rollout.minInterval is 1m, and the configuration's 10m counts; Deployment/web pending";
    team.wait_words("app", kind, pending, words).await?;
    let unlisted = json!({ "onlyWhenAvailable": true });
    team.rolls("other", unlisted).await?;
    let denied = "spec.rollout.onlyWhenAvailable without effect, since rollout.overrides of the operator's configuration does not list it";
    // The targets wait, which is worse.
    team.wait_words("other", kind, pending, denied).await?;
    for name in ["app", "other"] {
        team.put(name, json!({ "password": "third" })).await?;
        team.wait_value(name, "password", "third").await?;
        team.wait_ready(name).await?;
    }
    let unread = json!({ "hold": true, "windows": ["daily 02:00-03:00", "at night"] });
    team.rolls("app", unread).await?;
    let (reason, words) = ("InvalidConfiguration", "spec.rollout.windows[1]: ");
    team.wait_words("app", "Ready", reason, words).await?;
    team.wait_words("app", kind, pending, until).await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);

    // Without the hold both changes are one restart.
    team.rolls("app", json!({ "minInterval": "1h" })).await?;
    team.wait_current("app").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.wait_words("other", kind, "PolicyDenied", denied)
        .await?;
    team.wait_ready("other").await?;
    team.put("app", json!({ "password": "fourth" })).await?;
    team.wait_value("app", "password", "fourth").await?;
    let own = "(spec.rollout.minInterval)";
    team.wait_words("app", kind, pending, own).await?;
    team.put("other", json!({ "password": "fourth" })).await?;
    team.wait_value("other", "password", "fourth").await?;
    team.wait_words(
        "other",
        kind,
        pending,
        "(spec.rollout.minInterval of another resource that restarts it)",
    )
    .await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}
