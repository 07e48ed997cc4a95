//! What a person reads who applies a kind that is not served, or knows nothing
//! but `kubectl describe`. (Mistakes one by one: `bad_inputs`.)

use anyhow::{Context, Result, ensure};
use ground::wait_for;
use serde_json::{Value, json};

use crate::grades::{Grade, Names};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "bad_specs": ; in each grade:
    each_kind_that_is_not_served_is_answered, describe_alone_leads_a_person_to_a_synced_secret,
];

async fn each_kind_that_is_not_served_is_answered(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "kinds-not-served", Names::secrets(&[])).await?;
    let kinds = [
        ("SecretTransformation", json!({})),
        ("VaultAuthGlobal", json!({})),
    ];
    for (kind, spec) in &kinds {
        team.make(kind, "later", spec).await?;
    }
    for (kind, _) in kinds {
        let ready = team.wait_condition(kind, "later", "Ready", "False").await?;
        let told = ready.reason == "NotServedYet" && ready.message.contains("nothing was written");
        ensure!(told, "{kind}: {ready:?}");
    }
    Ok(())
}

/// Somebody who knows only `kubectl describe` mends one mistake after another.
async fn describe_alone_leads_a_person_to_a_synced_secret(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "person", Names::ROLLED).await?;
    team.static_secret(
        "app",
        json!({ "vaultAuthRef": "default-typo", "path": "app" }),
    )
    .await?;
    team.reads(
        suite,
        "app",
        &[
            "InvalidResourceRef",
            "default-typo",
            "correct the reference",
        ],
    )
    .await?;
    team.edit("app", json!({ "vaultAuthRef": "default" }))
        .await?;
    team.reads(
        suite,
        "app",
        &[
            "SecretNotFound",
            "there is no such secret in Vault",
            "write it",
        ],
    )
    .await?;
    team.put("app", json!({ "password": "x" })).await?;
    team.reads(
        suite,
        "app",
        &["Normal SecretSynced", "the Secret app holds", "version 1"],
    )
    .await?;
    team.edit(
        "app",
        json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] }),
    )
    .await?;
    team.reads(
        suite,
        "app",
        &["TargetMissing", "Deployment/web", "create it"],
    )
    .await
}

impl Team {
    async fn make(&self, kind: &str, name: &str, spec: &Value) -> Result<()> {
        let manifest = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind,
            "metadata": { "name": name }, "spec": spec,
        });
        let applied = self.tenant.apply(&manifest.to_string()).await;
        applied.map(drop).with_context(|| format!("{kind} {spec}"))
    }

    async fn reads(&self, suite: &Suite, name: &str, words: &[&str]) -> Result<()> {
        wait_for(
            &format!("{words:?} in the description of {name}"),
            LONG,
            || async {
                let text = self
                    .kubectl_describe(suite, "vaultstaticsecret", name)
                    .await?;
                ensure!(words.iter().all(|word| text.contains(word)), "{text}");
                Ok(())
            },
        )
        .await
    }
}
