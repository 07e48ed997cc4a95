//! A tenant goes with its namespace, and takes along what Vault gave it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ground::{TokenRules, wait_for};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::site::installation::{Installation, Overlay, deployment, from_secret};
use crate::site::{LONG, Site, leased};

crate::trials!["deletion": a_namespace_goes_and_its_leases_end];

/// How long the namespace may take to go.
const GONE: Duration = Duration::from_secs(60);

/// How long its lease may live on where an operator is left, out of the namespace.
const AT_ONCE: Duration = Duration::from_secs(30);

async fn a_namespace_goes_and_its_leases_end(site: &Site) -> Result<()> {
    for (overlay, name) in [(Overlay::Beside, "goes-beside"), (Overlay::Tenant, "goes")] {
        let installation = Installation::prepare(site, overlay, name).await?;
        let tenant = &installation.tenant;
        let engine = leased::engine(site, tenant, &["app"]).await?;
        let creds = leased::leases(&engine);
        tenant
            .token_rules(&TokenRules {
                ttl: Duration::from_secs(60),
                ..TokenRules::default()
            })
            .await?;
        let container = json!({ "env": [from_secret("USERNAME", "app", "username")] });
        let app = deployment("app", 2, container, json!({}));
        let secret = leased::login(&engine, "app");
        installation.bring(&[secret, app]).await?;
        installation.install(site).await?;
        installation.ready("VaultDynamicSecret", "app").await?;
        installation.rolled_out("app", 2).await?;
        let vault = &site.ground.vault.api;
        ensure!(vault.leases(&creds).await?.len() == 1);
        let namespaces: Api<Namespace> = Api::all(site.ground.client.clone());
        let begun = Instant::now();
        namespaces.delete(name, &DeleteParams::default()).await?;
        let leases_end = async {
            wait_for("the lease to end", LONG, || async {
                let live = vault.leases(&creds).await?;
                ensure!(live.is_empty(), "{live:?}");
                Ok(())
            })
            .await?;
            Ok(begun.elapsed())
        };
        let namespace_goes = async {
            wait_for("the namespace to go", LONG, || async {
                let found = namespaces.get_opt(name).await?;
                ensure!(found.is_none(), "it is there");
                Ok(())
            })
            .await?;
            anyhow::Ok(begun.elapsed())
        };
        let (ended, gone) = tokio::try_join!(leases_end, namespace_goes)?;
        println!(
            "{overlay:?}: the namespace is gone after {gone:.1?}, its lease after {ended:.1?}"
        );
        ensure!(gone < GONE, "{overlay:?}: {gone:?}");
        if overlay == Overlay::Beside {
            ensure!(ended < AT_ONCE, "{ended:?}");
            namespaces
                .delete(&installation.home(), &DeleteParams::default())
                .await?;
        }
    }
    Ok(())
}
