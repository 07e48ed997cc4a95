//! What work costs: requests to Vault and to the API server, counted by their
//! own logs, and memory.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ground::judges::{ApiRequest, Memory};
use ground::wait_for;
use jiff::SignedDuration;
use kube::api::ListParams;
use serde_json::json;

use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team, config, prepare, static_secret};

crate::trials![
    "budgets": ; in each grade:
    a_hundred_secrets_cost_one_login_and_a_hundred_reads,
    a_refresh_without_change_costs_one_read,
];

const SECRETS: usize = 100;

/// The most requests to the API server of a restart, in the grade of the namespace.
const RESTART: usize = 30;

/// How long an event waits at most, while somebody waits for a Secret.
const EVENTS_WAIT: SignedDuration = SignedDuration::from_secs(10);

/// So long that no slot falls into the trial.
const NEVER: &str = "1000h";

async fn a_hundred_secrets_cost_one_login_and_a_hundred_reads(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names: Vec<String> = (0..SECRETS).map(|n| format!("s-{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let (tenant, more) = tenant_of(suite, grade, "hundred", Names::secrets(&all), "").await?;
    prepare(&tenant).await?;
    let make = async |name: &String| {
        let data = json!({ "password": name });
        tenant.vault.kv2_put(&tenant.kv2, name, &data).await?;
        let manifest = static_secret(&tenant, name, json!({ "refreshAfter": NEVER }));
        tenant.apply(&manifest.to_string()).await
    };
    futures::stream::iter(&names)
        .map(make)
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await?;
    let eye = Eye::of(&suite.ground, &tenant);
    let config = config(&tenant, &more);
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let idle = Memory::of(operator.process.pid())?;
    let team = Team { tenant, operator };
    team.wait_all_ready(SECRETS).await?;
    eye.settled(&eye.at_vault()).await?;
    let first = eye.api.settle(&eye.at_api(), QUIET, LONG).await?;
    ensure!(eye.vault.count(&eye.logins())? == 1, "one login for all");
    let reads = eye.vault.count(&eye.reads())?;
    ensure!(reads == SECRETS, "{reads} reads of {SECRETS} secrets");
    let counts = eye.api.counts(&eye.at_api())?;
    println!(
        "first sync of {SECRETS}: {} API requests {counts:?}",
        first.len()
    );
    let of = |what: &str| counts.get(what).copied().unwrap_or_default();
    // One more apply is the operator's own key.
    ensure!(of("patch secrets") == SECRETS + 1, "{counts:?}");
    let statuses = of("patch vaultstaticsecrets/status");
    ensure!(statuses == statuses_each(grade) * SECRETS, "{counts:?}");
    ensure!(of("create events") == SECRETS, "{counts:?}");
    // Who waits for a Secret doesn't wait for events about others.
    let before = told_before_the_last_secret(&first);
    ensure!(before <= SECRETS / 4, "{before} events came first");
    let rest = work(&counts) - (2 + statuses_each(grade)) * SECRETS;
    ensure!(
        rest <= 12,
        "{rest} requests beside those of each resource: {counts:?}"
    );
    // One leadership and one claim: each is looked for, then made.
    let leases = eye.api.requests(&eye.at_leases())?;
    ensure!(verbs(&leases, "get") == 2, "{leases:?}");
    let made = leases.iter().filter(|request| request.created()).count();
    ensure!(made == 2, "{leases:?}");
    ensure!(renewals_are_few(&leases, 2), "{leases:?}");
    let full = Memory::of(team.operator.process.pid())?;
    println!("memory: idle {idle:?}; with {SECRETS} secrets {full:?}");
    restart_costs_nothing(&team, &eye, grade).await
}

/// How often status is written for a new resource: by names, also before its
/// Secret is made, which nobody would find again otherwise.
const fn statuses_each(grade: Grade) -> usize {
    match grade {
        Grade::Namespace => 1,
        Grade::Named => 2,
    }
}

async fn restart_costs_nothing(team: &Team, eye: &Eye, grade: Grade) -> Result<()> {
    let (vault, api) = eye.mark()?;
    team.operator.terminate(LONG).await;
    // The one that ends gives its token back, and that is all.
    let parting = eye.settled(&eye.at_vault().since(vault)).await?;
    let paths: Vec<&str> = parting.iter().map(|one| one.path.as_str()).collect();
    ensure!(paths == ["auth/token/revoke-self"], "{parting:?}");
    let (vault, _) = eye.mark()?;
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    let asked = eye.settled(&eye.at_vault().since(vault)).await?;
    ensure!(asked.is_empty(), "healthy resources ask nothing: {asked:?}");
    eye.api
        .settle(&eye.at_api().since(api), QUIET, LONG)
        .await?;
    let counts = eye.api.counts(&eye.at_api().since(api))?;
    println!("restart with {SECRETS}: API requests {counts:?}");
    // Beside lists and watches a start needs its own key, the two Secrets of its
    // ledger and its rights, once.
    let (own, rights) = ("get secrets", "create selfsubjectrulesreviews");
    ensure!(
        work(&counts) == 4 && counts.get(own) == Some(&3) && counts.get(rights) == Some(&1),
        "{counts:?}"
    );
    // By names each of them is listed and watched besides.
    let total: usize = counts.values().sum();
    println!("restart: {total} requests for its work");
    ensure!(
        grade == Grade::Named || total <= RESTART,
        "{total} requests: {counts:?}"
    );
    // Two are given up, looked at again and taken again.
    let leases = eye.api.requests(&eye.at_leases().since(api))?;
    ensure!(verbs(&leases, "get") == 2, "{leases:?}");
    ensure!(renewals_are_few(&leases, 4), "{leases:?}");
    println!(
        "memory after the restart: {:?}",
        Memory::of(team.operator.process.pid())?
    );
    Ok(())
}

/// How many events were published before the last Secret was written, and before the
/// first of them had to wait for longer than events do.
fn told_before_the_last_secret(requests: &[ApiRequest]) -> usize {
    let of = |resource: &'static str| requests.iter().filter(move |one| one.resource == resource);
    let secrets = || of("secrets").map(|one| one.received);
    let wait = secrets().min().map(|first| first + EVENTS_WAIT);
    let last = secrets().max().min(wait);
    of("events").filter(|one| Some(one.received) < last).count()
}

fn verbs(requests: &[ApiRequest], verb: &str) -> usize {
    requests.iter().filter(|one| one.verb == verb).count()
}

/// Whether Leases were written as often as the time between the first and the
/// last request asks for, beside `once`: every 5 s for the leader, every 20 s
/// for the claim.
fn renewals_are_few(leases: &[ApiRequest], once: usize) -> bool {
    let (Some(first), Some(last)) = (leases.first(), leases.last()) else {
        return false;
    };
    let took = last.received.duration_since(first.received).as_secs();
    let took = usize::try_from(took).unwrap_or_default();
    let written = verbs(leases, "patch");
    (once..=once + took / 5 + took / 20).contains(&written)
}

/// Requests that are neither lists nor watches.
fn work(counts: &BTreeMap<String, usize>) -> usize {
    let watching = |what: &str| what.starts_with("watch ") || what.starts_with("list ");
    counts
        .iter()
        .filter(|(what, _)| !watching(what))
        .map(|(_, n)| n)
        .sum()
}

impl Team {
    async fn wait_all_ready(&self, expected: usize) -> Result<()> {
        wait_for("all secrets to be ready", LONG, || async {
            let all = self
                .resources("VaultStaticSecret")
                .list(&ListParams::default())
                .await?;
            let ready = all.iter().filter(|one| {
                let conditions = one.data["status"]["conditions"].as_array();
                conditions
                    .into_iter()
                    .flatten()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
            });
            let ready = ready.count();
            ensure!(ready == expected, "{ready} of {expected}");
            Ok(())
        })
        .await
    }
}

async fn a_refresh_without_change_costs_one_read(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "refresh", Names::APP).await?;
    team.put("app", json!({ "password": "same" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    eye.vault.wait_for(&eye.reads(), 2, LONG).await?;
    eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await?;
    let (vault, api) = eye.mark()?;
    eye.vault
        .wait_for(&eye.reads().since(vault), 5, LONG)
        .await?;
    let asked = eye.vault.requests(&eye.at_vault().since(vault))?;
    let reads = eye.vault.count(&eye.reads().since(vault))?;
    ensure!(asked.len() == reads, "reads and nothing else: {asked:?}");
    let written = eye
        .api
        .settle(&eye.at_api().since(api).writes(), QUIET, LONG)
        .await?;
    ensure!(written.is_empty(), "{written:?}");
    Ok(())
}
