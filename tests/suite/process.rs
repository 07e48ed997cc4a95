//! The process: an orderly end, and a start in a world that lacks something.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, Match, Pause};
use ground::manifests::{install_crds, kustomize};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Exit, Ground, Operator, Options, wait_for};
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::endpoints::sample;
use crate::grades::{Grade, Names, tenant_of, tenant_on};
use crate::judgement::judge;
use crate::probes::{Eye, vault_proxy};
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "process": without_a_right_it_waits_and_says_so, a_busy_port_is_a_sentence;
    in each grade:
    sigterm_lets_a_write_end, without_definitions_it_waits_and_says_so,
    without_vault_it_waits_and_says_so,
];

/// Less than the shipped grace period.
const GRACE: Duration = Duration::from_secs(25);

async fn sigterm_lets_a_write_end(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) = Team::graded_behind_api_proxy(suite, grade, "sigterm", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    let apply = Match::method("PATCH").path_contains("/secrets/app");
    let mut slow = Pause::at_request(&proxy, apply);
    team.static_secret("app", json!({})).await?;
    slow.reached(LONG).await?;
    ensure!(
        team.tenant.secret("app").await?.is_none(),
        "the write is already done"
    );
    // The write goes on once the operator ends: its endpoints are the first to close.
    let write = async {
        wait_for("the endpoints to close", GRACE, || async {
            ensure!(team.operator.readyz().await.is_err(), "it is ready");
            Ok(())
        })
        .await?;
        let waits = team.operator.process.is_running();
        ensure!(waits, "it ended before its write");
        slow.go();
        anyhow::Ok(())
    };
    let (exit, written) = tokio::join!(team.operator.terminate(GRACE), write);
    written?;
    ensure!(
        exit == Exit::Code(0),
        "{exit:?}\n{}",
        team.operator.process.last_lines(20)
    );
    ensure!(
        team.value("app", "password").await? == "vault",
        "the write was finished"
    );
    team.wait_ready("app").await?;
    let log = team.operator.log()?;
    ensure!(
        log.contains("\"in_order\":true"),
        "{}",
        team.operator.process.last_lines(5)
    );
    // Nothing in work: it ends at once.
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    let began = std::time::Instant::now();
    let exit = team.operator.terminate(GRACE).await;
    ensure!(
        exit.success() && began.elapsed() < Duration::from_secs(5),
        "{exit:?} after {:?}",
        began.elapsed()
    );
    Ok(())
}

async fn without_definitions_it_waits_and_says_so(suite: &Suite, grade: Grade) -> Result<()> {
    let options = Options {
        crds: false,
        ..Options::default()
    };
    let ground = Ground::start(options).await?;
    let (tenant, more) = tenant_on(&ground, grade, "early", Names::APP, "").await?;
    let config = config(&tenant, &more);
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .start()
        .await?;
    wait_for("/readyz to name the definitions", LONG, || async {
        let text = said(&operator).await?;
        ensure!(
            text.contains("vaultstaticsecrets") && text.contains("apply kustomize/crds"),
            "{text}"
        );
        Ok(())
    })
    .await?;
    let crds = ground::paths::repository().join("kustomize/crds");
    let yaml = kustomize(ground.components().path("kustomize")?, &crds).await?;
    install_crds(&ground.client, &yaml).await?;
    operator.wait_ready(LONG).await?;
    prepare(&tenant).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    judge(&ground)?;
    ground.stop().await
}

/// What `/readyz` says while it is not ready.
pub async fn said(operator: &Operator) -> Result<String> {
    match operator.readyz().await {
        Ok(text) => anyhow::bail!("it is ready: {text}"),
        Err(error) => Ok(error.to_string()),
    }
}

async fn without_vault_it_waits_and_says_so(suite: &Suite, grade: Grade) -> Result<()> {
    let proxy = vault_proxy(&suite.ground).await?;
    proxy.on(Match::any()).answer(Answer::drop_before());
    let (mut tenant, more) = tenant_of(suite, grade, "no-vault", Names::APP, "").await?;
    tenant.vault_address = proxy.url();
    let team = Team::of(suite, tenant, None, &more).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    let told = team
        .wait_condition("VaultConnection", "default", "Ready", "False")
        .await?;
    ensure!(
        told.reason == "VaultUnreachable" && told.message.contains(&proxy.url()),
        "{told:?}"
    );
    let message = team.wait_problem("app", "VaultUnreachable").await?;
    ensure!(message.contains("cannot be reached"), "{message}");
    proxy.back_to_normal();
    team.wait_ready("app").await?;
    team.wait_condition("VaultConnection", "default", "Ready", "True")
        .await?;
    team.wait_condition("VaultAuth", "default", "Healthy", "True")
        .await?;
    Ok(())
}

