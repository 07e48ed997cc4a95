//! Argo CD and Flux tell the state of our kinds truly: asked are the Lua interpreter of
//! the one, with the script that is shipped, and the kstatus library of the other, about
//! objects as the API server gives them out.

mod judge;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use vault_tenant_operator::key::Kind;

use crate::applied::render_own;
use crate::examples::with_operator;
use crate::lessee::{dynamic_secret, leased_certificate};
use crate::reasons;
use crate::support::{LONG, Suite, Team, merge, prepare, static_secret};
use judge::Judge;

crate::trials![
    "gitops": the_script_joins_what_argo_cd_has, each_kind_is_followed_through_its_life,
    what_fails_is_told_apart_from_what_waits, each_reason_has_its_health,
];

/// Reasons of `Ready` that may end while the manifests of one sync are applied.
const WAITING: [&str; 4] = [
    "InvalidResourceRef",
    "InexistentDestination",
    "DestinationTerminating",
    "LeaseNotFound",
];

fn resource(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind,
        "metadata": { "name": name }, "spec": spec,
    })
}

/// A VaultAuth for a role of the tenant's Vault.
fn auth(name: &str, role: &str, more: Value) -> Value {
    let mut spec = json!({
        "method": "kubernetes", "mount": "kubernetes",
        "kubernetes": { "role": role, "serviceAccount": "app", "audiences": ["vault"] },
    });
    merge(&mut spec, more);
    resource("VaultAuth", name, spec)
}

fn certificate(mount: &str, role: &str) -> Value {
    let spec = json!({
        "mount": mount, "role": role, "commonName": "web.test",
        "destination": { "name": "pki", "create": true },
    });
    resource("VaultPKISecret", "pki", spec)
}

async fn the_script_joins_what_argo_cd_has(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("gitops-joins").await?;
    let (_, live) = Judge::of(suite, &tenant).await?;
    let kinds = Kind::ALL.into_iter();
    let key = |kind| format!("resource.customizations.health.secrets.hashicorp.com_{kind}");
    let expected: BTreeSet<String> = kinds.map(key).chain(["url".to_owned()]).collect();
    let data = live.data.context("no data")?;
    let keys: BTreeSet<String> = data.keys().cloned().collect();
    ensure!(keys == expected, "{keys:?}");
    // The same for who renders Argo CD's manifests by kustomize.
    let dir = tenant.dir.join("argocd");
    std::fs::create_dir_all(&dir)?;
    let own = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "argocd-cm" },
        "data": { "url": "https://argocd.example" },
    });
    std::fs::write(dir.join("own.yaml"), own.to_string())?;
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["own.yaml"], "components": ["kustomize/components/argocd-health"],
    });
    let rendered = render_own(suite, &dir, kustomization, &["components"]).await?;
    let rendered: ConfigMap = serde_yaml::from_str(&rendered)?;
    ensure!(rendered.data.as_ref() == Some(&data), "{:?}", rendered.data);
    Ok(())
}

