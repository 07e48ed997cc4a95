//! The sixteen signals of the announcement, in the order of docs/metrics.md: each is
//! provoked, and read back with the very value that what was done makes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::PkiRole;
use ground::faults::{Answer, HttpProxy, Match};
use ground::{Exit, Right, wait_for};
use serde_json::{Value, json};

use crate::bearer;
use crate::documents::{quoted, rows};
use crate::endpoints::sample;
use crate::leadership::instance;
use crate::lessee;
use crate::probes::{Eye, api_proxy};
use crate::support::{LONG, Suite, Team};

crate::trials!["signals": each_of_the_sixteen_is_told, only_who_works_tells_of_resources];

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

/// Nothing is looked at by itself while a trial counts.
const NEVER: &str = "24h";

/// What was told so far.
struct Signals<'a> {
    team: &'a Team,
    eye: Eye,
    /// Words of the announcement, and the line that tells of it.
    told: Vec<(&'static str, String)>,
}

impl Signals<'_> {
    /// Waits until a series has this value, and keeps that.
    async fn is(&mut self, words: &'static str, series: &str, value: usize) -> Result<()> {
        let line = format!("{series} {value}");
        wait_for(&line, LONG, || async {
            let metrics = self.team.operator.metrics().await?;
            ensure!(metrics.lines().any(|told| told == line), "{metrics}");
            Ok(())
        })
        .await?;
        self.told.push((words, line));
        Ok(())
    }

    /// The same for a number of the tenant's namespace.
    async fn counts(
        &mut self,
        words: &'static str,
        name: &str,
        label: &str,
        value: usize,
    ) -> Result<()> {
        let namespace = &self.team.tenant.namespace;
        let series = format!("{name}{{namespace=\"{namespace}\"{label}}}");
        self.is(words, &series, value).await
    }

    /// The value of a series now; zero where it is not there yet.
    async fn now(&self, series: &str) -> Result<usize> {
        let metrics = self.team.operator.metrics().await?;
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map_or(Ok(0), str::parse)?)
    }

    /// Waits until the operator has nothing to do.
    async fn calm(&self) -> Result<()> {
        self.eye.settled(&self.eye.at_vault()).await.map(drop)
    }
}

/// A team whose operator has synced one secret of each type; where at Vault two of
/// them are made.
async fn team_of_each_type(suite: &Suite) -> Result<(Team, HttpProxy, String)> {
    let tenant = suite.ground.tenant("signals").await?;
    let engine = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
    let leasing = PkiRole {
        generate_lease: true,
        ..PkiRole::default()
    };
    let paths = [
        engine.role("web", &PkiRole::default()).await?,
        engine.role("leased", &leasing).await?,
    ];
    let paths = paths.each_ref().map(String::as_str);
    tenant.grant(&paths, &Right::ALL).await?;
    let proxy = api_proxy(&suite.ground).await?;
    let team = Team::of(suite, tenant, Some(&proxy.url()), "").await?;
    let (tenant, calm) = (&team.tenant, json!({ "refreshAfter": NEVER }));
    let old = json!({ "mount": tenant.kv1, "type": "kv-v1", "refreshAfter": NEVER });
    let password = json!({ "password": "first" });
    team.put("app", password.clone()).await?;
    tenant.vault.kv1_put(&tenant.kv1, "old", &password).await?;
    team.static_secret("app", calm).await?;
    team.static_secret("old", old).await?;
    let certificate = json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": bearer::KIND,
        "metadata": { "name": "web" },
        "spec": {
            "mount": engine.mount, "role": "web", "commonName": "web.test",
            "destination": { "name": "web", "create": true },
        },
    });
    let leased = json!({
        "mount": engine.mount, "path": "issue/leased", "params": { "common_name": "web.test" },
    });
    let leased = lessee::dynamic_secret(tenant, "leased", leased);
    for manifest in [certificate, leased] {
        tenant.apply(&manifest.to_string()).await?;
    }
    for (kind, name) in [
        ("VaultStaticSecret", "app"),
        ("VaultStaticSecret", "old"),
        (bearer::KIND, "web"),
        (lessee::KIND, "leased"),
    ] {
        team.wait_condition(kind, name, "Ready", "True").await?;
    }
    Ok((team, proxy, format!("{}/issue/", engine.mount)))
}

/// A VaultAuth like that of the tenant, but for this in its spec.
fn auth(team: &Team, name: &str, more: Value) -> String {
    let [_, mut auth] = ground::resources::references(&team.tenant);
    auth["metadata"]["name"] = json!(name);
    ground::resources::merge(&mut auth["spec"], more);
    auth.to_string()
}

