//! Credentials that Vault leases: renewed in time, replaced before they end, and
//! given back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::faults::{Answer, Match};
use ground::judges::workloads::Kind;
use ground::postgres::Login;
use ground::{Right, TokenRules, wait_for};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::lessee::{KIND, Lessee};
use crate::probes::{Eye, workload};
use crate::support::{LONG, Suite};

crate::trials![
    "leases": a_lease_written_into_status_is_neither_renewed_nor_revoked;
    in each grade:
    a_credential_arrives_once_and_is_renewed, at_its_longest_life_it_is_replaced,
    what_a_deleted_resource_held_is_given_back, what_went_while_nobody_ran_is_given_back,
    an_outage_replaces_nothing, where_the_policy_denies_renewals_credentials_are_replaced_in_time,
    where_the_policy_denies_giving_back_all_else_goes_on,
];

/// Short enough that a trial sees two renewals, and long enough that a busy machine
/// comes to them in time.
pub const SHORT: DatabaseRole<'static> = DatabaseRole {
    ttl: Duration::from_secs(10),
    max_ttl: Duration::from_secs(3600),
    creation: CREATION,
    revocation: &[],
};

/// A login that may connect; what it may read is not these trials' affair.
const CREATION: &[&str] =
    &["create role \"{{name}}\" login password '{{password}}' valid until '{{expiration}}'"];

async fn a_credential_arrives_once_and_is_renewed(suite: &Suite, grade: Grade) -> Result<()> {
    let lessee = Lessee::start(suite, grade, "leased", Names::APP, &SHORT).await?;
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    ensure!(lessee.leases().await? == [lease.as_str()], "{lease}");
    let keys = lessee.team.keys("app").await?;
    ensure!(keys == ["_raw", "password", "username"], "{keys:?}");
    let (secret, given) = (
        lessee.team.secret("app").await?.metadata,
        lessee.renewed_at("app").await?,
    );
    let status = lessee.status("app").await?;
    let told = &status["secretLease"];
    // A renewal that came before may have given a little less, in whole seconds.
    let life = SHORT.ttl.as_secs();
    let duration = told["duration"].as_u64().context("no duration")?;
    ensure!(
        (life - 1..=life).contains(&duration) && told["renewable"] == true,
        "{status}"
    );
    let renewals = format!("sys/leases/renew/{lease}");
    let eye = Eye::on(suite, &lessee.team);
    wait_for("two renewals", LONG, || async {
        let renewed = eye.vault.count(&eye.at_vault().path(&renewals))?;
        ensure!(renewed >= 2, "{renewed} renewals");
        ensure!(lessee.renewed_at("app").await? > given, "status is old");
        Ok(())
    })
    .await?;
    ensure!(lessee.login("app").await? == Login::Accepted);
    ensure!(lessee.minted(suite)? == 1, "more than one credential");
    // A renewal is no news: one event, and one write of the Secret.
    let events = lessee.team.events("app").await?;
    ensure!(
        events.len() == 1 && events[0].0 == "SecretSynced",
        "{events:?}"
    );
    let now = lessee.team.secret("app").await?.metadata;
    ensure!(
        now.resource_version == secret.resource_version,
        "written again"
    );
    Ok(())
}

async fn at_its_longest_life_it_is_replaced(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole {
        max_ttl: Duration::from_secs(15),
        ..SHORT
    };
    let lessee = Lessee::start(suite, grade, "longest", Names::ROLLED, &role).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    lessee.team.tenant.apply(&web.to_string()).await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    lessee
        .ask("app", json!({ "rolloutRestartTargets": targets }))
        .await?;
    let first = lessee.wait_lease("app").await?;
    // What the Secret holds works at every moment of it.
    wait_for("the next lease", LONG, || async {
        let login = lessee.login("app").await?;
        if login != Login::Accepted {
            // It was replaced between the two looks, or it is broken.
            ensure!(lessee.login("app").await? == Login::Accepted, "{login:?}");
        }
        ensure!(lessee.lease_of("app").await? != first, "the first one");
        Ok(())
    })
    .await?;
    wait_for("a restart", LONG, || async {
        let restarts = lessee.team.restarts(Kind::Deployment, "web").await?;
        ensure!(restarts >= 1, "{restarts} restarts");
        Ok(())
    })
    .await?;
    lessee.wait_gone(&first).await
}

