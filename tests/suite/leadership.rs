//! One instance works at a time, whatever happens to it: killed, frozen,
//! replaced, cut off.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, Match, Pause};
use ground::judges::workloads::Kind;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Exit, Operator, OperatorBinary, Tenant, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::endpoints::sample;
use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{Eye, QUIET, api_proxy, vault_proxy, workload};
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "leadership": ; in each grade:
    a_killed_leader_is_followed_by_the_standby,
    a_frozen_leader_overwrites_nothing, a_request_that_arrives_after_the_term_is_refused,
    an_outage_of_the_api_server_ends_and_resumes_the_term,
    an_update_with_another_configuration_completes,
    slots_that_passed_without_a_leader_are_made_up_for,
    without_the_right_to_its_lease_it_says_so, without_election_nothing_is_asked_for,
];

pub const LEADER: &str = "vault-tenant-operator-leader";
pub const CLAIM: &str = "vault-tenant-operator-claim";

/// As long as nobody takes over from one who does not give up.
const LEASE: Duration = Duration::from_secs(15);

async fn lease(tenant: &Tenant, name: &str) -> Result<Lease> {
    Ok(tenant.api::<Lease>().get(name).await?)
}

async fn holder(tenant: &Tenant, name: &str) -> Result<String> {
    let spec = lease(tenant, name).await?.spec.context("no spec")?;
    Ok(spec.holder_identity.unwrap_or_default())
}

/// One more instance of a tenant's operator, ready.
pub async fn instance(tenant: &Tenant, binary: &OperatorBinary, more: &str) -> Result<Operator> {
    let config = config(tenant, more);
    let operator = tenant.operator(binary).config(&config).start().await?;
    operator.wait_ready(LONG).await?;
    Ok(operator)
}

async fn wait_leads(operator: &Operator, leads: bool) -> Result<()> {
    let wanted = f64::from(u8::from(leads));
    wait_for(&format!("vto_leader to be {wanted}"), LONG, || async {
        let metrics = operator.metrics().await?;
        let found = sample(&metrics, "vto_leader", &[]);
        ensure!(found == Some(wanted), "it is {found:?}");
        Ok(())
    })
    .await
}

/// A team with a synced secret, a workload that uses it, and a second instance,
/// which reaches the API server directly; `api` is the first one's way there.
async fn pair(
    suite: &Suite,
    (tenant, more): (Tenant, String),
    api: Option<&str>,
) -> Result<(Team, Operator)> {
    let team = Team::of(suite, tenant, api, &more).await?;
    wait_leads(&team.operator, true).await?;
    team.put("app", json!({ "password": "first" })).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    team.tenant.apply(&web.to_string()).await?;
    let targets = json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] });
    team.static_secret("app", targets).await?;
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    let standby = instance(&team.tenant, &suite.binary, &more).await?;
    let said = standby.readyz().await?;
    ensure!(said.starts_with("ok"), "{said}");
    wait_for("the standby to say that it is one", LONG, || async {
        let said = standby.readyz().await?;
        ensure!(
            said.contains("stands by") && said.contains(&holder(&team.tenant, LEADER).await?),
            "{said}"
        );
        Ok(())
    })
    .await?;
    wait_leads(&standby, false).await?;
    Ok((team, standby))
}

/// Writes of what the operator works on: each once for one change.
async fn writes_of_one_change(eye: &Eye, since: ground::judges::Mark) -> Result<()> {
    let filter = |resource: &str| eye.at_api().since(since).resource(resource).verb("patch");
    eye.api
        .settle(&eye.at_api().writes().since(since), QUIET, LONG)
        .await?;
    let secrets = eye.api.requests(&filter("secrets").name("app"))?;
    ensure!(secrets.len() == 1, "the Secret was written {secrets:?}");
    // Baseline and restart are one patch here: the baseline was there before. One that
    // is refused since the Deployment's controller came in between is sent again.
    let patched = eye.api.requests(&filter("deployments").code(200))?;
    ensure!(patched.len() == 1, "the workload was patched {patched:?}");
    Ok(())
}

async fn a_killed_leader_is_followed_by_the_standby(suite: &Suite, grade: Grade) -> Result<()> {
    let tenant = tenant_of(suite, grade, "killed", Names::ROLLED, "").await?;
    let (team, standby) = pair(suite, tenant, None).await?;
    let eye = Eye::on(suite, &team);
    let (_, mark) = eye.mark()?;
    team.operator.process.kill();
    ensure!(team.operator.process.wait().await == Exit::Signal(9));
    team.put("app", json!({ "password": "second" })).await?;
    wait_leads(&standby, true).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.wait_current("app").await?;
    writes_of_one_change(&eye, mark).await?;
    ensure!(standby.readyz().await? == "ok", "it leads and says so");
    let spec = lease(&team.tenant, LEADER).await?.spec.context("no spec")?;
    ensure!(spec.lease_transitions == Some(1), "{spec:?}");
    // In order, the next one need not wait.
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    let began = std::time::Instant::now();
    ensure!(standby.terminate(LONG).await.success());
    wait_leads(&team.operator, true).await?;
    ensure!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    team.put("app", json!({ "password": "third" })).await?;
    team.wait_value("app", "password", "third").await
}

