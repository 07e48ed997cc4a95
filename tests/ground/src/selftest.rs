//! Trials of the ground itself, for the test binary that owns a ground to run beside its own.
//!
//! Each takes the shared ground and makes a tenant of its own; those that stop a component or kill a host start grounds
//! of their own.

mod engines;
mod parts;
mod pods;
mod starts;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::paths::{self, RunDir};
use crate::process::{Exit, Process, Spec, processes_naming};
use crate::tenant::{APP_ACCOUNT, AUDIENCE, OPERATOR_ACCOUNT};
use crate::vault::KUBERNETES_AUTH;
use crate::wait::wait_for;
use crate::{Ground, Options};

/// The first argument that makes a copy of the host start a ground and wait to be killed.
const VICTIM: &str = "--ground-victim";

/// What begins the line in which the victim names its folder.
const VICTIM_DIR: &str = "ground in ";

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// One trial: it fails by an error.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// What it shows.
    pub name: &'static str,
    /// Runs it on the shared ground.
    pub run: fn(Arc<Ground>) -> BoxFuture<'static, Result<()>>,
}

/// All trials of the ground itself.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial {
            name: "ground::every_component_runs",
            run: |ground| async move { every_component_runs(&ground) }.boxed(),
        },
        Trial {
            name: "ground::rbac_denies_what_the_shipped_role_lacks",
            run: |ground| async move { rbac_denies(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::vault_takes_only_the_bound_service_account",
            run: |ground| async move { vault_login(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_deployment_of_three_becomes_ready",
            run: |ground| async move { pods::deployment(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_pod_can_be_slow_to_be_ready_and_to_end",
            run: |ground| async move { pods::slow_pod(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::two_builds_at_once_build_once",
            run: |ground| async move { starts::two_builds(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_taken_port_is_left_for_another",
            run: |ground| async move { starts::taken_ports(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_child_can_be_stopped_killed_and_restarted",
            run: |ground| async move { child(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_second_ground_has_parts_to_stop_and_a_vault_to_seal",
            run: |ground| async move { parts::second_ground(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_killed_host_leaves_no_process_and_no_folder",
            run: |ground| async move { killed_host(&ground).await }.boxed(),
        },
    ];
    trials.extend(engines::trials());
    trials
}

/// Turns this process into the victim of a trial when its arguments say so, and never returns then; to be called right
/// after [`crate::supervisor::dispatch`] by a host that runs [`trials`].
pub fn dispatch() {
    if std::env::args_os().nth(1).as_deref() != Some(OsStr::new(VICTIM)) {
        return;
    }
    let ended = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                let ground = Ground::start(Options {
                    crds: false,
                    ..Options::default()
                })
                .await?;
                ground.postgres().await?;
                println!("{VICTIM_DIR}{}", ground.dir().display());
                std::future::pending::<Result<()>>().await
            })
        });
    eprintln!("{ended:?}");
    std::process::exit(1);
}

fn every_component_runs(ground: &Ground) -> Result<()> {
    let ended: Vec<_> = ground
        .processes()
        .into_iter()
        .filter(|process| !process.is_running())
        .collect();
    ensure!(ended.is_empty(), "ended: {ended:?}");
    let expected = 6..=8;
    ensure!(
        expected.contains(&ground.processes().len()),
        "six components, PostgreSQL and Prometheus if a trial asked for them"
    );
    Ok(())
}

async fn rbac_denies(ground: &Ground) -> Result<()> {
    let (one, other) = tokio::try_join!(
        ground.tenant("forbidden-rbac"),
        ground.tenant("forbidden-other")
    )?;
    let client = one.client_as(OPERATOR_ACCOUNT).await?;
    let all = ListParams::default();
    let own: Api<Secret> = Api::namespaced(client.clone(), &one.namespace);
    own.list(&all)
        .await
        .context("the operator's account may list Secrets of its namespace")?;
    let foreign: Api<Secret> = Api::namespaced(client.clone(), &other.namespace);
    let refused = foreign.list(&all).await.map(|_| ());
    ensure!(
        is_forbidden(&refused),
        "Secrets of another tenant: {refused:?}"
    );
    let refused = Api::<Node>::all(client).list(&all).await.map(|_| ());
    ensure!(is_forbidden(&refused), "nodes: {refused:?}");
    Ok(())
}

fn is_forbidden(result: &kube::Result<()>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 403)
}

async fn vault_login(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("login").await?;
    let role = tenant.vault_role();
    let token = tenant.token(APP_ACCOUNT, &[AUDIENCE]).await?;
    let auth = tenant
        .vault
        .kubernetes_login(KUBERNETES_AUTH, role, &token)
        .await?;
    let app = tenant
        .vault
        .with_token(auth["client_token"].as_str().context("no token")?);

    tenant
        .vault
        .kv1_put(&tenant.kv1, "app", &json!({ "user": "one" }))
        .await?;
    tenant
        .vault
        .kv2_put(&tenant.kv2, "app", &json!({ "user": "two" }))
        .await?;
    let (one, two) = (
        format!("{}/app", tenant.kv1),
        format!("{}/data/app", tenant.kv2),
    );
    ensure!(
        app.read(&one).await?["data"]["user"] == "one",
        "the kv-v1 value"
    );
    ensure!(
        app.read(&two).await?["data"]["data"]["user"] == "two",
        "the kv-v2 value"
    );
    ensure!(
        app.write(&two, &json!({ "data": {} })).await.is_err(),
        "the policy lets its bearer write"
    );
    ensure!(
        app.list("sys/mounts").await.is_err(),
        "the policy lets its bearer list mounts"
    );

    for (account, audience) in [(APP_ACCOUNT, "elsewhere"), (OPERATOR_ACCOUNT, AUDIENCE)] {
        let token = tenant.token(account, &[audience]).await?;
        let login = tenant
            .vault
            .kubernetes_login(KUBERNETES_AUTH, role, &token)
            .await;
        ensure!(
            login.is_err(),
            "Vault took a token of {account} for {audience}"
        );
    }
    Ok(())
}

async fn child(ground: &Ground) -> Result<()> {
    let dir = ground.dir().join("a child");
    std::fs::create_dir_all(&dir)?;
    let shell = Spec::new("child", Path::new("/bin/sh"), &dir)
        .arg("-c")
        .arg("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done");
    let child = Process::start(shell).await?;
    child
        .ready(LONG, || async {
            ensure!(child.last_lines(1) == "up", "it said nothing");
            Ok(())
        })
        .await?;
    stands_still_while_stopped(&child).await?;
    ensure!(
        child.terminate(LONG).await == Exit::Code(3),
        "SIGTERM did not reach it"
    );
    let before = child.pid();
    child.restart().await?;
    ensure!(
        child.is_running() && child.pid() != before,
        "it was not restarted"
    );
    child.kill();
    ensure!(child.wait().await == Exit::Signal(9), "it was not killed");

    let missing = Process::start(Spec::new("missing", Path::new("/nowhere"), &dir)).await;
    ensure!(missing.is_err(), "a program that isn't there was started");
    let broken = Process::start(
        Spec::new("broken", Path::new("/bin/sh"), &dir)
            .arg("-c")
            .arg("echo because; exit 1"),
    )
    .await?;
    let error = broken
        .ready(LONG, || async { bail!("never") as Result<()> })
        .await;
    let text = error.map_or_else(|error| format!("{error:#}"), |()| String::new());
    ensure!(
        text.contains("Code(1)") && text.contains("because"),
        "no reason in: {text}"
    );
    Ok(())
}

/// Stops a process and lets it go on.
async fn stands_still_while_stopped(process: &Process) -> Result<()> {
    let is_still = |still: bool| async move {
        let state = state(process.pid())?;
        ensure!((state == 'T') == still, "its state is {state}");
        Ok(())
    };
    process.stop()?;
    wait_for("a stopped process to stand still", LONG, || is_still(true)).await?;
    process.cont()?;
    wait_for("a continued process to go on", LONG, || is_still(false)).await
}

/// The letter of a process's state in `/proc`.
fn state(pid: u32) -> Result<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    after.context("no state in /proc")
}

async fn killed_host(ground: &Ground) -> Result<()> {
    let mut spec = Spec::new("victim", Path::new("/proc/self/exe"), ground.dir()).arg(VICTIM);
    spec.env = std::env::vars_os().collect();
    let victim = Process::start(spec).await?;
    let dir = victim
        .ready(LONG, || async {
            let line = victim.last_lines(1);
            Ok(PathBuf::from(
                line.strip_prefix(VICTIM_DIR)
                    .with_context(|| format!("it said {line:?}"))?,
            ))
        })
        .await?;
    let living = processes_naming(&dir)?;
    ensure!(
        living.len() >= 14,
        "six components, PostgreSQL and their supervisors, not {living:?}"
    );
    let lock = std::fs::read_to_string(dir.join("postgresql/data/postmaster.pid"))?;
    let postmaster = lock.lines().next().context("no process id")?;
    victim.kill();
    wait_for(
        "the end of all processes of a killed host",
        LONG,
        || async {
            let living = processes_naming(&dir)?;
            ensure!(living.is_empty(), "{living:?}");
            Ok(())
        },
    )
    .await?;
    let segments = std::fs::read_to_string("/proc/sysvipc/shm")?;
    let creator = |segment: &str| segment.split_whitespace().nth(4) == Some(postmaster);
    ensure!(
        !segments.lines().any(creator),
        "PostgreSQL left shared memory: {segments}"
    );
    let next = RunDir::create(&paths::ground().join("runs"))?;
    ensure!(!dir.exists(), "the next start left {}", dir.display());
    next.remove()
}
