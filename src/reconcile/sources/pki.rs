//! Certificates that a PKI engine issues (compatibility.md, "PKI"; Vault API docs,
//! "PKI secrets engine", "Generate certificate and key").

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::{Held, SecretResource, Told, answered, parse};
use crate::api::VaultPKISecret;
use crate::config::duration;
use crate::key::{Kind, Redacted};
use crate::policy::{Fields, Read};
use crate::problem::Problem;
use crate::reconcile::grants::Terms;
use crate::reconcile::time::later;
use crate::render::{Content, Grant, Material, SecretData};
use crate::vault::Reply;

use certificate::{Certificate, certificates, key_pem};

#[path = "certificate.rs"]
mod certificate;

/// The type of Secret whose keys the API server asks for.
const TLS: &str = "kubernetes.io/tls";

/// What Vault says where a certificate would outlive its issuer, and the issuer
/// refuses that (its `leaf_not_after_behavior` is `err`).
const BEYOND_ISSUER: &str = "beyond the expiration of the CA certificate";

/// What Vault says where there is no such issuer (pki/path_issue_sign.go in its source).
const NO_ISSUER: &str = "could not fetch the CA certificate (was one set?)";

/// The fields that say which engine answers.
const ENGINE: &str = "spec.mount or spec.role";

/// The fields of an answer that are looked into.
#[derive(Deserialize)]
struct Answer {
    certificate: String,
    #[serde(default)]
    issuing_ca: String,
    #[serde(default)]
    ca_chain: Vec<String>,
    private_key: String,
    #[serde(default)]
    private_key_type: String,
}

impl SecretResource for VaultPKISecret {
    fn kind(&self) -> Kind {
        Kind::VaultPkiSecret
    }

    fn source_type(&self) -> &str {
        "pki"
    }

    spec_of_all!();

