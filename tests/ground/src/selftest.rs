//! Trials of the ground itself, for the test binary that owns a ground to run beside its own.
//!
//! Each takes the shared ground and makes a tenant of its own; those that stop a component or kill a host start grounds
//! of their own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::paths::{self, RunDir};
use crate::process::{Exit, Process, Spec};
use crate::tenant::{APP_ACCOUNT, AUDIENCE, OPERATOR_ACCOUNT};
use crate::vault::KUBERNETES_AUTH;
use crate::wait::wait_for;
use crate::{Ground, Options, VaultStorage};

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
    vec![
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
            run: |ground| async move { deployment(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_child_can_be_stopped_killed_and_restarted",
            run: |ground| async move { child(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_second_ground_has_a_vault_to_seal_and_restart",
            run: |ground| async move { second_ground(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::a_killed_host_leaves_no_process_and_no_folder",
            run: |ground| async move { killed_host(&ground).await }.boxed(),
        },
    ]
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
    ensure!(ground.processes().len() == 6, "six components");
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

async fn deployment(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("deployment").await?;
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "web" }] },
            },
        },
    });
    tenant.apply(&deployment.to_string()).await?;
    let deployments = tenant.api::<Deployment>();
    wait_for("three ready replicas", LONG, || async {
        let status = deployments.get("web").await?.status;
        let ready = status.as_ref().and_then(|status| status.ready_replicas);
        ensure!(ready == Some(3), "{status:?}");
        Ok(())
    })
    .await
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
    child.stop()?;
    wait_for("a stopped child to stand still", LONG, || async {
        let state = state(child.pid())?;
        ensure!(state == 'T', "its state is {state}");
        Ok(())
    })
    .await?;
    child.cont()?;
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

/// The letter of a process's state in `/proc`.
fn state(pid: u32) -> Result<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    after.context("no state in /proc")
}

async fn second_ground(first: &Ground) -> Result<()> {
    let options = Options {
        crds: false,
        vault_storage: VaultStorage::File,
        ..Options::default()
    };
    let ground = Ground::start(options).await?;
    ensure!(
        ground.plane.url != first.plane.url && ground.dir() != first.dir(),
        "two grounds share something"
    );
    let vault = &ground.vault;
    vault.api.mount_kv2("kv").await?;
    vault.api.kv2_put("kv", "a", &json!({ "b": "c" })).await?;
    vault.seal().await?;
    ensure!(
        vault.api.read("kv/data/a").await.is_err(),
        "a sealed Vault gave out a secret"
    );
    vault.unseal().await?;
    vault.api.read("kv/data/a").await?;
    vault.restart().await?;
    ensure!(
        vault.api.read("kv/data/a").await?["data"]["data"]["b"] == "c",
        "the restart lost the data"
    );
    let log = std::fs::read_to_string(&vault.access_log)?;
    ensure!(
        log.contains("sys/health"),
        "the access log holds no sys/health"
    );
    ensure!(
        std::fs::metadata(&vault.audit_log)?.len() > 0,
        "the audit log is empty"
    );
    let dir = ground.dir().to_owned();
    ground.stop().await?;
    ensure!(!dir.exists(), "{} was left", dir.display());
    Ok(())
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
    let living = processes_of(&dir)?;
    ensure!(
        living.len() >= 12,
        "six components and their supervisors, not {living:?}"
    );
    victim.kill();
    wait_for(
        "the end of all processes of a killed host",
        LONG,
        || async {
            let living = processes_of(&dir)?;
            ensure!(living.is_empty(), "{living:?}");
            Ok(())
        },
    )
    .await?;
    let next = RunDir::create(&paths::ground().join("runs"))?;
    ensure!(!dir.exists(), "the next start left {}", dir.display());
    next.remove()
}

/// The processes whose command line names this folder; without those that are dead and only wait to be reaped.
fn processes_of(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&*dir.to_string_lossy()) {
            found.push(line);
        }
    }
    Ok(found)
}