async fn each_of_the_sixteen_is_told(suite: &Suite) -> Result<()> {
    let (team, proxy, issues) = team_of_each_type(suite).await?;
    let eye = Eye::on(suite, &team);
    let mut signals = Signals {
        team: &team,
        eye,
        told: Vec::new(),
    };
    what_is_well(&mut signals, &issues).await?;
    what_fails(&mut signals, &proxy).await?;
    let metrics = team.operator.metrics().await?;
    as_documented(&metrics)?;
    let announced: Vec<Vec<&str>> = rows(DOCUMENT)
        .filter(|row| row.len() == 6 && row[1].starts_with("`vto_"))
        .collect();
    ensure!(
        announced.len() == 16 && signals.told.len() == 16,
        "{} announced, {} told",
        announced.len(),
        signals.told.len()
    );
    for row in announced {
        let told = signals.told.iter().find(|(words, _)| *words == row[0]);
        let (words, line) = told.with_context(|| format!("nothing tells of {}", row[0]))?;
        let metric = quoted(row[1]).next().context("no metric")?;
        ensure!(line.starts_with(metric), "{words}: {line}");
        println!("{words}: {line}");
    }
    Ok(())
}

/// The series of the static secrets' syncs.
fn syncs(team: &Team, outcome: &str) -> String {
    let namespace = &team.tenant.namespace;
    format!(
        "vto_syncs_total{{namespace=\"{namespace}\",kind=\"VaultStaticSecret\",outcome=\"{outcome}\"}}"
    )
}

/// What an operator tells that has all in order.
async fn what_is_well(signals: &mut Signals<'_>, issues: &str) -> Result<()> {
    signals.calm().await?;
    let (eye, team) = (&signals.eye, signals.team);
    let issued = eye.vault.count(&eye.at_vault().path_prefix(issues))?;
    let reads = eye.vault.count(&eye.reads())? + issued;
    ensure!(issued == 2 && reads == 4, "{issued} of {reads} issued");
    let metrics = team.operator.metrics().await?;
    let timings = "vto_vault_request_duration_seconds";
    let took = sample(&metrics, &format!("{timings}_sum"), &["\"read\""]);
    ensure!(
        took.is_some_and(|seconds| (0.0001..60.0).contains(&seconds)),
        "{took:?}"
    );
    signals
        .is(
            "Vault request/response timings",
            &format!("{timings}_count{{operation=\"read\"}}"),
            reads,
        )
        .await?;
    let version = env!("CARGO_PKG_VERSION");
    let (revision, arch) = (vault_tenant_operator::REVISION, std::env::consts::ARCH);
    signals
        .is(
            "operator version and build information",
            &format!(
                "vto_build_info{{version=\"{version}\",revision=\"{revision}\",arch=\"{arch}\"}}"
            ),
            1,
        )
        .await?;
    signals
        .counts(
            "Kubernetes namespaces being serviced",
            "vto_namespace_served",
            "",
            1,
        )
        .await?;
    signals
        .counts(
            "number of managed secrets by namespace",
            "vto_managed_secrets",
            "",
            4,
        )
        .await?;
    let by_type = "number of secrets by Vault secret type";
    for type_ in ["kv-v1", "dynamic", "pki", "kv-v2"] {
        let label = format!(",type=\"{type_}\"");
        signals
            .counts(by_type, "vto_vault_secrets", &label, 1)
            .await?;
    }
    // One row for all four.
    let types = signals.told.len() - 4;
    signals.told.drain(types..types + 3);
    // One for each of the two static ones, and one that is asked for.
    let synced = syncs(team, "ok");
    ensure!(signals.now(&synced).await? == 2, "{metrics}");
    team.resync("app", "once").await?;
    signals.is("sync operations", &synced, 3).await?;
    signals.calm().await?;
    let after = signals.now(&synced).await?;
    ensure!(after == 3, "3 became {after}");
    Ok(())
}

/// What it tells of references that lead nowhere, and of requests that fail.
async fn what_fails(signals: &mut Signals<'_>, proxy: &HttpProxy) -> Result<()> {
    let team = signals.team;
    let calm = |more: Value| {
        let mut spec = json!({ "refreshAfter": NEVER });
        ground::resources::merge(&mut spec, more);
        spec
    };
    let refused = proxy
        .on(Match::method("PATCH").path_contains("/secrets/app"))
        .once()
        .answer(Answer::status(500));
    team.put("app", json!({ "password": "second" })).await?;
    team.resync("app", "twice").await?;
    refused.hit(1, LONG).await?;
    team.wait_value("app", "password", "second").await?;
    signals
        .is(
            "Kubernetes API failures",
            "vto_kubernetes_requests_total{operation=\"patch\",outcome=\"KubernetesUnavailable\"}",
            1,
        )
        .await?;
    signals
        .is("sync failures", &syncs(team, "KubernetesUnavailable"), 1)
        .await?;
    let orphan = json!({ "vaultAuthRef": "nobody" });
    team.static_secret("orphan", calm(orphan)).await?;
    team.wait_problem("orphan", "InvalidResourceRef").await?;
    signals
        .counts(
            "orphaned Secret custom resources from their VaultAuth",
            "vto_orphaned_resources",
            ",kind=\"VaultStaticSecret\"",
            1,
        )
        .await?;
    let adrift = auth(team, "adrift", json!({ "vaultConnectionRef": "nowhere" }));
    team.tenant.apply(&adrift).await?;
    signals
        .counts(
            "orphaned VaultAuth CRs from their VaultConnection",
            "vto_orphaned_resources",
            ",kind=\"VaultAuth\"",
            1,
        )
        .await?;
    let same = json!({ "path": "app", "destination": { "name": "app" } });
    team.static_secret("copy", calm(same)).await?;
    signals
        .counts("duplicate Secret status", "vto_contested_secrets", "", 1)
        .await?;
    let stranger = json!({ "kubernetes": { "role": "nobody" } });
    team.tenant.apply(&auth(team, "stranger", stranger)).await?;
    let through = json!({ "vaultAuthRef": "stranger" });
    team.static_secret("stranger", calm(through)).await?;
    team.wait_problem("stranger", "VaultLoginFailed").await?;
    logins_that_failed(signals).await?;
    for (words, kind, count) in [
        ("number of Secret custom resources", "VaultStaticSecret", 5),
        ("number of Vault connections", "VaultConnection", 1),
        ("number of VaultAuth custom resources", "VaultAuth", 3),
    ] {
        let label = format!(",kind=\"{kind}\"");
        signals
            .counts(words, "vto_resources", &label, count)
            .await?;
    }
    signals
        .counts(
            "number of Vault authentication methods in use",
            "vto_vault_auths_in_use",
            ",method=\"kubernetes\"",
            2,
        )
        .await
}

