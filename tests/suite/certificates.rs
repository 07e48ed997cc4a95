//! Certificates that Vault's PKI engine issues: into Secrets that TLS servers read,
//! replaced before their end, revoked when nobody needs them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::PkiRole;
use ground::judges::workloads::Kind;
use ground::tls_peers::{Handshake, TlsClient, TlsServer};
use ground::{Right, wait_for};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bearer::{Bearer, KIND, TLS};
use crate::grades::{Grade, Names, placed};
use crate::lessee::QUICK;
use crate::probes::workload;
use crate::support::{LONG, Suite, config};

crate::trials![
    "certificates":
    an_engine_that_forgets_and_one_that_leases_are_served;
    in each grade:
    a_certificate_arrives_and_a_server_serves_with_it, it_is_replaced_before_its_end,
    status_deleted_and_the_operator_restarted_it_stays, what_a_deleted_resource_held_is_revoked,
    keys_go_with_their_resource_where_that_is_asked_for,
    only_what_changes_the_request_has_another_issued,
];

async fn a_certificate_arrives_and_a_server_serves_with_it(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let bearer = Bearer::start(suite, grade, "serves", Names::APP, &PkiRole::default()).await?;
    bearer
        .ask("app", json!({ "destination": { "type": TLS } }))
        .await?;
    let serial = bearer.wait_serial("app").await?;
    let keys = bearer.team.keys("app").await?;
    let expected = [
        "_raw",
        "authority_key_id",
        "ca.crt",
        "ca_chain",
        "certificate",
        "expiration",
        "issuing_ca",
        "private_key",
        "private_key_type",
        "serial_number",
        "tls.crt",
        "tls.key",
    ];
    ensure!(keys == expected, "{keys:?}");
    ensure!(bearer.team.value("app", "serial_number").await? == serial);
    let status = bearer.status("app").await?;
    let end = bearer.team.value("app", "expiration").await?;
    ensure!(
        status["expiration"] == end.parse::<i64>()?,
        "{status}, {end}"
    );
    ensure!(status["valid"] == true && status["error"] == "", "{status}");
    let told = bearer.wait_told("app", "CertificateValid").await?;
    ensure!(told.contains(&serial), "{told}");
    let (certificate, key) = (
        bearer.team.value("app", "tls.crt").await?,
        bearer.team.value("app", "tls.key").await?,
    );
    let server = TlsServer::start(&certificate, &key).await?;
    let crl = bearer.engine.crl().await?;
    let client = TlsClient::new(&bearer.engine.root_pem, &[crl])?;
    let shaken = client.handshake(server.address, "web.test").await?;
    ensure!(
        shaken == Handshake::Done(bearer.der("app").await?),
        "{shaken:?}"
    );
    ensure!(bearer.issued(suite)? == 1);
    Ok(())
}

async fn it_is_replaced_before_its_end(suite: &Suite, grade: Grade) -> Result<()> {
    let bearer = Bearer::start(suite, grade, "offset", Names::ROLLED, &PkiRole::default()).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    bearer.team.tenant.apply(&web.to_string()).await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    let spec = json!({
        "ttl": "60s", "expiryOffset": "40s", "revoke": true, "rolloutRestartTargets": targets,
    });
    bearer.ask("app", spec).await?;
    let first = bearer.wait_serial("app").await?;
    let end = bearer.status("app").await?["expiration"].as_i64();
    let second = bearer.wait_other("app", &first).await?;
    let left = end.context("no end")? - bearer.issues(suite)?[1].as_second();
    ensure!(
        (25..=42).contains(&left),
        "replaced {left} s before its end"
    );
    // Nobody waits for the next one, which would come in twenty seconds.
    bearer
        .edit(
            "app",
            json!({ "spec": { "ttl": "1h", "expiryOffset": "1m" } }),
        )
        .await?;
    bearer.wait_other("app", &second).await?;
    wait_for("a restart", LONG, || async {
        let restarts = bearer.team.restarts(Kind::Deployment, "web").await?;
        ensure!(restarts >= 1, "{restarts} restarts");
        Ok(())
    })
    .await?;
    bearer.wait_revoked(&second).await?;
    wait_for("its events", LONG, || async {
        let told = bearer.team.events("app").await?;
        let reasons: Vec<&str> = told.iter().map(|(reason, _)| reason.as_str()).collect();
        for reason in ["SecretSynced", "SecretRotated", "CertificateRevoked"] {
            ensure!(reasons.contains(&reason), "{reasons:?}");
        }
        Ok(())
    })
    .await
}

