//! Tokens that nobody needs any more are given back, and those that leases hang on are
//! not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::faults::{Answer, Match};
use ground::postgres::Login;
use ground::wait_for;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::grades::{Grade, Names};
use crate::lessee::Lessee;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "partings": ; in each grade:
    a_stop_gives_back_a_token_that_no_lease_hangs_on, a_stop_leaves_a_token_that_leases_hang_on,
    a_stop_does_not_wait_for_a_vault_that_does_not_answer,
    a_token_that_another_login_replaces_goes_once_no_lease_hangs_on_it,
];

impl Team {
    /// The accessor of the one token that Vault knows of the team.
    async fn accessor(&self) -> Result<String> {
        let accessors = self.accessors().await?;
        ensure!(accessors.len() == 1, "{} tokens", accessors.len());
        accessors.into_iter().next().context("none")
    }

    async fn accessors(&self) -> Result<Vec<String>> {
        let tokens = self.tenant.vault.tokens(&self.tenant.namespace).await?;
        Ok(tokens.into_iter().map(|token| token.accessor).collect())
    }

    /// How often the operator said that Vault did not take a token back in time: then it
    /// ends by itself, and nothing shows whether it was given back.
    fn late(&self) -> Result<usize> {
        let log = self.operator.log()?;
        Ok(log.matches("tokens were not given back in time").count())
    }

    /// Changes the VaultAuth, so that another login is made.
    async fn log_in_anew(&self, expiration: u32) -> Result<()> {
        let edit = json!({ "spec": { "kubernetes": { "tokenExpirationSeconds": expiration } } });
        self.resources("VaultAuth")
            .patch("default", &PatchParams::default(), &Patch::Merge(edit))
            .await?;
        Ok(())
    }
}

async fn a_stop_gives_back_a_token_that_no_lease_hangs_on(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let team = Team::graded(suite, grade, "parts", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    team.accessor().await?;
    ensure!(team.operator.terminate(LONG).await.success());
    let left = team.accessors().await?;
    ensure!(left.is_empty() || team.late()? > 0, "{left:?}");
    Ok(())
}

async fn a_stop_leaves_a_token_that_leases_hang_on(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole::default();
    let lessee = Lessee::start(suite, grade, "parts-not", Names::APP, &role).await?;
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    let first = lessee.team.accessor().await?;
    ensure!(lessee.team.operator.terminate(LONG).await.success());
    ensure!(lessee.team.accessor().await? == first);
    ensure!(lessee.leases().await? == [lease.as_str()]);
    ensure!(lessee.login("app").await? == Login::Accepted);
    // The next one gives the lease back, and then its own token, which nothing hangs on.
    lessee.team.operator.restart().await?;
    lessee.delete("app").await?;
    lessee.wait_gone(&lease).await?;
    wait_for("an empty ledger", LONG, || async {
        let left = lessee.remembered().await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    let late = lessee.team.late()?;
    ensure!(lessee.team.operator.terminate(LONG).await.success());
    wait_for("the first token alone", LONG, || async {
        let left = lessee.team.accessors().await?;
        let given_back = left.len() == 1 || lessee.team.late()? > late;
        ensure!(left.contains(&first) && given_back, "{left:?}, not {first}");
        Ok(())
    })
    .await
}

async fn a_stop_does_not_wait_for_a_vault_that_does_not_answer(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let (name, names) = ("parts-silent", Names::APP);
    let (team, proxy) = Team::graded_behind_vault_proxy(suite, grade, name, names, "").await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    let silent = proxy.on(Match::any()).answer(Answer::hang());
    let began = Instant::now();
    let exit = team.operator.terminate(LONG).await;
    let took = began.elapsed();
    ensure!(exit.success(), "{exit:?}");
    ensure!(took < Duration::from_secs(8), "it took {took:?}");
    silent.hit(1, LONG).await?;
    Ok(())
}

async fn a_token_that_another_login_replaces_goes_once_no_lease_hangs_on_it(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = Names::secrets(&["app", "static"]);
    let role = DatabaseRole::default();
    let lessee = Lessee::start(suite, grade, "parts-login", names, &role).await?;
    let team = &lessee.team;
    team.put("static", json!({ "password": "first" })).await?;
    team.static_secret("static", json!({ "refreshAfter": "2s" }))
        .await?;
    team.wait_ready("static").await?;
    let first = team.accessor().await?;
    team.log_in_anew(1200).await?;
    let others = async || -> Result<Vec<String>> {
        let mut others = team.accessors().await?;
        others.retain(|one| *one != first);
        Ok(others)
    };
    let second = wait_for("the first token to go", LONG, || async {
        let now = team.accessors().await?;
        ensure!(!now.contains(&first) || team.late()? > 0, "still the first");
        let others = others().await?;
        ensure!(others.len() == 1, "{others:?}");
        others.into_iter().next().context("none")
    })
    .await?;
    // With a lease that hangs on it, the next one stays.
    lessee.ask("app", json!({})).await?;
    let lease = lessee.wait_lease("app").await?;
    team.log_in_anew(1300).await?;
    let third = wait_for("a third token", LONG, || async {
        let now = others().await?;
        ensure!(now.len() == 2 && now.contains(&second), "{now:?}");
        now.into_iter()
            .find(|one| *one != second)
            .context("no other")
    })
    .await?;
    team.put("static", json!({ "password": "second" })).await?;
    team.wait_value("static", "password", "second").await?;
    ensure!(lessee.leases().await? == [lease.as_str()]);
    ensure!(lessee.login("app").await? == Login::Accepted);
    let late = team.late()?;
    lessee.delete("app").await?;
    lessee.wait_gone(&lease).await?;
    // What was given back then was so by the login that it came from.
    wait_for("the second token to go", LONG, || async {
        let now = team.accessors().await?;
        let given_back = !now.contains(&second) || team.late()? > late;
        ensure!(given_back && now.contains(&third), "{now:?}");
        Ok(())
    })
    .await
}
