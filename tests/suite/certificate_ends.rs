//! Ends of certificates that nobody wanted so: too short for their offset, no longer
//! than their issuer; and troubles after an issue.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ground::engines::PkiRole;
use ground::faults::{Answer, Match};
use ground::{Right, Tenant, wait_for};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;

use crate::bearer::{Bearer, KIND};
use crate::grades::{Grade, Names, tenant_of};
use crate::lessee::QUICK;
use crate::probes::api_proxy;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "certificate_ends": an_issuer_that_ends_first_is_told_and_makes_no_loop;
    in each grade:
    an_offset_longer_than_its_life_is_told_and_makes_no_loop,
    a_failing_write_has_no_second_one_issued, an_outage_has_none_issued,
];

async fn an_offset_longer_than_its_life_is_told_and_makes_no_loop(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let bearer = Bearer::start(suite, grade, "too-short", Names::APP, &PkiRole::default()).await?;
    bearer
        .ask("app", json!({ "ttl": "9s", "expiryOffset": "2h" }))
        .await?;
    let first = bearer.wait_serial("app").await?;
    let told = bearer.wait_told("app", "CertificateTooShort").await?;
    ensure!(told.contains("spec.expiryOffset"), "{told}");
    let warned = |events: &[(String, String)]| {
        let of = |one: &&(String, String)| one.0 == "CertificateTooShort";
        events.iter().filter(of).count()
    };
    bearer.wait_other("app", &first).await?;
    // A third of its life before its end, and up to a twentieth earlier; of nine seconds,
    // less the part of one that certificates do not tell, and that of one that the answer
    // was on its way.
    bearer.issued_apart(suite, Duration::from_millis(4400))?;
    let events = bearer.team.events("app").await?;
    ensure!(warned(&events) == 1, "{events:?}");
    bearer
        .edit("app", json!({ "spec": { "expiryOffset": "3s" } }))
        .await?;
    bearer.wait_told("app", "CertificateValid").await?;
    Ok(())
}

/// An issuer with two minutes left, once as Vault refuses longer certificates, and
/// once as it cuts them.
async fn an_issuer_that_ends_first_is_told_and_makes_no_loop(suite: &Suite) -> Result<()> {
    const LIFE: Duration = Duration::from_secs(120);
    let names = Names::secrets(&["refused", "cut", "longer"]);
    let (tenant, more) = tenant_of(suite, Grade::Namespace, "issuer", names, QUICK).await?;
    let made = Instant::now();
    let engine = tenant.pki_engine(LIFE).await?;
    let role = PkiRole {
        ttl: Duration::from_secs(3600),
        ..PkiRole::default()
    };
    let issue = engine.role("web", &role).await?;
    tenant.grant(&[&issue], &Right::ALL).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let bearer = Bearer {
        team,
        engine,
        issue,
    };
    bearer.ask("refused", json!({ "ttl": "20m" })).await?;
    let told = bearer
        .team
        .wait_for_condition(KIND, "refused", "Ready", |c| {
            c.reason == "IssuerExpiresFirst"
        })
        .await?;
    ensure!(told.message.contains("renew the issuer"), "{told:?}");
    bearer.delete("refused").await?;
    behaves(&bearer.team.tenant, &bearer.engine.mount, "truncate").await?;
    let before = bearer.issued(suite)?;
    // Due after a sixth of what is left.
    let offset = (LIFE.saturating_sub(made.elapsed()) * 5 / 6).as_secs();
    let spec = json!({ "ttl": "20m", "expiryOffset": format!("{offset}s") });
    bearer.ask("cut", spec).await?;
    bearer.wait_serial("cut").await?;
    bearer.wait_told("cut", "IssuerExpiresFirst").await?;
    // Its turn comes, and another one would live no longer.
    let told = bearer
        .team
        .wait_for_condition(KIND, "cut", "Ready", |c| c.reason == "IssuerExpiresFirst")
        .await?;
    ensure!(told.message.contains("would change nothing"), "{told:?}");
    let issued = bearer.issued(suite)? - before;
    ensure!(issued == 2, "{issued} issued");
    // Where there is none, another one changes something.
    let secrets = bearer.team.tenant.api::<Secret>();
    secrets.delete("cut", &DeleteParams::default()).await?;
    wait_for("the Secret to come back", LONG, || async {
        ensure!(bearer.team.tenant.secret("cut").await?.is_some(), "not yet");
        Ok(())
    })
    .await?;
    let issued = bearer.issued(suite)? - before;
    ensure!(issued == 3, "{issued} issued");
    // Where Vault lets certificates outlive it, nobody trusts them then.
    behaves(&bearer.team.tenant, &bearer.engine.mount, "permit").await?;
    let spec = json!({ "ttl": "20m", "expiryOffset": "1s" });
    bearer.ask("longer", spec).await?;
    bearer.wait_serial("longer").await?;
    bearer.wait_told("longer", "IssuerExpiresFirst").await?;
    let [cut, longer] = ["cut", "longer"].map(|name| bearer.status(name));
    let (cut, longer) = (
        cut.await?["expiration"].clone(),
        longer.await?["expiration"].clone(),
    );
    ensure!(cut == longer && cut.is_i64(), "{cut} and {longer}");
    Ok(())
}

