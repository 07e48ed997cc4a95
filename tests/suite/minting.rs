//! When another credential is asked for, and when not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::faults::{Answer, Match};
use ground::judges::workloads::Kind;
use ground::postgres::Login;
use ground::tenant::{APP_ACCOUNT, AUDIENCE};
use ground::vault_api::KubernetesRole;
use ground::{Right, TokenRules, wait_for};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::leases::SHORT;
use crate::lessee::{Lessee, QUICK, engine_of};
use crate::probes::{Eye, workload};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "minting": kills_cost_no_credential, only_what_changes_the_request_mints;
    in each grade:
    a_secret_that_is_deleted_costs_one_credential, a_failing_write_costs_no_second_credential,
    the_token_of_an_earlier_process_lives_as_long_as_its_leases,
    what_somebody_revoked_is_replaced_at_once,
];

async fn kills_cost_no_credential(suite: &Suite) -> Result<()> {
    const LEASES: usize = 20;
    const KILLS: usize = 10;
    let role = DatabaseRole {
        ttl: Duration::from_secs(60),
        ..SHORT
    };
    // Nobody waits for the Lease of who was killed.
    let more = format!("{QUICK}leaderElect: false\n");
    let (tenant, more) = tenant_of(suite, Grade::Namespace, "kills", Names::APP, &more).await?;
    let (engine, creds) = engine_of(suite, &tenant, &role).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let lessee = Lessee {
        team,
        engine,
        creds,
    };
    let web = workload(Kind::Deployment, "web", "app-0", json!({}));
    lessee.team.tenant.apply(&web.to_string()).await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    let name = |n: usize| format!("app-{n}");
    for n in 0..LEASES {
        let spec = json!({ "rolloutRestartTargets": targets, "renewalPercent": 0 });
        lessee.ask(&name(n), spec).await?;
    }
    for n in 0..LEASES {
        lessee.wait_lease(&name(n)).await?;
    }
    let leases = lessee.leases().await?;
    ensure!(leases.len() == LEASES, "{} leases", leases.len());
    let eye = Eye::on(suite, &lessee.team);
    let mut logins = eye.vault.count(&eye.logins())?;
    for kill in 0..KILLS {
        lessee.team.operator.process.kill();
        lessee.team.operator.restart().await?;
        lessee.team.operator.wait_ready(LONG).await?;
        // Every lease is renewed by whoever runs now.
        let since = eye.vault.mark()?;
        let renewals = eye.at_vault().path_prefix("sys/leases/renew/").since(since);
        wait_for("each lease to be renewed", LONG, || async {
            let renewed = eye.vault.count_by_path(&renewals)?.len();
            ensure!(renewed == LEASES, "{renewed} are");
            Ok(())
        })
        .await
        .with_context(|| format!("kill {kill}"))?;
        let now = eye.vault.count(&eye.logins())?;
        ensure!(now <= logins + 1, "{} logins", now - logins);
        logins = now;
    }
    ensure!(lessee.leases().await? == leases, "other leases than before");
    ensure!(lessee.minted(suite)? == LEASES);
    ensure!(lessee.team.restarts(Kind::Deployment, "web").await? == 0);
    Ok(())
}

