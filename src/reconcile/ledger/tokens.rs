//! Tokens that leases hang on are kept alive as long as the leases are needed:
//! that of the present session by itself, older ones by their accessors.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{Ledger, TokenEntry};
use crate::key::ResourceKey;
use crate::policy::{PermittedLogin, permit_connection, permit_login};
use crate::problem::Problem;
use crate::reconcile::engine::{Engine, Next};
use crate::reconcile::ports::{Clock, Cluster};
use crate::reconcile::time::{fraction, later};
use crate::vault::{Task, Upkeep, Vault, object};

/// Between two looks at a token whose life is not known or does not end.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);

/// Between two looks at one that is about to end.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// What is known of the end of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenEnd {
    /// Nothing.
    Unknown,
    /// It does not end by itself.
    Never,
    /// It lives until then; an earlier process may have renewed it since.
    NotBefore(Timestamp),
    /// It ends then unless it is renewed.
    At(Timestamp),
}

impl Ledger {
    /// The entry of the token that a lease of the resource hangs on.
    pub fn token_of(&self, resource: &ResourceKey, lease: &str) -> Option<String> {
        let mut leases = self.leases_of(resource).into_iter();
        let (_, entry) = leases.find(|(_, entry)| entry.lease == lease)?;
        Some(entry.token)
    }

    /// When a token ends.
    pub fn end_of(&self, name: &str, now: Timestamp) -> TokenEnd {
        if let Some(known) = self.ends.borrow().get(name) {
            return known.map_or(TokenEnd::Never, TokenEnd::At);
        }
        match self.token(name) {
            Some(token) if token.seconds == 0 => TokenEnd::Never,
            Some(token) => {
                let ends = later(token.since, Duration::from_secs(token.seconds));
                match ends > now {
                    true => TokenEnd::NotBefore(ends),
                    false => TokenEnd::Unknown,
                }
            }
            None => TokenEnd::Unknown,
        }
    }
}

/// What a lookup says of a token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    entity_id: String,
    ttl: u64,
    renewable: bool,
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Vault said when a token ends; `None`: never.
    pub(super) fn note_end(&self, name: &str, ends: Option<Timestamp>) {
        self.metrics.lives().token_ends(name, ends);
        self.ledger.ends.borrow_mut().insert(name.to_owned(), ends);
    }

    /// A token's turn: it is renewed where a lease hangs on it, else forgotten.
    pub(in crate::reconcile) async fn reconcile_token(&self, name: &str) -> Next {
        let Some(entry) = self.ledger.token(name) else {
            return Next::Settled(None);
        };
        match self.keep_token(name, &entry).await {
            Ok(lasts) => {
                let share = 0.5 + 0.1 * fraction(name);
                let wait = lasts.mul_f64(share).clamp(SHORTEST_LOOK, LONGEST_LOOK);
                Next::Settled(Some(later(self.clock.now(), wait)))
            }
            Err(Problem::LeaseNotFound { .. }) => match self.write_entry(name, None).await {
                Ok(()) => Next::Settled(None),
                Err(problem) => Next::Failed(problem),
            },
            Err(problem) => Next::Failed(problem),
        }
    }

    /// Renews a token; answers with the life that is left to it.
    async fn keep_token(&self, name: &str, entry: &TokenEntry) -> Result<Duration, Problem> {
        let connection = permit_connection(entry.connection.clone(), &self.policy, &self.own)?;
        let login = permit_login(entry.login.clone(), connection, &self.policy, &self.own)?;
        let now = self.clock.now();
        // Renews it where that is due; a new login makes it an older one.
        let present = self.sessions.token_of(&login, now).await?;
        if TokenEntry::name(&present.accessor, login.get()) == name {
            let left = self.sessions.left(&login, now);
            self.note_end(name, left.map(|left| later(now, left)));
            return Ok(left.unwrap_or(LONGEST_LOOK));
        }
        if !self.ledger.is_in_use(name) || entry.accessor.is_empty() {
            let gone = || Problem::LeaseNotFound {
                what: "the token of an earlier session".to_owned(),
                why: "no lease hangs on it".to_owned(),
            };
            let ends = later(entry.since, Duration::from_secs(entry.seconds));
            let hangs = self.ledger.is_in_use(name) && ends >= now;
            if !hangs && !self.ledger.has_certificates(name) {
                return Err(gone());
            }
            return Ok(LONGEST_LOOK);
        }
        let found = self.look_up(&login, &entry.accessor).await?;
        // An accessor that somebody wrote into the ledger must not make us keep
        // alive what is not ours.
        if found.entity_id.is_empty() || found.entity_id != present.entity {
            return Err(Problem::LeaseNotFound {
                what: "the token of an earlier session".to_owned(),
                why: "it is of another entity".to_owned(),
            });
        }
        let left = Duration::from_secs(found.ttl);
        let now = self.clock.now();
        let ends = |left: Duration| (!left.is_zero()).then(|| later(now, left));
        self.note_end(name, ends(left));
        if left.is_zero() || !found.renewable {
            return Ok(left);
        }
        let renewed = self.by_accessor(&login, Task::RenewToken, &entry.accessor);
        let renewed = renewed.await?.token_life.unwrap_or(left);
        self.note_end(name, ends(renewed));
        Ok(renewed)
    }

    async fn look_up(&self, login: &PermittedLogin, accessor: &str) -> Result<Found, Problem> {
        let reply = self.by_accessor(login, Task::LookUpToken, accessor).await?;
        let data = reply.data.as_ref().map(|data| data.expose().get());
        let found = data.map(|text| object::<Found>(text.as_bytes()));
        found
            .and_then(Result::ok)
            .ok_or_else(|| Problem::VaultAnswerUnusable {
                path: "auth/token/lookup-accessor".to_owned(),
                why: "it does not describe a token".to_owned(),
                refusal: false,
            })
    }

    async fn by_accessor(
        &self,
        login: &PermittedLogin,
        task: Task,
        accessor: &str,
    ) -> Result<crate::vault::Reply, Problem> {
        let path = match task {
            Task::RenewToken => "auth/token/renew-accessor",
            _ => "auth/token/lookup-accessor",
        };
        let request = Upkeep {
            task,
            vault_namespace: login.get().vault_namespace.clone(),
            path: path.to_owned(),
            body: serde_json::Map::from_iter([("accessor".to_owned(), json!(accessor))]),
        };
        self.sessions
            .upkeep(login, &request, self.clock.now())
            .await
    }
}