/// What the issuer does with certificates that would outlive it.
async fn behaves(tenant: &Tenant, mount: &str, how: &str) -> Result<()> {
    let path = format!("{mount}/issuer/default");
    let body = json!({ "issuer_name": "short", "leaf_not_after_behavior": how });
    tenant.vault.write(&path, &body).await?;
    Ok(())
}

async fn a_failing_write_has_no_second_one_issued(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "unwritten", Names::APP, QUICK).await?;
    let engine = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
    let issue = engine.role("web", &PkiRole::default()).await?;
    tenant.grant(&[&issue], &Right::ALL).await?;
    let api = api_proxy(&suite.ground).await?;
    let team = Team::of(suite, tenant, Some(&api.url()), &more).await?;
    let bearer = Bearer {
        team,
        engine,
        issue,
    };
    let writes = Match::method("PATCH").path_contains("/secrets/app");
    let failing = Answer::kubernetes_error(500, "InternalError", "no room");
    let failing = api.on(writes).answer(failing);
    bearer.ask("app", json!({})).await?;
    failing.hit(3, LONG).await?;
    failing.remove();
    bearer.wait_serial("app").await?;
    ensure!(
        bearer.issued(suite)? == 1,
        "{} issued",
        bearer.issued(suite)?
    );
    Ok(())
}

/// Vault away while one is due: the old one stays, and is told to be at risk.
async fn an_outage_has_none_issued(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) =
        Team::graded_behind_vault_proxy(suite, grade, "away-pki", Names::APP, QUICK).await?;
    let engine = team
        .tenant
        .pki_engine(Duration::from_secs(24 * 3600))
        .await?;
    let issue = engine.role("web", &PkiRole::default()).await?;
    team.tenant.grant(&[&issue], &Right::ALL).await?;
    let bearer = Bearer {
        team,
        engine,
        issue,
    };
    bearer
        .ask("app", json!({ "ttl": "60s", "expiryOffset": "40s" }))
        .await?;
    let first = bearer.wait_serial("app").await?;
    let sealed = Answer::vault_error(503, &["Vault is sealed"]);
    let away = proxy.on(Match::any()).answer(sealed);
    let told = bearer.wait_told("app", "CertificateAtRisk").await?;
    ensure!(told.contains(&first), "{told}");
    ensure!(bearer.serial_of("app").await? == first);
    away.remove();
    bearer.wait_other("app", &first).await?;
    bearer
        .team
        .wait_condition(KIND, "app", "Ready", "True")
        .await?;
    bearer.issued_apart(suite, Duration::from_secs(18))
}