async fn only_what_changes_the_request_mints(suite: &Suite) -> Result<()> {
    let role = DatabaseRole::default();
    let names = Names::secrets(&["app", "moved"]);
    let lessee = Lessee::start(suite, Grade::Namespace, "request", names, &role).await?;
    let other = lessee.engine.role("other", &role).await?;
    let tenant = &lessee.team.tenant;
    tenant.grant(&[&lessee.creds, &other], &Right::ALL).await?;
    lessee.ask("app", json!({})).await?;
    let mut lease = lessee.wait_lease("app").await?;
    let password = lessee.team.value("app", "password").await?;
    let spec = |spec: Value| json!({ "spec": spec });
    let transformation = |value: Value| spec(json!({ "destination": { "transformation": value } }));
    let keep = [
        ("renewalPercent", spec(json!({ "renewalPercent": 30 }))),
        ("revoke", spec(json!({ "revoke": false }))),
        (
            "rolloutRestartTargets",
            spec(json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] })),
        ),
        (
            "labels",
            spec(json!({ "destination": { "labels": { "team": "one" } } })),
        ),
        (
            "annotations",
            spec(json!({ "destination": { "annotations": { "team": "one" } } })),
        ),
        ("refreshAfter", spec(json!({ "refreshAfter": "720h" }))),
        (
            "excludes",
            transformation(json!({ "excludes": ["username"] })),
        ),
        (
            "excludes taken back",
            transformation(json!({ "excludes": null })),
        ),
        ("excludeRaw", transformation(json!({ "excludeRaw": true }))),
        (
            "another name",
            spec(json!({ "destination": { "name": "moved" } })),
        ),
        (
            "requestHTTPMethod",
            spec(json!({ "requestHTTPMethod": "GET" })),
        ),
    ];
    for (what, change) in keep {
        lessee.edit("app", change).await?;
        let now = lessee.wait_lease("app").await.context(what)?;
        ensure!(now == lease, "{what} made another credential");
    }
    ensure!(lessee.team.value("moved", "password").await? == password);
    wait_for("the old Secret to go", LONG, || async {
        ensure!(lessee.team.tenant.secret("app").await?.is_none());
        Ok(())
    })
    .await?;
    ensure!(lessee.minted(suite)? == 1);
    ensure!(
        lessee.leases().await? == [lease.as_str()],
        "a rename releases nothing"
    );
    lessee.edit("app", spec(json!({ "revoke": true }))).await?;
    for (what, change) in [
        ("path", spec(json!({ "path": "creds/other" }))),
        // It cannot be made of what was filtered out and is kept nowhere.
        (
            "path and raw",
            spec(json!({
                "path": "creds/app",
                "destination": { "transformation": { "excludeRaw": null } },
            })),
        ),
    ] {
        lessee.edit("app", change).await?;
        let now = lessee.wait_lease("app").await.context(what)?;
        ensure!(now != lease, "{what} made no other credential");
        lessee.wait_gone(&lease).await.context(what)?;
        lease = now;
    }
    // The role behind the login decides what Vault gives.
    let tenant = &lessee.team.tenant;
    let role = format!("{}-second", tenant.vault_role());
    let vault_role = KubernetesRole {
        service_account: APP_ACCOUNT,
        namespace: &tenant.namespace,
        audience: Some(AUDIENCE),
        policies: &[&tenant.namespace],
        ttl: Duration::from_secs(3600),
    };
    tenant
        .vault
        .kubernetes_role("kubernetes", &role, &vault_role)
        .await?;
    let edit = spec(json!({ "kubernetes": { "role": role } }));
    lessee.team.merge_into("VaultAuth", "default", edit).await?;
    wait_for("credentials by the other role", LONG, || async {
        let now = lessee.lease_of("app").await?;
        ensure!(now != lease, "still the same");
        Ok(())
    })
    .await?;
    lessee.wait_gone(&lease).await?;
    ensure!(lessee.login("moved").await? == Login::Accepted);
    Ok(())
}

async fn a_secret_that_is_deleted_costs_one_credential(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole::default();
    let lessee = Lessee::start(suite, grade, "by-hand", Names::APP, &role).await?;
    lessee.ask("app", json!({})).await?;
    let first = lessee.wait_lease("app").await?;
    let secrets = lessee.team.secrets();
    secrets.delete("app", &DeleteParams::default()).await?;
    wait_for("another credential", LONG, || async {
        ensure!(lessee.lease_of("app").await? != first, "the first one");
        Ok(())
    })
    .await?;
    ensure!(lessee.login("app").await? == Login::Accepted);
    lessee.wait_gone(&first).await?;
    ensure!(lessee.minted(suite)? == 2);
    // One that somebody overwrote costs one, too.
    lessee.team.edit_secret("app", "password", "mine").await?;
    wait_for("what was overwritten to be repaired", LONG, || async {
        ensure!(lessee.login("app").await? == Login::Accepted);
        Ok(())
    })
    .await?;
    lessee.wait_leases(1).await?;
    let minted = lessee.minted(suite)?;
    ensure!(minted <= 3, "{minted} credentials");
    Ok(())
}

async fn a_failing_write_costs_no_second_credential(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole::default();
    let behind = Lessee::behind_api_proxy(suite, grade, "failing", Names::APP, &role, QUICK);
    let (lessee, proxy) = behind.await?;
    let writes = || Match::method("PATCH").path_contains("/secrets/app");
    let failing = proxy.on(writes()).times(3).answer(Answer::kubernetes_error(
        500,
        "InternalError",
        "no room",
    ));
    let reports = Match::method("PATCH").path_contains("/status");
    let unheard = proxy.on(reports).times(2).answer(Answer::drop_after());
    lessee.ask("app", json!({})).await?;
    failing.hit(3, LONG).await?;
    unheard.hit(2, LONG).await?;
    let lease = lessee.wait_lease("app").await?;
    ensure!(lessee.leases().await? == [lease.as_str()]);
    ensure!(lessee.minted(suite)? == 1);
    ensure!(lessee.login("app").await? == Login::Accepted);
    Ok(())
}

