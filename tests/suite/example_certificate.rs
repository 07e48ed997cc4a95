//! The example of a certificate works as it lies there, with the rights at Vault that
//! its script gives.

use anyhow::{Result, ensure};
use ground::tls_peers::{Handshake, TlsClient, TlsServer};
use ground::wait_for;
use kube::api::DeleteParams;

use crate::bearer::KIND;
use crate::examples::{NAMES_AT_VAULT, vault_script, with_example};
use crate::grades::Grade;
use crate::support::{LONG, Suite};

crate::trials!["example_certificate": ; in each grade: a_server_is_served_and_its_certificate_revoked_by_the_rights_of_its_script];

const CERTIFICATE: &str = include_str!("../../examples/certificate.yaml");

async fn a_server_is_served_and_its_certificate_revoked_by_the_rights_of_its_script(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let _turn = NAMES_AT_VAULT.lock().await;
    let tenant = grade.tenant(&suite.ground, "shop").await?;
    tenant.vault.delete("sys/mounts/example-pki").await?;
    let arguments = ["example", &tenant.namespace, "shop", "shop.example.com"];
    let script = "examples/vault-pki.sh";
    let few = vault_script(suite, &tenant, script, &arguments[..3]).await;
    ensure!(few.is_err(), "three arguments were taken");
    vault_script(suite, &tenant, script, &arguments).await?;
    let team = with_example(suite, grade, tenant, CERTIFICATE).await?;
    team.wait_condition(KIND, "shop", "Ready", "True").await?;
    team.wait_condition(KIND, "shop", "RolloutRestart", "True")
        .await?;
    let certificate = team.value("shop-tls", "tls.crt").await?;
    let key = team.value("shop-tls", "tls.key").await?;
    let server = TlsServer::start(&certificate, &key).await?;
    let root = team.value("shop-tls", "ca.crt").await?;
    let crl = team.tenant.vault.with_token("");
    let crl = crl.bytes("example-pki/crl").await?;
    let client = TlsClient::new(&root, &[crl])?;
    for name in ["shop.example.com", "www.shop.example.com"] {
        let shaken = client.handshake(server.address, name).await?;
        ensure!(matches!(shaken, Handshake::Done(_)), "{name}: {shaken:?}");
    }
    let serial = team.value("shop-tls", "serial_number").await?;
    team.resources(KIND)
        .delete("shop", &DeleteParams::default())
        .await?;
    wait_for("its revocation", LONG, || async {
        let path = format!("example-pki/cert/{serial}");
        let found = team.tenant.vault.read(&path).await?;
        let at = found["data"]["revocation_time"].as_i64();
        ensure!(at.is_some_and(|at| at > 0), "{found}");
        Ok(())
    })
    .await?;
    ensure!(team.operator.terminate(LONG).await.success());
    Ok(())
}
