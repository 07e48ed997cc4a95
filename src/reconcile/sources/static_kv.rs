//! The key-value engine, versions 1 and 2: what to ask, and what the answer
//! holds (compatibility.md, "Static secrets"; Vault API docs, "KV v1", "KV v2").

use std::collections::BTreeMap;

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Held, SecretResource, Told, parse};
use crate::api::{KvType, OnSourceDelete, VaultStaticSecret, VaultStaticSecretSpec};
use crate::config::duration;
use crate::key::{Kind, Redacted};
use crate::policy::{Fields, Read};
use crate::problem::{Problem, printable};
use crate::reconcile::meaning::unexpected_lease;
use crate::reconcile::resolve::positive_duration;
use crate::render::{Content, Material};
use crate::vault::Reply;

/// Looking for changes when the spec says nothing, as existing manifests expect.
const DEFAULT_REFRESH: Duration = Duration::from_secs(60);

impl SecretResource for VaultStaticSecret {
    fn kind(&self) -> Kind {
        Kind::VaultStaticSecret
    }

    fn source_type(&self) -> &str {
        self.spec.type_.as_str()
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
            lifetime: None,
            lease: None,
        })
    }

    fn request(&self, vault_namespace: Option<String>) -> Result<Read, Problem> {
        request(&self.spec, vault_namespace)
    }

    /// `0s` means what leaving it out means, for existing manifests.
    fn refresh_after(&self) -> Result<Option<Duration>, Problem> {
        let text = self.spec.refresh_after.as_deref();
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(self.spec.hmac_secret_data.then_some(DEFAULT_REFRESH));
        };
        match duration::parse(text) {
            Ok(duration) if duration.is_zero() => Ok(Some(DEFAULT_REFRESH)),
            _ => positive_duration("spec.refreshAfter", text).map(Some),
        }
    }

    fn follows_source(&self) -> bool {
        self.spec.on_source_delete == Some(OnSourceDelete::Delete)
    }

    fn not_served(&self) -> Option<&'static str> {
        let sync = self.spec.sync_config.as_ref();
        let instant = sync.and_then(|sync| sync.instant_updates) == Some(true);
        instant.then_some("spec.syncConfig.instantUpdates")
    }

    fn material(&self, read: &Read, reply: Reply, _: Timestamp) -> Result<Material, Problem> {
        material(&self.spec, read, reply)
    }

    fn source_name(&self, version: &str) -> String {
        let mount = self.spec.mount.trim_matches('/');
        let path = self.spec.path.trim_matches('/');
        if version.is_empty() {
            format!("{mount}/{path}")
        } else {
            format!("{mount}/{path} version {version}")
        }
    }

    fn status_fields(&self, _: Option<&Held>, _: Option<&Problem>) -> Value {
        let told = self.status.as_ref();
        json!({ "lastGeneration": told.map_or(0, |status| status.last_generation) })
    }
}

/// The read that a spec asks for.
///
/// # Errors
/// [`Problem::InvalidSpec`] for an unknown engine version, and where mount or
/// path is empty.
pub fn request(
    spec: &VaultStaticSecretSpec,
    vault_namespace: Option<String>,
) -> Result<Read, Problem> {
    let mount = spec.mount.trim_matches('/');
    let path = spec.path.trim_matches('/');
    for (field, text, what) in [
        (
            "spec.mount",
            mount,
            "the mount of the secret engine in Vault",
        ),
        ("spec.path", path, "the path of the secret below the mount"),
    ] {
        if text.is_empty() {
            return Err(Problem::InvalidSpec {
                field: field.to_owned(),
                why: format!("is empty: give {what}"),
            });
        }
    }
    let (path, query) = match &spec.type_ {
        KvType::V1 => (format!("{mount}/{path}"), Vec::new()),
        KvType::V2 => {
            let version = spec.version.filter(|version| *version > 0);
            let query = version.map(|version| ("version".to_owned(), version.to_string()));
            (format!("{mount}/data/{path}"), query.into_iter().collect())
        }
        KvType::Unknown(other) => {
            return Err(Problem::InvalidSpec {
                field: "spec.type".to_owned(),
                why: format!("{:?} is neither kv-v1 nor kv-v2", printable(other, 40)),
            });
        }
    };
    Ok(Read {
        vault_namespace,
        mount: mount.to_owned(),
        path,
        query,
        fields: Fields {
            all: "spec.mount, spec.path, spec.type and spec.namespace",
            ..Fields::default()
        },
        ..Read::default()
    })
}

