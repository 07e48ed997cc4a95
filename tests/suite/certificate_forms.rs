//! What a certificate looks like is what the spec says, in each form in which an
//! engine answers.

use anyhow::{Context, Result, ensure};
use ground::Right;
use ground::engines::PkiRole;
use ground::tls_peers::{Handshake, TlsClient, TlsServer};
use serde_json::json;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::bearer::{Bearer, KIND, TLS};
use crate::grades::{Grade, Names};
use crate::support::Suite;

crate::trials![
    "certificate_forms":
    every_field_is_in_the_certificate, every_form_serves_tls,
];

async fn every_field_is_in_the_certificate(suite: &Suite) -> Result<()> {
    let names = Names::secrets(&["full", "dated"]);
    let role = PkiRole::default();
    let bearer = Bearer::start(suite, Grade::Namespace, "fields", names, &role).await?;
    let issuer = format!("{}/issuer/default/issue/web", bearer.engine.mount);
    let revoke = format!("{}/revoke", bearer.engine.mount);
    let all = [bearer.issue.as_str(), &issuer, &revoke];
    bearer.team.tenant.grant(&all, &Right::ALL).await?;
    let spec = json!({
        "issuerRef": "default", "altNames": ["alt.test", "mail@web.test"], "ipSans": ["127.0.0.1", "::1"],
        "uriSans": ["spiffe://web.test/a"], "otherSans": ["1.3.6.1.4.1.311.20.2.3;UTF8:other"],
        "userIDs": ["u-1", "u-2"], "ttl": "30m", "excludeCNFromSans": true,
    });
    bearer.ask("full", spec).await?;
    bearer.wait_serial("full").await?;
    let der = bearer.der("full").await?;
    let (_, found) = X509Certificate::from_der(&der)?;
    let subject = found.subject().to_string();
    for part in ["CN=web.test", "u-1", "u-2"] {
        ensure!(subject.contains(part), "{subject}");
    }
    let sans = found.subject_alternative_name()?.context("no names")?;
    let sans = &sans.value.general_names;
    let dns: Vec<&str> = sans
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    ensure!(dns == ["alt.test"], "{dns:?}");
    let mail = |name: &GeneralName<'_>| *name == GeneralName::RFC822Name("mail@web.test");
    let uri = |name: &GeneralName<'_>| *name == GeneralName::URI("spiffe://web.test/a");
    let ip = |name: &GeneralName<'_>| matches!(name, GeneralName::IPAddress(_));
    let other = |name: &GeneralName<'_>| matches!(name, GeneralName::OtherName(..));
    ensure!(sans.iter().any(mail) && sans.iter().any(uri), "{sans:?}");
    ensure!(sans.iter().filter(|name| ip(name)).count() == 2, "{sans:?}");
    ensure!(sans.iter().any(other), "{sans:?}");
    let validity = found.validity();
    let lasts = validity.not_after.timestamp() - validity.not_before.timestamp();
    // Vault dates a certificate back by 30 s.
    ensure!((1800..=1832).contains(&lasts), "{lasts} s");
    let end = jiff::Timestamp::now().as_second() + 5000;
    let end = jiff::Timestamp::from_second(end)?;
    bearer
        .ask("dated", json!({ "notAfter": format!("{end:.0}") }))
        .await?;
    bearer.wait_serial("dated").await?;
    let status = bearer.status("dated").await?;
    ensure!(status["expiration"] == end.as_second(), "{status}");
    Ok(())
}

/// Each format with each kind of key, into a Secret of the type for TLS: a real
/// server starts with it, a real client trusts it.
async fn every_form_serves_tls(suite: &Suite) -> Result<()> {
    let forms = [
        ("pem", ""),
        ("pem", "pkcs8"),
        ("pem_bundle", ""),
        ("der", ""),
        ("der", "pkcs8"),
    ];
    let keys = ["ec", "rsa", "ed25519"];
    let name = |key: &str, (format, form): (&str, &str)| {
        format!("{key}-{}-{form}", format.replace('_', "-"))
            .trim_end_matches('-')
            .to_owned()
    };
    let of_key = |key: &'static str| forms.map(|form| name(key, form));
    let secrets: Vec<String> = keys.into_iter().flat_map(of_key).collect();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    let role = PkiRole::default();
    let names = Names::secrets(&secrets);
    let bearer = Bearer::start(suite, Grade::Namespace, "forms", names, &role).await?;
    let mut paths = Vec::new();
    for key_type in keys {
        let role = PkiRole {
            key_type,
            ..PkiRole::default()
        };
        paths.push(bearer.engine.role(key_type, &role).await?);
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    bearer.team.tenant.grant(&paths, &Right::ALL).await?;
    for key in keys {
        for form in forms {
            let mut spec = json!({ "role": key, "format": form.0, "destination": { "type": TLS } });
            if !form.1.is_empty() {
                spec["privateKeyFormat"] = json!(form.1);
            }
            bearer.ask(&name(key, form), spec).await?;
        }
    }
    let client = TlsClient::new(&bearer.engine.root_pem, &[bearer.engine.crl().await?])?;
    for secret in secrets {
        bearer.wait_serial(secret).await?;
        let certificate = bearer.team.value(secret, "tls.crt").await?;
        let key = bearer.team.value(secret, "tls.key").await?;
        ensure!(
            !certificate.contains("PRIVATE"),
            "{secret}: the key is told"
        );
        let server = TlsServer::start(&certificate, &key).await;
        let server = server.with_context(|| secret.to_owned())?;
        let shaken = client.handshake(server.address, "web.test").await?;
        ensure!(matches!(shaken, Handshake::Done(_)), "{secret}: {shaken:?}");
        let authority = bearer.team.value(secret, "ca.crt").await?;
        ensure!(authority.starts_with("-----BEGIN CERTIFICATE"), "{secret}");
    }
    // What is no format at all is Vault's no, and nothing is written.
    let spec = json!({ "role": "ec", "format": "jks" });
    bearer.ask("jks", spec).await?;
    let told = bearer
        .team
        .wait_for_condition(KIND, "jks", "Ready", |c| c.reason == "VaultClientError")
        .await?;
    ensure!(told.message.contains("format"), "{told:?}");
    ensure!(bearer.team.tenant.secret("jks").await?.is_none());
    Ok(())
}
