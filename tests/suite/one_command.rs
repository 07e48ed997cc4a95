//! One command that takes a resource together with what it was given by: its login,
//! the ServiceAccount of that, the operator's rights. What can still log in gives
//! back; what cannot is left to its end, counted, and told in the log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::tenant::{APP_ACCOUNT, AUDIENCE};
use ground::{Tenant, wait_for};
use serde_json::{Value, json};

use crate::endpoints::sample;
use crate::grades::{Grade, Names, placed, tenant_of};
use crate::lessee::{KIND, Lessee, QUICK, dynamic_secret, engine_of};
use crate::namespaces::serve;
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "one_command": what_it_takes_with_all_rights_is_given_back_or_told;
    in each grade:
    what_it_takes_with_its_login_is_given_back_or_told,
    what_the_guardrails_forbid_meanwhile_is_left_to_its_end,
];

/// A role whose leases end soon after nobody renews them.
fn short() -> DatabaseRole<'static> {
    DatabaseRole {
        ttl: Duration::from_secs(8),
        ..DatabaseRole::default()
    }
}

/// The VaultAuth and the ServiceAccount of a resource's own.
fn login(tenant: &Tenant, name: &str) -> [Value; 2] {
    [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }),
        json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultAuth",
            "metadata": { "name": name },
            "spec": {
                "method": "kubernetes", "mount": "kubernetes",
                "kubernetes": {
                    "role": tenant.vault_role(), "serviceAccount": name, "audiences": [AUDIENCE],
                },
            },
        }),
    ]
}

/// Lets the tenant's role at Vault take these ServiceAccounts, too.
async fn bind(tenant: &Tenant, accounts: &[&str]) -> Result<()> {
    let mut names = vec![APP_ACCOUNT];
    names.extend(accounts);
    let role = format!("auth/kubernetes/role/{}", tenant.vault_role());
    let body = json!({ "bound_service_account_names": names });
    tenant.vault.write(&role, &body).await?;
    Ok(())
}

/// Waits until as many leases as these are given back or counted as left, and tells how
/// many are left.
async fn wait_ends(eye: &Eye, team: &Team, leases: &[String]) -> Result<usize> {
    for lease in leases {
        wait_for(&format!("the end of {lease}"), LONG, || async {
            let found = team.tenant.vault.lease(lease).await?;
            ensure!(found.is_none(), "{found:?}");
            Ok(())
        })
        .await?;
    }
    wait_for("each to be given back or counted", LONG, || async {
        let metrics = team.operator.metrics().await?;
        let held = sample(&metrics, "vto_leases_held", &[]);
        ensure!(held == Some(0.0), "{held:?} held");
        let left = sample(&metrics, "vto_leases_left_to_expire_total", &[]);
        let mut revoked = 0;
        for lease in leases {
            let request = format!("sys/leases/revoke/{lease}");
            revoked += eye.vault.count(&eye.at_vault().path(&request))?.min(1);
        }
        let all = left.unwrap_or_default() + f64::from(u32::try_from(revoked)?);
        let wanted = f64::from(u32::try_from(leases.len())?);
        ensure!(
            (all - wanted).abs() < 0.5,
            "{left:?} left, {revoked} revoked"
        );
        Ok(leases.len() - revoked)
    })
    .await
}

/// What the log says of each that was left.
fn told(team: &Team, words: &str) -> Result<usize> {
    let log = team.operator.log()?;
    let lines = log
        .lines()
        .filter(|line| line.contains("\"WARN\"") && line.contains(words));
    Ok(lines.count())
}