/// KV v2's `data` object.
#[derive(Deserialize)]
struct Versioned {
    data: Option<BTreeMap<String, Box<RawValue>>>,
    metadata: Option<VersionMetadata>,
}

/// The part of KV v2's metadata that says which version this is.
#[derive(Deserialize)]
struct VersionMetadata {
    #[serde(default)]
    version: i64,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

/// What the answer holds.
///
/// # Errors
/// [`Problem::SourceMissing`], [`Problem::SourceDeleted`] or
/// [`Problem::VaultAnswerUnusable`]; none of them quotes data.
pub fn material(
    spec: &VaultStaticSecretSpec,
    read: &Read,
    reply: Reply,
) -> Result<Material, Problem> {
    let path = read.path.clone();
    if !reply.lease.id.is_empty() {
        return Err(unexpected_lease("spec.path", "use a VaultDynamicSecret"));
    }
    let Some(data) = reply.data else {
        return Err(missing(path, reply.status, &reply.errors, &reply.warnings));
    };
    if spec.type_ == KvType::V1 {
        if reply.status == 404 {
            return Err(missing(path, reply.status, &reply.errors, &reply.warnings));
        }
        let fields = parse(data.expose(), &path, "spec.type")?;
        return Ok(Material {
            content: Content {
                fields,
                ..Content::default()
            },
            raw: data,
            version: String::new(),
            grant: None,
            volatile: &[],
        });
    }
    let follows = spec.on_source_delete == Some(OnSourceDelete::Delete);
    versioned(path, data, follows)
}

/// `follows`: whether a deletion at Vault is one of the Secret, too.
fn versioned(
    path: String,
    data: Redacted<Box<RawValue>>,
    follows: bool,
) -> Result<Material, Problem> {
    let answer: Versioned = parse(data.expose(), &path, "spec.type")?;
    let Some(metadata) = answer.metadata else {
        return Err(Problem::VaultAnswerUnusable {
            path,
            why: "it has no version metadata; is the mount of type kv-v2? otherwise set spec.type to kv-v1".to_owned(),
            refusal: false,
        });
    };
    match answer.data {
        Some(fields) => Ok(Material {
            content: Content {
                fields,
                ..Content::default()
            },
            raw: data,
            version: metadata.version.to_string(),
            grant: None,
            volatile: &[],
        }),
        None => Err(Problem::SourceDeleted {
            path,
            why: metadata.gone(follows),
            deleted: metadata.is_deleted(),
        }),
    }
}

impl VersionMetadata {
    fn is_deleted(&self) -> bool {
        self.destroyed || !self.deletion_time.is_empty()
    }

    fn gone(&self, follows: bool) -> String {
        let version = self.version;
        let kept = if follows && self.is_deleted() {
            "what was synced before goes too (spec.onSourceDelete)"
        } else {
            "what was synced before is kept"
        };
        let how = if self.destroyed {
            "was destroyed".to_owned()
        } else if self.deletion_time.is_empty() {
            "holds no data".to_owned()
        } else {
            format!("was deleted at {}", printable(&self.deletion_time, 40))
        };
        format!(
            "version {version} {how} in Vault; {kept}: write a new version, or undelete this one"
        )
    }
}

fn missing(path: String, status: u16, errors: &[String], warnings: &[String]) -> Problem {
    if status != 404 {
        return Problem::VaultAnswerUnusable {
            path,
            why: format!(
                "HTTP {status} without data; does the path hold a secret, and is it Vault that answers at the connection's address?"
            ),
            refusal: false,
        };
    }
    let said = errors
        .iter()
        .chain(warnings)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    let by_mount = said.is_empty();
    let why = if by_mount {
        "there is no such secret in Vault (or no such version): write it, or correct spec.mount, spec.path, spec.type or spec.version".to_owned()
    } else {
        format!(
            "Vault has nothing there ({said}): correct spec.mount, spec.path, spec.type and spec.namespace"
        )
    };
    Problem::SourceMissing {
        path,
        why,
        by_mount,
    }
}

#[cfg(test)]
#[path = "static_kv_tests.rs"]
mod tests;