async fn a_frozen_leader_overwrites_nothing(suite: &Suite, grade: Grade) -> Result<()> {
    let proxy = vault_proxy(&suite.ground).await?;
    let mut tenant = tenant_of(suite, grade, "frozen", Names::ROLLED, "").await?;
    tenant.0.vault_address = proxy.url();
    let (team, standby) = pair(suite, tenant, None).await?;
    let eye = Eye::on(suite, &team);
    team.edit("app", json!({ "version": 1 })).await?;
    team.wait_ready("app").await?;
    for password in ["old", "new"] {
        team.put("app", json!({ "password": password })).await?;
    }
    // The leader waits for the second version when it freezes, and has it when it goes on.
    let second = Match::method("GET").query_contains("version=2");
    let slow = proxy
        .on(second.clone())
        .once()
        .answer(Answer::delay(LEASE + Duration::from_secs(8)));
    team.edit("app", json!({ "version": 2 })).await?;
    slow.hit(1, LONG).await?;
    team.operator.process.stop()?;
    let (_, mark) = eye.mark()?;
    team.edit("app", json!({ "version": 3 })).await?;
    wait_leads(&standby, true).await?;
    team.wait_value("app", "password", "new").await?;
    team.wait_restarts(Kind::Deployment, "web", 1).await?;
    team.wait_current("app").await?;
    let before = team.secret("app").await?.metadata.resource_version;
    proxy.wait_for_end(&second, 1, LONG).await?;
    team.operator.process.cont()?;
    wait_leads(&team.operator, false).await?;
    writes_of_one_change(&eye, mark).await?;
    let after = team.secret("app").await?.metadata.resource_version;
    ensure!(
        before == after,
        "the Secret went from {before:?} to {after:?}"
    );
    ensure!(team.restarts(Kind::Deployment, "web").await? == 1);
    // It is a standby now, and can lead again.
    team.operator.wait_ready(LONG).await?;
    ensure!(standby.terminate(LONG).await.success());
    wait_leads(&team.operator, true).await?;
    team.edit("app", json!({ "version": 2 })).await?;
    team.wait_value("app", "password", "old").await
}

async fn a_request_that_arrives_after_the_term_is_refused(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let proxy = api_proxy(&suite.ground).await?;
    let tenant = tenant_of(suite, grade, "late", Names::ROLLED, "").await?;
    let (team, standby) = pair(suite, tenant, Some(&proxy.url())).await?;
    let eye = Eye::on(suite, &team);
    // The leader's write is under way when it freezes, and arrives when another leads.
    let write = Match::method("PATCH").path_contains("/secrets/app");
    let mut slow = Pause::at_request(&proxy, write.clone());
    let (_, mark) = eye.mark()?;
    team.put("app", json!({ "password": "old" })).await?;
    slow.reached(LONG).await?;
    team.operator.process.stop()?;
    team.put("app", json!({ "password": "new" })).await?;
    wait_leads(&standby, true).await?;
    team.wait_value("app", "password", "new").await?;
    let before = team.secret("app").await?.metadata.resource_version;
    slow.go();
    proxy.wait_for_end(&write, 1, LONG).await?;
    let writes = eye.at_api().since(mark).resource("secrets").name("app");
    let refused = writes.clone().verb("patch").code(409);
    wait_for("the late write to be refused", LONG, || async {
        let found = eye.api.count(&refused)?;
        ensure!(found == 1, "{:?}", eye.api.requests(&writes)?);
        Ok(())
    })
    .await?;
    team.operator.process.cont()?;
    wait_leads(&team.operator, false).await?;
    let after = team.secret("app").await?.metadata.resource_version;
    ensure!(
        before == after,
        "the Secret went from {before:?} to {after:?}"
    );
    ensure!(team.value("app", "password").await? == "new");
    Ok(())
}

