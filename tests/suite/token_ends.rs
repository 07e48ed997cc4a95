//! Tokens that end whatever the operator does: what hangs on them is replaced before,
//! each resource at a moment of its own, and the condition says what would mend it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::postgres::Login;
use ground::{Right, TokenRules, wait_for};
use jiff::Timestamp;
use serde_json::json;

use crate::grades::{Grade, Names, tenant_of};
use crate::lessee::{KIND, Lessee, engine_of};
use crate::parents::took;
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "token_ends": ; in each grade:
    leases_leave_a_token_that_comes_to_its_longest_life,
    leases_leave_batch_tokens_before_they_end,
    where_accessors_are_denied_leases_leave_the_token_of_an_earlier_process,
    a_stop_that_outlasts_the_token_costs_one_credential_each,
];

/// The resources of a trial.
const NAMES: [&str; 6] = ["app-0", "app-1", "app-2", "app-3", "app-4", "app-5"];

impl Lessee {
    /// A team whose logins give such tokens, with a lease for each of `NAMES`, which are
    /// for an hour.
    async fn on_tokens(
        suite: &Suite,
        grade: Grade,
        name: &str,
        rules: TokenRules,
        rights: &[Right],
    ) -> Result<(Self, Vec<String>)> {
        // Nobody waits for the Lease of who was killed; and what a Secret held a moment
        // ago still works when it is tried.
        let more = "rotation: {drain: 3s}\nleaderElect: false\n";
        let names = Names::secrets(&NAMES);
        let (tenant, more) = tenant_of(suite, grade, name, names, more).await?;
        let (engine, creds) = engine_of(suite, &tenant, &DatabaseRole::default()).await?;
        tenant.token_rules(&rules).await?;
        tenant.grant(&[&creds], rights).await?;
        let team = Team::of(suite, tenant, None, &more).await?;
        let lessee = Self {
            team,
            engine,
            creds,
        };
        for name in NAMES {
            lessee.ask(name, json!({})).await?;
        }
        let mut leases = Vec::new();
        for name in NAMES {
            leases.push(lessee.wait_lease(name).await?);
        }
        Ok((lessee, leases))
    }

    /// What every Secret holds works, at each look; or it was replaced between two.
    async fn all_work(&self) -> Result<()> {
        for name in NAMES {
            if self.login(name).await? != Login::Accepted {
                let login = self.login(name).await?;
                ensure!(login == Login::Accepted, "{name}: {login:?}");
            }
        }
        Ok(())
    }

    /// Waits until each has had so many leases, while what the Secrets hold works.
    async fn each_had(&self, count: usize, first: &[String]) -> Result<()> {
        let mut seen: Vec<BTreeSet<String>> =
            first.iter().map(|lease| [lease.clone()].into()).collect();
        let began = std::time::Instant::now();
        while seen.iter().any(|one| one.len() < count) {
            ensure!(began.elapsed() < 2 * LONG, "only {seen:?}");
            self.all_work().await?;
            for (name, seen) in NAMES.iter().zip(&mut seen) {
                seen.insert(self.lease_of(name).await?);
            }
        }
        Ok(())
    }

    /// Waits until some resource is told that its lease would outlive its token.
    async fn told_in_advance(&self, words: &[&str]) -> Result<()> {
        wait_for("TokenOutlivedByLease", LONG, || async {
            let mut events = Vec::new();
            for name in NAMES {
                events.extend(self.team.events(name).await?);
            }
            let told = events.iter().find(|one| one.0 == "TokenOutlivedByLease");
            let (_, message) = told.with_context(|| format!("{events:?}"))?;
            let lacking = words.iter().find(|word| !message.contains(**word));
            ensure!(lacking.is_none(), "no {lacking:?}: {message}");
            Ok(())
        })
        .await
    }
}

async fn leases_leave_a_token_that_comes_to_its_longest_life(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let rules = TokenRules {
        ttl: Duration::from_secs(20),
        max_ttl: Duration::from_secs(40),
        ..TokenRules::default()
    };
    let (lessee, leases) =
        Lessee::on_tokens(suite, grade, "longest-token", rules, &Right::ALL).await?;
    lessee.each_had(3, &leases).await?;
    lessee
        .told_in_advance(&["token_period", "token_max_ttl"])
        .await
}

