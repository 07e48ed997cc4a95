//! The part of the tour about certificates: `examples/certificate.yaml`, and a TLS server with what it brings.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::PkiRole;
use ground::tls_peers::{Handshake, TlsClient, TlsServer};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use vault_tenant_operator::api::VaultPKISecret;

use crate::observe;
use crate::platform::{NAMESPACE, Site, let_log_in};
use crate::screen::Screen;
use crate::tour::{Told, step};

/// The name of nearly everything in `examples/certificate.yaml`, and of the role of its engine.
const SHOP: &str = "shop";

/// The host that its certificate is for.
const HOST: &str = "shop.example.com";

/// Walks through these steps.
///
/// # Errors
/// The first step that doesn't see what it should.
pub async fn walk(screen: &Screen, site: &Site<'_>) -> Result<()> {
    step(
        screen,
        "8. A certificate arrives, and a server serves with it",
        serves(site),
    )
    .await
}

async fn serves(site: &Site<'_>) -> Result<Told> {
    let tenant = &site.tenant;
    let engine = tenant
        .pki_engine(Duration::from_secs(365 * 24 * 3600))
        .await?;
    let role = PkiRole {
        max_ttl: Duration::from_secs(72 * 3600),
        ..PkiRole::default()
    };
    let issue = engine.role(SHOP, &role).await?;
    let name = format!("tenant-{}", engine.mount);
    let rule = |path: &str| format!("path \"{path}\" {{ capabilities = [\"update\"] }}\n");
    let rules = rule(&issue) + &rule(&format!("{}/revoke", engine.mount));
    let_log_in(&site.ground.vault.api, &name, SHOP, "24h", &rules).await?;
    tenant.apply(&site.manifests("certificate.yaml")?).await?;
    let ready = observe::condition::<VaultPKISecret>(tenant, SHOP, "Ready", "True").await?;
    let end = observe::condition::<VaultPKISecret>(tenant, SHOP, "Certificate", "True").await?;
    let secret: Secret = tenant.api::<Secret>().get("shop-tls").await?;
    let data = secret.data.as_ref().context("the Secret is empty")?;
    let text = |key: &str| -> Result<String> {
        let value = data.get(key).with_context(|| format!("no {key}"))?;
        Ok(String::from_utf8(value.0.clone())?)
    };
    let server = TlsServer::start(&text("tls.crt")?, &text("tls.key")?).await?;
    let client = TlsClient::new(&engine.root_pem, &[engine.crl().await?])?;
    let shaken = client.handshake(server.address, HOST).await?;
    ensure!(matches!(shaken, Handshake::Done(_)), "{shaken:?}");
    let resources: Api<VaultPKISecret> = Api::namespaced(tenant.client.clone(), NAMESPACE);
    let status = resources.get(SHOP).await?.status;
    let next = status.and_then(|status| status.lifetime.next_renewal.clone());
    let next = next.context("status does not say when it is replaced")?.0;
    Ok(Told {
        done: "applied examples/certificate.yaml, and started a TLS server with the Secret"
            .to_owned(),
        seen: vec![
            format!("VaultPKISecret shop is {}: {}", ready.reason, ready.message),
            format!("{}: {}", end.reason, end.message),
            format!("it is to be replaced at {next:.0}"),
            format!(
                "a client that trusts the root and looks at the CRL took the server for {HOST}"
            ),
        ],
    })
}
