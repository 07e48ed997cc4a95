//! Two Vaults of one tenant: one that is down never delays what the other serves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::Tenant;
use ground::faults::{Answer, HttpProxy, Match};
use ground::pki::Pki;
use ground::tenant::{APP_ACCOUNT, AUDIENCE};
use serde_json::{Value, json};

use crate::grades::{Grade, Names};
use crate::probes::vault_proxy;
use crate::support::{LONG, Suite, Team, config, prepare, static_secret};

crate::trials![
    "two_vaults": ; in each grade: one_that_is_down_never_delays_the_other,
];

/// The default of `sync.maxConcurrentReconciles`.
const AT_A_TIME: usize = 16;

/// A second Vault for a tenant: another address, whose certificate is of another CA;
/// and the resources that lead there.
async fn second_vault(suite: &Suite, tenant: &Tenant) -> Result<(HttpProxy, [Value; 3])> {
    let pki = Pki::new(&tenant.dir.join("second-pki"))?;
    let certificate = pki.server("second", &["127.0.0.1"])?;
    let upstream = suite.ground.vault.address.strip_prefix("https://");
    let proxy = HttpProxy::builder()
        .tls(certificate.cert_pem, certificate.key_pem)
        .upstream_tls(
            upstream.context("the Vault serves no https")?.parse()?,
            &suite.ground.pki.ca_pem,
        )
        .start()
        .await?;
    let group = "secrets.hashicorp.com/v1beta1";
    let manifests = [
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "second-ca" },
            "stringData": { "ca.crt": pki.ca_pem },
        }),
        json!({
            "apiVersion": group, "kind": "VaultConnection", "metadata": { "name": "second" },
            "spec": { "address": proxy.url(), "caCertSecretRef": "second-ca" },
        }),
        json!({
            "apiVersion": group, "kind": "VaultAuth", "metadata": { "name": "second" },
            "spec": {
                "vaultConnectionRef": "second", "method": "kubernetes", "mount": "kubernetes",
                "kubernetes": {
                    "role": tenant.vault_role(), "serviceAccount": APP_ACCOUNT,
                    "audiences": [AUDIENCE],
                },
            },
        }),
    ];
    for manifest in &manifests {
        tenant.apply(&manifest.to_string()).await?;
    }
    Ok((proxy, manifests))
}

async fn one_that_is_down_never_delays_the_other(suite: &Suite, grade: Grade) -> Result<()> {
    let first = vault_proxy(&suite.ground).await?;
    let mut tenant = grade.tenant(&suite.ground, "two-vaults").await?;
    tenant.vault_address = first.url();
    prepare(&tenant).await?;
    let (second, there) = second_vault(suite, &tenant).await?;
    let more = format!("connection:\n  timeout: 20s\n{}", grade.lines());
    let config = config(&tenant, &more).replace(
        &format!("\"{}\"", first.url()),
        &format!("\"{}\", \"{}\"", first.url(), second.url()),
    );
    let others: Vec<String> = (0..AT_A_TIME + 4).map(|n| format!("second-{n}")).collect();
    let by_second = json!({ "vaultAuthRef": "second" });
    let secrets = others
        .iter()
        .map(|name| static_secret(&tenant, name, by_second.clone()));
    let resources = Names::APP.resources(&tenant).into_iter();
    let resources: Vec<Value> = resources.chain(there).chain(secrets).collect();
    grade.allow(&tenant, &config, &resources).await?;
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "0" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    for name in &others {
        team.put(name, json!({ "password": name })).await?;
        team.static_secret(name, by_second.clone()).await?;
    }
    for name in &others {
        team.wait_ready(name).await?;
    }
    for (round, answer) in [Answer::drop_before(), Answer::hang()]
        .into_iter()
        .enumerate()
    {
        let down = second.on(Match::any()).answer(answer);
        down.hit(AT_A_TIME, LONG).await?;
        let password = format!("{}", round + 1);
        team.put("app", json!({ "password": password })).await?;
        let began = std::time::Instant::now();
        team.wait_value("app", "password", &password).await?;
        let took = began.elapsed();
        // Nobody waited for a request that hangs.
        ensure!(took < Duration::from_secs(15), "{took:?} in round {round}");
        down.remove();
        for name in &others {
            team.wait_ready(name).await?;
        }
    }
    Ok(())
}
