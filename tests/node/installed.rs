//! `kubectl apply -k` of an overlay is all that an installation takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ground::resources::{resources, static_secret};
use ground::{documents, manifests, paths, shipped};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::process::Command;

use crate::site::installation::{Installation, Overlay, trust_vault};
use crate::site::{LONG, Site};

crate::trials![
    "installed": the_overlays_run_as_they_are_shipped, the_first_secret_is_there_within_five_seconds,
    the_readme_installs_it, it_finds_the_roots_of_its_image,
];

/// How long the operator's pod may take to be Ready.
const READY: Duration = Duration::from_secs(10);

/// How long it may take until the first Secret is there.
const FIRST: Duration = Duration::from_secs(5);

async fn the_overlays_run_as_they_are_shipped(site: &Site) -> Result<()> {
    for overlay in Overlay::ALL {
        site.restricted("example").await?;
        let begun = Instant::now();
        site.apply_overlay(&overlay.folder()).await?;
        let home = overlay.home("example");
        let pod = site.ready_operator(&home).await?;
        let took = begun.elapsed();
        println!("{overlay:?}: Ready {took:.1?} after kubectl apply -k");
        ensure!(took < READY, "{overlay:?}: {took:?}");
        locked_down(site, &pod).with_context(|| format!("{overlay:?}"))?;
        let name = pod.metadata.name.as_deref().context("no name")?;
        let logs = site.kubectl(&["logs", "-n", &home, name]).await?;
        ensure!(!logs.stdout.is_empty(), "{overlay:?}: no log");
        gone(site, &["example", &home]).await?;
    }
    Ok(())
}

async fn the_first_secret_is_there_within_five_seconds(site: &Site) -> Result<()> {
    for (overlay, name) in [
        (Overlay::Tenant, "first"),
        (Overlay::Beside, "first-beside"),
        (Overlay::Named, "first-named"),
    ] {
        let installation = Installation::prepare(site, overlay, name).await?;
        let tenant = &installation.tenant;
        let data = json!({ "password": "sesame" });
        tenant.vault.kv2_put(&tenant.kv2, "app", &data).await?;
        installation
            .bring(&[static_secret(tenant, "app", json!({}))])
            .await?;
        let begun = Instant::now();
        installation.apply(site).await?;
        ground::wait_for("the first Secret", LONG, || async {
            tenant.secret("app").await?.context("no Secret")
        })
        .await?;
        let took = begun.elapsed();
        println!("{overlay:?}: the first Secret {took:.1?} after kubectl apply -k");
        ensure!(took < FIRST, "{overlay:?}: {took:?}");
        installation.ready("VaultStaticSecret", "app").await?;
    }
    Ok(())
}

/// The commands of the README as they stand there. The overlay they apply has been changed as its comment says, for a
/// Vault with a private CA.
async fn the_readme_installs_it(site: &Site) -> Result<()> {
    let repository = paths::repository();
    let platform = site.ground.dir().join("platform");
    for folder in ["examples", "kustomize", "rbac"] {
        manifests::copy(&repository.join(folder), &platform.join(folder))?;
    }
    let overlay = platform.join("kustomize/overlays/example-tenant");
    trust_vault(&overlay, "../..", &site.ground.pki.ca_pem)?;
    let readme = std::fs::read_to_string(repository.join("README.md"))?;
    let commands = documents::blocks(documents::section(&readme, "Install")?);
    let (image, commands) = commands.split_first().context("no commands")?;
    let name = format!("{}:{}", shipped::REPOSITORY, shipped::TAG);
    ensure!(
        image.trim() == format!("cargo run --example image -- --name {name}"),
        "the image that this site has is made otherwise: {image}"
    );
    let vault = &site.ground.vault;
    let created = vault.api.write("auth/token/create", &json!({})).await?;
    let token = created["auth"]["client_token"].as_str();
    let said = Command::new("bash")
        .args(["-euc", &commands.join("\n")])
        .current_dir(&platform)
        .env(
            "PATH",
            documents::path_with_tools(site.ground.components(), &platform.join("bin"))?,
        )
        .env("KUBECONFIG", &site.ground.plane.kubeconfig)
        .env("VAULT_ADDR", &vault.address)
        .env("VAULT_CACERT", site.ground.pki.ca_file())
        .env("VAULT_TOKEN", token.context("no token")?)
        .output()
        .await?;
    let words = [said.stdout, said.stderr].map(|out| String::from_utf8_lossy(&out).into_owned());
    ensure!(said.status.success(), "{}\n{}", words[0], words[1]);
    let pod = site.ready_operator("example").await?;
    locked_down(site, &pod)?;
    gone(site, &["example"]).await
}

