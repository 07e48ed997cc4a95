//! What is wrong in a manifest is told where a person looks, with the field and
//! the mend.

use anyhow::{Context, Result, ensure};
use ground::wait_for;
use serde_json::{Value, json};

use crate::support::{LONG, Suite, Team, merge};

crate::trials![
    "bad_specs": each_mistake_of_a_secret_names_field_and_mend,
    each_mistake_of_a_login_names_field_and_mend, each_mistake_of_a_connection_names_field_and_mend,
    each_kind_that_is_not_served_is_answered, describe_alone_leads_a_person_to_a_synced_secret,
];

/// A mistake in a spec, the reason that it gets, and words of field and mend.
struct Mistake(Value, &'static str, &'static [&'static str]);

async fn each_mistake_of_a_secret_names_field_and_mend(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "mistakes").await?;
    let pair = json!({ "transformation": { "excludes": ["("] } });
    let mistakes = [
        Mistake(
            json!({ "vaultAuthRef": "nobody" }),
            "InvalidResourceRef",
            &["VaultAuth", "/nobody", "spec.vaultAuthRef", "create it"],
        ),
        Mistake(
            json!({ "vaultAuthRef": "a/b/c" }),
            "InvalidConfiguration",
            &["spec.vaultAuthRef", "namespace/name"],
        ),
        Mistake(
            json!({ "vaultAuthRef": "elsewhere/a" }),
            "InvalidResourceRef",
            &["spec.vaultAuthRef", "namespaces that this operator watches"],
        ),
        Mistake(
            json!({ "destination": { "name": "" } }),
            "InvalidConfiguration",
            &["spec.destination.name", "no name of a Secret"],
        ),
        Mistake(
            json!({ "destination": { "name": "Not_a_name" } }),
            "InvalidConfiguration",
            &["spec.destination.name", "Not_a_name", "lower-case"],
        ),
        Mistake(
            json!({ "destination": pair }),
            "InvalidConfiguration",
            &["excludes", "("],
        ),
        Mistake(
            json!({ "destination": { "type": "kubernetes.io/tls" } }),
            "DestinationInvalid",
            &["tls.crt", "correct the source"],
        ),
        Mistake(
            json!({ "destination": { "type": "kubernetes.io/service-account-token" } }),
            "PolicyDenied",
            &["service-account-token", "change the resource"],
        ),
        Mistake(
            json!({ "destination": { "transformation": { "templates": { "a": { "text": "x" } } } } }),
            "NotServedYet",
            &["spec.destination.transformation.templates"],
        ),
        Mistake(
            json!({ "destination": { "transformation": { "transformationRefs": [{ "name": "x" }] } } }),
            "NotServedYet",
            &["spec.destination.transformation.transformationRefs"],
        ),
        Mistake(
            json!({ "syncConfig": { "instantUpdates": true } }),
            "NotServedYet",
            &["spec.syncConfig.instantUpdates"],
        ),
        Mistake(
            json!({ "rolloutRestartTargets": [{ "kind": "argo.Rollout", "name": "x" }] }),
            "NotServedYet",
            &["spec.rolloutRestartTargets", "argo.Rollout"],
        ),
        Mistake(
            json!({ "mount": "not-mounted" }),
            "VaultPermissionDenied",
            &["not-mounted/data/good", "policy"],
        ),
        Mistake(
            json!({ "mount": team.tenant.kv1, "path": "x" }),
            "SecretNotFound",
            &["spec.mount", "spec.path", "spec.type"],
        ),
        Mistake(
            json!({ "path": "nowhere" }),
            "SecretNotFound",
            &["nowhere", "spec.path"],
        ),
    ];
    team.put("good", json!({ "password": "x" })).await?;
    for (number, Mistake(spec, ..)) in mistakes.iter().enumerate() {
        let mut whole = json!({ "path": "good" });
        merge(&mut whole, spec.clone());
        team.static_secret(&format!("bad-{number}"), whole).await?;
    }
    for (number, mistake) in mistakes.iter().enumerate() {
        team.told("VaultStaticSecret", &format!("bad-{number}"), mistake)
            .await?;
    }
    Ok(())
}

async fn each_mistake_of_a_login_names_field_and_mend(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "login-mistakes").await?;
    let kubernetes = |block: Value| json!({ "method": "kubernetes", "mount": "kubernetes", "kubernetes": block });
    let good = json!({ "role": "x", "serviceAccount": "app", "audiences": ["vault"] });
    let mistakes = [
        Mistake(
            json!({ "mount": "kubernetes" }),
            "InvalidConfiguration",
            &["spec.method", "kubernetes"],
        ),
        Mistake(
            json!({ "method": "kubernetes", "mount": "kubernetes" }),
            "InvalidConfiguration",
            &["spec.kubernetes", "role and serviceAccount"],
        ),
        Mistake(
            json!({ "method": "kubernetes", "kubernetes": good }),
            "InvalidConfiguration",
            &["spec.mount", "auth mount"],
        ),
        Mistake(
            kubernetes(json!({ "serviceAccount": "app" })),
            "InvalidConfiguration",
            &["spec.kubernetes.role"],
        ),
        Mistake(
            kubernetes(json!({ "role": "x" })),
            "InvalidConfiguration",
            &["spec.kubernetes.serviceAccount"],
        ),
        Mistake(
            json!({ "method": "jwt", "mount": "jwt", "jwt": { "role": "x" } }),
            "NotServedYet",
            &["jwt"],
        ),
        Mistake(
            json!({ "method": "kubernetes", "mount": "kubernetes", "kubernetes": good, "vaultConnectionRef": "none" }),
            "InvalidResourceRef",
            &[
                "VaultConnection",
                "/none",
                "spec.vaultConnectionRef",
                "create it",
            ],
        ),
        Mistake(
            json!({ "method": "kubernetes", "mount": "kubernetes", "kubernetes": good, "vaultAuthGlobalRef": { "name": "g" } }),
            "NotServedYet",
            &["spec.vaultAuthGlobalRef"],
        ),
    ];
    for (number, Mistake(spec, ..)) in mistakes.iter().enumerate() {
        team.make("VaultAuth", &format!("bad-{number}"), spec)
            .await?;
    }
    for (number, mistake) in mistakes.iter().enumerate() {
        team.told("VaultAuth", &format!("bad-{number}"), mistake)
            .await?;
    }
    // What only Vault or Kubernetes can refuse shows at the first use.
    let used = [
        Mistake(
            kubernetes(
                json!({ "role": "not-a-role", "serviceAccount": "app", "audiences": ["vault"] }),
            ),
            "VaultLoginFailed",
            &["not-a-role", "bound service accounts"],
        ),
        Mistake(
            kubernetes(
                json!({ "role": team.tenant.vault_role(), "serviceAccount": "not-there", "audiences": ["vault"] }),
            ),
            "VaultClientConfigError",
            &["not-there", "serviceAccount"],
        ),
        Mistake(
            kubernetes(
                json!({ "role": team.tenant.vault_role(), "serviceAccount": "app", "audiences": ["another"] }),
            ),
            "VaultLoginFailed",
            &["audience"],
        ),
    ];
    for (number, Mistake(spec, ..)) in used.iter().enumerate() {
        let name = format!("used-{number}");
        team.make("VaultAuth", &name, spec).await?;
        team.static_secret(&name, json!({ "vaultAuthRef": name }))
            .await?;
    }
    for (number, mistake) in used.iter().enumerate() {
        let name = format!("used-{number}");
        team.told("VaultAuth", &name, mistake).await?;
        team.told("VaultStaticSecret", &name, mistake).await?;
    }
    Ok(())
}