async fn status_deleted_and_the_operator_restarted_it_stays(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let bearer = Bearer::start(suite, grade, "stays", Names::APP, &PkiRole::default()).await?;
    bearer.ask("app", json!({})).await?;
    let serial = bearer.wait_serial("app").await?;
    bearer.team.operator.terminate(LONG).await;
    let person = PatchParams {
        field_manager: Some("kubectl-edit".to_owned()),
        ..PatchParams::default()
    };
    let none = Patch::Merge(json!({ "status": null }));
    bearer
        .team
        .resources(KIND)
        .patch_status("app", &person, &none)
        .await?;
    ensure!(
        bearer.serial_of("app").await.is_err(),
        "status is still there"
    );
    bearer.team.operator.restart().await?;
    ensure!(bearer.wait_serial("app").await? == serial, "another one");
    ensure!(bearer.issued(suite)? == 1);
    // A tenant's word for another one is not believed at the next look.
    let forged = Patch::Merge(json!({ "status": { "serialNumber": "aa:bb", "expiration": 1 } }));
    bearer
        .team
        .resources(KIND)
        .patch_status("app", &person, &forged)
        .await?;
    let look = json!({ "metadata": { "annotations": { "vso.hashicorp.com/resync": "1" } } });
    bearer.edit("app", look).await?;
    wait_for("the serial number of before", LONG, || async {
        let status = bearer.status("app").await?;
        ensure!(status["lastResync"] == "1" && status["serialNumber"] == serial.as_str());
        Ok(())
    })
    .await?;
    ensure!(bearer.issued(suite)? == 1);
    Ok(())
}

async fn what_a_deleted_resource_held_is_revoked(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["back", "kept", "went"]);
    let bearer = Bearer::start(suite, grade, "revoked", names, &PkiRole::default()).await?;
    for (name, revoke) in [("back", true), ("kept", false), ("went", true)] {
        bearer.ask(name, json!({ "revoke": revoke })).await?;
    }
    let back = bearer.wait_serial("back").await?;
    let kept = bearer.wait_serial("kept").await?;
    let went = bearer.wait_serial("went").await?;
    bearer.delete("back").await?;
    bearer.delete("kept").await?;
    bearer.wait_revoked(&back).await?;
    bearer.team.operator.terminate(LONG).await;
    bearer.delete("went").await?;
    let logins = bearer.team.resources("VaultAuth");
    logins.delete("default", &DeleteParams::default()).await?;
    bearer.team.operator.restart().await?;
    bearer.wait_revoked(&went).await?;
    ensure!(!bearer.is_revoked(&kept).await?, "revoke: false");
    ensure!(bearer.revocations(suite)? == 2);
    Ok(())
}

/// `clear`, of a Secret that somebody else made, also where the resource goes while
/// nobody runs.
async fn keys_go_with_their_resource_where_that_is_asked_for(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let role = PkiRole::default();
    let bearer = Bearer::start(suite, grade, "cleared", Names::secrets(&[]), &role).await?;
    let secrets = ["now", "later", "left"];
    let resources: Vec<Value> = secrets
        .iter()
        .map(|name| {
            let clear = *name != "left";
            bearer.manifest(
                name,
                json!({ "clear": clear, "destination": { "create": false } }),
            )
        })
        .collect();
    let tenant = &bearer.team.tenant;
    let of_resources = resources.iter().map(|one| placed(tenant, one.clone()));
    let mut named = Names::secrets(&[]).resources(tenant);
    named.extend(of_resources);
    let config = config(tenant, &format!("{QUICK}{}", grade.lines()));
    grade.allow(tenant, &config, &named).await?;
    for (name, resource) in secrets.iter().zip(&resources) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "theirs": "stays" },
        });
        bearer.team.tenant.apply(&secret.to_string()).await?;
        bearer.team.tenant.apply(&resource.to_string()).await?;
        bearer.wait_serial(name).await?;
    }
    bearer.delete("now").await?;
    bearer.wait_keys("now", &["theirs"]).await?;
    bearer.team.operator.terminate(LONG).await;
    bearer.delete("later").await?;
    bearer.delete("left").await?;
    bearer.team.operator.restart().await?;
    bearer.wait_keys("later", &["theirs"]).await?;
    let left = bearer.team.keys("left").await?;
    ensure!(left.len() > 5, "{left:?}");
    Ok(())
}

impl Bearer {
    async fn wait_keys(&self, secret: &str, expected: &[&str]) -> Result<()> {
        wait_for(&format!("{expected:?} in {secret}"), LONG, || async {
            let keys = self.team.keys(secret).await?;
            ensure!(keys == expected, "{keys:?}");
            Ok(())
        })
        .await
    }
}

