//! Two hundred leases that are due while Vault is away: none is replaced, nothing
//! restarts, everybody is told, and all are renewed soon after, under the budget.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use ground::engines::DatabaseRole;
use ground::faults::{Answer, HttpProxy, Match};
use ground::judges::workloads::Kind;
use ground::wait_for;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::large_outages::{BUDGET, most_in_a_second};
use crate::leases::SHORT;
use crate::lessee::{KIND, Lessee, engine_of};
use crate::many::Many;
use crate::probes::{vault_proxy, workload};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "lease_outages": two_hundred_leases_that_are_due_outlast_an_outage,
];

/// The life of the leases. They are due after fifteen to twenty-five percent of it: long
/// before it ends, so that there is time for an outage.
const LIFE: Duration = Duration::from_secs(90);

/// So long before the first of them ends Vault is back: less than the time over which
/// so many that waited would be spread.
const LEFT: SignedDuration = SignedDuration::from_secs(18);

/// An answer that comes later is lost, and with it a credential: long enough for those
/// that are made at first, and short beside `LEFT`, of which the last probe takes as much.
const CONFIG: &str = "rotation: {drain: 1s}\nconnection: {timeout: 5s}\n";

struct Leased {
    lessee: Lessee,
    proxy: HttpProxy,
    count: usize,
}

impl Leased {
    async fn make(suite: &Suite, count: usize) -> Result<Self> {
        let secrets: Vec<String> = (0..count).map(Many::name).collect();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let names = Names {
            secrets: &secrets,
            workloads: &[(Kind::Deployment, "web")],
        };
        let (mut tenant, more) =
            tenant_of(suite, Grade::Namespace, "leases-due", names, CONFIG).await?;
        let role = DatabaseRole { ttl: LIFE, ..SHORT };
        let (engine, creds) = engine_of(suite, &tenant, &role).await?;
        let proxy = vault_proxy(&suite.ground).await?;
        tenant.vault_address = proxy.url();
        let web = json!({ "progressDeadlineSeconds": 5, "minReadySeconds": 0 });
        let web = workload(Kind::Deployment, "web", &Many::name(0), web);
        tenant.apply(&web.to_string()).await?;
        let team = Team::of(suite, tenant, None, &more).await?;
        let lessee = Lessee {
            team,
            engine,
            creds,
        };
        let ask = async |number: usize| {
            let mut spec = json!({ "renewalPercent": 15 });
            if number == 0 {
                spec["rolloutRestartTargets"] = json!([{ "kind": "Deployment", "name": "web" }]);
            }
            lessee.ask(&Many::name(number), spec).await
        };
        futures::stream::iter(0..count)
            .map(ask)
            .buffer_unordered(8)
            .try_collect::<Vec<_>>()
            .await?;
        let made = Self {
            lessee,
            proxy,
            count,
        };
        made.wait_all("Ready", |ready| ready["status"] == "True")
            .await?;
        Ok(made)
    }

    /// Waits until a condition of each is as `wanted`.
    async fn wait_all(&self, type_: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        wait_for(&format!("each {type_}"), LONG, || async {
            let kind = self.lessee.team.resources(KIND);
            let all = kind.list(&ListParams::default()).await?;
            let mut others: BTreeMap<String, usize> = BTreeMap::new();
            for one in &all {
                let conditions = one.data["status"]["conditions"].as_array();
                let found = conditions.and_then(|all| all.iter().find(|c| c["type"] == type_));
                let found = found.cloned().unwrap_or_default();
                if !wanted(&found) {
                    let other = format!("{} {}", found["status"], found["reason"]);
                    *others.entry(other).or_default() += 1;
                }
            }
            ensure!(
                all.items.len() == self.count && others.is_empty(),
                "{others:?}"
            );
            Ok(())
        })
        .await
    }

    /// The lease that each resource names.
    async fn named(&self) -> Result<BTreeMap<String, String>> {
        let kind = self.lessee.team.resources(KIND);
        let all = kind.list(&ListParams::default()).await?;
        let named = all.into_iter().map(|one| {
            let lease = one.data["status"]["secretLease"]["id"].as_str();
            let lease = lease.context("no lease")?.to_owned();
            Ok((one.name_any(), lease))
        });
        named.collect()
    }

