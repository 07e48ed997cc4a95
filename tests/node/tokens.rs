//! The only token in the operator's pod ends, and the operator goes on with the one that the kubelet put in its place.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ground::resources::static_secret;
use ground::wait_for;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::site::installation::{Installation, Overlay};
use crate::site::{LONG, Site};

crate::trials!["tokens": it_outlives_the_token_that_it_began_with];

/// The shortest life that the API server gives a token in a volume (ten minutes), and some rest.
const PATIENCE: Duration = Duration::from_secs(700);

async fn it_outlives_the_token_that_it_began_with(site: &Site) -> Result<()> {
    let installation = Installation::prepare(site, Overlay::Tenant, "outlives").await?;
    let tenant = &installation.tenant;
    // The first volume is that of Vault's CA, the second the configuration.
    installation.patch_operator(&[json!({
        "op": "replace",
        "path": "/spec/template/spec/volumes/2/projected/sources/0/serviceAccountToken/expirationSeconds",
        "value": 600,
    })])?;
    let put = |value: &'static str| {
        let data = json!({ "value": value });
        async move { tenant.vault.kv2_put(&tenant.kv2, "app", &data).await }
    };
    put("one").await?;
    installation
        .bring(&[static_secret(tenant, "app", json!({}))])
        .await?;
    let pod = installation.install(site).await?;
    installation.ready("VaultStaticSecret", "app").await?;
    let uid = pod.metadata.uid.as_deref().context("no uid")?;
    let processes = site.node()?.processes_of(uid, "vault-tenant-operator");
    let process = *processes.first().context("no process")?;
    let token = format!("/proc/{process}/root/var/run/secrets/kubernetes.io/serviceaccount/token");
    let first = std::fs::read_to_string(&token)?;
    let end = end_of(&first)?;
    let begun = Timestamp::now();
    ensure!(
        end.as_second() - begun.as_second() <= 600,
        "it ends at {end}"
    );
    wait_for("the end of the first token", PATIENCE, || async {
        // Past the leeway and the cache of who reviews it, too.
        let left = end.as_second() + 15 - Timestamp::now().as_second();
        ensure!(left < 0, "{left} s left");
        Ok(())
    })
    .await?;
    ensure!(
        std::fs::read_to_string(&token)? != first,
        "the kubelet put none in its place"
    );
    put("two").await?;
    wait_for("what is new in Vault", LONG, || async {
        let secret = tenant.secret("app").await?.context("no Secret")?;
        let held = secret.data.unwrap_or_default();
        ensure!(
            held.get("value").is_some_and(|value| value.0 == b"two"),
            "it holds another"
        );
        Ok(())
    })
    .await?;
    let now = site.ready_operator(&installation.home()).await?;
    let statuses = now
        .status
        .and_then(|status| status.container_statuses)
        .unwrap_or_default();
    ensure!(
        now.metadata.uid == pod.metadata.uid && statuses[0].restart_count == 0,
        "{statuses:?}"
    );
    println!("its first token ended at {end}; the operator of {begun} works on");
    Ok(())
}

/// When a token ends, by its own words.
fn end_of(token: &str) -> Result<Timestamp> {
    let claims = token.split('.').nth(1).context("no JWT")?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok(Timestamp::from_second(
        claims["exp"].as_i64().context("no end")?,
    )?)
}
