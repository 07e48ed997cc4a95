//! Credentials that an engine makes for each request and leases (compatibility.md,
//! "Dynamic secrets"; Vault documentation, "Lease, renew, and revoke").

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Held, SecretResource, Told, answered, parse};
use crate::api::{HttpMethod, RotationSpec, StaticCredsMetaData, VaultDynamicSecret};
use crate::config::duration;
use crate::key::Kind;
use crate::policy::{Fields, Read};
use crate::problem::{Problem, printable};
use crate::reconcile::grants::{Renewed, Terms};
use crate::reconcile::meaning::unexpected_lease;
use crate::reconcile::resolve::positive_duration;
use crate::render::{Grant, Material, Rotated};
use crate::vault::Reply;

/// The highest `spec.renewalPercent`.
const MOST_PERCENT: u8 = 90;

/// What an answer says of the rotation, beside user and password.
const VOLATILE: [&str; 4] = [
    "last_vault_rotation",
    "rotation_period",
    "rotation_schedule",
    "ttl",
];

/// Vault is asked no more often than for what is only read.
const LEAST_REFRESH: Duration = Duration::from_secs(1);

impl SecretResource for VaultDynamicSecret {
    fn kind(&self) -> Kind {
        Kind::VaultDynamicSecret
    }

    fn source_type(&self) -> &str {
        "dynamic"
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
            renewed: renewed(status.last_renewal_time, status.secret_lease.duration),
            lifetime: Some(&status.lifetime),
            lease: Some(status.secret_lease.id.as_str()).filter(|lease| {
                let asked = self.metadata.generation.unwrap_or_default();
                !lease.is_empty() && status.last_generation == asked
            }),
        })
    }

    fn request(&self, vault_namespace: Option<String>) -> Result<Read, Problem> {
        let spec = &self.spec;
        let mount = spec.mount.trim_matches('/');
        let path = spec.path.trim_matches('/');
        for (field, text, what) in [
            ("spec.mount", mount, "the mount of the secrets engine"),
            ("spec.path", path, "the path of the credentials below it"),
        ] {
            if text.is_empty() {
                return Err(Problem::InvalidSpec {
                    field: field.to_owned(),
                    why: format!("is empty: give {what} in Vault"),
                });
            }
        }
        let params = spec.params.iter().flatten();
        let params: Map<String, Value> = params
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let writes = match &spec.request_http_method {
            None | Some(HttpMethod::Get) => !params.is_empty(),
            Some(HttpMethod::Post | HttpMethod::Put) => true,
            Some(HttpMethod::Unknown(other)) => {
                return Err(Problem::InvalidSpec {
                    field: "spec.requestHTTPMethod".to_owned(),
                    why: format!("{:?} is none of GET, POST, PUT", printable(other, 40)),
                });
            }
        };
        Ok(Read {
            vault_namespace,
            mount: mount.to_owned(),
            path: format!("{mount}/{path}"),
            query: Vec::new(),
            mints: !self.is_rotated(),
            body: writes.then_some(params),
            fields: Fields {
                all: "spec.mount, spec.path, spec.params and spec.namespace",
                ..Fields::default()
            },
        })
    }

    fn refresh_after(&self) -> Result<Option<Duration>, Problem> {
        Ok(None)
    }

    fn terms(&self, share: f64) -> Result<Option<Terms>, Problem> {
        let text = self.spec.refresh_after.as_deref();
        let refresh_after = match text.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) if duration::parse(text).is_ok_and(|found| found.is_zero()) => None,
            Some(text) => Some(positive_duration("spec.refreshAfter", text)?.max(LEAST_REFRESH)),
        };
        let percent = self.spec.renewal_percent.clamp(0, i64::from(MOST_PERCENT));
        Ok(Some(Terms {
            renewal_percent: u8::try_from(percent).unwrap_or(MOST_PERCENT),
            lead: None,
            refresh_after,
            share,
            margin: Duration::ZERO,
            mints: !self.is_rotated(),
            renews: true,
            look_every: None,
        }))
    }

    fn rotation(&self) -> Option<&RotationSpec> {
        self.spec.rotation.as_ref()
    }

    fn revokes(&self) -> bool {
        self.spec.revoke != Some(false)
    }

    fn volatile(&self) -> &'static [&'static str] {
        if self.is_rotated() { &VOLATILE } else { &[] }
    }

    fn material(&self, read: &Read, reply: Reply, now: Timestamp) -> Result<Material, Problem> {
        let unusable = |why: String| Problem::VaultAnswerUnusable {
            path: read.path.clone(),
            why,
            refusal: false,
        };
        let lease = reply.lease.clone();
        if self.is_rotated() && !lease.id.is_empty() {
            return Err(unexpected_lease(
                "spec.allowStaticCreds",
                "leave it out, or name credentials in spec.path that Vault rotates by itself",
            ));
        }
        let mend = "correct spec.mount, spec.path and spec.namespace, or spec.requestHTTPMethod where the engine takes writes only";
        let data = answered(read, reply, mend)?;
        let grant = if self.is_rotated() {
            let found: Rotation = parse(data.expose(), &read.path, "spec.path")?;
            found.grant(now).ok_or_else(|| unusable("it lacks ttl, last_vault_rotation, and rotation_period or rotation_schedule, as credentials have that Vault rotates by itself; correct spec.path, or leave spec.allowStaticCreds out".to_owned()))?
        } else {
            Grant {
                since: now,
                seconds: lease.duration.as_secs(),
                renewable: lease.renewable,
                lease: lease.id,
                ..Grant::default()
            }
        };
        Ok(Material {
            content: self.content(data.expose(), &read.path)?,
            raw: data,
            version: String::new(),
            grant: Some(grant),
            volatile: self.volatile(),
        })
    }

    fn source_name(&self, _version: &str) -> String {
        let (mount, path) = (&self.spec.mount, &self.spec.path);
        format!("{}/{}", mount.trim_matches('/'), path.trim_matches('/'))
    }

    fn status_fields(&self, held: Option<&Held>, _: Option<&Problem>) -> Value {
        let told = self.status.clone().unwrap_or_default();
        let mut fields = json!({
            "lastGeneration": told.last_generation,
            "lastRenewalTime": told.last_renewal_time,
            "secretLease": told.secret_lease,
            "staticCredsMetaData": told.static_creds_meta_data,
        });
        if let Some(held) = held {
            let (at, lasts) = held.since();
            fields["lastRenewalTime"] = json!(at.as_second());
            fields["secretLease"]["id"] = json!(held.grant.lease);
            fields["secretLease"]["duration"] = json!(lasts.as_secs());
            fields["secretLease"]["renewable"] = json!(held.grant.renewable);
            fields["staticCredsMetaData"] = json!(held.grant.rotated.as_ref().map(|rotated| {
                StaticCredsMetaData {
                    last_vault_rotation: rotated.last,
                    rotation_period: rotated.period,
                    rotation_schedule: rotated.schedule.clone(),
                    ttl: i64::try_from(held.grant.seconds).unwrap_or(i64::MAX),
                }
            }));
        }
        fields
    }
}

