//! Leases of resources of which nobody can see whether they are still there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::faults::{Answer, Match};
use ground::{Operator, Tenant, wait_for};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::DeleteParams;
use serde_json::json;

use crate::endpoints::sample;
use crate::grades::{Grade, Names};
use crate::lessee::{KIND, Lessee, QUICK, dynamic_secret, engine_of};
use crate::namespaces::serve;
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "unseen": what_a_lost_role_hides_is_kept;
    in each grade:
    what_the_api_server_does_not_know_is_kept_for_a_time,
];

/// A role whose leases end soon unless they are renewed.
fn short() -> DatabaseRole<'static> {
    DatabaseRole {
        ttl: Duration::from_secs(8),
        ..DatabaseRole::default()
    }
}

async fn wait_unseen(operator: &Operator, count: f64) -> Result<()> {
    wait_for("the number of those that are not seen", LONG, || async {
        let metrics = operator.metrics().await?;
        let unseen = sample(&metrics, "vto_resources_unseen", &[]);
        ensure!(unseen == Some(count), "{unseen:?}");
        Ok(())
    })
    .await
}

/// Waits until a lease will have lived by this much longer than it would now.
async fn wait_longer(tenant: &Tenant, lease: &str, by: Duration) -> Result<()> {
    let ends = async || -> Result<Timestamp> {
        let found = tenant.vault.lease(lease).await?.context("it is gone")?;
        Ok(found.expire_time.context("it does not end")?.parse()?)
    };
    let from = ends().await?;
    wait_for("a lease that lives on", LONG, || async {
        let now = ends().await?;
        ensure!(now >= from + by, "{now}, since {from}");
        Ok(())
    })
    .await
}

async fn what_a_lost_role_hides_is_kept(suite: &Suite) -> Result<()> {
    let grade = Grade::Namespace;
    let home = grade.tenant(&suite.ground, "forbidden-sight").await?;
    let other = grade.tenant(&suite.ground, "unseen").await?;
    prepare(&home).await?;
    prepare(&other).await?;
    let (_engine, creds) = engine_of(suite, &other, &short()).await?;
    serve(grade, &other, &home, &[]).await?;
    let operator = home
        .operator(&suite.binary)
        .config(&config(&home, QUICK))
        .watch_namespaces(&[&home.namespace, &other.namespace])
        .start()
        .await?;
    let team = Team {
        tenant: other,
        operator,
    };
    let manifest = dynamic_secret(&team.tenant, "app", json!({}));
    team.tenant.apply(&manifest.to_string()).await?;
    team.wait_condition(KIND, "app", "Ready", "True").await?;
    let status = team.status(KIND, "app").await?;
    let lease = status["secretLease"]["id"].as_str().context("no lease")?;
    let bindings = team.tenant.api::<RoleBinding>();
    bindings.delete("served", &DeleteParams::default()).await?;
    wait_unseen(&team.operator, 1.0).await?;
    wait_longer(&team.tenant, lease, Duration::from_secs(16)).await?;
    serve(grade, &team.tenant, &home, &[]).await?;
    wait_unseen(&team.operator, 0.0).await?;
    team.wait_condition(KIND, "app", "Ready", "True").await?;
    wait_longer(&team.tenant, lease, Duration::from_secs(16)).await?;
    ensure!(team.status(KIND, "app").await?["secretLease"]["id"] == lease);
    ensure!(team.tenant.vault.leases(&creds).await? == [lease]);
    Ok(())
}

async fn what_the_api_server_does_not_know_is_kept_for_a_time(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = Names::secrets(&["back", "left"]);
    let more = "rotation: {drain: 1s, renewUnseen: 10s}\n";
    let (name, role) = ("unknown-kind", short());
    let behind = Lessee::behind_api_proxy(suite, grade, name, names, &role, more);
    let (lessee, proxy) = behind.await?;
    for name in ["back", "left"] {
        lessee.ask(name, json!({})).await?;
    }
    let (back, left) = (
        lessee.wait_lease("back").await?,
        lessee.wait_lease("left").await?,
    );
    // What an API server answers whose definitions are gone.
    let unknown = |name: &str| {
        let path = format!("/vaultdynamicsecrets/{name}");
        let gone = Answer::body(404, "text/plain", "404 page not found");
        proxy
            .on(Match::method("GET").path_contains(path))
            .answer(gone)
    };
    let (back_unknown, _left_unknown) = (unknown("back"), unknown("left"));
    lessee.delete("back").await?;
    wait_unseen(&lessee.team.operator, 1.0).await?;
    wait_longer(&lessee.team.tenant, &back, Duration::from_secs(4)).await?;
    let told = lessee.team.events("back").await?;
    let unseen = told.iter().find(|(reason, _)| reason == "ResourceUnseen");
    let (_, message) = unseen.with_context(|| format!("{told:?}"))?;
    ensure!(
        message.contains("kustomize/crds") && message.contains("rotation.renewUnseen"),
        "{message}"
    );
    // Known again, it is known to be gone.
    back_unknown.remove();
    wait_unseen(&lessee.team.operator, 0.0).await?;
    lessee.wait_gone(&back).await?;
    ensure!(lessee.left_to_expire().await? == 0.0);
    lessee.delete("left").await?;
    wait_longer(&lessee.team.tenant, &left, Duration::from_secs(4)).await?;
    // In the end nobody renews it, and the ledger forgets it.
    lessee.wait_gone(&left).await?;
    wait_unseen(&lessee.team.operator, 0.0).await?;
    ensure!(lessee.left_to_expire().await? == 1.0);
    let remembered = lessee.remembered().await?;
    ensure!(remembered.is_empty(), "{remembered:?}");
    Ok(())
}

impl Lessee {
    async fn left_to_expire(&self) -> Result<f64> {
        let metrics = self.team.operator.metrics().await?;
        let left = sample(&metrics, "vto_leases_left_to_expire_total", &[]);
        left.context("no such metric")
    }
}
