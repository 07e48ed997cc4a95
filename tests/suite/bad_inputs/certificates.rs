//! A VaultPKISecret that asks for what cannot be, and an engine that refuses or
//! answers what is no certificate. What is there stays, and no mistake has a second
//! one issued.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::Answer;
use serde_json::{Value, json};

use super::objects::pki_of;
use super::scene::{OF_OTHERS, Scene};
use super::{CANARY, Case, Expected, Wrong, refused, taken, told};
use crate::bearer::{KIND, TLS};
use crate::grades::Grade;
use crate::support::Suite;

crate::trials![
    "bad_inputs": ; in each grade: wrong_certificates_are_told_and_heal,
];

/// The longest life of the engine's certificates.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a role of a case says while it is right.
pub fn role() -> Value {
    json!({
        "allowed_domains": ["web.test"], "allow_bare_domains": true, "allow_subdomains": true,
        "allow_any_name": false, "allow_ip_sans": true, "allowed_uri_sans": "spiffe://web.test/*",
        "allowed_other_sans": "1.2.3;UTF8:*", "key_type": "ec", "key_bits": 0,
        "ttl": "1h", "max_ttl": "2h", "no_store": false, "not_after": "", "generate_lease": false,
    })
}

async fn wrong_certificates_are_told_and_heal(suite: &Suite, grade: Grade) -> Result<()> {
    let scene = Scene::set(suite, grade, "bad-certificates").await?;
    let tenant = &scene.tenant;
    let engine = tenant.pki_engine(LIFE).await?;
    ensure!(engine.mount == pki_of(tenant), "{}", engine.mount);
    // The mount whole, so that a mistake is answered by the engine.
    let policy = format!(
        "path \"{}/*\" {{ capabilities = [\"create\", \"update\"] }}\n",
        engine.mount
    );
    tenant.vault.policy(&tenant.namespace, &policy).await?;
    let issued = async || -> Result<usize> {
        let found = tenant.vault.list(&format!("{}/certs", engine.mount)).await;
        Ok(found.context("the engine's certificates")?.len())
    };
    let before = issued().await?;
    let mut cases = cases(&scene);
    // What an engine answers is judged before any right matters.
    if grade == Grade::Named {
        cases = cases.into_iter().step_by(3).collect();
    }
    let rounds = scene.rounds();
    let expected: usize = cases.iter().map(|case| due(case, rounds)).sum();
    scene.play(suite, cases).await?;
    let issued = issued().await? - before;
    ensure!(issued == expected, "{issued} certificates, not {expected}");
    Ok(())
}

/// How many certificates a case has issued: the first one, and those after a mistake
/// that the engine itself made or that was none.
fn due(case: &Case, rounds: u64) -> usize {
    let each = match (&case.wrong, &case.expected) {
        (_, Expected::Taken(..)) => 2,
        (Wrong::Spec(_), _) => 0,
        _ => 1,
    };
    1 + each * usize::try_from(rounds).unwrap_or_default()
}

fn cases(scene: &Scene) -> Vec<Case> {
    let all = [specs(scene), asked(), answers(scene)];
    all.into_iter()
        .flatten()
        .map(|case| case.of(KIND))
        .collect()
}

/// What is refused before the engine hears of it, or before the Secret is written.
fn specs(scene: &Scene) -> Vec<Case> {
    let spec = Wrong::Spec;
    let destination = |patch| spec(json!({ "destination": patch }));
    let mount = pki_of(&scene.tenant);
    vec![
        refused(
            "offset-of-words",
            spec(json!({ "expiryOffset": "soon" })),
            &["spec.expiryOffset", "should match"],
        ),
        refused(
            "ttl-of-words",
            spec(json!({ "ttl": "long" })),
            &["spec.ttl", "should match"],
        ),
        refused(
            "pki-mount-left-out",
            spec(json!({ "mount": null })),
            &["spec.mount", "Required"],
        ),
        refused(
            "pki-role-left-out",
            spec(json!({ "role": null })),
            &["spec.role", "Required"],
        ),
        refused(
            "names-in-one-text",
            spec(json!({ "altNames": "a.web.test,b.web.test" })),
            &["spec.altNames", "expected list"],
        ),
        told(
            "offset-too-long",
            spec(json!({ "expiryOffset": "999999999999h" })),
            "InvalidConfiguration",
            &["spec.expiryOffset", "292 years"],
        ),
        told(
            "pki-mount-empty",
            spec(json!({ "mount": "" })),
            "InvalidConfiguration",
            &["spec.mount", "is empty", "the mount of the PKI engine"],
        ),
        told(
            "pki-role-empty",
            spec(json!({ "role": "/" })),
            "InvalidConfiguration",
            &["spec.role", "is empty", "the role to issue by"],
        ),
        told(
            "pki-role-that-climbs",
            spec(json!({ "role": "../revoke" })),
            "PolicyDenied",
            &["spec.role", "../revoke", "change the resource"],
        ),
        told(
            "pki-mount-with-a-query",
            spec(json!({ "mount": format!("{mount}?x=1") })),
            "PolicyDenied",
            &["spec.mount", "?x=1", "change the resource"],
        ),
        told(
            "pki-mount-of-vaults-own",
            spec(json!({ "mount": "sys" })),
            "PolicyDenied",
            &["Vault's own API", "policy.systemPaths"],
        ),
        told(
            "pki-mount-of-nobody",
            spec(json!({ "mount": "not-mounted" })),
            "VaultPermissionDenied",
            &["not-mounted/issue/", "policy of the login's role"],
        ),
        told(
            "pki-name-of-others",
            destination(json!({ "name": OF_OTHERS })),
            "DestinationNotOwned",
            &[OF_OTHERS, "overwrite: true"],
        )
        .naming_others(),
        told(
            "type-of-another-content",
            destination(json!({ "type": "kubernetes.io/dockerconfigjson" })),
            "DestinationInvalid",
            &[".dockerconfigjson"],
        ),
    ]
}