async fn what_it_takes_with_its_login_is_given_back_or_told(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    // The resource is the first to go, or the last; or its login was gone when the operator
    // began, which then has no token of it.
    let all = ["app", "last", "late"];
    let (tenant, more) =
        tenant_of(suite, grade, "one-command", Names::secrets(&all), QUICK).await?;
    let mut named = Names::secrets(&all).resources(&tenant);
    for name in all {
        let [_, auth] = login(&tenant, name);
        let spec = json!({ "vaultAuthRef": name });
        let resource = dynamic_secret(&tenant, name, spec);
        named.extend([auth, resource].map(|one| placed(&tenant, one)));
    }
    grade
        .allow(&tenant, &config(&tenant, &more), &named)
        .await?;
    bind(&tenant, &all).await?;
    // Long enough that a lease lives while its login goes and the operator starts again, and
    // is renewed until then.
    let role = DatabaseRole {
        ttl: Duration::from_secs(40),
        ..short()
    };
    let (engine, creds) = engine_of(suite, &tenant, &role).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    let lessee = Lessee {
        team,
        engine,
        creds,
    };
    let mut leases = Vec::new();
    for name in all {
        for object in login(&lessee.team.tenant, name) {
            lessee.team.tenant.apply(&object.to_string()).await?;
        }
        let spec = json!({ "vaultAuthRef": name, "renewalPercent": 10 });
        lessee.ask(name, spec).await?;
        leases.push(lessee.wait_lease(name).await?);
    }
    let resource = |name| format!("vaultdynamicsecret/{name}");
    let auth = |name| format!("vaultauth/{name}");
    let account = |name| format!("serviceaccount/{name}");
    let delete = async |objects: &[String]| {
        let objects = objects.iter().map(String::as_str);
        let arguments: Vec<&str> = ["delete"].into_iter().chain(objects).collect();
        lessee.team.kubectl(suite, &arguments).await
    };
    delete(&[account("last"), auth("last"), resource("last")]).await?;
    delete(&[resource("app"), auth("app"), account("app")]).await?;
    delete(&[account("late"), auth("late")]).await?;
    lessee
        .team
        .wait_for_condition(KIND, "late", "Ready", |ready| {
            ready.reason == "InvalidResourceRef"
        })
        .await?;
    for lease in &leases[..2] {
        wait_for(
            "what a token is left for to be given back",
            LONG,
            || async {
                let found = lessee.team.tenant.vault.lease(lease).await?;
                ensure!(found.is_none(), "{found:?}");
                Ok(())
            },
        )
        .await?;
    }
    lessee.team.operator.restart().await?;
    lessee.team.operator.wait_ready(LONG).await?;
    delete(&[resource("late")]).await?;
    let eye = Eye::on(suite, &lessee.team);
    let left = wait_ends(&eye, &lessee.team, &leases).await?;
    ensure!(left == 1, "left: {left}");
    let remembered = lessee.remembered().await?;
    ensure!(remembered.is_empty(), "{remembered:?}");
    ensure!(told(&lessee.team, "cannot be given back; it is tried again")? == left);
    ensure!(
        told(
            &lessee.team,
            "could not be given back and is left to its end"
        )? == left
    );
    Ok(())
}

/// The operator lives beside its tenant: what it remembers, it can still write.
async fn what_it_takes_with_all_rights_is_given_back_or_told(suite: &Suite) -> Result<()> {
    let grade = Grade::Namespace;
    let home = grade.tenant(&suite.ground, "forbidden-one-command").await?;
    let other = grade.tenant(&suite.ground, "one-command-all").await?;
    prepare(&home).await?;
    prepare(&other).await?;
    let (_engine, _) = engine_of(suite, &other, &short()).await?;
    let more = "rotation: {drain: 1s, renewUnseen: 5s}\n";
    for resource_first in [true, false] {
        serve(grade, &other, &home, &[]).await?;
        bind(&other, &["own"]).await?;
        for object in login(&other, "own") {
            other.apply(&object.to_string()).await?;
        }
        let operator = home
            .operator(&suite.binary)
            .config(&config(&home, more))
            .watch_namespaces(&[&home.namespace, &other.namespace])
            .start()
            .await?;
        let team = Team {
            tenant: other.clone(),
            operator,
        };
        let manifest = dynamic_secret(&other, "app", json!({ "vaultAuthRef": "own" }));
        other.apply(&manifest.to_string()).await?;
        team.wait_condition(KIND, "app", "Ready", "True").await?;
        let status = team.status(KIND, "app").await?;
        let lease = status["secretLease"]["id"].as_str().context("no lease")?;
        let mut all = [
            "vaultdynamicsecret/app",
            "vaultauth/own",
            "serviceaccount/own",
            "rolebinding/served",
        ];
        if !resource_first {
            all.reverse();
        }
        let arguments: Vec<&str> = ["delete"].into_iter().chain(all).collect();
        team.kubectl(suite, &arguments).await?;
        let eye = Eye::of(&suite.ground, &home);
        let left = wait_ends(&eye, &team, &[lease.to_owned()]).await?;
        let told = told(&team, "left to its end")?;
        println!("resource first: {resource_first}, left: {left}, told: {told}");
        // By what the watch told, and with the token that is there.
        ensure!((left, told) == (0, 0), "{left} left, {told} told");
        team.operator.terminate(LONG).await;
    }
    Ok(())
}

/// The platform took the login's ServiceAccount off its list while no operator ran.
async fn what_the_guardrails_forbid_meanwhile_is_left_to_its_end(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let lessee = Lessee::start(suite, grade, "forbidden-end", Names::APP, &short()).await?;
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    let Lessee { mut team, .. } = lessee;
    team.operator.terminate(LONG).await;
    team.delete(KIND, "app").await?;
    let narrowed = config(&team.tenant, &format!("{QUICK}{}", grade.lines()));
    let narrowed = narrowed.replace("policy:\n", "policy:\n  serviceAccounts: [\"other\"]\n");
    let operator = team.tenant.operator(&suite.binary).config(&narrowed);
    team.operator = operator.start().await?;
    let eye = Eye::on(suite, &team);
    let left = wait_ends(&eye, &team, &[lease]).await?;
    ensure!(left == 1, "it was given back");
    let told = (
        told(&team, "cannot be given back; it is tried again")?,
        told(&team, "policy.serviceAccounts")?,
    );
    ensure!(told == (1, 2), "{told:?}");
    Ok(())
}