async fn each_mistake_of_a_connection_names_field_and_mend(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "connection-mistakes").await?;
    let address = &team.tenant.vault_address;
    let mistakes = [
        Mistake(
            json!({ "address": address, "caCertSecretRef": "not-there" }),
            "VaultClientConfigError",
            &["not-there", "does not exist", "ca.crt"],
        ),
        Mistake(
            json!({ "address": address, "caCertSecretRef": "vault-ca", "caCertPath": "/ca.crt" }),
            "InvalidConfiguration",
            &["spec.caCertPath", "spec.caCertSecretRef", "keep one"],
        ),
        Mistake(
            json!({ "address": address, "caCertPath": "/etc/ca.crt" }),
            "PolicyDenied",
            &["/etc/ca.crt", "policy.filePaths"],
        ),
        Mistake(
            json!({ "address": address, "skipTLSVerify": true }),
            "PolicyDenied",
            &["skipTLSVerify", "policy.allowSkipTLSVerify"],
        ),
        Mistake(
            json!({ "address": "no address" }),
            "InvalidConfiguration",
            &["spec.address"],
        ),
        Mistake(
            json!({ "address": address }),
            "VaultUnreachable",
            &["certificate"],
        ),
        Mistake(
            json!({ "address": address, "caCertSecretRef": "vault-ca", "tlsServerName": "other.example" }),
            "VaultUnreachable",
            &["other.example"],
        ),
    ];
    for (number, Mistake(spec, ..)) in mistakes.iter().enumerate() {
        team.make("VaultConnection", &format!("bad-{number}"), spec)
            .await?;
    }
    for (number, mistake) in mistakes.iter().enumerate() {
        team.told("VaultConnection", &format!("bad-{number}"), mistake)
            .await?;
    }
    Ok(())
}

async fn each_kind_that_is_not_served_is_answered(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "not-served").await?;
    let destination = json!({ "name": "x", "create": true });
    let kinds = [
        ("SecretTransformation", json!({})),
        ("VaultAuthGlobal", json!({})),
        (
            "VaultDynamicSecret",
            json!({ "mount": "db", "path": "creds/x", "destination": destination }),
        ),
        (
            "VaultPKISecret",
            json!({ "mount": "pki", "role": "x", "commonName": "x.example", "destination": destination }),
        ),
    ];
    for (kind, spec) in &kinds {
        team.make(kind, "later", spec).await?;
    }
    for (kind, spec) in kinds {
        let mistake = Mistake(spec, "NotServedYet", &["the kind", "nothing was written"]);
        team.told(kind, "later", &mistake).await?;
    }
    ensure!(team.tenant.secret("x").await?.is_none());
    Ok(())
}

/// Somebody who knows only `kubectl describe` mends one mistake after another.
async fn describe_alone_leads_a_person_to_a_synced_secret(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "person").await?;
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

    /// Waits until Ready is False with the mistake's reason and words.
    async fn told(&self, kind: &str, name: &str, mistake: &Mistake) -> Result<()> {
        let Mistake(spec, reason, words) = mistake;
        let ready = self
            .wait_condition(kind, name, "Ready", "False")
            .await
            .with_context(|| format!("{spec}"))?;
        ensure!(ready.reason == *reason, "{spec}: {ready:?}");
        for word in *words {
            ensure!(
                ready.message.contains(word),
                "{spec}: no {word:?} in {:?}",
                ready.message
            );
        }
        Ok(())
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