impl VaultDynamicSecret {
    /// Whether Vault rotates the credentials by itself, so that they are only read.
    fn is_rotated(&self) -> bool {
        self.spec.allow_static_creds == Some(true)
    }
}

/// What an answer says of credentials that Vault rotates by itself (Vault API
/// docs, "Get static credentials" of the database engine).
#[derive(Deserialize)]
struct Rotation {
    last_vault_rotation: Option<Timestamp>,
    rotation_period: Option<i64>,
    rotation_schedule: Option<String>,
    ttl: Option<u64>,
}

impl Rotation {
    fn grant(self, now: Timestamp) -> Option<Grant> {
        let schedule = self.rotation_schedule.filter(|line| !line.is_empty());
        if schedule.is_none() && self.rotation_period.is_none() {
            return None;
        }
        Some(Grant {
            since: now,
            seconds: self.ttl?,
            rotated: Some(Rotated {
                last: self.last_vault_rotation?.as_second(),
                period: self.rotation_period.unwrap_or_default(),
                schedule,
            }),
            ..Grant::default()
        })
    }
}

/// The renewal that a status tells of, if it can be one.
fn renewed(at: i64, seconds: i64) -> Option<Renewed> {
    let at = Timestamp::from_second(at).ok().filter(|_| at > 0)?;
    let duration = Duration::from_secs(u64::try_from(seconds).ok()?);
    Some(Renewed { at, duration })
}

#[cfg(test)]
#[path = "dynamic_tests.rs"]
mod tests;