async fn without_a_right_it_waits_and_says_so(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("forbidden-secrets").await?;
    prepare(&tenant).await?;
    let roles: Api<Role> = tenant.api();
    let shipped = roles
        .get(OPERATOR_ACCOUNT)
        .await?
        .rules
        .context("no rules")?;
    // The shipped Role without these verbs on Secrets.
    let without = async |verbs: &[&str]| {
        let mut rules = shipped.clone();
        for rule in &mut rules {
            if rule.resources.as_deref() == Some(&["secrets".to_owned()]) {
                rule.verbs.retain(|verb| !verbs.contains(&verb.as_str()));
            }
        }
        let patch = Patch::Merge(json!({ "rules": rules }));
        roles
            .patch(OPERATOR_ACCOUNT, &PatchParams::default(), &patch)
            .await
    };
    without(&["list", "watch"]).await?;
    let config = config(&tenant, "");
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .start()
        .await?;
    wait_for("/readyz to name the right", LONG, || async {
        let text = said(&operator).await?;
        ensure!(
            text.contains("cannot list resource")
                && text.contains("secrets")
                && text.contains("rbac/"),
            "{text}"
        );
        Ok(())
    })
    .await?;
    let metrics = operator.metrics().await?;
    ensure!(
        sample(&metrics, "vto_watch_failing", &["\"secrets\""]) == Some(1.0),
        "{metrics}"
    );
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    // The resource itself says what its operator cannot see.
    let message = team.wait_problem("app", "KubernetesForbidden").await?;
    ensure!(message.contains("watch secrets"), "{message}");
    let rule =
        |verbs: &str| format!("{{apiGroups: [\"\"], resources: [secrets], verbs: [{verbs}]}}");
    // By the refusal or by the look at all rights, whichever came first.
    let logged = async |rule: &str| {
        wait_for(&format!("the log to hold {rule}"), LONG, || async {
            // It holds quotes escaped.
            let log = team.operator.log()?.replace('\\', "");
            let is_told = |line: &str| line.contains(rule) && line.contains("to the Role");
            ensure!(log.lines().any(is_told), "it doesn't");
            Ok(())
        })
        .await
    };
    let unseen = rule("list, watch");
    ensure!(message.contains(&unseen), "{message}");
    logged(&unseen).await?;
    team.wait_missing(2.0).await?;
    // Now it sees everything but may not write.
    without(&["patch"]).await?;
    team.operator.wait_ready(LONG).await?;
    let unwritten = rule("patch");
    team.wait_for_condition("VaultStaticSecret", "app", "Ready", |ready| {
        ready.reason == "KubernetesForbidden"
            && ready.message.contains(&unwritten)
            && ready
                .message
                .contains("Role does not allow to apply Secret")
            && ready.message.contains("patch")
            && ready.message.contains("rbac/")
    })
    .await?;
    logged(&unwritten).await?;
    wait_for("a right to be missing", LONG, || async {
        let metrics = team.operator.metrics().await?;
        let place = [team.tenant.namespace.as_str()];
        let missing = sample(&metrics, "vto_rights_missing", &place);
        ensure!(missing > Some(0.0), "{missing:?}");
        Ok(())
    })
    .await?;
    without(&[]).await?;
    team.wait_ready("app").await?;
    team.wait_missing(0.0).await?;
    let metrics = team.operator.metrics().await?;
    ensure!(
        sample(&metrics, "vto_watch_failing", &["\"secrets\""]) == Some(0.0),
        "{metrics}"
    );
    let eye = Eye::on(suite, &team);
    ensure!(
        !eye.api.forbidden(&eye.at_api())?.is_empty(),
        "the trial provoked no refusal"
    );
    Ok(())
}

/// Runs the binary with these arguments until it ends; its code and what it said.
async fn run_to_end(suite: &Suite, args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(&suite.binary.path);
    command
        .args(&suite.binary.args_prefix)
        .arg("run")
        .args(args);
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(LONG, command.output()).await;
    let output = ended.context("it still runs")??;
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

async fn a_busy_port_is_a_sentence(suite: &Suite) -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let flags = [
        (
            "--metrics-bind-address",
            "--health-probe-bind-address",
            "telemetry.metricsBindAddress",
        ),
        (
            "--health-probe-bind-address",
            "--metrics-bind-address",
            "telemetry.healthProbeBindAddress",
        ),
    ];
    for (busy, off, key) in flags {
        let (code, said) = run_to_end(suite, &[busy, &address, off, "0"]).await?;
        ensure!(code == Some(1), "{code:?}: {said}");
        ensure!(
            said.contains(&address) && said.contains("free the port") && said.contains(key),
            "{said}"
        );
    }
    Ok(())
}