async fn each_kind_is_followed_through_its_life(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("gitops-life").await?;
    let (judge, _) = Judge::of(suite, &tenant).await?;
    prepare(&tenant).await?;
    let leased = leased_certificate(&tenant).await?;
    let mount = leased["mount"].as_str().context("no mount")?.to_owned();
    let secret = json!({ "password": "vault" });
    tenant.vault.kv2_put(&tenant.kv2, "static", &secret).await?;
    for manifest in [
        static_secret(&tenant, "static", json!({})),
        dynamic_secret(&tenant, "dynamic", leased),
        certificate(&mount, "leased"),
        auth("unused", tenant.vault_role(), json!({})),
        resource("VaultAuthGlobal", "global", json!({})),
        resource("SecretTransformation", "transformation", json!({})),
    ] {
        tenant.apply(&manifest.to_string()).await?;
    }
    // Each with a change that asks for nothing else.
    let served = [
        (
            "VaultConnection",
            "default",
            json!({ "headers": { "x-team": "a" } }),
        ),
        (
            "VaultAuth",
            "default",
            json!({ "allowedNamespaces": ["other"] }),
        ),
        // Nothing ever logs in with it, so nothing that waits for it may wait for a login.
        (
            "VaultAuth",
            "unused",
            json!({ "allowedNamespaces": ["other"] }),
        ),
        (
            "VaultStaticSecret",
            "static",
            json!({ "refreshAfter": "3s" }),
        ),
        (
            "VaultDynamicSecret",
            "dynamic",
            json!({ "renewalPercent": 60 }),
        ),
        ("VaultPKISecret", "pki", json!({ "expiryOffset": "1m" })),
    ];
    let unserved = [
        ("VaultAuthGlobal", "global"),
        ("SecretTransformation", "transformation"),
    ];
    for (kind, name) in served
        .iter()
        .map(|(kind, name, _)| (*kind, *name))
        .chain(unserved)
    {
        judge
            .is(&tenant, (kind, name), "Progressing", "InProgress")
            .await?;
    }
    let team = with_operator(suite, tenant, "").await?;
    let tenant = &team.tenant;
    for (kind, name, _) in &served {
        judge
            .wait(tenant, (kind, name), "Healthy", "Current")
            .await?;
    }
    for of in unserved {
        let message = judge.wait(tenant, of, "Degraded", "Failed").await?;
        ensure!(message.contains("is not served"), "{message}");
    }
    ensure!(team.operator.terminate(LONG).await.success());
    for (kind, name, change) in &served {
        team.merge_into(kind, name, json!({ "spec": change }))
            .await?;
        judge
            .is(tenant, (kind, name), "Progressing", "InProgress")
            .await?;
    }
    team.operator.restart().await?;
    for (kind, name, _) in &served {
        judge
            .wait(tenant, (kind, name), "Healthy", "Current")
            .await?;
    }
    for (kind, name, _) in served.iter().rev() {
        let held = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
        team.merge_into(kind, name, held).await?;
        let api = team.resources(kind);
        api.delete(name, &DeleteParams::default()).await?;
        let message = judge
            .is(tenant, (kind, name), "Progressing", "Terminating")
            .await?;
        ensure!(message == "it is being deleted", "{message}");
        let free = json!({ "metadata": { "finalizers": null } });
        team.merge_into(kind, name, free).await?;
    }
    Ok(())
}

async fn what_fails_is_told_apart_from_what_waits(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "gitops-fails").await?;
    let tenant = &team.tenant;
    let (judge, _) = Judge::of(suite, tenant).await?;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "foreign" },
    });
    tenant.apply(&foreign.to_string()).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    let one = |name: &str, more: Value| {
        let mut spec = json!({ "path": "app" });
        merge(&mut spec, more);
        static_secret(tenant, name, spec)
    };
    let kept = json!({ "create": false });
    for manifest in [
        one("nothing", json!({ "path": "nothing" })),
        dynamic_secret(tenant, "dynamic", json!({})),
        certificate("pki-of-nobody", "web"),
        auth("refused", "nobody", json!({})),
        one("refused", json!({ "vaultAuthRef": "refused" })),
        auth("unserved", "any", json!({ "method": "appRole" })),
        resource(
            "VaultConnection",
            "elsewhere",
            json!({ "address": "https://vault.attacker.example" }),
        ),
        one("foreign", json!({})),
        one("early", json!({ "vaultAuthRef": "late" })),
        one("kept", json!({ "destination": kept })),
    ] {
        tenant.apply(&manifest.to_string()).await?;
    }
    let secret = |name| ("VaultStaticSecret", name);
    for (of, health, status, words) in [
        // Tried again by the operator, so kstatus goes on waiting.
        (
            secret("nothing"),
            "Degraded",
            "InProgress",
            "there is no such secret",
        ),
        (
            ("VaultDynamicSecret", "dynamic"),
            "Degraded",
            "InProgress",
            "Vault denied",
        ),
        (
            ("VaultPKISecret", "pki"),
            "Degraded",
            "InProgress",
            "Vault denied",
        ),
        (
            secret("refused"),
            "Degraded",
            "InProgress",
            "Vault refused the login",
        ),
        (
            ("VaultAuth", "refused"),
            "Degraded",
            "InProgress",
            "Vault refused the login",
        ),
        // Only a person helps.
        (
            ("VaultAuth", "unserved"),
            "Degraded",
            "Failed",
            "is not served",
        ),
        (
            ("VaultConnection", "elsewhere"),
            "Degraded",
            "Failed",
            "policy.vaultAddresses",
        ),
        (
            secret("foreign"),
            "Degraded",
            "Failed",
            "was not made for this resource",
        ),
        // It may come with the next manifest.
        (
            secret("early"),
            "Progressing",
            "InProgress",
            "late does not exist",
        ),
        (
            secret("kept"),
            "Progressing",
            "InProgress",
            "the Secret kept does not exist",
        ),
    ] {
        let message = judge.wait(tenant, of, health, status).await?;
        ensure!(message.contains(words), "{of:?}: {message}");
    }
    // And each way out.
    team.put("nothing", json!({ "password": "vault" })).await?;
    let late = auth("late", tenant.vault_role(), json!({}));
    tenant.apply(&late.to_string()).await?;
    let held = foreign.to_string().replace("foreign", "kept");
    tenant.apply(&held).await?;
    let taken = json!({ "spec": { "destination": { "overwrite": true } } });
    team.merge_into("VaultStaticSecret", "foreign", taken)
        .await?;
    for name in ["nothing", "early", "kept", "foreign"] {
        judge
            .wait(tenant, secret(name), "Healthy", "Current")
            .await?;
    }
    Ok(())
}