    fn told(&self) -> Told<'_> {
        self.status.as_ref().map_or(Told::default(), |status| Told {
            conditions: &status.conditions,
            observed_generation: status.observed_generation,
            secret_mac: status.secret_mac.as_deref(),
            last_resync: status.last_resync.as_deref(),
            destinations: &status.destinations,
            targets: &status.rollouts.rollout_targets,
            renewed: None,
            lifetime: Some(&status.lifetime),
            lease: None,
        })
    }

    fn request(&self, vault_namespace: Option<String>) -> Result<Read, Problem> {
        let (mount, role) = (self.mount(), self.spec.role.trim_matches('/'));
        for (field, text, what) in [
            ("spec.mount", mount, "the mount of the PKI engine"),
            ("spec.role", role, "the role to issue by"),
        ] {
            if text.is_empty() {
                return Err(Problem::InvalidSpec {
                    field: field.to_owned(),
                    why: format!("is empty: give {what} in Vault"),
                });
            }
        }
        let path = self.source_name("");
        Ok(Read {
            vault_namespace,
            mount: mount.to_owned(),
            path,
            query: Vec::new(),
            mints: true,
            body: Some(self.body()),
            fields: Fields {
                path: "spec.mount, spec.issuerRef or spec.role",
                all: "spec.mount, spec.issuerRef, spec.role and spec.namespace, and the names, times and formats that the spec asks for,",
            },
        })
    }

    fn refresh_after(&self) -> Result<Option<Duration>, Problem> {
        Ok(None)
    }

    fn terms(&self, share: f64) -> Result<Option<Terms>, Problem> {
        Ok(Some(Terms {
            renewal_percent: 0,
            lead: Some(self.expiry_offset()?),
            refresh_after: None,
            share,
            margin: Duration::ZERO,
            mints: true,
            renews: false,
            look_every: None,
        }))
    }

    fn revokes(&self) -> bool {
        self.spec.revoke == Some(true)
    }

    fn clears(&self) -> bool {
        self.spec.clear == Some(true)
    }

    fn content(&self, data: &RawValue, path: &str) -> Result<Content, Problem> {
        let mut content = Content {
            fields: parse(data, path, ENGINE)?,
            fixed: SecretData::new(),
        };
        let answer: Answer = parse(data, path, ENGINE)?;
        if content.fields.contains_key("ca_chain")
            && let Ok(joined) = to_raw_value(&answer.ca_chain.join("\n"))
        {
            content.fields.insert("ca_chain".to_owned(), joined);
        }
        if self.spec.destination.type_.as_deref() == Some(TLS) {
            content.fixed = self.tls_keys(&answer, path)?;
        }
        Ok(content)
    }

    fn granted(&self, data: &RawValue, path: &str, grant: Grant) -> Result<Grant, Problem> {
        let answer: Answer = parse(data, path, ENGINE)?;
        let (certificate, issuer) = leaf_and_issuer(&answer, path)?;
        // As the certificate says, whatever else was read back, in whole seconds.
        let within = certificate.not_before < grant.since && grant.since < certificate.not_after;
        let since = match within {
            true => whole(grant.since),
            false => certificate.not_before,
        };
        // An issuer may be told to let certificates outlive it
        // (`leaf_not_after_behavior: permit`): nobody trusts them then.
        let issuer_ends = issuer.map(|issuer| issuer.not_after);
        let issuer_ends = issuer_ends.filter(|ends| *ends <= certificate.not_after);
        let end = issuer_ends.unwrap_or(certificate.not_after);
        let lasts = end.duration_since(since);
        Ok(Grant {
            since,
            seconds: u64::try_from(lasts.as_secs()).unwrap_or_default(),
            issuer_first: issuer_ends.is_some(),
            serial: certificate.serial,
            ..grant
        })
    }

    fn material(&self, read: &Read, reply: Reply, now: Timestamp) -> Result<Material, Problem> {
        let lease = reply.lease.clone();
        let mend = "correct spec.mount, spec.role, spec.issuerRef and spec.namespace";
        let data = answered(read, reply, mend)?;
        let grant = Grant {
            since: whole(now),
            lease: lease.id,
            ..Grant::default()
        };
        let grant = self.granted(data.expose(), &read.path, grant)?;
        let end = later(grant.since, grant.duration());
        if end <= now {
            let whose = if grant.issuer_first {
                " with its issuer"
            } else {
                ""
            };
            return Err(Problem::CertificateTooShort {
                path: read.path.clone(),
                why: format!(
                    "Vault issued a certificate that ended{whose} at {end:.0}, before it came; it is not written: look at the ttl of the role, at the issuer's end, and at the clocks of Vault and of this cluster"
                ),
            });
        }
        Ok(Material {
            content: self.content(data.expose(), &read.path)?,
            raw: data,
            version: String::new(),
            grant: Some(grant),
            volatile: self.volatile(),
        })
    }

    fn explained(&self, problem: Problem) -> Problem {
        match problem {
            Problem::VaultAnswerUnusable {
                path,
                why,
                refusal: true,
            } if why.contains(BEYOND_ISSUER) => Problem::IssuerExpiresFirst {
                path,
                why: format!(
                    "the certificate would outlive its issuer, which refuses that ({why}): ask for a shorter spec.ttl, or renew the issuer in Vault"
                ),
                pause: None,
            },
            // With a 500, as if it were Vault's own trouble.
            Problem::VaultUnavailable { why, .. } if why.contains(NO_ISSUER) => {
                Problem::VaultAnswerUnusable {
                    path: self.source_name(""),
                    why: format!(
                        "{why}; correct spec.issuerRef, or give the engine at spec.mount that issuer"
                    ),
                    refusal: true,
                }
            }
            problem => problem,
        }
    }

    fn source_name(&self, _version: &str) -> String {
        let (mount, role) = (self.mount(), self.spec.role.trim_matches('/'));
        let issuer = self.spec.issuer_ref.as_deref().unwrap_or_default();
        match issuer.trim_matches('/') {
            "" => format!("{mount}/issue/{role}"),
            issuer => format!("{mount}/issuer/{issuer}/issue/{role}"),
        }
    }

    fn status_fields(&self, held: Option<&Held>, problem: Option<&Problem>) -> Value {
        let told = self.status.clone().unwrap_or_default();
        let mut fields = json!({
            "lastGeneration": told.last_generation,
            "lastRotation": told.last_rotation,
            "serialNumber": told.serial_number,
            "expiration": told.expiration,
            "valid": told.valid,
            "error": told.error,
        });
        if let Some(Held { grant, .. }) = held {
            let end = later(grant.since, grant.duration());
            fields["lastRotation"] = json!(grant.since.as_second());
            fields["serialNumber"] = json!(grant.serial);
            fields["expiration"] = json!(end.as_second());
        }
        if held.is_some() || problem.is_some() {
            fields["valid"] = json!(problem.is_none());
            fields["error"] = json!(problem.map_or("", Problem::reason));
        }
        fields
    }
}

