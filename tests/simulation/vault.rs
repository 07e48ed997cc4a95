//! The model Vault: kubernetes login, key-value engines of both versions, a seal,
//! and policies as a set of denied paths. Tokens and leases are in `leases`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use vault_tenant_operator::key::Redacted;
use vault_tenant_operator::policy::Read;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::vault::{Lease, Reply, Token, Upkeep};

use crate::certificates;
use crate::leases::form;
use crate::leases::{End, Leases};

/// Address of the model.
pub const ADDRESS: &str = "https://vault.example:8200";

/// What KV v1 says of a lease, which is none.
pub const PLAIN_LEASE: Duration = Duration::from_secs(768 * 3600);

/// The fields of a secret at Vault.
pub type Source = BTreeMap<String, Value>;

#[derive(Clone, Debug)]
pub struct Version {
    pub fields: Source,
    pub deleted: bool,
    pub destroyed: bool,
}

#[derive(Debug, Default)]
pub struct VaultModel {
    /// KV v2, by path below the mount `kv`: version 1 first.
    pub versions: BTreeMap<String, Vec<Version>>,
    /// KV v1, by path below the mount `kv1`.
    pub plain: BTreeMap<String, Source>,
    pub sealed: bool,
    /// Paths whose reads fail although Vault is well.
    pub broken: BTreeSet<String>,
    /// Paths that no token may use; with `*` at the end all that begin so.
    pub denied: BTreeSet<String>,
    /// What was given for a time.
    pub leases: Leases,
}

impl VaultModel {
    /// What the newest live state of a source holds; `None` when it is deleted.
    pub fn current(&self, mount: &str, path: &str) -> Option<&Source> {
        if mount == "kv1" {
            return self.plain.get(path);
        }
        let newest = self.versions.get(path)?.last()?;
        (!newest.deleted && !newest.destroyed).then_some(&newest.fields)
    }

    pub fn health(&self) -> Result<(), Problem> {
        if self.sealed { Err(sealed()) } else { Ok(()) }
    }

    pub fn login(&mut self, jwt: &str, now: Timestamp) -> Result<Token, Problem> {
        self.health()?;
        let refused = match jwt {
            "token of team/app" => None,
            jwt if jwt.starts_with("token of ") => Some("service account name not authorized"),
            _ => Some("permission denied"),
        };
        if let Some(why) = refused {
            return Err(Problem::LoginFailed {
                what: "auth/kubernetes/login".to_owned(),
                why: format!("HTTP 403: {why}"),
            });
        }
        self.leases.sweep(now);
        Ok(self.leases.log_in(now))
    }

    fn denies(&self, path: &str) -> bool {
        let denied = |rule: &String| match rule.strip_suffix('*') {
            Some(begin) => path.starts_with(begin),
            None => path == rule,
        };
        self.denied.iter().any(denied)
    }

    fn check(
        &mut self,
        token: &Token,
        path: &str,
        what: &str,
        now: Timestamp,
    ) -> Result<(), Problem> {
        self.health()?;
        self.leases.sweep(now);
        let alive = self.leases.knows(token.secret.expose());
        let errors = match (alive, self.denies(path)) {
            (true, false) => return Ok(()),
            (true, true) => "1 error occurred: * permission denied",
            (false, _) => "2 errors occurred: * permission denied * invalid token",
        };
        Err(Problem::VaultDenied {
            path: what.to_owned(),
            why: format!("HTTP 403: {errors}"),
        })
    }

    pub fn renew(&mut self, token: &Token, now: Timestamp) -> Result<Token, Problem> {
        let path = "auth/token/renew-self";
        self.check(token, path, path, now)?;
        Ok(self.leases.renew_token(token.secret.expose(), now))
    }

    /// Ends one token.
    pub fn revoke(&mut self, token: &Token, now: Timestamp) {
        self.leases
            .revoke_token(token.secret.expose(), End::Taken, now);
    }

    /// Ends all tokens, as a restart with another storage or an operator would.
    pub fn revoke_all(&mut self, now: Timestamp) {
        self.leases.revoke_all(now);
    }

    pub fn read(&mut self, token: &Token, read: &Read, now: Timestamp) -> Result<Reply, Problem> {
        self.check(token, &read.path, &read.path, now)?;
        if self.broken.contains(&read.path) {
            return Err(Problem::VaultUnavailable {
                address: ADDRESS.to_owned(),
                why: "HTTP 500: 1 error occurred".to_owned(),
            });
        }
        let missing = Reply {
            status: 404,
            ..Reply::default()
        };
        if let Some(path) = read.path.strip_prefix("kv1/") {
            return Ok(self.plain.get(path).map_or(missing, |source| Reply {
                lease: Lease {
                    duration: PLAIN_LEASE,
                    ..Lease::default()
                },
                ..reply(200, &json!(source))
            }));
        }
        if read.path.starts_with("db/") {
            let given = self.leases.read(token.secret.expose(), &read.path, now);
            return Ok(given.unwrap_or(missing));
        }
        if read.path.starts_with("pki/") {
            let (token, body) = (token.secret.expose(), read.body.as_ref());
            let given = certificates::issue(&mut self.leases, token, &read.path, body, now);
            return Ok(given.unwrap_or(missing));
        }
        let path = read.path.strip_prefix("kv/data/").unwrap_or_default();
        let versions = self
            .versions
            .get(path)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let wanted = read.query.iter().find(|(name, _)| name == "version");
        let number = wanted.map_or(0, |(_, text)| text.parse().unwrap());
        let number = if number == 0 { versions.len() } else { number };
        let Some(found) = number.checked_sub(1).and_then(|index| versions.get(index)) else {
            return Ok(missing);
        };
        let deleted = if found.deleted {
            "2026-01-01T00:00:00Z"
        } else {
            ""
        };
        let (status, data) = if found.deleted || found.destroyed {
            (404, Value::Null)
        } else {
            (200, json!(found.fields))
        };
        let metadata = json!({
            "version": number, "deletion_time": deleted, "destroyed": found.destroyed,
        });
        Ok(reply(status, &json!({"data": data, "metadata": metadata})))
    }

    /// What keeps or ends what Vault gave.
    pub fn upkeep(
        &mut self,
        token: &Token,
        request: &Upkeep,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        self.check(token, &request.path, form(request.task), now)?;
        self.leases.upkeep(token.secret.expose(), request, now)
    }
}

fn sealed() -> Problem {
    Problem::VaultUnavailable {
        address: ADDRESS.to_owned(),
        why: "HTTP 503: Vault is sealed".to_owned(),
    }
}

pub fn reply(status: u16, data: &Value) -> Reply {
    let raw = RawValue::from_string(data.to_string()).unwrap();
    Reply {
        status,
        data: Some(Redacted::new(raw)),
        ..Reply::default()
    }
}
