//! What the model Vault gives for a time: tokens, and credentials of a database
//! engine at the mount `db` with a lease that hangs on the token of the request.
//! What has come to its end is swept before anything else is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use vault_tenant_operator::key::Redacted;
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::vault::{Lease as Given, Reply, Task, Token, Upkeep};

use crate::vault::reply;

/// Life of a token, unless a scenario says otherwise.
const TOKEN_LIFE: Duration = Duration::from_secs(1200);

/// How long something may live.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    pub ttl: Duration,
    /// From its issue on, however often it is renewed; `None`: without end.
    pub max: Option<Duration>,
    pub renewable: bool,
}

/// Something with an end.
#[derive(Clone, Copy, Debug)]
struct Span {
    issued: Timestamp,
    ends: Timestamp,
    lives: Lives,
}

/// A credential's lease.
#[derive(Clone, Debug)]
pub struct Lease {
    pub path: String,
    pub password: String,
    /// Whether an answer gave less than was asked for: its longest life is near.
    pub shortened: bool,
    pub issued: Timestamp,
    token: String,
    span: Span,
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Nobody renewed it in time.
    Expired,
    /// The operator revoked it.
    GivenBack,
    /// Somebody else revoked it, or its token.
    Taken,
    /// Its token ended.
    WithToken,
}

/// A lease that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub id: String,
    pub at: Timestamp,
    pub why: End,
}

/// Credentials that Vault rotates by itself.
#[derive(Clone, Copy, Debug)]
pub struct Rotates {
    pub first: Timestamp,
    pub period: Duration,
}

#[derive(Debug)]
pub struct Leases {
    /// Of the database engine, by path.
    pub roles: BTreeMap<String, Lives>,
    /// Its static roles, by path.
    pub rotated: BTreeMap<String, Rotates>,
    pub live: BTreeMap<String, Lease>,
    /// How long tokens live.
    pub token: Lives,
    tokens: BTreeMap<String, Span>,
    /// What has ended and was not looked at yet.
    pub ended: Vec<Ended>,
    issued: u64,
}

impl Default for Leases {
    fn default() -> Self {
        let token = Lives {
            ttl: TOKEN_LIFE,
            max: None,
            renewable: true,
        };
        Self {
            roles: BTreeMap::new(),
            rotated: BTreeMap::new(),
            live: BTreeMap::new(),
            token,
            tokens: BTreeMap::new(),
            ended: Vec::new(),
            issued: 0,
        }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap()
}

impl Span {
    fn new(lives: Lives, now: Timestamp) -> Self {
        let ends = now + signed(lives.ttl);
        Self {
            issued: now,
            ends,
            lives,
        }
    }

    /// Puts the end off, never past the longest life; answers with what is left.
    fn renew(&mut self, increment: Option<Duration>, now: Timestamp) -> Duration {
        let asked = now + signed(increment.unwrap_or(self.lives.ttl));
        let last = self.lives.max.map(|max| self.issued + signed(max));
        self.ends = last.map_or(asked, |last| asked.min(last));
        self.left(now)
    }

    /// In whole seconds, as answers have it.
    fn left(&self, now: Timestamp) -> Duration {
        let left = self.ends.duration_since(now).as_secs();
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    }
}

fn accessor_of(secret: &str) -> String {
    format!("accessor of {secret}")
}

impl Lease {
    /// Whether its longest life may cut a renewal within a while.
    pub fn is_last(&self, now: Timestamp, window: Duration) -> bool {
        let Lives {
            ttl,
            max,
            renewable,
        } = self.span.lives;
        let last = max.map(|max| self.issued + signed(max));
        let near = last.is_some_and(|last| last < now + signed(ttl + window));
        near || !renewable || self.shortened
    }

    pub fn ttl(&self) -> Duration {
        self.span.lives.ttl
    }
}

impl Leases {
    /// Ends what should have ended by now, in the order of time.
    pub fn sweep(&mut self, now: Timestamp) {
        let mut ended = Vec::new();
        for (id, lease) in &self.live {
            let token = self.tokens.get(&lease.token).map(|token| token.ends);
            let (at, why) = match token {
                Some(token) if token < lease.span.ends => (token, End::WithToken),
                _ => (lease.span.ends, End::Expired),
            };
            if at <= now {
                ended.push((at, id.clone(), why));
            }
        }
        ended.sort();
        for (at, id, why) in ended {
            self.end(&id, at, why);
        }
        self.tokens.retain(|_, token| token.ends > now);
    }