impl VaultPKISecret {
    fn mount(&self) -> &str {
        self.spec.mount.trim_matches('/')
    }

    /// `spec.expiryOffset`; without one none.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`].
    fn expiry_offset(&self) -> Result<Duration, Problem> {
        let text = self.spec.expiry_offset.as_deref().unwrap_or_default();
        if text.is_empty() {
            return Ok(Duration::ZERO);
        }
        duration::parse(text).map_err(|why| Problem::InvalidSpec {
            field: "spec.expiryOffset".to_owned(),
            why: why.to_string(),
        })
    }

    /// The fields of the request, as the existing operator sends them.
    fn body(&self) -> Map<String, Value> {
        let spec = &self.spec;
        let text = |field: &Option<String>| json!(field.as_deref().unwrap_or_default());
        let list = |field: &Option<Vec<String>>| json!(field.clone().unwrap_or_default().join(","));
        let mut body = Map::from_iter([
            ("common_name".to_owned(), text(&spec.common_name)),
            ("alt_names".to_owned(), list(&spec.alt_names)),
            ("ip_sans".to_owned(), list(&spec.ip_sans)),
            ("uri_sans".to_owned(), list(&spec.uri_sans)),
            ("other_sans".to_owned(), list(&spec.other_sans)),
            ("user_ids".to_owned(), list(&spec.user_ids)),
            ("ttl".to_owned(), text(&spec.ttl)),
            ("not_after".to_owned(), text(&spec.not_after)),
            (
                "exclude_cn_from_sans".to_owned(),
                json!(spec.exclude_cn_from_sans == Some(true)),
            ),
            ("remove_roots_from_chain".to_owned(), json!(true)),
        ]);
        for (name, field) in [
            ("format", &spec.format),
            ("private_key_format", &spec.private_key_format),
        ] {
            if let Some(text) = field.as_deref().filter(|text| !text.is_empty()) {
                body.insert(name.to_owned(), json!(text));
            }
        }
        body
    }

    /// The keys of a Secret for TLS, as PEM whatever the format of the answer:
    /// certificate and chain, the issuer, the key (Kubernetes, "TLS Secrets").
    fn tls_keys(&self, answer: &Answer, path: &str) -> Result<SecretData, Problem> {
        let leaf = certificates(&answer.certificate).map_err(|why| unusable(path, why))?;
        let issuer = certificates(&answer.issuing_ca).map_err(|why| unusable(path, why))?;
        let mut chain = leaf.into_iter().take(1).collect::<Vec<_>>();
        for link in &answer.ca_chain {
            chain.extend(certificates(link).map_err(|why| unusable(path, why))?);
        }
        if chain.len() == 1 {
            chain.extend(issuer.iter().cloned());
        }
        let format = self.spec.private_key_format.as_deref().unwrap_or_default();
        let key = key_pem(&answer.private_key, &answer.private_key_type, format)
            .map_err(|why| unusable(path, why))?;
        let joined = |all: &[Certificate]| {
            let pems: Vec<&str> = all.iter().map(|one| one.pem.as_str()).collect();
            Redacted::new(pems.join("\n").into_bytes())
        };
        let mut keys = SecretData::from([
            ("tls.crt".to_owned(), joined(&chain)),
            ("tls.key".to_owned(), Redacted::new(key.into_bytes())),
        ]);
        if !issuer.is_empty() {
            keys.insert("ca.crt".to_owned(), joined(&issuer));
        }
        Ok(keys)
    }
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The certificate that was issued, and that of its issuer.
fn leaf_and_issuer(
    answer: &Answer,
    path: &str,
) -> Result<(Certificate, Option<Certificate>), Problem> {
    let first = |text: &str| -> Result<Option<Certificate>, Problem> {
        let found = certificates(text).map_err(|why| unusable(path, why))?;
        Ok(found.into_iter().next())
    };
    let leaf = first(&answer.certificate)?;
    let leaf = leaf.ok_or_else(|| unusable(path, "there is no certificate in it".to_owned()))?;
    Ok((leaf, first(&answer.issuing_ca)?))
}

fn unusable(path: &str, why: String) -> Problem {
    Problem::VaultAnswerUnusable {
        path: path.to_owned(),
        why,
        refusal: false,
    }
}

#[cfg(test)]
#[path = "pki_tests.rs"]
mod tests;
