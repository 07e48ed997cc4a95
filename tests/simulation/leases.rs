//! What the model Vault gives for a time: tokens, and credentials of a database
//! engine at the mount `db` with a lease that hangs on the token of the request.
//! Beside them are the certificates of `certificates`, which may have none.
//! What has come to its end is swept before anything else is asked.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use vault_tenant_operator::vault::Token;

use answers::described;
pub use answers::{form, nothing};

use crate::certificates;

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

/// A credential's lease, or a certificate.
#[derive(Clone, Debug)]
pub struct Lease {
    pub path: String,
    /// What a Secret shows of it: the password, or the serial number.
    pub mark: String,
    /// Whether an answer gave less than was asked for: its longest life is near.
    pub shortened: bool,
    pub issued: Timestamp,
    /// On which it hangs; certificates without a lease on none.
    token: Option<String>,
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
    /// Roles of the PKI engine, by the path that issues.
    pub issues: BTreeMap<String, certificates::Role>,
    /// What lives, by the id of its lease, a certificate without one by its number.
    pub live: BTreeMap<String, Lease>,
    /// Numbers of all certificates that the engine has stored.
    pub stored: BTreeSet<String>,
    /// How long tokens live.
    pub token: Lives,
    tokens: BTreeMap<String, Span>,
    /// What has ended and was not looked at yet.
    pub ended: Vec<Ended>,
    issued: u64,
    /// Before this nothing ends by itself.
    soonest: Timestamp,
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
            issues: BTreeMap::new(),
            live: BTreeMap::new(),
            stored: BTreeSet::new(),
            token,
            tokens: BTreeMap::new(),
            ended: Vec::new(),
            issued: 0,
            soonest: Timestamp::MIN,
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

    /// When it ends whatever is renewed; `None`: never.
    pub fn last_end(&self) -> Option<Timestamp> {
        let Lives { max, renewable, .. } = self.span.lives;
        match renewable && !self.shortened {
            true => max.map(|max| self.issued + signed(max)),
            false => Some(self.span.ends),
        }
    }

    pub fn ttl(&self) -> Duration {
        self.span.lives.ttl
    }
}

impl Leases {
    /// Ends what should have ended by now, in the order of time.
    pub fn sweep(&mut self, now: Timestamp) {
        if now < self.soonest {
            return;
        }
        let mut ended = Vec::new();
        for (id, lease) in &self.live {
            let token = lease
                .token
                .as_ref()
                .and_then(|token| self.tokens.get(token));
            let token = token.map(|token| token.ends);
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
        let ends = self.live.values().map(|lease| lease.span.ends);
        let ends = ends.chain(self.tokens.values().map(|token| token.ends));
        self.soonest = ends.min().unwrap_or(Timestamp::MIN);
    }

    fn end(&mut self, id: &str, at: Timestamp, why: End) {
        if self.live.remove(id).is_some() {
            let id = id.to_owned();
            self.ended.push(Ended { id, at, why });
        }
    }

    /// A number that nothing has yet.
    pub fn next(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// A new token.
    pub fn log_in(&mut self, now: Timestamp) -> Token {
        let secret = format!("hvs.{}", self.next());
        let span = Span::new(self.token, now);
        self.soonest = self.soonest.min(span.ends);
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
        let hang = self
            .live
            .iter()
            .filter(|(_, lease)| lease.token.as_deref() == Some(secret));
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

    /// Renews all leases that can be.
    pub fn renew_all(&mut self, now: Timestamp) {
        let renewable = |lease: &&mut Lease| lease.span.lives.renewable;
        for lease in self.live.values_mut().filter(renewable) {
            lease.span.renew(None, now);
        }
    }

    /// The id of what lives and has this mark.
    pub fn of_mark(&self, mark: &[u8]) -> Option<&String> {
        let mut of = self.live.iter();
        let of = of.find(|(_, lease)| lease.mark.as_bytes() == mark);
        of.map(|(id, _)| id)
    }

    /// Whether this is a certificate that nobody can revoke.
    pub fn forgets(&self, id: &str) -> bool {
        let lease = self.live.get(id);
        let role = lease.and_then(|lease| self.issues.get(&lease.path));
        role.is_some_and(|role| role.forgets)
    }

    /// Gives something under an id, hanging on a token or on none.
    pub fn give(
        &mut self,
        id: &str,
        (path, mark): (&str, &str),
        token: Option<&str>,
        lives: Lives,
        now: Timestamp,
    ) {
        let span = Span::new(lives, now);
        self.soonest = self.soonest.min(span.ends);
        let lease = Lease {
            path: path.to_owned(),
            mark: mark.to_owned(),
            shortened: false,
            issued: now,
            token: token.map(str::to_owned),
            span,
        };
        self.live.insert(id.to_owned(), lease);
    }
}