/// What the engine itself says no to.
fn asked() -> Vec<Case> {
    let spec = Wrong::Spec;
    let no = |name, patch, words| told(name, spec(patch), "VaultClientError", words);
    vec![
        no(
            "name-not-allowed",
            json!({ "commonName": "web.example" }),
            &["web.example", "not allowed by this role", "spec.role"],
        ),
        no(
            "role-not-there",
            json!({ "role": "nobody" }),
            &["unknown role", "spec.role"],
        ),
        no(
            "issuer-not-there",
            json!({ "issuerRef": "nobody" }),
            &["issuer", "nobody", "spec.issuerRef"],
        ),
        no(
            "ip-of-words",
            json!({ "ipSans": ["here"] }),
            &["here", "IP", "names, times and formats"],
        ),
        no(
            "uri-not-allowed",
            json!({ "uriSans": ["spiffe://other.test/a"] }),
            &["URI Subject Alternative Names", "names, times and formats"],
        ),
        no(
            "other-name-without-type",
            json!({ "otherSans": ["1.2.3=x"] }),
            &["1.2.3=x", "names, times and formats"],
        ),
        no(
            "user-not-allowed",
            json!({ "userIDs": ["somebody"] }),
            &["somebody", "names, times and formats"],
        ),
        no(
            "end-of-words",
            json!({ "notAfter": "soon" }),
            &["parsing time", "soon", "names, times and formats"],
        ),
        no(
            "end-in-the-past",
            json!({ "notAfter": "2020-01-01T00:00:00Z" }),
            &["past"],
        ),
        no(
            "end-said-twice",
            json!({ "notAfter": "2099-01-01T00:00:00Z", "ttl": "10m" }),
            &["ttl", "not_after"],
        ),
        no(
            "format-unknown",
            json!({ "format": "jks" }),
            &["format", "pem_bundle"],
        ),
        no(
            "role-for-no-issue",
            json!({}),
            &["key type", "not allowed for issuing", "spec.role"],
        )
        .going_wrong(Wrong::Issuing(json!({ "key_type": "any" }))),
        // No mistakes to the engine.
        taken(
            "ttl-beyond-the-role",
            spec(json!({ "ttl": "9h" })),
            "private_key_type",
            "ec",
        ),
        taken(
            "key-format-unknown",
            spec(json!({ "privateKeyFormat": "jks" })),
            "private_key_type",
            "ec",
        ),
    ]
}

/// What no certificate can be read from.
fn answers(scene: &Scene) -> Vec<Case> {
    let data = |data: Value| {
        let body = json!({ "data": data }).to_string();
        Wrong::Read(Answer::body(200, "application/json", body))
    };
    let with = |certificate: &str| {
        data(json!({
            "certificate": certificate, "private_key": CANARY, "private_key_type": "ec",
            "issuing_ca": "", "serial_number": "aa",
        }))
    };
    let error = |status, words: &str| Wrong::Read(Answer::vault_error(status, &[words]));
    let page = Answer::body(200, "text/html", format!("<html>{CANARY}</html>"));
    let no = |name, wrong, words| told(name, wrong, "VaultClientError", words);
    let tls = json!({ "destination": { "type": TLS } });
    vec![
        no(
            "answer-without-certificate",
            data(json!({ "private_key": CANARY })),
            &[
                "not an object of the expected form",
                "spec.mount or spec.role",
            ],
        ),
        no(
            "answer-without-key",
            data(json!({ "certificate": CANARY })),
            &[
                "not an object of the expected form",
                "spec.mount or spec.role",
            ],
        ),
        no("answer-empty", with(""), &["there is no certificate in it"]),
        no(
            "answer-of-words",
            with(CANARY),
            &["a certificate in it cannot be read"],
        ),
        no(
            "answer-of-words-for-tls",
            with(CANARY),
            &["a certificate in it cannot be read"],
        )
        .always(tls),
        told(
            "answer-that-ended",
            with(&scene.expired_pem),
            "CertificateTooShort",
            &["ended at", "before it came", "ttl of the role"],
        ),
        no(
            "answer-without-data",
            Wrong::Read(Answer::body(200, "application/json", "{}")),
            &["without data"],
        ),
        no(
            "answer-of-a-page",
            Wrong::Read(page),
            &["it is not Vault's JSON", "is it Vault that answers"],
        ),
        no(
            "engine-refuses",
            error(400, "unsupported"),
            &[
                "HTTP 400: unsupported",
                "check spec.mount, spec.issuerRef, spec.role",
            ],
        ),
        told(
            "engine-gone",
            error(404, "no handler for route"),
            "SecretNotFound",
            &["no handler for route", "spec.role", "spec.namespace"],
        ),
        told(
            "engine-fails",
            error(500, "internal error"),
            "VaultUnavailable",
            &["HTTP 500: internal error", "who runs Vault"],
        ),
        told(
            "issuer-that-ends-first",
            error(
                400,
                "cannot satisfy request, as TTL would result in notAfter of 2030 that is beyond the expiration of the CA certificate at 2029",
            ),
            "IssuerExpiresFirst",
            &["would outlive its issuer", "spec.ttl"],
        ),
        told(
            "engine-denies",
            error(403, "permission denied"),
            "VaultPermissionDenied",
            &["policy of the login's role"],
        ),
    ]
}

impl Case {
    fn going_wrong(mut self, wrong: Wrong) -> Self {
        self.wrong = wrong;
        self
    }
}