async fn what_a_deleted_resource_held_is_given_back(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["back", "kept"]);
    let lessee = Lessee::start(suite, grade, "given-back", names, &DatabaseRole::default()).await?;
    lessee.ask("back", json!({})).await?;
    lessee.ask("kept", json!({ "revoke": false })).await?;
    let back = lessee.wait_lease("back").await?;
    let kept = lessee.wait_lease("kept").await?;
    let mut both = [back.clone(), kept.clone()];
    both.sort();
    ensure!(lessee.remembered().await? == both);
    lessee.delete("back").await?;
    lessee.delete("kept").await?;
    lessee.wait_gone(&back).await?;
    wait_for("a ledger with what is left to its end", LONG, || async {
        let left = lessee.remembered().await?;
        ensure!(left == [kept.as_str()], "{left:?}");
        Ok(())
    })
    .await?;
    // Its token, which would take it along, is not given back either.
    ensure!(lessee.team.operator.terminate(LONG).await.success());
    ensure!(lessee.leases().await? == [kept.as_str()], "revoke: false");
    Ok(())
}

/// Without the right to give back, the old lease lives to its end, and nothing else
/// is held up by it.
async fn where_the_policy_denies_giving_back_all_else_goes_on(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let lessee = Lessee::start(suite, grade, "denied-return", Names::APP, &SHORT).await?;
    let other = lessee.engine.role("other", &SHORT).await?;
    let rights = Right::all_but(&[Right::RevokeByPath, Right::RevokeInBody]);
    let both = [lessee.creds.as_str(), &other];
    lessee.team.tenant.grant(&both, &rights).await?;
    lessee.ask("app", json!({})).await?;
    let first = lessee.wait_lease("app").await?;
    let path = json!({ "spec": { "path": "creds/other" } });
    lessee.edit("app", path).await?;
    let told = lessee
        .team
        .wait_condition(KIND, "app", "Release", "False")
        .await?;
    ensure!(
        told.reason == "VaultPermissionDenied" && told.message.contains("sys/leases/revoke"),
        "{told:?}"
    );
    // Meanwhile status tells of the new one.
    let second = lessee.wait_lease("app").await?;
    ensure!(second.contains("creds/other"), "{second}");
    lessee.wait_gone(&first).await?;
    wait_for("an end of what is told", LONG, || async {
        let status = lessee.status("app").await?;
        let conditions = status["conditions"].to_string();
        ensure!(!conditions.contains("\"Release\""), "{conditions}");
        Ok(())
    })
    .await?;
    ensure!(lessee.lease_of("app").await? == second);
    ensure!(lessee.remembered().await? == [second.as_str()]);
    Ok(())
}

async fn what_went_while_nobody_ran_is_given_back(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole::default();
    let lessee = Lessee::start(suite, grade, "went", Names::APP, &role).await?;
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    lessee.team.operator.terminate(LONG).await;
    lessee.delete("app").await?;
    let logins = lessee.team.resources("VaultAuth");
    logins.delete("default", &DeleteParams::default()).await?;
    lessee.team.operator.restart().await?;
    lessee.wait_gone(&lease).await?;
    ensure!(lessee.minted(suite)? == 1);
    Ok(())
}

async fn a_lease_written_into_status_is_neither_renewed_nor_revoked(suite: &Suite) -> Result<()> {
    let (lessee, other) = tokio::try_join!(
        Lessee::start(suite, Grade::Namespace, "forger", Names::APP, &SHORT),
        Lessee::start(suite, Grade::Namespace, "forged", Names::APP, &SHORT),
    )?;
    tokio::try_join!(lessee.ask("app", json!({})), other.ask("app", json!({})))?;
    let own = lessee.wait_lease("app").await?;
    let theirs = other.wait_lease("app").await?;
    let of_both = [&lessee.creds, &other.creds].map(String::as_str);
    lessee.team.tenant.grant(&of_both, &Right::ALL).await?;
    let forged = json!({ "status": { "secretLease": {
        "id": theirs, "duration": SHORT.ttl.as_secs(), "renewable": true, "requestID": "",
    } } });
    let params = PatchParams {
        field_manager: Some("kubectl-edit".to_owned()),
        ..PatchParams::default()
    };
    lessee
        .team
        .resources(KIND)
        .patch_status("app", &params, &Patch::Merge(forged))
        .await?;
    // The next renewal is that of its own lease, and says so.
    wait_for("status to name its own lease", LONG, || async {
        ensure!(lessee.lease_of("app").await? == own, "not yet");
        Ok(())
    })
    .await?;
    // Nor is one believed who says that it was renewed for less, or for nothing.
    for duration in [0, 1] {
        let now = jiff::Timestamp::now().as_second();
        let forged = json!({ "status": {
            "lastRenewalTime": now,
            "secretLease": {
                "id": own, "duration": duration, "renewable": true, "requestID": "",
            },
        } });
        lessee
            .team
            .resources(KIND)
            .patch_status("app", &params, &Patch::Merge(forged))
            .await?;
        wait_for("status to tell what was renewed", LONG, || async {
            let status = lessee.status("app").await?;
            let told = &status["secretLease"]["duration"];
            ensure!(told.as_u64() >= Some(SHORT.ttl.as_secs() - 1), "{status}");
            Ok(())
        })
        .await?;
        ensure!(lessee.wait_lease("app").await? == own, "{duration}");
    }
    ensure!(lessee.minted(suite)? == 1);
    lessee.delete("app").await?;
    lessee.wait_gone(&own).await?;
    let eye = Eye::on(suite, &lessee.team);
    let touched = eye.at_vault().path_prefix("sys/leases/");
    let touched = eye.vault.requests(&touched)?;
    let foreign = touched
        .iter()
        .find(|one| one.path.ends_with(&theirs) || one.lease == theirs);
    ensure!(foreign.is_none(), "{foreign:?}");
    ensure!(touched.iter().any(|one| one.path.ends_with(&own)));
    ensure!(other.login("app").await? == Login::Accepted);
    Ok(())
}