async fn only_what_changes_the_request_has_another_issued(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let names = Names {
        secrets: &["app", "renamed"],
        workloads: &[(Kind::Deployment, "web")],
    };
    let bearer = Bearer::start(suite, grade, "edited", names, &PkiRole::default()).await?;
    let web = workload(Kind::Deployment, "web", "app", json!({}));
    bearer.team.tenant.apply(&web.to_string()).await?;
    bearer.ask("app", json!({})).await?;
    let issuer = format!("{}/issuer/default/issue/web", bearer.engine.mount);
    let revoke = format!("{}/revoke", bearer.engine.mount);
    let all = [bearer.issue.as_str(), &issuer, &revoke];
    bearer.team.tenant.grant(&all, &Right::ALL).await?;
    let mut serial = bearer.wait_serial("app").await?;
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    let transformation = |what: Value| json!({ "destination": { "transformation": what } });
    let kept = [
        json!({ "rolloutRestartTargets": targets }),
        json!({ "expiryOffset": "5m" }),
        json!({ "revoke": true }),
        json!({ "clear": true }),
        json!({ "destination": { "labels": { "team": "web" } } }),
        transformation(json!({ "excludes": ["issuing_ca"] })),
        json!({ "destination": { "type": TLS } }),
        json!({ "destination": { "name": "renamed" } }),
    ];
    for spec in kept {
        bearer.edit("app", json!({ "spec": spec })).await?;
        ensure!(bearer.wait_serial("app").await? == serial, "{spec}");
    }
    let keys = bearer.team.keys("renamed").await?;
    ensure!(keys.contains(&"tls.crt".to_owned()), "{keys:?}");
    ensure!(!keys.contains(&"issuing_ca".to_owned()), "{keys:?}");
    let changed = [
        json!({ "commonName": "other.test" }),
        json!({ "altNames": ["a.test"] }),
        json!({ "ipSans": ["127.0.0.1"] }),
        json!({ "uriSans": ["spiffe://a.test/b"] }),
        json!({ "otherSans": ["1.3.6.1.4.1.311.20.2.3;UTF8:a@b.test"] }),
        json!({ "userIDs": ["u"] }),
        json!({ "ttl": "30m" }),
        json!({ "excludeCNFromSans": true }),
        json!({ "format": "pem_bundle" }),
        json!({ "privateKeyFormat": "pkcs8" }),
        json!({ "issuerRef": "default" }),
    ];
    for spec in changed {
        bearer.edit("app", json!({ "spec": spec })).await?;
        serial = bearer
            .wait_other("app", &serial)
            .await
            .with_context(|| spec.to_string())?;
    }
    Ok(())
}

async fn an_engine_that_forgets_and_one_that_leases_are_served(suite: &Suite) -> Result<()> {
    let role = PkiRole {
        no_store: true,
        ..PkiRole::default()
    };
    let names = Names::secrets(&["app", "leased"]);
    let bearer = Bearer::start(suite, Grade::Namespace, "forgets", names, &role).await?;
    bearer.ask("app", json!({ "revoke": true })).await?;
    let first = bearer.wait_serial("app").await?;
    bearer
        .edit("app", json!({ "spec": { "altNames": ["a.test"] } }))
        .await?;
    bearer.wait_other("app", &first).await?;
    wait_for("a word about the first one", LONG, || async {
        let events = bearer.team.events("app").await?;
        let told = events.iter().any(|(reason, message)| {
            reason == "CertificateRevocationError" && message.contains("no_store")
        });
        ensure!(told, "{events:?}");
        Ok(())
    })
    .await?;
    let ready = bearer
        .team
        .wait_condition(KIND, "app", "Ready", "True")
        .await?;
    ensure!(ready.reason == "Synced", "{ready:?}");
    // One with a lease is revoked by it.
    let role = PkiRole {
        generate_lease: true,
        ttl: Duration::from_secs(600),
        ..PkiRole::default()
    };
    let path = bearer.engine.role("leased", &role).await?;
    let both = [bearer.issue.as_str(), &path];
    bearer.team.tenant.grant(&both, &Right::ALL).await?;
    bearer
        .ask("leased", json!({ "role": "leased", "revoke": true }))
        .await?;
    let serial = bearer.wait_serial("leased").await?;
    let leases = bearer.team.tenant.vault.leases(&path).await?;
    ensure!(leases.len() == 1, "{leases:?}");
    bearer.delete("leased").await?;
    bearer.wait_revoked(&serial).await?;
    wait_for("the end of its lease", LONG, || async {
        let left = bearer.team.tenant.vault.leases(&path).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}