async fn the_token_of_an_earlier_process_lives_as_long_as_its_leases(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    const PERIOD: Duration = Duration::from_secs(10);
    // Nobody waits for the Lease of who was killed.
    let more = format!("{QUICK}leaderElect: false\n");
    let (tenant, more) = tenant_of(suite, grade, "accessor", Names::APP, &more).await?;
    let (engine, creds) = engine_of(suite, &tenant, &DatabaseRole::default()).await?;
    let rules = TokenRules {
        period: PERIOD,
        ..TokenRules::default()
    };
    tenant.token_rules(&rules).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let lessee = Lessee {
        team,
        engine,
        creds,
    };
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    let vault = &lessee.team.tenant.vault;
    let tokens = || vault.tokens(&lessee.team.tenant.namespace);
    let first = tokens().await?;
    ensure!(first.len() == 1, "{first:?}");
    lessee.team.operator.process.kill();
    lessee.team.operator.restart().await?;
    // Three lives of it.
    let eye = Eye::on(suite, &lessee.team);
    let renewals = eye.at_vault().path("auth/token/renew-accessor");
    wait_for("renewals of the first token", LONG, || async {
        let renewed = eye.vault.count(&renewals)?;
        ensure!(renewed >= 6, "{renewed} renewals");
        Ok(())
    })
    .await?;
    let both = tokens().await?;
    let lives = both.iter().any(|one| one.accessor == first[0].accessor);
    ensure!(lives && both.len() == 2, "{both:?}");
    ensure!(lessee.leases().await? == [lease.as_str()]);
    ensure!(lessee.minted(suite)? == 1 && lessee.login("app").await? == Login::Accepted);
    // Nothing hangs on it any more: it is left to its end.
    lessee.delete("app").await?;
    lessee.wait_gone(&lease).await?;
    wait_for("the end of the first token", LONG, || async {
        let left = tokens().await?;
        let lives = left.iter().any(|one| one.accessor == first[0].accessor);
        ensure!(!lives, "{left:?}");
        Ok(())
    })
    .await
}

async fn what_somebody_revoked_is_replaced_at_once(suite: &Suite, grade: Grade) -> Result<()> {
    let more = "rotation: {drain: 1s, lookupInterval: 2s}\n";
    let (tenant, more) = tenant_of(suite, grade, "revoked", Names::APP, more).await?;
    let role = DatabaseRole {
        ttl: Duration::from_secs(30),
        ..SHORT
    };
    let (engine, creds) = engine_of(suite, &tenant, &role).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let lessee = Lessee {
        team,
        engine,
        creds,
    };
    lessee.ask("app", json!({})).await?;
    let mut lease = lessee.wait_lease("app").await?;
    let eye = Eye::on(suite, &lessee.team);
    let renewals = eye.at_vault().path_prefix("sys/leases/renew");
    // First by a look; then where the policy allows none, by the next renewal.
    for looks in [true, false] {
        let tenant = &lessee.team.tenant;
        if !looks {
            let rules = TokenRules {
                no_default_policy: true,
                ..TokenRules::default()
            };
            tenant.token_rules(&rules).await?;
            let rights = Right::all_but(&[Right::LookUpLease]);
            tenant.grant(&[&lessee.creds], &rights).await?;
            // The token of now still has Vault's own policy.
            for token in tenant.vault.tokens(&tenant.namespace).await? {
                let body = json!({ "accessor": token.accessor });
                tenant
                    .vault
                    .write("auth/token/revoke-accessor", &body)
                    .await?;
            }
            lease = lessee.wait_other("app", &lease).await?;
        }
        let before = eye.vault.count(&renewals)?;
        tenant.vault.revoke_lease(&lease).await?;
        lease = lessee.wait_other("app", &lease).await?;
        ensure!(lessee.login("app").await? == Login::Accepted);
        let renewed = eye.vault.count(&renewals)? - before;
        ensure!((renewed > 0) != looks, "{renewed} renewals");
    }
    Ok(())
}

impl Lessee {
    /// Waits until status names another lease than this.
    async fn wait_other(&self, name: &str, lease: &str) -> Result<String> {
        wait_for("another lease", LONG, || async {
            let now = self.lease_of(name).await?;
            ensure!(now != lease, "still {lease}");
            Ok(now)
        })
        .await
    }
}
