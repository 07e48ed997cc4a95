//! What a resource says of its own restarts (`spec.rollout`): stricter than the configuration is kept to, looser is refused.

use anyhow::{Result, ensure};
use ground::judges::workloads::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::endpoints::sample;
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

    // Nothing of what is refused or cannot be read lets the restart go.
    let denied = "PolicyDenied";
    let looser = json!({ "hold": true, "minInterval": "1m" });
    team.rolls("app", looser).await?;
    let words = "spec.rollout.minInterval is 1m, and a resource can only be stricter than the 10m of the configuration; refused by the operator's configuration, key rollout.minInterval:";
    team.wait_words("app", "Ready", denied, words).await?;
    let metrics = team.operator.metrics().await?;
    let labels = ["rule=\"rollout.minInterval\""];
    let denials = sample(&metrics, "vto_policy_denials_total", &labels);
    ensure!(denials.is_some_and(|denials| denials >= 1.0), "{metrics}");
    let unlisted = json!({ "hold": true, "onlyWhenAvailable": true });
    team.rolls("app", unlisted).await?;
    let words = "spec.rollout.onlyWhenAvailable is not for a resource to say; refused by the operator's configuration, key rollout.overrides:";
    team.wait_words("app", "Ready", denied, words).await?;
    let unread = json!({ "hold": true, "windows": ["daily 02:00-03:00", "at night"] });
    team.rolls("app", unread).await?;
    let (reason, words) = ("InvalidConfiguration", "spec.rollout.windows[1]: ");
    team.wait_words("app", "Ready", reason, words).await?;
    team.wait_words("app", kind, pending, until).await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);

    // Without the hold both changes are one restart.
    team.rolls("app", json!({ "minInterval": "1h" })).await?;
    for name in ["app", "other"] {
        team.wait_current(name).await?;
    }
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.put("app", json!({ "password": "third" })).await?;
    team.wait_value("app", "password", "third").await?;
    let own = "(spec.rollout.minInterval)";
    team.wait_words("app", kind, pending, own).await?;
    team.put("other", json!({ "password": "third" })).await?;
    team.wait_value("other", "password", "third").await?;
    team.wait_words(
        "other",
        kind,
        pending,
        "(spec.rollout.minInterval of another resource that restarts it)",
    )
    .await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await
}