/// A connection without a CA trusts what the image has in its root: a CA that is not among those is refused, and one that
/// is mounted in their place is trusted.
async fn it_finds_the_roots_of_its_image(site: &Site) -> Result<()> {
    let installation = Installation::prepare(site, Overlay::Tenant, "roots").await?;
    let tenant = &installation.tenant;
    let file = installation.folder.join("config.yaml");
    let text = std::fs::read_to_string(&file)?;
    let (before, after) = text
        .split_once("  caCertPath: /etc/vault-ca/ca.crt\n")
        .context("the overlay names no CA")?;
    std::fs::write(&file, format!("{before}{after}"))?;
    let data = json!({ "password": "sesame" });
    tenant.vault.kv2_put(&tenant.kv2, "app", &data).await?;
    installation
        .bring(&[static_secret(tenant, "app", json!({}))])
        .await?;
    installation.install(site).await?;
    ground::wait_for("a CA that nobody trusts", LONG, || async {
        let found = resources(tenant, "VaultStaticSecret").get("app").await?;
        let status = found.data["status"].to_string();
        ensure!(
            status.contains("not signed by the system's CA certificates"),
            "{status}"
        );
        Ok(())
    })
    .await?;
    installation.patch_operator(&[json!({
        "op": "add",
        "path": "/spec/template/spec/containers/0/volumeMounts/-",
        "value": {
            "name": "vault-ca", "subPath": "ca.crt", "readOnly": true,
            "mountPath": "/etc/ssl/certs/ca-certificates.crt",
        },
    })])?;
    installation.apply(site).await?;
    installation
        .ready("VaultStaticSecret", "app")
        .await
        .map(drop)
}

/// What the kernel says of the operator's process.
fn locked_down(site: &Site, pod: &Pod) -> Result<()> {
    let uid = pod.metadata.uid.as_deref().context("no uid")?;
    let processes = site.node()?.processes_of(uid, "vault-tenant-operator");
    let [process] = processes[..] else {
        anyhow::bail!("the operator's processes: {processes:?}");
    };
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line.unwrap_or_default().split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    };
    for (name, expected) in [
        ("Uid:", "65532 65532 65532 65532"),
        ("Gid:", "65532 65532 65532 65532"),
        ("CapInh:", "0000000000000000"),
        ("CapPrm:", "0000000000000000"),
        ("CapEff:", "0000000000000000"),
        ("CapBnd:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        // SECCOMP_MODE_FILTER.
        ("Seccomp:", "2"),
    ] {
        ensure!(field(name) == expected, "{name} {}", field(name));
    }
    let mounts = std::fs::read_to_string(format!("/proc/{process}/mounts"))?;
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some("/"));
    let options = root
        .and_then(|line| line.split(' ').nth(3))
        .unwrap_or_default();
    ensure!(options.split(',').any(|option| option == "ro"), "{root:?}");
    Ok(())
}

async fn gone(site: &Site, namespaces: &[&str]) -> Result<()> {
    let api: Api<Namespace> = Api::all(site.ground.client.clone());
    for namespace in namespaces {
        let _ = api.delete(namespace, &DeleteParams::default()).await;
    }
    ground::wait_for("the namespaces to go", LONG, || async {
        for namespace in namespaces {
            ensure!(
                api.get_opt(namespace).await?.is_none(),
                "{namespace} is there"
            );
        }
        Ok(())
    })
    .await
}