async fn an_outage_of_the_api_server_ends_and_resumes_the_term(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let (team, proxy) = Team::graded_behind_api_proxy(suite, grade, "cut-off", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    proxy.on(Match::any()).answer(Answer::drop_before());
    wait_leads(&team.operator, false).await?;
    let said = team.operator.readyz().await.err().context("it is ready")?;
    ensure!(said.to_string().contains(LEADER), "{said}");
    team.put("app", json!({ "password": "second" })).await?;
    proxy.back_to_normal();
    wait_leads(&team.operator, true).await?;
    team.wait_value("app", "password", "second").await?;
    team.operator.wait_ready(LONG).await?;
    // Nobody else led: it is the same term.
    let spec = lease(&team.tenant, LEADER).await?.spec.context("no spec")?;
    ensure!(spec.lease_transitions == Some(0), "{spec:?}");
    Ok(())
}

async fn an_update_with_another_configuration_completes(suite: &Suite, grade: Grade) -> Result<()> {
    let team = Team::graded(suite, grade, "update", Names::APP).await?;
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    // As a Deployment does it: the new one is ready before the old one ends.
    let more = format!("telemetry: {{logLevel: debug}}\n{}", grade.lines());
    let new = instance(&team.tenant, &suite.binary, &more).await?;
    ensure!(team.operator.terminate(LONG).await.success());
    wait_leads(&new, true).await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    let expected = format!("{}/{OPERATOR_ACCOUNT}", team.tenant.namespace);
    ensure!(holder(&team.tenant, CLAIM).await? == expected);
    let log = new.log()?;
    ensure!(
        !log.contains("NamespaceClaimed") && !log.contains("not served"),
        "{log}"
    );
    Ok(())
}

async fn slots_that_passed_without_a_leader_are_made_up_for(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names: Vec<String> = (0..10).map(|n| format!("s-{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let team = Team::graded(suite, grade, "missed", Names::secrets(&all)).await?;
    for name in &names {
        team.put(name, json!({ "password": name })).await?;
        team.static_secret(name, json!({ "refreshAfter": "30s" }))
            .await?;
    }
    for name in &names {
        team.wait_ready(name).await?;
    }
    let eye = Eye::on(suite, &team);
    ensure!(team.operator.terminate(LONG).await.success());
    let (vault, _) = eye.mark()?;
    // So long that each of them misses a slot: they come every 27 s.
    let ended = lease(&team.tenant, LEADER).await?.spec.context("no spec")?;
    let ended = ended.renew_time.context("no renewal")?.0;
    wait_for("28 s without a leader", LONG, || async {
        let passed = jiff::Timestamp::now().duration_since(ended);
        ensure!(passed.as_secs() >= 28, "{passed:?}");
        Ok(())
    })
    .await?;
    ensure!(eye.vault.count(&eye.reads().since(vault))? == 0);
    team.operator.restart().await?;
    wait_leads(&team.operator, true).await?;
    eye.vault
        .wait_for(&eye.reads().since(vault), names.len(), LONG)
        .await?;
    Ok(())
}

async fn without_the_right_to_its_lease_it_says_so(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "forbidden-lease", Names::APP, "").await?;
    prepare(&tenant).await?;
    let roles: Api<Role> = tenant.api();
    let granted = roles.list(&ListParams::default()).await?.items;
    let leads = |rule: &PolicyRule| {
        rule.resource_names
            .iter()
            .flatten()
            .any(|name| name == LEADER)
    };
    let allow = async |allowed: bool| -> Result<()> {
        for role in &granted {
            let mut rules = role.rules.clone().unwrap_or_default();
            rules.retain(|rule| allowed || !leads(rule));
            let patch = Patch::Merge(json!({ "rules": rules }));
            let name = role.metadata.name.as_deref().context("no name")?;
            roles.patch(name, &PatchParams::default(), &patch).await?;
        }
        Ok(())
    };
    let rules = granted.iter().filter_map(|role| role.rules.as_ref());
    ensure!(rules.flatten().any(leads), "no Role allows to lead");
    allow(false).await?;
    let config = config(&tenant, &more);
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .start()
        .await?;
    wait_for("/readyz to name the Lease", LONG, || async {
        let said = operator.readyz().await.err().context("it is ready")?;
        let said = said.to_string();
        ensure!(said.contains(LEADER) && said.contains("rbac/"), "{said}");
        Ok(())
    })
    .await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    allow(true).await?;
    team.operator.wait_ready(LONG).await?;
    team.wait_ready("app").await.map(drop)
}

async fn without_election_nothing_is_asked_for(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "alone", Names::APP, "").await?;
    prepare(&tenant).await?;
    let config = config(&tenant, &more);
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .arg("--leader-elect=false")
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let eye = Eye::on(suite, &team);
    let asked = eye.api.requests(&eye.at_leases().name(LEADER))?;
    ensure!(asked.is_empty(), "{asked:?}");
    ensure!(team.operator.terminate(LONG).await.success());
    Ok(())
}
