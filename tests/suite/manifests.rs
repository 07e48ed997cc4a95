//! Manifests written for the existing operator apply unchanged, in both
//! versions, and are answered: what isn't served yet says so and does nothing.

use anyhow::{Context, Result, ensure};
use ground::judges::{VaultAudit, VaultFilter};
use ground::manifests::parse;
use ground::vault_api::KubernetesRole;
use ground::wait_for;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::applied::{apply_without_warning, render, warnings_of};
use crate::grades::{Grade, Names};
use crate::support::{LONG, Suite, Team, config, deployment};

crate::trials![
    "manifests": definitions_apply_without_a_warning, bundles_of_the_existing_operator_are_answered,
    the_announcements_own_login_works;
    in each grade: what_is_not_served_says_so_and_does_nothing,
];

/// The kinds, in the order in which they refer to each other.
const KINDS: [&str; 7] = [
    "VaultConnection",
    "VaultAuthGlobal",
    "VaultAuth",
    "SecretTransformation",
    "VaultStaticSecret",
    "VaultDynamicSecret",
    "VaultPKISecret",
];

async fn definitions_apply_without_a_warning(suite: &Suite) -> Result<()> {
    let client = &suite.ground.client;
    let crds =
        apply_without_warning(client, "default", &render(suite, "kustomize/crds").await?).await?;
    ensure!(crds.len() == KINDS.len(), "{} definitions", crds.len());
    // The look at warnings sees one where there is one.
    let tenant = suite.ground.tenant("warned").await?;
    let namespaces: Api<Namespace> = Api::all(tenant.client.clone());
    let labels = json!({ "pod-security.kubernetes.io/warn": "restricted" });
    let warn = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    namespaces
        .patch(&tenant.namespace, &PatchParams::default(), &warn)
        .await?;
    let loose = parse(&deployment("loose", "none").to_string())?;
    // The API server looks at its own copy of the namespace, which the label reaches a little later.
    wait_for("a warning of the loose Deployment", LONG, || async {
        let warnings = warnings_of(client, &tenant.namespace, &loose[0]).await?;
        ensure!(
            warnings.iter().any(|text| text.contains("PodSecurity")),
            "{warnings:?}"
        );
        Ok(())
    })
    .await
}

/// Every bundle of `tests/fixtures/manifests`, by file name.
fn bundles() -> Result<Vec<(String, String)>> {
    let dir = ground::paths::repository().join("tests/fixtures/manifests");
    let mut bundles = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        bundles.push((name, std::fs::read_to_string(path)?));
    }
    bundles.sort();
    ensure!(!bundles.is_empty(), "no bundles");
    Ok(bundles)
}

async fn bundles_of_the_existing_operator_are_answered(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "bundles").await?;
    let (old, new) = (
        "secrets.hashicorp.com/v1alpha1",
        "secrets.hashicorp.com/v1beta1",
    );
    for (file, text) in bundles()? {
        if file.starts_with("announcement") {
            continue;
        }
        for version in [old, new] {
            let text = text.replace(old, version).replace(new, version);
            apply_without_warning(&team.tenant.client, &team.tenant.namespace, &text)
                .await
                .with_context(|| format!("{file} as {version}"))?;
        }
        for object in parse(&text)? {
            let kind = object.types.as_ref().map_or("", |types| &types.kind);
            let name = object.metadata.name.as_deref().unwrap_or_default();
            if KINDS.contains(&kind) {
                answered(&team, kind, name)
                    .await
                    .with_context(|| file.clone())?;
            }
        }
    }
    let secrets = team.secrets().list(&ListParams::default()).await?.items;
    let made: Vec<_> = secrets
        .iter()
        .filter(|s| s.metadata.owner_references.is_some())
        .collect();
    ensure!(
        made.is_empty(),
        "Secrets were made of bundles that cannot be served here: {made:?}"
    );
    Ok(())
}

/// A condition for the present generation, with a reason and a sentence.
async fn answered(team: &Team, kind: &str, name: &str) -> Result<()> {
    let ready = team
        .wait_for_condition(kind, name, "Ready", |_| true)
        .await?;
    let honest = ready.status != "True" && !ready.reason.is_empty() && !ready.message.is_empty();
    ensure!(
        honest,
        "{kind} {name} has no Vault, no login or isn't served: {ready:?}"
    );
    Ok(())
}