async fn leases_leave_batch_tokens_before_they_end(suite: &Suite, grade: Grade) -> Result<()> {
    let life = Duration::from_secs(20);
    let rules = TokenRules {
        ttl: life,
        batch: true,
        ..TokenRules::default()
    };
    let (lessee, leases) = Lessee::on_tokens(suite, grade, "batch", rules, &Right::ALL).await?;
    // Told right after the first credentials.
    for name in NAMES {
        let told = lessee
            .team
            .wait_condition(KIND, name, "LeaseRenewal", "False");
        let told = told.await?;
        ensure!(
            told.reason == "TokenOutlivedByLease" && told.message.contains("token_type=service"),
            "{told:?}"
        );
    }
    lessee.each_had(3, &leases).await?;
    // Not all at once, nor each with a login of its own.
    let eye = Eye::on(suite, &lessee.team);
    let minted = eye.vault.requests(&eye.at_vault().path(&lessee.creds))?;
    let logins = eye.vault.requests(&eye.logins())?;
    let lives = took(&minted)?.as_secs() / life.as_secs() + 1;
    let most = usize::try_from(lives)? * 3;
    ensure!(logins.len() <= most, "{} logins, not {most}", logins.len());
    let second = &minted[NAMES.len()..2 * NAMES.len()];
    ensure!(took(second)? >= Duration::from_secs(1), "all at once");
    Ok(())
}

async fn where_accessors_are_denied_leases_leave_the_token_of_an_earlier_process(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let rules = TokenRules {
        period: Duration::from_secs(80),
        ..TokenRules::default()
    };
    let rights = Right::all_but(&[Right::LookUpAccessor, Right::RenewAccessor]);
    let (lessee, leases) = Lessee::on_tokens(suite, grade, "no-accessors", rules, &rights).await?;
    lessee.team.operator.process.kill();
    let vault = &lessee.team.tenant.vault;
    let tokens = vault.tokens(&lessee.team.tenant.namespace).await?;
    ensure!(tokens.len() == 1, "{tokens:?}");
    let ends = tokens[0].expire_time.as_deref().context("no end")?;
    let ends: Timestamp = ends.parse()?;
    let eye = Eye::on(suite, &lessee.team);
    let (mark, _) = eye.mark()?;
    lessee.team.operator.restart().await?;
    lessee
        .told_in_advance(&["path \"auth/token/lookup-accessor\"", "renew-accessor"])
        .await?;
    lessee.each_had(2, &leases).await?;
    let minted = eye.at_vault().path(&lessee.creds).since(mark);
    let minted = eye.settled(&minted).await?;
    ensure!(minted.len() == NAMES.len(), "{} credentials", minted.len());
    let late = minted.iter().find(|one| one.at >= ends);
    ensure!(late.is_none(), "{late:?} after {ends}");
    let took = took(&minted)?;
    ensure!(took >= Duration::from_secs(1), "all within {took:?}");
    // The token that ends takes nothing with it that is used.
    wait_for("the end of the first token", LONG, || async {
        let token = vault.token_of(&tokens[0].accessor).await?;
        ensure!(token.is_none(), "{token:?}");
        Ok(())
    })
    .await?;
    lessee.all_work().await?;
    let logins = eye.vault.count(&eye.logins().since(mark))?;
    ensure!(logins == 1, "{logins} logins");
    for name in NAMES {
        lessee
            .team
            .wait_condition(KIND, name, "LeaseRenewal", "True")
            .await?;
    }
    Ok(())
}

/// Vault ends leases with their token, so that no Secret holds what works any more.
async fn a_stop_that_outlasts_the_token_costs_one_credential_each(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let rules = TokenRules {
        period: Duration::from_secs(10),
        ..TokenRules::default()
    };
    let (lessee, leases) = Lessee::on_tokens(suite, grade, "outlasts", rules, &Right::ALL).await?;
    lessee.team.operator.process.kill();
    for lease in &leases {
        lessee.wait_gone(lease).await?;
    }
    let eye = Eye::on(suite, &lessee.team);
    let (mark, _) = eye.mark()?;
    lessee.team.operator.restart().await?;
    wait_for("all to work again", LONG, || async {
        for (name, old) in NAMES.iter().zip(&leases) {
            ensure!(lessee.lease_of(name).await? != *old, "{name} has none yet");
        }
        lessee.all_work().await
    })
    .await?;
    let minted = eye
        .settled(&eye.at_vault().path(&lessee.creds).since(mark))
        .await?;
    ensure!(minted.len() == NAMES.len(), "{} credentials", minted.len());
    let logins = eye.vault.count(&eye.logins().since(mark))?;
    ensure!(logins == 1, "{logins} logins");
    Ok(())
}
