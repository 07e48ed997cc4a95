//! The secrets engines and what uses their secrets, without an operator: the trials that stand on them may trust them.

mod databases;
mod tokens;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::FutureExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams};
use reqwest::Method;
use rustls::CertificateError;
use serde_json::{Value, json};

use super::Trial;
use crate::engines::PkiRole;
use crate::tenant::{APP_ACCOUNT, AUDIENCE};
use crate::tls_peers::{Handshake, TlsClient, TlsServer};
use crate::vault::KUBERNETES_AUTH;
use crate::{Ground, Right, Tenant, VaultApi};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial {
            name: "ground::engines::a_database_credential_lives_as_long_as_its_lease",
            run: |ground| async move { databases::leased(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::a_static_role_gets_another_password_by_itself",
            run: |ground| async move { databases::rotated(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::postgresql_can_be_brought",
            run: |ground| async move { databases::brought(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::a_revoked_certificate_is_refused",
            run: |ground| async move { certificate(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::a_certificate_can_have_a_lease_or_be_forgotten",
            run: |ground| async move { kinds_of_certificates(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::a_token_of_a_service_account_has_a_lease_that_cannot_be_renewed",
            run: |ground| async move { service_account(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::an_answer_can_have_no_lease",
            run: |ground| async move { leaseless(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::each_right_can_be_left_out",
            run: |ground| async move { tokens::rights(&ground).await }.boxed(),
        },
        Trial {
            name: "ground::engines::tokens_live_as_their_role_says",
            run: |ground| async move { tokens::lives(&ground).await }.boxed(),
        },
    ]
}

/// Logs the tenant's application in and answers the `auth` part.
async fn auth(tenant: &Tenant) -> Result<Value> {
    let jwt = tenant.token(APP_ACCOUNT, &[AUDIENCE]).await?;
    let role = tenant.vault_role();
    tenant
        .vault
        .kubernetes_login(KUBERNETES_AUTH, role, &jwt)
        .await
}

/// Vault as the tenant's application.
async fn login(tenant: &Tenant) -> Result<VaultApi> {
    let token = text(&auth(tenant).await?["client_token"])?;
    Ok(tenant.vault.with_token(&token))
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("no text")?.to_owned())
}

async fn certificate(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("certificate").await?;
    let pki = tenant.pki_engine(24 * HOUR).await?;
    let path = pki.role("web", &PkiRole::default()).await?;
    tenant.grant(&[&path], &[]).await?;
    let app = login(&tenant).await?;
    let issue = || async {
        let body = json!({ "common_name": "web.test", "ttl": "10m" });
        Ok::<_, anyhow::Error>(app.write(&path, &body).await?["data"].take())
    };
    let chain = |issued: &Value| -> Result<(String, String)> {
        let chain = [&issued["certificate"], &issued["issuing_ca"]].map(text);
        let [leaf, issuer] = chain;
        Ok((
            format!("{}\n{}", leaf?, issuer?),
            text(&issued["private_key"])?,
        ))
    };
    let (first, second) = tokio::try_join!(issue(), issue())?;
    let (cert, key) = chain(&first)?;
    let server = TlsServer::start(&cert, &key).await?;
    let before = TlsClient::new(&pki.root_pem, &[pki.crl().await?])?;
    let done = before.handshake(server.address, "web.test").await?;
    ensure!(matches!(done, Handshake::Done(_)), "{done:?}");
    let other = before.handshake(server.address, "other.test").await?;
    ensure!(
        matches!(
            other,
            Handshake::Refused(CertificateError::NotValidForNameContext { .. })
        ),
        "{other:?}"
    );

    pki.revoke(&text(&first["serial_number"])?).await?;
    pki.rebuild_crl().await?;
    let after = TlsClient::new(&pki.root_pem, &[pki.crl().await?])?;
    let revoked = after.handshake(server.address, "web.test").await?;
    ensure!(
        revoked == Handshake::Refused(CertificateError::Revoked),
        "{revoked:?}"
    );
    let (cert, key) = chain(&second)?;
    server.swap(&cert, &key)?;
    let swapped = after.handshake(server.address, "web.test").await?;
    ensure!(
        matches!(swapped, Handshake::Done(_)) && swapped != done,
        "{swapped:?}"
    );
    let blind = TlsClient::new(&pki.root_pem, &[])?;
    let unasked = blind.handshake(server.address, "web.test").await?;
    ensure!(
        matches!(unasked, Handshake::Done(_)),
        "without a CRL: {unasked:?}"
    );
    let stranger = TlsClient::new(&ground.pki.ca_pem, &[])?;
    let untrusted = stranger.handshake(server.address, "web.test").await?;
    ensure!(
        untrusted == Handshake::Refused(CertificateError::UnknownIssuer),
        "{untrusted:?}"
    );
    Ok(())
}

async fn kinds_of_certificates(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("kinds-of-certificates").await?;
    let pki = tenant.pki_engine(HOUR).await?;
    let leased = PkiRole {
        generate_lease: true,
        ..PkiRole::default()
    };
    let forgotten = PkiRole {
        no_store: true,
        ..PkiRole::default()
    };
    let (leased, forgotten) = tokio::try_join!(
        pki.role("leased", &leased),
        pki.role("forgotten", &forgotten)
    )?;
    let ask = |path| {
        let (vault, body) = (
            &tenant.vault,
            json!({ "common_name": "web.test", "ttl": "10m" }),
        );
        async move { vault.write(path, &body).await }
    };
    let (with_lease, without) = tokio::try_join!(ask(&leased), ask(&forgotten))?;
    let live = tenant.vault.leases(&leased).await?;
    ensure!(
        live == [text(&with_lease["lease_id"])?] && with_lease["renewable"] == false,
        "live are {live:?} after {with_lease}"
    );
    tenant.vault.revoke_lease(&live[0]).await?;
    let live = tenant.vault.leases(&leased).await?;
    ensure!(live.is_empty(), "{live:?} was left");
    let refused = pki.revoke(&text(&without["data"]["serial_number"])?).await;
    ensure!(refused.is_err(), "Vault revoked what it had not stored");
    Ok(())
}

async fn service_account(ground: &Ground) -> Result<()> {
    // The token may not read Secrets, which is tried.
    let tenant = ground.tenant("forbidden-service-account").await?;
    let engine = tenant.kubernetes_engine().await?;
    let path = engine.role("pods", HOUR).await?;
    tenant.grant(&[&path], &Right::ALL).await?;
    let app = login(&tenant).await?;
    let refused = app.request(Method::GET, &path, None).await?;
    ensure!(refused.status == 405, "GET: {refused:?}");
    let answer = app
        .write(
            &path,
            &json!({ "kubernetes_namespace": tenant.namespace, "ttl": "20m" }),
        )
        .await?;
    let id = text(&answer["lease_id"])?;
    ensure!(
        answer["renewable"] == false && answer["lease_duration"] == 1200,
        "{answer}"
    );
    let lease = tenant.vault.lease(&id).await?.context("no lease")?;
    ensure!(!lease.renewable, "{lease:?}");
    let renewed = app
        .request(Method::PUT, &format!("sys/leases/renew/{id}"), None)
        .await?;
    ensure!(
        renewed.status == 400 && renewed.body.to_string().contains("not renewable"),
        "{renewed:?}"
    );

    let token = text(&answer["data"]["service_account_token"])?;
    let client = tenant.client_with_token("pods", &token).await?;
    let all = ListParams::default();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.list(&all).await.context("the token may list pods")?;
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let refused = secrets.list(&all).await.map(drop);
    ensure!(super::is_forbidden(&refused), "Secrets: {refused:?}");
    Ok(())
}

async fn leaseless(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("leaseless").await?;
    let path = tenant.leaseless_engine().await?;
    tenant.grant(&[&path], &[]).await?;
    let app = login(&tenant).await?;
    let ask = json!({ "bits": 256 });
    let (one, other) = tokio::try_join!(app.write(&path, &ask), app.write(&path, &ask))?;
    ensure!(
        one["lease_id"] == "" && one["lease_duration"] == 0 && one["renewable"] == false,
        "{one}"
    );
    ensure!(
        one["data"]["plaintext"] != other["data"]["plaintext"],
        "twice the same key"
    );
    Ok(())
}
