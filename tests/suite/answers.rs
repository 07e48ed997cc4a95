//! Answers of other kinds than a lease that can be renewed: what Vault rotates by
//! itself, what has no lease or one to its end only, and a lease that nobody asked for.

use std::time::Duration;

use anyhow::{Result, ensure};
use ground::engines::{DatabaseRole, Rotation};
use ground::faults::{Answer, Match};
use ground::judges::workloads::Kind;
use ground::postgres::Login;
use ground::{Right, wait_for};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::endpoints::sample;
use crate::grades::{Grade, Names, tenant_of};
use crate::lessee::{KIND, Lessee, QUICK, dynamic_secret};
use crate::probes::{Eye, workload};
use crate::support::{LONG, Suite, Team, static_secret};

crate::trials![
    "answers": answers_without_a_lease_and_leases_that_cannot_be_renewed_are_replaced;
    in each grade:
    what_vault_rotates_by_itself_is_followed, a_lease_that_nobody_asked_for_is_given_back_at_once,
    a_wrapped_answer_is_refused,
];

async fn what_vault_rotates_by_itself_is_followed(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names {
        secrets: &["often", "yearly"],
        ..Names::ROLLED
    };
    let role = DatabaseRole::default();
    let lessee = Lessee::start(suite, grade, "rotated", names, &role).await?;
    let engine = &lessee.engine;
    let often = engine.static_role("often", Rotation::Period(Duration::from_secs(10)));
    let yearly = engine.static_role("yearly", Rotation::Schedule("0 0 1 1 *"));
    let (often, yearly) = tokio::try_join!(often, yearly)?;
    let tenant = &lessee.team.tenant;
    tenant.grant(&[&often, &yearly], &[]).await?;
    let web = workload(Kind::Deployment, "web", "yearly", json!({}));
    tenant.apply(&web.to_string()).await?;
    let spec =
        |name: &str| json!({ "path": format!("static-creds/{name}"), "allowStaticCreds": true });
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    let mut yearly_spec = spec("yearly");
    yearly_spec["rolloutRestartTargets"] = targets;
    lessee.ask("yearly", yearly_spec).await?;
    lessee.ask("often", spec("often")).await?;
    for name in ["yearly", "often"] {
        lessee
            .team
            .wait_condition(KIND, name, "Ready", "True")
            .await?;
        // Vault may rotate between the look at the Secret and the login.
        wait_for(&format!("{name} to be let in"), LONG, || async {
            let login = lessee.login(name).await?;
            ensure!(login == Login::Accepted, "{login:?}");
            Ok(())
        })
        .await?;
    }
    let status = lessee.status("yearly").await?;
    let told = &status["staticCredsMetaData"];
    ensure!(told["rotationSchedule"] == "0 0 1 1 *", "{status}");
    // Vault rotates by itself, and the Secret follows.
    let first = lessee.team.value("often", "password").await?;
    wait_for("the next password", LONG, || async {
        let password = lessee.team.value("often", "password").await?;
        ensure!(password != first, "still the first");
        ensure!(
            lessee.login("often").await? == Login::Accepted,
            "a dead one"
        );
        Ok(())
    })
    .await?;
    // Asked for anew, the same password restarts nothing; another one does.
    let annotations = json!({ "vso.hashicorp.com/resync": "1" });
    let asked = json!({ "metadata": { "annotations": annotations } });
    lessee.edit("yearly", asked).await?;
    wait_for("the resync", LONG, || async {
        let status = lessee.status("yearly").await?;
        ensure!(status["lastResync"] == "1", "{status}");
        Ok(())
    })
    .await?;
    ensure!(lessee.team.restarts(Kind::Deployment, "web").await? == 0);
    engine.rotate("yearly").await?;
    let annotations = json!({ "vso.hashicorp.com/resync": "2" });
    let asked = json!({ "metadata": { "annotations": annotations } });
    lessee.edit("yearly", asked).await?;
    lessee
        .team
        .wait_restarts(Kind::Deployment, "web", 1)
        .await?;
    ensure!(lessee.login("yearly").await? == Login::Accepted);
    ensure!(lessee.remembered().await?.is_empty(), "there is no lease");
    Ok(())
}

