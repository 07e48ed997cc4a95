//! Resources whose source hangs or answers without end, among many: each is told
//! its own trouble, and none of the others is late, changed or told anything.
//! The third poison, a panic, is injected in `tests/simulation/isolation.rs`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ground::faults::{Answer, Match};
use ground::judges::Memory;
use ground::wait_for;
use serde_json::json;

use crate::grades::Grade;
use crate::many::Many;
use crate::support::{LONG, Suite};

crate::trials!["poisoned": ; in each grade: a_hanging_path_and_an_endless_answer_harm_none_of_five_hundred];

/// Where each name is followed by itself, twice as many as are watched are enough.
const fn others(grade: Grade) -> usize {
    match grade {
        Grade::Namespace => 500,
        Grade::Named => 64,
    }
}

/// Within this of a wish for it, new content is in the Secret.
const SOON: Duration = Duration::from_secs(5);

async fn a_hanging_path_and_an_endless_answer_harm_none_of_five_hundred(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    // Longer than any answer takes that comes, and short beside the time between two
    // reads of the others.
    let more = "connection:\n  timeout: 8s\n";
    let others = others(grade);
    let names = (others, &["hangs", "endless"][..]);
    let (team, proxy) =
        Many::team_behind_vault_proxy(suite, grade, "poisoned", names, more).await?;
    let data = |name: &str| Match::method("GET").path_contains(format!("/data/{name}"));
    let hanging = proxy.on(data("hangs")).answer(Answer::hang());
    let endless = proxy.on(data("endless")).answer(Answer::huge(30));
    let poisons = [
        ("hangs", "VaultUnreachable"),
        ("endless", "VaultClientError"),
    ];
    // First the poison: the others are made while it works.
    for (name, _) in poisons {
        team.static_secret(name, json!({ "refreshAfter": "1s" }))
            .await?;
    }
    let team = Many::make(team, others, "15s").await?;
    for (name, reason) in poisons {
        team.team.wait_problem(name, reason).await?;
    }
    let contents = team.contents().await?;
    let conditions = team.conditions().await?;
    let (poisoned, mark) = ((hanging.hits(), endless.hits()), proxy.mark());
    wait_for("each of the others to be read again", LONG, || async {
        let reads = proxy.requests_since(mark, &data("s-"));
        let read: BTreeSet<_> = reads.into_iter().map(|one| one.path).collect();
        ensure!(read.len() == others, "{} of {others}", read.len());
        ensure!(
            hanging.hits() > poisoned.0 && endless.hits() > poisoned.1,
            "nothing was poisoned meanwhile"
        );
        Ok(())
    })
    .await?;
    ensure!(team.contents().await? == contents, "a Secret was written");
    ensure!(team.conditions().await? == conditions, "a status turned");

    let name = Many::name(others / 2);
    team.team.put(&name, json!({ "value": "second" })).await?;
    let asked = Instant::now();
    team.team.resync(&name, "now").await?;
    team.team.wait_value(&name, "value", "second").await?;
    let took = asked.elapsed();
    println!("new content of one of the others after {took:.1?}");
    ensure!(took < SOON, "{took:?}");
    let peak = Memory::of(team.team.operator.process.pid())?.peak;
    println!("peak memory with answers of 30 MiB: {} MiB", peak >> 20);
    ensure!(peak < 64 << 20, "{peak} bytes at the peak");
    hanging.remove();
    endless.remove();
    for (name, _) in poisons {
        team.team.put(name, json!({ "value": "cured" })).await?;
        team.team.wait_ready(name).await?;
    }
    Ok(())
}
