//! The finalizers of the existing operator: removed where the migration Role is
//! bound, else reported and left; served either way, and never with a refusal.

use anyhow::{Result, ensure};
use ground::faults::{Answer, Match};
use ground::judges::{ApiAudit, ApiFilter};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Tenant, wait_for};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::applied::{apply_without_warning, render_own};
use crate::grades::{Grade, Names, tenant_of};
use crate::support::{LONG, Suite, Team, static_secret};

crate::trials![
    "finalizers": ; in each grade:
    foreign_finalizers_are_reported_without_the_migration_role,
    foreign_finalizers_go_with_the_migration_role, a_finalizer_that_must_stay_holds_up_nothing,
];

/// The finalizers of the existing operator, each with its kind.
const FINALIZERS: [(&str, &str); 5] = [
    (
        "VaultConnection",
        "vaultconnection.secrets.hashicorp.com/finalizer",
    ),
    ("VaultAuth", "vaultauth.secrets.hashicorp.com/finalizer"),
    (
        "VaultStaticSecret",
        "vaultstaticsecret.secrets.hashicorp.com/finalizer",
    ),
    (
        "VaultDynamicSecret",
        "vaultdynamicsecret.secrets.hashicorp.com/finalizer",
    ),
    (
        "VaultPKISecret",
        "vaultpkisecrets.secrets.hashicorp.com/finalizer",
    ),
];

/// The destination of what is marked.
const MARKED: Names<'_> = Names::secrets(&["marked"]);

/// One resource of each kind that the existing operator marked, all with its
/// finalizer.
async fn marked(tenant: &Tenant) -> Result<()> {
    let destination = json!({ "name": "marked", "create": true });
    let specs = [
        json!({ "address": tenant.vault_address, "caCertSecretRef": "vault-ca" }),
        json!({ "method": "kubernetes", "mount": "kubernetes", "kubernetes": { "role": "app", "serviceAccount": "app", "audiences": ["vault"] } }),
        static_secret(tenant, "marked", json!({}))["spec"].clone(),
        json!({ "mount": "database", "path": "creds/app", "destination": destination }),
        json!({ "mount": "pki", "role": "app", "destination": destination }),
    ];
    tenant
        .vault
        .kv2_put(&tenant.kv2, "marked", &json!({ "password": "moved" }))
        .await?;
    for ((kind, finalizer), spec) in FINALIZERS.iter().zip(specs) {
        let manifest = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind,
            "metadata": { "name": "marked", "finalizers": [finalizer, "example.com/of-others"] },
            "spec": spec,
        });
        tenant.apply(&manifest.to_string()).await?;
    }
    Ok(())
}

async fn was_never_refused(suite: &Suite, tenant: &Tenant) -> Result<()> {
    let audit = ApiAudit::new(&suite.ground.plane.audit_log);
    let ours = ApiFilter::service_account(&tenant.namespace, OPERATOR_ACCOUNT);
    let all = audit
        .settle(&ours, std::time::Duration::from_millis(500), LONG)
        .await?;
    let refused = audit.forbidden(&ours)?;
    ensure!(
        !all.is_empty() && refused.is_empty(),
        "refused: {refused:?}"
    );
    Ok(())
}

async fn foreign_finalizers_are_reported_without_the_migration_role(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "finalizers-left", MARKED, "").await?;
    marked(&tenant).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    wait_for("an event for each finalizer", LONG, || async {
        let events = team.events("marked").await?;
        let told: Vec<_> = events
            .iter()
            .filter(|(reason, _)| reason == "FinalizerLeft")
            .collect();
        ensure!(told.len() == FINALIZERS.len(), "{events:?}");
        ensure!(
            told.iter().all(|(_, note)| note.contains("rbac/migration")),
            "{told:?}"
        );
        Ok(())
    })
    .await?;
    for (kind, finalizer) in FINALIZERS {
        let left = team
            .resources(kind)
            .get("marked")
            .await?
            .metadata
            .finalizers;
        ensure!(
            left.unwrap_or_default()
                .iter()
                .any(|name| name == finalizer),
            "{kind}"
        );
    }
    // It is served all the same.
    team.wait_value("marked", "password", "moved").await?;
    was_never_refused(suite, &team.tenant).await
}