/// The announcement's VaultAuth, as it stands, in its namespace: no audience,
/// the namespace's default account.
async fn the_announcements_own_login_works(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("announcement").await?;
    let home = "tenant-1";
    let namespaces: Api<Namespace> = Api::all(tenant.client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": home } }))?;
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    let access = render(suite, "kustomize/overlays/beside/tenant").await?;
    let access = access
        .replace(
            "namespace: vto-example",
            &format!("namespace: {}", tenant.namespace),
        )
        .replace("namespace: example", &format!("namespace: {home}"));
    tenant.apply(&access).await?;
    let role = KubernetesRole {
        service_account: "default",
        namespace: home,
        audience: None,
        policies: &[&tenant.namespace],
        ttl: std::time::Duration::from_secs(3600),
    };
    tenant
        .vault
        .kubernetes_role("kubernetes", "demo", &role)
        .await?;
    let operator = tenant
        .operator(&suite.binary)
        .config(&config(&tenant, ""))
        .watch_namespaces(&[home])
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    // The same tenant, seen from the namespace that its operator watches.
    let mut watched = tenant;
    home.clone_into(&mut watched.namespace);
    let team = Team {
        tenant: watched,
        operator,
    };
    let sample = bundles()?
        .into_iter()
        .find(|(file, _)| file.starts_with("announcement"));
    let (_, sample) = sample.context("no announcement")?;
    for text in [sample.replace("/v1alpha1", "/v1beta1"), sample] {
        apply_without_warning(&team.tenant.client, home, &text).await?;
    }
    let missing = |ready: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        ready.reason == "InvalidResourceRef" && ready.message.contains("vaultconnection-sample")
    };
    team.wait_for_condition("VaultAuth", "vaultauth-sample", "Ready", missing)
        .await?;
    let connection = json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultConnection",
        "metadata": { "name": "vaultconnection-sample" },
        "spec": { "address": team.tenant.vault_address, "caCertSecretRef": "vault-ca" },
    });
    let ca = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "vault-ca" },
        "stringData": { "ca.crt": team.tenant.ca_pem },
    });
    team.tenant.apply(&ca.to_string()).await?;
    team.tenant.apply(&connection.to_string()).await?;
    team.put("app", json!({ "password": "arrived" })).await?;
    team.static_secret("app", json!({ "vaultAuthRef": "vaultauth-sample" }))
        .await?;
    team.wait_value("app", "password", "arrived").await?;
    let login = team
        .wait_condition("VaultAuth", "vaultauth-sample", "Healthy", "True")
        .await?;
    ensure!(login.reason == "LoggedIn", "{login:?}");
    Ok(())
}

async fn what_is_not_served_says_so_and_does_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "not-served", Names::secrets(&["served"])).await?;
    let template = json!({ "a": { "text": "{{ .Secrets.password }}" } });
    let within = |more: Value| json!({ "destination": { "transformation": more } });
    let fields = [
        ("templates", within(json!({ "templates": template }))),
        (
            "transformation-refs",
            within(json!({ "transformationRefs": [{ "name": "shared" }] })),
        ),
        (
            "instant-updates",
            json!({ "syncConfig": { "instantUpdates": true } }),
        ),
    ];
    for (name, more) in &fields {
        team.put(name, json!({ "password": "unserved" })).await?;
        team.static_secret(name, more.clone()).await?;
    }
    let kinds = [
        ("SecretTransformation", json!({ "templates": template })),
        (
            "VaultAuthGlobal",
            json!({ "defaultAuthMethod": "kubernetes" }),
        ),
    ];
    for (kind, spec) in &kinds {
        let manifest = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind,
            "metadata": { "name": "unserved" }, "spec": spec,
        });
        team.tenant.apply(&manifest.to_string()).await?;
    }
    for (name, kind) in fields
        .iter()
        .map(|(name, _)| (*name, "VaultStaticSecret"))
        .chain(kinds.iter().map(|(kind, _)| ("unserved", *kind)))
    {
        let ready = team
            .wait_for_condition(kind, name, "Ready", |c| c.reason == "NotServedYet")
            .await?;
        ensure!(ready.status == "False", "{kind} {name}: {ready:?}");
        team.wait_events(name, |events| {
            events.iter().any(|(reason, _)| reason == "NotServedYet")
        })
        .await?;
        ensure!(
            team.tenant.secret(name).await?.is_none(),
            "{kind} {name} wrote a Secret"
        );
    }
    // One that is served comes after them, and is all that Vault saw.
    team.put("served", json!({ "password": "served" })).await?;
    team.static_secret("served", json!({})).await?;
    team.wait_ready("served").await?;
    let audit = VaultAudit::new(&suite.ground.vault.audit_log);
    let ours = VaultFilter::new().user_agent_contains(&format!("({})", team.tenant.namespace));
    let served = format!("{}/data/served", team.tenant.kv2);
    let mut paths: Vec<_> = audit.requests(&ours)?.into_iter().map(|r| r.path).collect();
    paths.dedup();
    ensure!(
        paths
            .iter()
            .all(|path| *path == served || path == "auth/kubernetes/login"),
        "{paths:?}"
    );
    ensure!(paths.contains(&served), "{paths:?}");
    Ok(())
}
