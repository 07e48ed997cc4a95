//! What the operator's pod weighs, as the kernel counts it, beside the same program as a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::PkiRole;
use ground::judges::memory::Memory;
use ground::resources::{config, prepare, resources, static_secret};
use ground::shipped::Sources;
use ground::{OperatorBinary, Right, Tenant, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;

use crate::site::installation::{Installation, Overlay};
use crate::site::{LONG, Site};

crate::trials![
    "numbers": with_a_hundred_resources_its_pod_is_small, with_a_thousand_leases_its_pod_is_small,
];

/// How many resources there are.
const RESOURCES: usize = 100;

/// How many leases there are.
const LEASES: usize = 1000;

/// What the operator's container may use, in bytes, as the kubelet counts it.
const LIMIT: u64 = 12 << 20;

/// The same, with so many leases.
const LIMIT_WITH_LEASES: u64 = 16_000_000;

async fn with_a_hundred_resources_its_pod_is_small(site: &Site) -> Result<()> {
    let installation = Installation::prepare(site, Overlay::Tenant, "weighs").await?;
    fill(&installation.tenant).await?;
    let pod = installation.install(site).await?;
    all_ready(&installation.tenant, "VaultStaticSecret", RESOURCES).await?;
    let used = weigh(site, &pod, &format!("{RESOURCES} resources"))?;

    let tenant = site.ground.tenant("weighs-process").await?;
    prepare(&tenant).await?;
    fill(&tenant).await?;
    let binary = OperatorBinary {
        path: tokio::task::spawn_blocking(|| Sources::present().build()).await??,
        args_prefix: Vec::new(),
    };
    let operator = tenant.operator(&binary).config(&config(&tenant, ""));
    let operator = operator.start().await?;
    all_ready(&tenant, "VaultStaticSecret", RESOURCES).await?;
    let memory = Memory::of(operator.process.pid())?;
    tell(&format!("{RESOURCES} resources, as a process"), memory);
    ensure!(used <= LIMIT, "{used} bytes");
    Ok(())
}

async fn with_a_thousand_leases_its_pod_is_small(site: &Site) -> Result<()> {
    let installation = Installation::prepare(site, Overlay::Tenant, "weighs-leases").await?;
    let tenant = &installation.tenant;
    // A certificate with a lease is what Vault makes a thousand of in the shortest time.
    let engine = tenant.pki_engine(Duration::from_secs(24 * 3600)).await?;
    let role = PkiRole {
        generate_lease: true,
        ..PkiRole::default()
    };
    let issue = engine.role("leased", &role).await?;
    tenant.grant(&[&issue], &Right::ALL).await?;
    for number in 0..LEASES {
        let name = format!("l{number}");
        let object = json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultDynamicSecret",
            "metadata": { "name": name },
            "spec": {
                "mount": engine.mount, "path": "issue/leased",
                "params": { "common_name": "web.test" },
                "destination": { "name": name, "create": true },
            },
        });
        tenant.apply(&object.to_string()).await?;
    }
    let pod = installation.install(site).await?;
    all_ready(tenant, "VaultDynamicSecret", LEASES).await?;
    let used = weigh(site, &pod, &format!("{LEASES} leases"))?;
    ensure!(used <= LIMIT_WITH_LEASES, "{used} bytes");
    Ok(())
}

/// What the kubelet counts for the operator's container, in bytes; printed with what its process has.
fn weigh(site: &Site, pod: &Pod, with: &str) -> Result<u64> {
    let uid = pod.metadata.uid.as_deref().context("no uid")?;
    let processes = site.node()?.processes_of(uid, "vault-tenant-operator");
    let process = *processes.first().context("no process")?;
    let used = working_set(&group_of(process)?)?;
    tell(&format!("{with}, as a pod"), Memory::of(process)?);
    println!("with {with}, its container uses {} KiB", used >> 10);
    Ok(used)
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

/// What is counted is memory: a busy machine may take its time.
async fn all_ready(tenant: &Tenant, kind: &str, count: usize) -> Result<()> {
    wait_for("all resources", 4 * LONG, || async {
        let all = resources(tenant, kind);
        let all = all.list(&ListParams::default()).await?;
        let ready = all.iter().filter(|one| {
            let conditions = one.data["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
        });
        let ready = ready.count();
        ensure!(ready == count, "{ready}");
        Ok(())
    })
    .await
}

fn tell(with: &str, memory: Memory) {
    println!(
        "with {with}: {} KiB resident, of it {} anonymous",
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
