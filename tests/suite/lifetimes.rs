//! What is told of the time that leased credentials have: by status, metrics and
//! events; and that telling it costs nothing while nothing happens.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::{DatabaseRole, PkiRole};
use ground::faults::{Answer, Match};
use ground::postgres::Login;
use ground::{TokenRules, wait_for};
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bearer::Bearer;
use crate::endpoints::sample;
use crate::grades::{Grade, Names, tenant_of};
use crate::leases::SHORT;
use crate::lessee::{KIND, Lessee, QUICK, engine_of};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "lifetimes": ; in each grade:
    status_and_metrics_say_what_ends_when, a_certificate_says_when_it_is_replaced_and_when_it_ends,
    only_renewals_write_status,
    events_tell_of_a_life_but_not_of_renewals, leases_outlive_another_controllers_work,
];

/// A status field as seconds since 1970.
fn time(status: &Value, field: &str) -> Result<i64> {
    let text = status[field].as_str();
    let text = text.with_context(|| format!("no {field} in {status}"))?;
    ensure!(text.len() == "2026-01-02T03:04:05Z".len(), "{text}");
    Ok(text.parse::<Timestamp>()?.as_second())
}

impl Lessee {
    /// One of the gauges about what is held, with all its labels.
    async fn gauge(&self, name: &str) -> Result<Option<i64>> {
        let tenant = &self.team.tenant.namespace;
        let namespace = format!("namespace=\"{tenant}\"");
        let labels: &[&str] = match name {
            "vto_secret_expiry_timestamp_seconds" => {
                &["kind=\"VaultDynamicSecret\"", &namespace, "name=\"app\""]
            }
            _ => &[],
        };
        let metrics = self.team.operator.metrics().await?;
        #[allow(clippy::cast_possible_truncation)] // Whole seconds.
        Ok(sample(&metrics, name, labels).map(|value| value as i64))
    }
}

async fn status_and_metrics_say_what_ends_when(suite: &Suite, grade: Grade) -> Result<()> {
    const PERIOD: i64 = 20;
    let (tenant, more) = tenant_of(suite, grade, "lifetime", Names::APP, QUICK).await?;
    let (engine, creds) = engine_of(suite, &tenant, &DatabaseRole::default()).await?;
    let rules = TokenRules {
        period: Duration::from_secs(PERIOD.unsigned_abs()),
        ..TokenRules::default()
    };
    tenant.token_rules(&rules).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let lessee = Lessee {
        team,
        engine,
        creds,
    };
    ensure!(lessee.gauge("vto_leases_held").await? == Some(0));
    let nothing = lessee.gauge("vto_survives_until_timestamp_seconds").await?;
    ensure!(nothing.is_none(), "{nothing:?}");
    let before = Timestamp::now().as_second();
    lessee.ask("app", json!({})).await?;
    lessee.wait_lease("app").await?;
    let status = lessee.status("app").await?;
    let given = lessee.renewed_at("app").await?.as_second();
    let (next, expiry) = (time(&status, "nextRenewal")?, time(&status, "expiry")?);
    ensure!(
        (given + 831..=given + 2773).contains(&next) && (expiry - given - 3600).abs() <= 1,
        "{status}"
    );
    // The token that it hangs on ends long before it.
    let until = time(&status, "survivesUntil")?;
    let now = Timestamp::now().as_second();
    ensure!(
        until >= before + PERIOD - 1 && until <= now + PERIOD && status["phase"] == "Held",
        "{status}, asked for at {before}"
    );
    let of_secret = "vto_secret_expiry_timestamp_seconds";
    let of_all = "vto_survives_until_timestamp_seconds";
    ensure!(lessee.gauge(of_secret).await? == Some(expiry));
    ensure!(lessee.gauge("vto_leases_held").await? == Some(1));
    let first = lessee.gauge(of_all).await?.context("nothing ends")?;
    ensure!((first - until).abs() <= 1, "{first}, and status {until}");
    // It is kept alive, and the metric follows.
    wait_for("a renewal of the token", LONG, || async {
        let until = lessee.gauge(of_all).await?.context("nothing ends")?;
        ensure!(until >= first + PERIOD / 2, "{until} after {first}");
        Ok(())
    })
    .await?;
    let metrics = lessee.team.operator.metrics().await?;
    ensure!(!metrics.contains(&lessee.creds), "a lease in the metrics");
    lessee.delete("app").await?;
    wait_for("the metrics of what is gone to go", LONG, || async {
        let left = lessee
            .gauge(of_secret)
            .await?
            .or(lessee.gauge(of_all).await?);
        ensure!(left.is_none(), "{left:?}");
        ensure!(lessee.gauge("vto_leases_held").await? == Some(0));
        Ok(())
    })
    .await
}

