//! The layers of the configuration, as a person meets them at the binary, and
//! keys whose effect shows only in a running operator.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, Match};
use ground::judges::workloads::Kind;
use serde_json::json;
use tokio::process::Command;

use crate::grades::{Grade, Names};
use crate::probes::{Eye, workload};
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "configured": all_findings_of_all_layers_come_at_once, a_later_layer_wins_and_is_named,
    a_variable_that_is_no_text_is_refused, logs_can_be_text;
    in each grade:
    a_kind_that_is_not_listed_is_left_alone, one_at_a_time_means_one_at_a_time,
];

/// What the binary said, and its code.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn run(suite: &Suite, args: &[&str], env: &[(&str, &OsStr)]) -> Result<Said> {
    let mut command = Command::new(&suite.binary.path);
    command.args(&suite.binary.args_prefix).args(args);
    command.env_clear().envs(env.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(LONG, command.output()).await;
    let output = ended.context("it still runs")??;
    Ok(Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A configuration file in the folder of the run; its path.
fn file(suite: &Suite, name: &str, text: &str) -> Result<String> {
    let path = suite.ground.dir().join(name);
    std::fs::write(&path, text)?;
    Ok(path.to_str().context("the path is no text")?.to_owned())
}

async fn all_findings_of_all_layers_come_at_once(suite: &Suite) -> Result<()> {
    let wrong = "rollout:\n  debounce: soon\n  enabeld: true\npolicy:\n  allowedAuthMethods: [kubernetes, magic]\nsync:\n  vaultRequestsPerSecond: 0\n";
    let wrong = file(suite, "layers-wrong.yaml", wrong)?;
    let many = [("VTO_SYNC__VAULT_REQUESTS_BURST", OsStr::new("many"))];
    let args = [
        "run",
        "--config",
        &wrong,
        "--log-level=loud",
        "--max-concurrent-reconciles=none",
    ];
    let said = run(suite, &args, &many).await?;
    ensure!(said.code == Some(1), "{:?}: {}", said.code, said.err);
    ensure!(said.err.contains("refused for 7 reasons"), "{}", said.err);
    for (place, what) in [
        ("layers-wrong.yaml, line 2", "rollout.debounce"),
        ("layers-wrong.yaml, line 3", "enabeld"),
        ("layers-wrong.yaml, line 5", "magic"),
        ("layers-wrong.yaml, line 7", "sync.vaultRequestsPerSecond"),
        (
            "environment variable VTO_SYNC__VAULT_REQUESTS_BURST",
            "many",
        ),
        ("command line --log-level", "loud"),
        ("command line --max-concurrent-reconciles", "none"),
    ] {
        let line = said.err.lines().find(|line| line.contains(place));
        let line = line.with_context(|| format!("no {place} in {}", said.err))?;
        ensure!(line.contains(what), "{line}");
    }
    let said = run(suite, &["run", "--allowed-auth-methods=aws,ldap"], &[]).await?;
    ensure!(said.code == Some(1), "{:?}: {}", said.code, said.err);
    for known in [
        "ldap",
        "kubernetes",
        "jwt",
        "appRole",
        "aws",
        "gcp",
        "token",
    ] {
        ensure!(said.err.contains(known), "no {known} in {}", said.err);
    }
    // A file alone, whatever the environment says.
    let checked = run(suite, &["config", "check", &wrong], &many).await?;
    ensure!(checked.code == Some(1), "{}", checked.err);
    ensure!(
        checked.err.contains("refused for 4 reasons") && !checked.err.contains("many"),
        "{}",
        checked.err
    );
    let good = file(suite, "layers-good.yaml", "rollout:\n  debounce: 7s\n")?;
    let checked = run(suite, &["config", "check", &good], &many).await?;
    ensure!(
        checked.code == Some(0) && checked.out.contains("is a valid configuration"),
        "{}{}",
        checked.out,
        checked.err
    );
    Ok(())
}

async fn a_later_layer_wins_and_is_named(suite: &Suite) -> Result<()> {
    let one =
        "rollout:\n  debounce: 7s\nsync:\n  vaultRequestsBurst: 11\ntelemetry:\n  logLevel: warn\n";
    let one = file(suite, "layers-one.yaml", one)?;
    let two = file(
        suite,
        "layers-two.yaml",
        "sync:\n  vaultRequestsBurst: 12\n",
    )?;
    let env = [("VTO_TELEMETRY__LOG_LEVEL", OsStr::new("error"))];
    let args = [
        "config",
        "show",
        "--config",
        &one,
        "--config",
        &two,
        "--log-level=debug",
    ];
    let said = run(suite, &args, &env).await?;
    ensure!(said.code == Some(0), "{}", said.err);
    for (key, value, source) in [
        ("debounce:", "7s", "layers-one.yaml"),
        ("vaultRequestsBurst:", "12", "layers-two.yaml"),
        ("logLevel:", "debug", "command line"),
        ("logFormat:", "json", "default"),
    ] {
        let line = said.out.lines().find(|line| line.contains(key));
        let line = line.with_context(|| format!("no {key} in {}", said.out))?;
        ensure!(line.contains(value) && line.contains(source), "{line}");
    }
    let args = ["config", "show", "--config", &one];
    let said = run(suite, &args, &env).await?;
    let line = said.out.lines().find(|line| line.contains("logLevel:"));
    let line = line.context("no logLevel")?;
    ensure!(
        line.contains("error") && line.contains("environment"),
        "{line}"
    );
    Ok(())
}

async fn a_variable_that_is_no_text_is_refused(suite: &Suite) -> Result<()> {
    let garbage = OsString::from(OsStr::from_bytes(b"\xff"));
    let name = "VTO_POLICY__SERVICE_ACCOUNTS";
    let said = run(suite, &["run"], &[(name, &garbage)]).await?;
    ensure!(said.code == Some(1), "{:?}: {}", said.code, said.err);
    ensure!(
        said.err.contains(name) && said.err.contains("is no text"),
        "{}",
        said.err
    );
    // Somebody else's is none of our business.
    let said = run(suite, &["config", "show"], &[("OTHER", &garbage)]).await?;
    ensure!(said.code == Some(0), "{}", said.err);
    Ok(())
}

async fn a_kind_that_is_not_listed_is_left_alone(suite: &Suite, grade: Grade) -> Result<()> {
    let tenant = grade.tenant(&suite.ground, "kinds-listed").await?;
    prepare(&tenant).await?;
    let config = config(&tenant, grade.lines());
    let config = config.replace("  debounce: 1s", "  kinds: [StatefulSet]");
    let kinds = [Kind::Deployment, Kind::StatefulSet];
    let names = Names {
        workloads: &kinds.map(|kind| (kind, "web")),
        ..Names::APP
    };
    grade
        .allow(&tenant, &config, &names.resources(&tenant))
        .await?;
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "first" })).await?;
    let mut targets = Vec::new();
    for kind in kinds {
        let manifest = workload(kind, "web", "app", json!({}));
        team.tenant.apply(&manifest.to_string()).await?;
        targets.push(json!({ "kind": format!("{kind:?}"), "name": "web" }));
    }
    team.static_secret("app", json!({ "rolloutRestartTargets": targets }))
        .await?;
    let told = team
        .wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |condition| {
            condition.reason == "RolloutDisabled"
        })
        .await?;
    ensure!(
        told.message.contains("Deployment/web not restarted")
            && told.message.contains("rollout.kinds"),
        "{told:?}"
    );
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_restarts(Kind::StatefulSet, "web", 1).await?;
    ensure!(team.restarts(Kind::Deployment, "web").await? == 0);
    let eye = Eye::on(suite, &team);
    let seen = eye.api.requests(&eye.at_api().resource("deployments"))?;
    ensure!(seen.is_empty(), "they are not even watched: {seen:?}");
    Ok(())
}

