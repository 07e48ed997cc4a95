//! What the operator's pod weighs, as the kernel counts it, beside the same program as a process.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ground::judges::memory::Memory;
use ground::resources::{config, prepare, resources, static_secret};
use ground::{OperatorBinary, Tenant, shipped, wait_for};
use kube::api::ListParams;
use serde_json::json;

use crate::site::installation::{Installation, Overlay};
use crate::site::{LONG, Site};

crate::trials!["numbers": with_a_hundred_resources_its_pod_is_small];

/// How many resources there are.
const RESOURCES: usize = 100;

/// What the operator's container may use, in bytes, as the kubelet counts it.
const LIMIT: u64 = 12 << 20;

async fn with_a_hundred_resources_its_pod_is_small(site: &Site) -> Result<()> {
    let installation = Installation::prepare(site, Overlay::Tenant, "weighs").await?;
    fill(&installation.tenant).await?;
    let pod = installation.install(site).await?;
    all_ready(&installation.tenant).await?;
    let uid = pod.metadata.uid.as_deref().context("no uid")?;
    let processes = site.node()?.processes_of(uid, "vault-tenant-operator");
    let process = *processes.first().context("no process")?;
    let used = working_set(&group_of(process)?)?;
    tell("as a pod", Memory::of(process)?);
    println!("its container uses {} KiB", used >> 10);

    let tenant = site.ground.tenant("weighs-process").await?;
    prepare(&tenant).await?;
    fill(&tenant).await?;
    let binary = OperatorBinary {
        path: tokio::task::spawn_blocking(shipped::build).await??,
        args_prefix: Vec::new(),
    };
    let operator = tenant.operator(&binary).config(&config(&tenant, ""));
    let operator = operator.start().await?;
    all_ready(&tenant).await?;
    tell("as a process", Memory::of(operator.process.pid())?);
    ensure!(used <= LIMIT, "{used} bytes");
    Ok(())
}

async fn fill(tenant: &Tenant) -> Result<()> {
    let data = json!({ "password": "sesame" });
    tenant.vault.kv2_put(&tenant.kv2, "app", &data).await?;
    for number in 0..RESOURCES {
        let more = json!({ "path": "app", "refreshAfter": "1h" });
        let object = static_secret(tenant, &format!("s{number}"), more);
        tenant.apply(&object.to_string()).await?;
    }
    Ok(())
}

async fn all_ready(tenant: &Tenant) -> Result<()> {
    wait_for("all resources", LONG, || async {
        let all = resources(tenant, "VaultStaticSecret");
        let all = all.list(&ListParams::default()).await?;
        let ready = all.iter().filter(|one| {
            let conditions = one.data["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
        });
        let ready = ready.count();
        ensure!(ready == RESOURCES, "{ready}");
        Ok(())
    })
    .await
}

fn tell(how: &str, memory: Memory) {
    println!(
        "with {RESOURCES} resources {how}: {} KiB resident, of it {} anonymous",
        memory.resident >> 10,
        memory.anonymous >> 10
    );
}

/// The memory group of a process: that of its container.
fn group_of(process: u32) -> Result<PathBuf> {
    let all = std::fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let path = |controller: &str| {
        let mut lines = all
            .lines()
            .map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        lines.find_map(|line| (line[1] == controller).then(|| line[2].to_owned()))
    };
    let (mount, path) = match path("memory") {
        Some(path) => ("/sys/fs/cgroup/memory", path),
        None => ("/sys/fs/cgroup", path("").context("no group")?),
    };
    Ok(Path::new(mount).join(path.trim_start_matches('/')))
}

/// What a group uses without what the kernel takes back first: as the kubelet counts for evictions, in bytes.
fn working_set(group: &Path) -> Result<u64> {
    let usage = ["memory.usage_in_bytes", "memory.current"];
    let usage = usage
        .iter()
        .find_map(|file| std::fs::read_to_string(group.join(file)).ok());
    let usage: u64 = usage.context("no usage")?.trim().parse()?;
    let stat = std::fs::read_to_string(group.join("memory.stat"))?;
    let inactive = stat.lines().find_map(|line| {
        let value = line.strip_prefix("total_inactive_file ");
        value.or_else(|| line.strip_prefix("inactive_file "))
    });
    Ok(usage - inactive.context("no inactive pages")?.parse::<u64>()?)
}