async fn a_certificate_says_when_it_is_replaced_and_when_it_ends(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let role = PkiRole::default();
    let bearer = Bearer::start(suite, grade, "lasts", Names::APP, &role).await?;
    bearer
        .ask("app", json!({ "ttl": "1h", "expiryOffset": "10m" }))
        .await?;
    bearer.wait_serial("app").await?;
    let status = bearer.status("app").await?;
    let ends = status["expiration"].as_i64().context("no expiration")?;
    let (next, expiry) = (time(&status, "nextRenewal")?, time(&status, "expiry")?);
    // Up to a twentieth of the fifty minutes before it earlier.
    ensure!(
        expiry == ends && (ends - 600 - 151..=ends - 600).contains(&next),
        "{status}"
    );
    // Nothing that Vault or the operator do shortens it.
    ensure!(
        time(&status, "survivesUntil")? == ends && status["phase"] == "Held",
        "{status}"
    );
    let metrics = bearer.team.operator.metrics().await?;
    let namespace = format!("namespace=\"{}\"", bearer.team.tenant.namespace);
    let labels = ["kind=\"VaultPKISecret\"", &namespace, "name=\"app\""];
    let told = sample(&metrics, "vto_secret_expiry_timestamp_seconds", &labels);
    ensure!(told == Some(ends as f64), "{told:?}, and status {ends}");
    Ok(())
}

async fn only_renewals_write_status(suite: &Suite, grade: Grade) -> Result<()> {
    let looks = "rotation: {drain: 1s, lookupInterval: 1s}\n";
    let names = Names::secrets(&["long", "brief"]);
    let (tenant, more) = tenant_of(suite, grade, "quiet-lease", names, looks).await?;
    let (engine, creds) = engine_of(suite, &tenant, &DatabaseRole::default()).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let lessee = Lessee {
        team,
        engine,
        creds,
    };
    lessee.ask("long", json!({})).await?;
    lessee.wait_lease("long").await?;
    let eye = Eye::on(suite, &lessee.team);
    let told = lessee.status("long").await?;
    let writes = |since| {
        let statuses = eye.at_api().since(since).writes();
        eye.api.requests(&statuses.name("long"))
    };
    // Looked at again and again, also by another process: nothing is written.
    for restarts in [false, true] {
        eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await?;
        let (vault, api) = eye.mark()?;
        if restarts {
            lessee.team.operator.terminate(LONG).await;
            lessee.team.operator.restart().await?;
        }
        let lookups = eye.at_vault().path("sys/leases/lookup").since(vault);
        eye.vault.wait_for(&lookups, 4, LONG).await?;
        let written = writes(api)?;
        ensure!(written.is_empty(), "restarts: {restarts}: {written:?}");
    }
    ensure!(lessee.status("long").await? == told);
    // Each renewal is one write.
    let brief = lessee.engine.role("app", &SHORT).await?;
    ensure!(brief == lessee.creds);
    lessee.ask("brief", json!({})).await?;
    let lease = lessee.wait_lease("brief").await?;
    let eye = Eye::on(suite, &lessee.team);
    let renewals = format!("sys/leases/renew/{lease}");
    let count = || eye.vault.count(&eye.at_vault().path(&renewals));
    let (_, api) = eye.mark()?;
    let before = count()?;
    wait_for("four renewals", LONG, || async {
        let renewed = count()? - before;
        ensure!(renewed >= 4, "{renewed} renewals");
        Ok(())
    })
    .await?;
    // Once no renewal falls between the two looks.
    let life = i64::try_from(SHORT.ttl.as_secs())?;
    wait_for("status to tell of the last renewal", LONG, || async {
        let told = lessee.status("brief").await?;
        let given = lessee.renewed_at("brief").await?.as_second();
        ensure!(
            time(&told, "expiry")? == given + life && told["survivesUntil"] == told["expiry"],
            "{told}, and Vault of {given}"
        );
        Ok(())
    })
    .await?;
    lessee.team.operator.terminate(LONG).await;
    let statuses = eye.at_api().since(api).writes().name("brief");
    let (renewed, written) = (count()? - before, eye.api.requests(&statuses)?.len());
    ensure!(
        written.abs_diff(renewed) <= 1,
        "{written} writes for {renewed} renewals"
    );
    Ok(())
}