async fn one_at_a_time_means_one_at_a_time(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["slow", "next"]);
    let more = "  maxConcurrentReconciles: 1\n";
    let (team, proxy) =
        Team::graded_behind_vault_proxy(suite, grade, "one-at-a-time", names, more).await?;
    let of = |path: &str| Match::method("GET").path_contains(format!("/data/{path}"));
    for name in ["slow", "next"] {
        team.put(name, json!({ "password": name })).await?;
    }
    let slow = proxy
        .on(of("slow"))
        .once()
        .answer(Answer::delay(Duration::from_secs(3)));
    let quiet = json!({ "refreshAfter": "720h" });
    team.static_secret("slow", quiet.clone()).await?;
    slow.hit(1, LONG).await?;
    team.static_secret("next", quiet).await?;
    team.wait_ready("next").await?;
    let first = proxy.wait_for_end(&of("slow"), 1, LONG).await?;
    let second = proxy.wait_for_end(&of("next"), 1, LONG).await?;
    ensure!(
        first[0]
            .duration
            .is_some_and(|took| first[0].at + took <= second[0].at),
        "{first:?} {second:?}"
    );
    Ok(())
}

async fn logs_can_be_text(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("log-text").await?;
    prepare(&tenant).await?;
    let config = config(&tenant, "");
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .log_format("text")
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let log = operator.log()?;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(!lines.is_empty(), "no log");
    ensure!(
        lines.iter().all(|line| !line.starts_with('{')) && log.contains(" INFO "),
        "{log}"
    );
    Ok(())
}