    /// When the first lease ends that Vault has.
    async fn first_end(&self) -> Result<Timestamp> {
        let tenant = &self.lessee.team.tenant;
        let mut first = None;
        for lease in self.named().await?.values() {
            let found = tenant.vault.lease(lease).await?;
            let end = found.and_then(|found| found.expire_time);
            let end: Timestamp = end.context("a lease is gone, or does not end")?.parse()?;
            first = Some(first.map_or(end, |first: Timestamp| first.min(end)));
        }
        first.context("no lease")
    }

    /// When requests of such a path were made since then, and their paths.
    fn asked(&self, path: &str, since: i64) -> Vec<(i64, String)> {
        let asked = self.proxy.requests(&Match::any().path_prefix(path));
        let at = |one: ground::faults::Record| (one.at.as_millisecond(), one.path);
        let asked = asked.into_iter().map(at);
        asked.filter(|(at, _)| *at >= since).collect()
    }
}

async fn two_hundred_leases_that_are_due_outlast_an_outage(suite: &Suite) -> Result<()> {
    let leased = Leased::make(suite, 200).await?;
    let (lessee, proxy) = (&leased.lessee, &leased.proxy);
    let named = leased.named().await?;
    let live = lessee.leases().await?;
    ensure!(live.len() == leased.count, "{} leases", live.len());
    let renewals = "/v1/sys/leases/renew/";
    let early = leased.asked(renewals, 0).len();
    let mut rule: Option<ground::faults::RuleHandle> = None;
    for (reason, answer) in [
        (
            "VaultUnavailable",
            Answer::vault_error(503, &["Vault is sealed"]),
        ),
        ("VaultUnreachable", Answer::drop_before()),
        (
            "VaultUnavailable",
            Answer::vault_error(500, &["internal error"]),
        ),
        ("VaultUnreachable", Answer::hang()),
    ] {
        let now = proxy.on(Match::any()).answer(answer);
        if let Some(before) = rule.replace(now) {
            before.remove();
        }
        leased
            .wait_all("Ready", |ready| {
                ready["status"] == "False" && ready["reason"] == reason
            })
            .await?;
    }
    leased
        .wait_all("LeaseRenewal", |renewal| renewal["reason"] == "LeaseAtRisk")
        .await?;
    let first = leased.first_end().await?;
    wait_for("the first lease to come close to its end", LIFE, || async {
        let left = first.duration_since(Timestamp::now());
        ensure!(left <= LEFT, "{left:#} left");
        Ok(())
    })
    .await?;
    let ended = Timestamp::now().as_millisecond();
    // All is forwarded again.
    proxy.back_to_normal();
    let recovery = Instant::now();
    leased
        .wait_all("Ready", |ready| ready["status"] == "True")
        .await?;
    leased
        .wait_all("LeaseRenewal", |renewal| renewal["status"] == "True")
        .await?;
    let took = recovery.elapsed();
    let renewed = leased.asked(renewals, ended);
    let most = most_in_a_second(&leased.asked("/v1/", ended));
    println!(
        "{} leases, {early} renewed before the outage: all well {took:.1?} after it, {most} requests in a second at most, {} renewals",
        leased.count,
        renewed.len()
    );
    ensure!(took < Duration::from_secs(60), "{took:?}");
    ensure!(most <= BUDGET, "{most} requests in a second");
    let by_path: BTreeSet<&String> = renewed.iter().map(|(_, path)| path).collect();
    ensure!(
        by_path.len() == leased.count,
        "{} were renewed",
        by_path.len()
    );
    ensure!(lessee.leases().await? == live, "other leases than before");
    ensure!(leased.named().await? == named, "other leases are named");
    let minted = lessee.minted(suite)?;
    ensure!(minted == leased.count, "{minted} credentials");
    let restarts = lessee.team.restarts(Kind::Deployment, "web").await?;
    ensure!(restarts == 0, "{restarts} restarts");
    Ok(())
}