/// Binds what `rbac/migration` grants, and leaves the other rights as they are.
async fn bind_migration(suite: &Suite, tenant: &Tenant) -> Result<()> {
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": tenant.namespace,
        "resources": ["kustomize/base", "rbac/migration"],
    });
    let rendered = render_own(
        suite,
        &tenant.dir.join("migration"),
        overlay,
        &["resources"],
    )
    .await?;
    let migration: Vec<&str> = rendered
        .split("---\n")
        .filter(|manifest| manifest.contains("vault-tenant-operator-migration"))
        .collect();
    let migration = migration.join("---\n");
    apply_without_warning(&tenant.client, &tenant.namespace, &migration)
        .await
        .map(drop)
}

async fn foreign_finalizers_go_with_the_migration_role(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "finalizers-go", MARKED, "").await?;
    bind_migration(suite, &tenant).await?;
    marked(&tenant).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    for (kind, finalizer) in FINALIZERS {
        wait_for(&format!("{finalizer} to go"), LONG, || async {
            let left = team
                .resources(kind)
                .get("marked")
                .await?
                .metadata
                .finalizers;
            ensure!(
                left == Some(vec!["example.com/of-others".to_owned()]),
                "{left:?}"
            );
            Ok(())
        })
        .await?;
    }
    let events = team.events("marked").await?;
    ensure!(
        events.iter().all(|(reason, _)| reason != "FinalizerLeft"),
        "{events:?}"
    );
    team.wait_value("marked", "password", "moved").await?;
    // One that is already being deleted goes for good.
    let connections = team.resources("VaultConnection");
    let again = json!({ "metadata": { "finalizers": [FINALIZERS[0].1] } });
    let by_hand = PatchParams {
        field_manager: Some("kubectl-patch".to_owned()),
        ..PatchParams::default()
    };
    connections
        .patch("marked", &by_hand, &Patch::Merge(again))
        .await?;
    connections
        .delete("marked", &DeleteParams::default())
        .await?;
    wait_for("the deletion", LONG, || async {
        let left = connections.get_opt("marked").await?;
        ensure!(
            left.is_none(),
            "{:?}",
            left.map(|object| object.metadata.finalizers)
        );
        Ok(())
    })
    .await?;
    ensure!(
        team.tenant.secret("marked").await?.is_some(),
        "the Secret went too"
    );
    was_never_refused(suite, &team.tenant).await
}

async fn a_finalizer_that_must_stay_holds_up_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) =
        Team::graded_behind_api_proxy(suite, grade, "finalizer-stays", Names::APP).await?;
    bind_migration(suite, &team.tenant).await?;
    let path = format!(
        "/apis/secrets.hashicorp.com/v1beta1/namespaces/{}/vaultstaticsecrets/app",
        team.tenant.namespace
    );
    let refusal = Answer::kubernetes_error(422, "Invalid", "admission says: it stays");
    let refused = proxy.on(Match::method("PATCH").path(path)).answer(refusal);
    team.put("app", json!({ "password": "served" })).await?;
    let mut manifest = static_secret(&team.tenant, "app", json!({}));
    manifest["metadata"]["finalizers"] = json!([FINALIZERS[2].1]);
    team.tenant.apply(&manifest.to_string()).await?;
    team.wait_ready("app").await?;
    team.wait_value("app", "password", "served").await?;
    refused.hit(1, LONG).await?;
    team.wait_events("app", |events| {
        let mut told = events
            .iter()
            .filter(|(reason, _)| reason == "FinalizerLeft");
        let one = told
            .next()
            .is_some_and(|(_, note)| note.contains("admission says: it stays"));
        one && told.next().is_none()
    })
    .await?;
    Ok(())
}
