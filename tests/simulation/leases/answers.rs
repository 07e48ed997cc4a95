//! What the model Vault answers about what it gives for a time.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use vault_tenant_operator::key::Redacted;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::vault::{Lease as Given, Reply, Task, Token, Upkeep};

use super::{End, Leases, Lives, Rotates, accessor_of, signed};
use crate::certificates;
use crate::vault::reply;

impl Leases {
    /// What a path of the engine answers; `None` where it has none such.
    pub fn read(&mut self, secret: &str, path: &str, now: Timestamp) -> Option<Reply> {
        if let Some(role) = self.rotated.get(path) {
            return Some(rotation(role, now));
        }
        let lives = *self.roles.get(path)?;
        let number = self.next();
        let (username, password) = (format!("v-{number}"), format!("secret-{number}"));
        let data = json!({ "username": username, "password": password });
        let id = format!("{path}/{number}");
        self.give(&id, (path, &password), Some(secret), lives, now);
        Some(Reply {
            lease: Given {
                id,
                duration: lives.ttl,
                renewable: lives.renewable,
            },
            ..reply(200, &data)
        })
    }

    /// What is asked about leases and tokens, with a token that may.
    pub fn upkeep(
        &mut self,
        secret: &str,
        request: &Upkeep,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let text = |field: &str| request.body.get(field).and_then(Value::as_str);
        let named = request.path.strip_prefix(form(request.task));
        let named = named.and_then(|rest| rest.strip_prefix('/'));
        let id = named.or(text("lease_id")).unwrap_or_default().to_owned();
        match request.task {
            Task::RenewLease => self.renew_lease(&id, &request.body, now),
            Task::RevokeLease => {
                self.end(&id, now, End::GivenBack);
                Ok(done())
            }
            Task::LookUpLease => {
                let found = self.live.get(&id);
                let found = found.ok_or_else(|| nothing(request.task, 400, "invalid lease"))?;
                Ok(reply(
                    200,
                    &json!({ "id": id, "ttl": found.span.left(now).as_secs() }),
                ))
            }
            Task::LookUpToken | Task::RenewToken => {
                let accessor = text("accessor").unwrap_or_default();
                let found = self
                    .tokens
                    .iter_mut()
                    .find(|(secret, _)| accessor_of(secret) == accessor);
                let Some((_, token)) = found else {
                    return Err(nothing(
                        request.task,
                        400,
                        "1 error occurred: * invalid accessor",
                    ));
                };
                if request.task == Task::RenewToken {
                    let life = token.renew(None, now);
                    return Ok(Reply {
                        status: 200,
                        token_life: Some(life),
                        ..Reply::default()
                    });
                }
                Ok(reply(
                    200,
                    &json!({
                        "entity_id": ENTITY, "ttl": token.left(now).as_secs(),
                        "renewable": token.lives.renewable,
                        "creation_ttl": token.lives.ttl.as_secs(),
                    }),
                ))
            }
            Task::RevokeCertificate => certificates::revoke(self, &request.body, now),
            Task::RevokeToken => {
                self.revoke_token(secret, End::GivenBack, now);
                Ok(done())
            }
        }
    }

    fn renew_lease(
        &mut self,
        id: &str,
        body: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let Some(lease) = self.live.get_mut(id) else {
            return Err(nothing(Task::RenewLease, 400, "lease not found"));
        };
        if !lease.span.lives.renewable {
            return Err(Problem::VaultAnswerUnusable {
                path: form(Task::RenewLease).to_owned(),
                why: "HTTP 400: lease is not renewable".to_owned(),
                refusal: true,
            });
        }
        let increment = body.get("increment").and_then(Value::as_u64);
        let increment = increment.map(Duration::from_secs).filter(|i| !i.is_zero());
        let duration = lease.span.renew(increment, now);
        self.soonest = self.soonest.min(lease.span.ends);
        lease.shortened |= duration < increment.unwrap_or(lease.span.lives.ttl);
        Ok(Reply {
            status: 200,
            lease: Given {
                id: id.to_owned(),
                duration,
                renewable: true,
            },
            ..Reply::default()
        })
    }
}

/// The entity of all tokens.
const ENTITY: &str = "entity of team/app";

pub(super) fn described(secret: &str, ttl: Duration, lives: Lives) -> Token {
    Token {
        secret: Redacted::new(secret.to_owned()),
        accessor: accessor_of(secret),
        entity: ENTITY.to_owned(),
        ttl,
        renewable: lives.renewable,
    }
}

/// What a request is called, without what names one of many.
pub fn form(task: Task) -> &'static str {
    task.form().unwrap_or("pki/revoke")
}

fn done() -> Reply {
    Reply {
        status: 204,
        ..Reply::default()
    }
}

pub fn nothing(task: Task, status: u16, why: &str) -> Problem {
    Problem::LeaseNotFound {
        what: form(task).to_owned(),
        why: format!("HTTP {status}: {why}"),
    }
}

fn rotation(role: &Rotates, now: Timestamp) -> Reply {
    let since = u64::try_from(now.duration_since(role.first).as_secs()).unwrap_or(0);
    let period = role.period.as_secs();
    let (number, passed) = (since / period, since % period);
    let last = role.first + signed(Duration::from_secs(number * period));
    reply(
        200,
        &json!({
            "username": "app", "password": format!("rotated-{number}"),
            "last_vault_rotation": last.to_string(), "rotation_period": period,
            "ttl": period - passed,
        }),
    )
}