async fn answers_without_a_lease_and_leases_that_cannot_be_renewed_are_replaced(
    suite: &Suite,
) -> Result<()> {
    let (tenant, more) = tenant_of(suite, Grade::Namespace, "engines", Names::APP, QUICK).await?;
    let engine = tenant.kubernetes_engine().await?;
    let token = engine.role("pods", Duration::from_secs(3600)).await?;
    let key = tenant.leaseless_engine().await?;
    tenant.grant(&[&token, &key], &Right::ALL).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let tenant = &team.tenant;
    let below = |path: &str, mount: &str| path[mount.len() + 1..].to_owned();
    let params = json!({ "kubernetes_namespace": tenant.namespace, "ttl": "20m" });
    let spec =
        json!({ "mount": engine.mount, "path": below(&token, &engine.mount), "params": params });
    tenant
        .apply(&dynamic_secret(tenant, "token", spec).to_string())
        .await?;
    let transit = format!("{}-transit", tenant.namespace);
    let spec = json!({
        "mount": transit, "path": below(&key, &transit), "requestHTTPMethod": "POST",
        "refreshAfter": "3s",
    });
    tenant
        .apply(&dynamic_secret(tenant, "key", spec).to_string())
        .await?;
    team.wait_condition(KIND, "token", "Ready", "True").await?;
    let status = team.resources(KIND).get("token").await?.data["status"].clone();
    let lease = &status["secretLease"];
    ensure!(
        lease["duration"] == 1200 && lease["renewable"] == false,
        "{status}"
    );
    let held = team.value("token", "service_account_token").await?;
    ensure!(held.starts_with("ey"), "{held}");
    team.wait_condition(KIND, "key", "Ready", "True").await?;
    let first = team.value("key", "plaintext").await?;
    wait_for("another key", LONG, || async {
        ensure!(
            team.value("key", "plaintext").await? != first,
            "the first one"
        );
        Ok(())
    })
    .await?;
    ensure!(team.value("token", "service_account_token").await? == held);
    // Without `refreshAfter` an answer without a lease is asked for once.
    let patch = Patch::Merge(json!({ "spec": { "refreshAfter": null } }));
    team.resources(KIND)
        .patch("key", &PatchParams::default(), &patch)
        .await?;
    team.wait_condition(KIND, "key", "Ready", "True").await?;
    let eye = Eye::on(suite, &team);
    let before = eye.settled(&eye.at_vault().path(&key)).await?.len();
    team.operator.terminate(LONG).await;
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    let after = eye.settled(&eye.at_vault().path(&key)).await?.len();
    ensure!(after == before, "{} more keys", after - before);
    Ok(())
}

/// A path that makes credentials, named where one is that is only read: each read would
/// leave a lease behind.
async fn a_lease_that_nobody_asked_for_is_given_back_at_once(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let (names, role) = (Names::APP, DatabaseRole::default());
    let lessee = Lessee::start(suite, grade, "unasked", names, &role).await?;
    let team = &lessee.team;
    let read = static_secret(
        &team.tenant,
        "app",
        json!({ "type": "kv-v1", "mount": lessee.engine.mount, "path": "creds/app" }),
    );
    let leased = dynamic_secret(&team.tenant, "app", json!({ "allowStaticCreds": true }));
    let told = [
        ("VaultStaticSecret", read, "use a VaultDynamicSecret"),
        (KIND, leased, "spec.allowStaticCreds"),
    ];
    let eye = Eye::on(suite, team);
    let revoked = eye.at_vault().path_prefix("sys/leases/revoke/");
    for (kind, manifest, mend) in told {
        team.tenant.apply(&manifest.to_string()).await?;
        let problem = team.wait_condition(kind, "app", "Ready", "False").await?;
        ensure!(
            problem.reason == "InvalidConfiguration" && problem.message.contains(mend),
            "{problem:?}"
        );
        // Not at each slot, and nothing is left of it.
        let made = eye.settled(&eye.at_vault().path(&lessee.creds)).await?;
        let revoked = eye.vault.requests(&revoked)?;
        ensure!(
            made.len() == revoked.len() && revoked.iter().all(|one| one.sync),
            "{made:?}, {revoked:?}"
        );
        ensure!(lessee.leases().await?.is_empty());
        ensure!(team.tenant.secret("app").await?.is_none());
        team.delete(kind, "app").await?;
    }
    let metrics = team.operator.metrics().await?;
    let left = sample(&metrics, "vto_leases_left_to_expire_total", &[]);
    ensure!(left.unwrap_or_default() == 0.0, "{left:?}");
    Ok(())
}

/// Something between the operator and Vault asks for the answer to be wrapped.
async fn a_wrapped_answer_is_refused(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole::default();
    let behind = Lessee::behind_vault_proxy(suite, grade, "wrapped", Names::APP, &role);
    let (lessee, proxy) = behind.await?;
    // As Vault's API describes it ("Response Wrapping").
    let token = "hvs.canary-of-a-wrapping-token";
    let wrapped = json!({
        "request_id": "", "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": null, "warnings": null, "auth": null,
        "wrap_info": {
            "token": token, "accessor": "canary", "ttl": 300,
            "creation_time": "2026-01-01T00:00:00Z", "creation_path": lessee.creds,
        },
    });
    let asked = Match::any().path_contains(&lessee.creds);
    let wraps = proxy.on(asked).answer(Answer::json(200, &wrapped));
    lessee.ask("app", json!({})).await?;
    let ready = lessee
        .team
        .wait_for_condition(KIND, "app", "Ready", |ready| ready.status == "False")
        .await?;
    ensure!(
        ready.message.contains("it is wrapped") && !ready.message.contains(token),
        "{ready:?}"
    );
    ensure!(lessee.team.tenant.secret("app").await?.is_none(), "written");
    wraps.remove();
    lessee.wait_lease("app").await?;
    Ok(())
}