/// As many logins as Vault saw, all of them refused but the tenant's own one.
async fn logins_that_failed(signals: &mut Signals<'_>) -> Result<()> {
    let logins =
        |outcome| format!("vto_vault_logins_total{{method=\"kubernetes\",outcome=\"{outcome}\"}}");
    let failed = logins("VaultLoginFailed");
    let told = wait_for("each login to be told of", LONG, || async {
        let seen = signals.eye.vault.count(&signals.eye.logins())?;
        let (well, refused) = (
            signals.now(&logins("ok")).await?,
            signals.now(&failed).await?,
        );
        ensure!(
            well == 1 && refused > 0 && well + refused == seen,
            "{well} and {refused} of {seen}"
        );
        Ok(refused)
    })
    .await?;
    let line = format!("{failed} {told}");
    signals.told.push(("Vault authentication failures", line));
    Ok(())
}

/// What is told is in the document, by name, type and names of labels.
fn as_documented(metrics: &str) -> Result<()> {
    let documented = |name: &str| {
        rows(DOCUMENT).find_map(|row| {
            let cells = &row[row.len().checked_sub(5)?..];
            (quoted(cells[0]).next() == Some(name)).then(|| {
                let labels: BTreeSet<&str> = quoted(cells[2]).collect();
                (cells[1], labels)
            })
        })
    };
    let mut families = 0;
    for line in metrics.lines() {
        let Some((name, type_)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let found = documented(name);
        let (said, labels) = found.with_context(|| format!("nothing is said of {name}"))?;
        ensure!(said == type_, "{name} is no {said}, but a {type_}");
        let samples = metrics.lines().filter(|line| {
            let rest = line.strip_prefix(name).map(|rest| match type_ {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| rest.strip_prefix(end))
                    .unwrap_or(rest),
                _ => rest,
            });
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        for line in samples {
            let names: BTreeSet<&str> = line
                .split(['{', ',', '}'])
                .filter_map(|part| part.split_once("=\""))
                .map(|(label, _)| label)
                .filter(|label| *label != "le")
                .collect();
            ensure!(names == labels, "{line}: not {labels:?}");
        }
        families += 1;
    }
    ensure!(families > 16, "{metrics}");
    Ok(())
}

async fn only_who_works_tells_of_resources(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "signals-pair").await?;
    let namespace = &team.tenant.namespace;
    let served = |serves: u8| format!("vto_namespace_served{{namespace=\"{namespace}\"}} {serves}");
    let auths = format!("vto_resources{{namespace=\"{namespace}\",kind=\"VaultAuth\"}} 1");
    let tells = |metrics: &str| {
        let has = |wanted: &str| metrics.lines().any(|line| line == wanted);
        let of_resources = [
            "vto_resources{",
            "vto_orphaned_resources",
            "vto_managed_secrets",
            "vto_vault_secrets",
            "vto_vault_auths_in_use",
            "vto_contested_secrets",
        ];
        let all = of_resources.iter().all(|name| metrics.contains(name));
        let none = !of_resources.iter().any(|name| metrics.contains(name));
        (
            has(&served(1)) && has(&auths) && all,
            has(&served(0)) && none,
        )
    };
    let wait_works = async |operator: &ground::Operator| {
        wait_for("the instance to tell of resources", LONG, || async {
            let metrics = operator.metrics().await?;
            ensure!(tells(&metrics).0, "{metrics}");
            Ok(())
        })
        .await
    };
    wait_works(&team.operator).await?;
    let standby = instance(&team.tenant, &suite.binary, "").await?;
    let metrics = standby.metrics().await?;
    ensure!(tells(&metrics).1, "a standby tells of resources: {metrics}");
    ensure!(
        tells(&team.operator.metrics().await?).0,
        "the leader does not"
    );
    let exit = team.operator.terminate(LONG).await;
    ensure!(exit == Exit::Code(0), "{exit:?}");
    wait_works(&standby).await
}