async fn an_outage_replaces_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole {
        ttl: Duration::from_secs(30),
        ..SHORT
    };
    let behind = Lessee::behind_vault_proxy(suite, grade, "outage-lease", Names::APP, &role);
    let (lessee, proxy) = behind.await?;
    lessee.ask("app", json!({ "renewalPercent": 10 })).await?;
    let lease = lessee.wait_lease("app").await?;
    for trouble in [
        Answer::vault_error(503, &["Vault is sealed"]),
        Answer::vault_error(500, &["internal error"]),
        Answer::vault_error(429, &["request path \"x\": rate limit quota exceeded"]),
        Answer::drop_before(),
    ] {
        let renewals = Match::any().path_contains("/v1/sys/leases/renew");
        let due = proxy.on(renewals).answer(trouble.clone());
        let health = proxy
            .on(Match::any().path_contains("/v1/sys/health"))
            .answer(trouble);
        due.hit(1, LONG).await?;
        lessee
            .team
            .wait_for_condition(KIND, "app", "Ready", |c| c.status != "True")
            .await?;
        let risk = lessee
            .team
            .wait_condition(KIND, "app", "LeaseRenewal", "False")
            .await?;
        ensure!(
            risk.reason == "LeaseAtRisk" && risk.message.contains("ends at 20"),
            "{risk:?}"
        );
        let status = lessee.status("app").await?;
        ensure!(status["phase"] == "AtRisk", "{status}");
        health.remove();
        due.remove();
        lessee
            .team
            .wait_condition(KIND, "app", "Ready", "True")
            .await?;
        ensure!(lessee.lease_of("app").await? == lease, "another lease");
        lessee
            .team
            .wait_condition(KIND, "app", "LeaseRenewal", "True")
            .await?;
    }
    ensure!(lessee.minted(suite)? == 1);
    ensure!(lessee.login("app").await? == Login::Accepted);
    Ok(())
}

async fn where_the_policy_denies_renewals_credentials_are_replaced_in_time(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let lessee = Lessee::start(suite, grade, "denied-renewal", Names::APP, &SHORT).await?;
    let tenant = &lessee.team.tenant;
    let rules = TokenRules {
        no_default_policy: true,
        ..TokenRules::default()
    };
    tenant.token_rules(&rules).await?;
    let rights = Right::all_but(&[Right::RenewByPath, Right::RenewInBody]);
    tenant.grant(&[&lessee.creds], &rights).await?;
    lessee.ask("app", json!({})).await?;
    let first = lessee.wait_lease("app").await?;
    wait_for("the next lease", LONG, || async {
        let login = lessee.login("app").await?;
        if login != Login::Accepted {
            // It was replaced between the two looks, or it is broken.
            ensure!(lessee.login("app").await? == Login::Accepted, "{login:?}");
        }
        ensure!(lessee.lease_of("app").await? != first, "the first one");
        Ok(())
    })
    .await?;
    wait_for("events of it", LONG, || async {
        let events = lessee.team.events("app").await?;
        let denied = events.iter().find(|one| one.0 == "LeaseRenewalDenied");
        let (_, message) = denied.with_context(|| format!("{events:?}"))?;
        let line = format!("path \"sys/leases/renew/{}/*\"", lessee.creds);
        ensure!(message.contains(&line), "{message}");
        let rotated = events.iter().any(|one| one.0 == "SecretRotated");
        ensure!(rotated, "{events:?}");
        Ok(())
    })
    .await?;
    lessee.wait_gone(&first).await
}