    fn end(&mut self, id: &str, at: Timestamp, why: End) {
        if self.live.remove(id).is_some() {
            let id = id.to_owned();
            self.ended.push(Ended { id, at, why });
        }
    }

    /// A new token.
    pub fn log_in(&mut self, now: Timestamp) -> Token {
        self.issued += 1;
        let secret = format!("hvs.{}", self.issued);
        let span = Span::new(self.token, now);
        self.tokens.insert(secret.clone(), span);
        described(&secret, span.left(now), self.token)
    }

    pub fn knows(&self, secret: &str) -> bool {
        self.tokens.contains_key(secret)
    }

    pub fn renew_token(&mut self, secret: &str, now: Timestamp) -> Token {
        let token = self.tokens.get_mut(secret).unwrap();
        let left = token.renew(None, now);
        described(secret, left, token.lives)
    }

    /// Ends a token and all that hangs on it.
    pub fn revoke_token(&mut self, secret: &str, why: End, now: Timestamp) {
        self.tokens.remove(secret);
        let hang = self.live.iter().filter(|(_, lease)| lease.token == secret);
        let ids: Vec<String> = hang.map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| self.end(id, now, why));
    }

    /// Ends all tokens.
    pub fn revoke_all(&mut self, now: Timestamp) {
        let tokens: Vec<String> = self.tokens.keys().cloned().collect();
        for token in tokens {
            self.revoke_token(&token, End::Taken, now);
        }
    }

    /// Somebody revokes a lease.
    pub fn revoke(&mut self, id: &str, now: Timestamp) {
        self.end(id, now, End::Taken);
    }

    /// The operator gives a lease back.
    pub fn give_back(&mut self, id: &str, now: Timestamp) {
        self.end(id, now, End::GivenBack);
    }

    /// Renews all leases.
    pub fn renew_all(&mut self, now: Timestamp) {
        for lease in self.live.values_mut() {
            lease.span.renew(None, now);
        }
    }

    /// The live lease that a password is of.
    pub fn of_password(&self, password: &[u8]) -> Option<&String> {
        let mut of = self.live.iter();
        let of = of.find(|(_, lease)| lease.password.as_bytes() == password);
        of.map(|(id, _)| id)
    }

    /// What a path of the engine answers; `None` where it has none such.
    pub fn read(&mut self, secret: &str, path: &str, now: Timestamp) -> Option<Reply> {
        if let Some(role) = self.rotated.get(path) {
            return Some(rotation(role, now));
        }
        let lives = *self.roles.get(path)?;
        self.issued += 1;
        let number = self.issued;
        let (username, password) = (format!("v-{number}"), format!("secret-{number}"));
        let data = json!({ "username": username, "password": password });
        let (id, span) = (format!("{path}/{number}"), Span::new(lives, now));
        let lease = Lease {
            path: path.to_owned(),
            password,
            shortened: false,
            issued: now,
            token: secret.to_owned(),
            span,
        };
        self.live.insert(id.clone(), lease);
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
            // No PKI engine is modelled yet.
            Task::RevokeCertificate => Err(nothing(request.task, 404, "no handler for route")),
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

fn described(secret: &str, ttl: Duration, lives: Lives) -> Token {
    Token {
        secret: Redacted::new(secret.to_owned()),
        accessor: accessor_of(secret),
        entity: ENTITY.to_owned(),
        ttl,
        renewable: lives.renewable,
    }
}

/// What a request is called, without what names one of many. No PKI engine is
/// modelled yet.
pub fn form(task: Task) -> &'static str {
    task.form().unwrap_or("pki/revoke")
}

fn done() -> Reply {
    Reply {
        status: 204,
        ..Reply::default()
    }
}

fn nothing(task: Task, status: u16, why: &str) -> Problem {
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