async fn events_tell_of_a_life_but_not_of_renewals(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole {
        ttl: Duration::from_secs(30),
        ..SHORT
    };
    let behind = Lessee::behind_vault_proxy(suite, grade, "life", Names::APP, &role);
    let (lessee, proxy) = behind.await?;
    let told = |reason: &'static str, words: String| {
        let lessee = &lessee;
        let words = words.clone();
        async move {
            wait_for(&format!("an event {reason} {words:?}"), LONG, || async {
                let events = lessee.team.events("app").await?;
                let is = |one: &&(String, String)| one.0 == reason && one.1.contains(&words);
                let found = events.iter().filter(is).count();
                ensure!(found == 1, "{found} of {events:?}");
                Ok(())
            })
            .await
        }
    };
    let begin = |lease: &str| lease[..lease.rfind('/').unwrap_or_default() + 7].to_owned();
    lessee.ask("app", json!({ "renewalPercent": 10 })).await?;
    let first = lessee.wait_lease("app").await?;
    told("SecretSynced", "Secret app".to_owned()).await?;
    let renewals = format!("sys/leases/renew/{first}");
    let eye = Eye::on(suite, &lessee.team);
    let renewed = eye.at_vault().path(&renewals);
    eye.vault.wait_for(&renewed, 2, LONG).await?;
    let events = lessee.team.events("app").await?;
    ensure!(events.len() == 1, "renewals are no events: {events:?}");

    // A risk, and its end.
    let due = Match::any().path_contains("/v1/sys/leases/renew");
    let fails = proxy.on(due).answer(Answer::vault_error(500, &["no"]));
    told("LeaseAtRisk", begin(&first)).await?;
    let status = lessee.status("app").await?;
    ensure!(status["phase"] == "AtRisk", "{status}");
    fails.remove();
    lessee
        .team
        .wait_condition(KIND, "app", "LeaseRenewal", "True")
        .await?;

    // A rotation, and the release of what was before.
    let current = lessee.wait_lease("app").await?;
    let other = lessee
        .engine
        .role("other", &DatabaseRole::default())
        .await?;
    let both = [lessee.creds.as_str(), &other];
    lessee.team.tenant.grant(&both, &ground::Right::ALL).await?;
    lessee
        .edit("app", json!({ "spec": { "path": "creds/other" } }))
        .await?;
    told("SecretRotated", "Secret app".to_owned()).await?;
    told("LeaseReleased", begin(&current)).await?;
    lessee.wait_gone(&current).await?;

    // What a resource of that name had, which is gone.
    let second = lessee.wait_lease("app").await?;
    lessee.team.operator.terminate(LONG).await;
    lessee.delete("app").await?;
    lessee.ask("app", json!({})).await?;
    lessee.team.operator.restart().await?;
    told("LeaseReleased", begin(&second)).await?;
    lessee.wait_gone(&second).await
}

async fn leases_outlive_another_controllers_work(suite: &Suite, grade: Grade) -> Result<()> {
    let lessee = Lessee::start(suite, grade, "another-lease", Names::APP, &SHORT).await?;
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    // A write in the very second of our start or of our own last write doesn't count: it writes again.
    wait_for("the other controller to be seen", LONG, || async {
        let params = PatchParams {
            field_manager: Some("vault-secrets-operator".to_owned()),
            ..PatchParams::default()
        };
        let says = json!({ "status": { "secretMAC": format!("{}", Timestamp::now()) } });
        let kind = lessee.team.resources(KIND);
        kind.patch_status("app", &params, &Patch::Merge(says))
            .await?;
        let events = lessee.team.events("app").await?;
        let seen = events.iter().any(|one| one.0 == "AnotherController");
        ensure!(seen, "{events:?}");
        Ok(())
    })
    .await?;
    let eye = Eye::on(suite, &lessee.team);
    eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await?;
    let (vault, api) = eye.mark()?;
    // Three lives of it and more; what the spec asks for now is not made.
    lessee
        .edit("app", json!({ "spec": { "renewalPercent": 50 } }))
        .await?;
    let renewals = format!("sys/leases/renew/{lease}");
    let renewals = eye.at_vault().path(&renewals).since(vault);
    eye.vault.wait_for(&renewals, 6, 2 * LONG).await?;
    let secrets = lessee.team.secrets();
    secrets.delete("app", &DeleteParams::default()).await?;
    // Nobody knows who still uses it.
    eye.vault.wait_for(&renewals, 8, 2 * LONG).await?;
    ensure!(lessee.leases().await? == [lease.as_str()], "another lease");
    ensure!(lessee.minted(suite)? == 1);
    let written = eye.api.requests(&eye.at_api().since(api).writes())?;
    ensure!(written.is_empty(), "{written:?}");
    // Once it is gone, a new start goes on with the very same lease or the next one.
    lessee.team.operator.terminate(LONG).await;
    lessee.team.operator.restart().await?;
    wait_for("what the Secret holds to work", LONG, || async {
        ensure!(lessee.login("app").await? == Login::Accepted);
        Ok(())
    })
    .await
}
