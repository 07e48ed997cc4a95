//! Certificates that take the place of others, under clients that look at the list
//! of revoked ones.

use std::sync::Arc;

use anyhow::{Result, ensure};
use ground::engines::{PkiEngine, PkiRole};
use ground::judges::workloads::Kind;
use ground::tls_peers::{Handshake, TlsClient, TlsServer};
use ground::wait_for;
use serde_json::json;

use crate::bearer::{Bearer, TLS};
use crate::clients::{Clients, Consumer, SecretText, slow_pods, wait_pods};
use crate::grades::{Grade, Names};
use crate::lessee::QUICK;
use crate::probes::workload;
use crate::support::{LONG, Suite};

crate::trials![
    "certificate_rotation": no_handshake_fails_while_certificates_change_twenty_times;
    in each grade: with_replace_handshakes_fail,
];

/// A server in each pod, with the certificate that its Secret held when the pod was
/// created, and a client that asks the engine for its CRL before each handshake.
struct Servers(Arc<PkiEngine>);

impl Consumer for Servers {
    type Held = TlsServer;

    async fn begin(&self, secret: &SecretText) -> Result<TlsServer> {
        TlsServer::start(&secret.get("tls.crt")?, &secret.get("tls.key")?).await
    }

    async fn connect(&self, server: &TlsServer) -> Result<Option<String>> {
        let crl = self.0.crl().await?;
        let client = TlsClient::new(&self.0.root_pem, &[crl])?;
        Ok(match client.handshake(server.address, "web.test").await? {
            Handshake::Done(_) => None,
            Handshake::Refused(why) => Some(why.to_string()),
        })
    }
}

/// A team whose pods serve TLS, and its clients.
async fn serving(
    suite: &Suite,
    grade: Grade,
    name: &str,
    replicas: usize,
    more: &str,
) -> Result<(Bearer, Clients)> {
    let role = PkiRole::default();
    let bearer = Bearer::with(suite, grade, name, Names::ROLLED, &role, more).await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    let spec = json!({
        "revoke": true, "rolloutRestartTargets": targets, "destination": { "type": TLS },
    });
    bearer.ask("app", spec).await?;
    bearer.wait_serial("app").await?;
    let web = workload(Kind::Deployment, "web", "app", slow_pods(replicas));
    bearer.team.tenant.apply(&web.to_string()).await?;
    wait_pods(&bearer.team, replicas).await?;
    let servers = Servers(Arc::new(bearer.engine.clone()));
    let clients = Clients::start(&bearer.team, "app", servers);
    Ok((bearer, clients))
}

impl Bearer {
    /// Has a certificate with another name beside issued, and waits for it.
    async fn rotate(&self, number: usize) -> Result<(String, String)> {
        let old = self.serial_of("app").await?;
        let names = [format!("n{number}.test")];
        self.edit("app", json!({ "spec": { "altNames": names } }))
            .await?;
        Ok((old.clone(), self.wait_other("app", &old).await?))
    }
}

async fn no_handshake_fails_while_certificates_change_twenty_times(suite: &Suite) -> Result<()> {
    const ROTATIONS: usize = 20;
    const REPLICAS: usize = 3;
    let grade = Grade::Namespace;
    let _turn = suite.crowds.acquire().await?;
    let (bearer, clients) = serving(suite, grade, "handshakes", REPLICAS, QUICK).await?;
    for number in 0..ROTATIONS {
        let (old, new) = bearer.rotate(number).await?;
        bearer.wait_revoked(&old).await?;
        ensure!(!bearer.is_revoked(&new).await?, "{new} is revoked");
        clients.wait_busy(REPLICAS).await?;
    }
    let seen = clients.end().await?;
    ensure!(
        seen.refused.is_empty(),
        "{} failed: {:?}",
        seen.refused.len(),
        seen.refused.first()
    );
    let busy = seen.accepted.values().filter(|count| **count >= 5).count();
    ensure!(
        busy >= REPLICAS * ROTATIONS,
        "{busy} busy: {:?}",
        seen.accepted
    );
    ensure!(bearer.team.restarts(Kind::Deployment, "web").await? == ROTATIONS);
    ensure!(bearer.issued(suite)? == ROTATIONS + 1);
    Ok(())
}

/// The same servers and clients, and certificates that are revoked at once: what the
/// trial above sees is what it looks for.
async fn with_replace_handshakes_fail(suite: &Suite, grade: Grade) -> Result<()> {
    let _turn = suite.crowds.acquire().await?;
    let replace = "rotation: {strategy: replace}\n";
    let (bearer, clients) = serving(suite, grade, "fails", 2, replace).await?;
    wait_for("clients", LONG, || async {
        ensure!(clients.seen.lock().await.accepted.len() == 2, "not yet");
        Ok(())
    })
    .await?;
    let (old, _) = bearer.rotate(0).await?;
    bearer.wait_revoked(&old).await?;
    bearer
        .team
        .wait_restarts(Kind::Deployment, "web", 1)
        .await?;
    wait_for("a handshake to fail", LONG, || async {
        let seen = clients.seen.lock().await;
        let revoked = seen.refused.iter().any(|why| why.contains("Revoked"));
        ensure!(revoked, "{:?}, accepted: {:?}", seen.refused, seen.accepted);
        Ok(())
    })
    .await?;
    clients.end().await.map(drop)
}