async fn each_reason_has_its_health(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("gitops-reasons").await?;
    let (judge, _) = Judge::of(suite, &tenant).await?;
    let object = |conditions: &[(&str, &str, &str)]| {
        let conditions = conditions.iter().map(|(type_, status, reason)| {
            json!({
                "type": type_, "status": status, "reason": reason, "observedGeneration": 2,
                "message": format!("{type_} by {reason}"),
            })
        });
        let mut object = resource("VaultDynamicSecret", "app", json!({}));
        object["metadata"]["generation"] = 2.into();
        object["status"]["conditions"] = conditions.collect();
        object
    };
    let reasons = reasons::problems()?;
    for reason in WAITING {
        ensure!(reasons.contains_key(reason), "{reason} is no reason");
    }
    for reason in reasons.keys() {
        let found = judge.about(&object(&[("Ready", "False", reason)])).await?;
        let expected = match WAITING.contains(reason) {
            true => "Progressing",
            false => "Degraded",
        };
        let said = (expected.to_owned(), format!("Ready by {reason}"));
        ensure!(found.health == said, "{reason}: {found:?}");
    }
    let ready = ("Ready", "True", "Synced");
    for (conditions, health, message) in [
        (
            &[ready, ("Healthy", "True", "Synced")][..],
            "Healthy",
            "Ready by Synced",
        ),
        (
            &[
                ("LeaseRenewal", "False", "LeaseAtRisk"),
                ready,
                ("Overlap", "False", "OverlapCut"),
            ],
            "Healthy",
            "Ready by Synced; LeaseRenewal: LeaseRenewal by LeaseAtRisk; Overlap: Overlap by OverlapCut",
        ),
        (
            &[("Ready", "Unknown", "Other")],
            "Progressing",
            "Ready by Other",
        ),
        (
            &[("LeaseRenewal", "False", "LeaseAtRisk")],
            "Progressing",
            "the operator has not looked at it yet",
        ),
    ] {
        let found = judge.about(&object(conditions)).await?;
        let said = (health.to_owned(), message.to_owned());
        ensure!(found.health == said, "{conditions:?}: {found:?}");
    }
    let mut edited = object(&[ready]);
    edited["metadata"]["generation"] = 3.into();
    let found = judge.about(&edited).await?;
    ensure!(found.health.0 == "Progressing", "{found:?}");
    // No script of ours speaks of what isn't ours.
    let mut other = object(&[ready]);
    other["kind"] = "Other".into();
    let said = judge.ask(&other).await?;
    ensure!(said["argocd"].is_null(), "{said}");
    Ok(())
}
