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
use crate::reconcile::grants::ROUNDING;
use crate::reconcile::parents::Limit;
use crate::reconcile::ports::{Clock, Cluster};
use crate::reconcile::time::{fraction, later};
use crate::vault::{Task, Upkeep, Vault, object};

/// Between two looks at a token whose life is not known or does not end.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);

/// Between two looks at one that is about to end.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);

/// What is known of the end of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenLife {
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
    pub fn life_of(&self, name: &str, now: Timestamp) -> TokenLife {
        if let Some(known) = self.told_ends.borrow().get(name) {
            return known.map_or(TokenLife::Never, TokenLife::At);
        }
        match self.token(name).map(|token| token.ends()) {
            Some(None) => TokenLife::Never,
            Some(Some(ends)) if ends > now => TokenLife::NotBefore(ends),
            _ => TokenLife::Unknown,
        }
    }
}

/// What a lookup says of a token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    entity_id: String,
    ttl: u64,
    creation_ttl: u64,
    renewable: bool,
}

/// A token that is kept.
struct Kept {
    /// Until it is looked at again.
    left: Duration,
    /// Its end, where that is certain.
    end: Option<(Timestamp, Limit)>,
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Vault said when a token ends; `None`: never.
    pub(super) fn note_told_end(&self, name: &str, ends: Option<Timestamp>) {
        self.metrics.lives().token_ends(name, ends);
        let mut told = self.ledger.told_ends.borrow_mut();
        told.insert(name.to_owned(), ends);
    }

    /// A token's turn: it is renewed where a lease hangs on it, else forgotten.
    pub(in crate::reconcile) async fn reconcile_token(&self, name: &str) -> Next {
        let Some(entry) = self.token_entry(name) else {
            self.note_end(name, None);
            return Next::Settled(None);
        };
        match self.keep_token(name, &entry).await {
            Ok(Some(kept)) => {
                self.note_end(name, kept.end);
                let share = 0.5 + 0.1 * fraction(name);
                let wait = kept.left.mul_f64(share);
                let wait = wait.clamp(SHORTEST_LOOK, LONGEST_LOOK);
                Next::Settled(Some(later(self.clock.now(), wait)))
            }
            Ok(None) => match self.forget_token(name).await {
                Ok(true) => {
                    self.note_end(name, None);
                    Next::Settled(None)
                }
                // A request took it meanwhile.
                Ok(false) => Next::Settled(Some(later(self.clock.now(), SHORTEST_LOOK))),
                Err(problem) => Next::Failed(problem),
            },
            Err(problem) => Next::Failed(problem),
        }
    }

    /// Renews a token; `None`: nothing hangs on it.
    async fn keep_token(&self, name: &str, entry: &TokenEntry) -> Result<Option<Kept>, Problem> {
        if !self.ledger.is_in_use(name) && !self.hangs_on(name) {
            // Its entry says how to log in for the certificates.
            let named = self.ledger.has_certificates(name);
            return Ok(named.then_some(Kept {
                left: LONGEST_LOOK,
                end: None,
            }));
        }
        let connection = permit_connection(entry.connection.clone(), &self.policy, &self.own)?;
        let login = permit_login(entry.login.clone(), connection, &self.policy, &self.own)?;
        let now = self.clock.now();
        // Renews it where that is due; a new login makes it an older one.
        let present = self.sessions.token_of(&login, now);
        let present = self.telling_of_login(&login, present).await?;
        if self.token_name(&present) == name {
            let life = self.sessions.life_of(&login, &present, now);
            let life = life.unwrap_or_default();
            self.note_told_end(name, life.left.map(|left| later(now, left)));
            if self.ledger.is_in_use(name) {
                self.note_life(name, life.left.unwrap_or_default()).await?;
            }
            return Ok(Some(Kept {
                left: life.left.unwrap_or(LONGEST_LOOK),
                end: life.end.map(|end| match end.renewable {
                    true => (end.at, Limit::Longest),
                    false => (end.at, Limit::NotRenewable),
                }),
            }));
        }
        let kept = self.keep_older(name, entry, &login, &present.entity).await;
        kept.map(Some)
    }

    /// A token of an earlier login, on which leases hang.
    async fn keep_older(
        &self,
        name: &str,
        entry: &TokenEntry,
        login: &PermittedLogin,
        entity: &str,
    ) -> Result<Kept, Problem> {
        let now = self.clock.now();
        let noted = entry.ends();
        // Whoever hangs on it looks for another one in time.
        let left_to = |at: Option<Timestamp>, why: Limit| Kept {
            left: LONGEST_LOOK,
            end: at.map(|at| (at, why)),
        };
        if entry.accessor.is_empty() {
            return Ok(left_to(noted, Limit::NotRenewable));
        }
        let found = match self.look_up(login, &entry.accessor).await {
            Ok(found) => found,
            Err(Problem::LeaseNotFound { .. }) => return Ok(left_to(Some(now), Limit::Gone)),
            Err(Problem::VaultDenied { .. }) => return Ok(left_to(noted, Limit::Denied)),
            Err(problem) => return Err(problem),
        };
        let left = Duration::from_secs(found.ttl);
        let ends = (!left.is_zero()).then(|| later(now, left));
        // An accessor that somebody wrote into the ledger must not make us keep
        // alive what is not ours.
        if found.entity_id.is_empty() || found.entity_id != entity {
            return Ok(left_to(ends, Limit::Foreign));
        }
        self.note_told_end(name, ends);
        if ends.is_none() || !found.renewable {
            return Ok(left_to(ends, Limit::NotRenewable));
        }
        let renewed = self.by_accessor(login, Task::RenewToken, &entry.accessor);
        let renewed = match renewed.await {
            Ok(reply) => reply.token_life.unwrap_or(left),
            Err(Problem::VaultDenied { .. }) => return Ok(left_to(ends, Limit::Denied)),
            Err(Problem::LeaseNotFound { .. }) => return Ok(left_to(Some(now), Limit::Gone)),
            Err(problem) => return Err(problem),
        };
        let ends = (!renewed.is_zero()).then(|| later(now, renewed));
        self.note_told_end(name, ends);
        self.note_life(name, renewed).await?;
        let shortened = renewed + ROUNDING < Duration::from_secs(found.creation_ttl);
        Ok(Kept {
            left: renewed,
            end: shortened.then(|| (later(now, renewed), Limit::Longest)),
        })
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
        let request = Upkeep {
            task,
            vault_namespace: login.get().vault_namespace.clone(),
            path: task.form().unwrap_or_default().to_owned(),
            body: serde_json::Map::from_iter([("accessor".to_owned(), json!(accessor))]),
        };
        // Another login would only make the present token an older one, too.
        self.sessions
            .upkeep_unless_denied(login, &request, self.clock.now())
            .await
    }
}
