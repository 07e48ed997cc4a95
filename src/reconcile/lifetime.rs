//! How long what a resource holds lasts: when it is renewed, when it ends, and
//! what ends it first if Vault or the operator stopped now. Computed from the
//! destination's state, the last renewal and what the ledger knows of tokens.
//! In whole seconds, as status carries them, so that another process comes to the
//! same and has nothing to write.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::engine::Engine;
use super::grants::{Renewed, Terms};
use super::ledger::TokenLife;
use super::ports::{Clock, Cluster};
use super::sources::{SecretResource, uid_of};
use super::time::{later, whole_seconds};
use crate::api::{Lifetime, Phase};
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::render::Grant;
use crate::telemetry;
use crate::vault::Vault;

/// Two looks at one token may differ by so much: Vault tells its life in whole seconds.
const ROUNDING: Duration = Duration::from_secs(2);

/// What is known of the end of what a resource holds.
struct Life {
    given: Timestamp,
    next_renewal: Option<Timestamp>,
    /// `None`: it does not end by itself.
    expiry: Option<Timestamp>,
    token: TokenLife,
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// How long what the resource holds lasts; `None` where its source is only
    /// read. `problem` is what its reconcile ended with. The metrics learn of it too.
    pub(super) fn lifetime(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        problem: Option<&Problem>,
    ) -> Option<Lifetime> {
        let terms = self.terms_of(resource)?;
        let told = resource.told().lifetime.cloned().unwrap_or_default();
        let Some(grant) = self.grant_of(key, resource) else {
            self.metrics.lives().holds(key, None);
            return Some(Lifetime {
                phase: Some(Phase::Pending),
                ..Lifetime::default()
            });
        };
        let now = self.clock.now();
        let token = self.ledger.token_of(key, &grant.lease);
        let mut life = self.life(key, resource, terms, &grant, token.as_deref());
        if !self.sees_targets(resource) && time(life.expiry) == told.expiry {
            // How long they take to roll says when the next one is needed.
            let told = told.next_renewal.as_ref().map(|told| told.0);
            life.next_renewal = told.or(life.next_renewal);
        }
        let survives_until = life.survives_until(&told, now);
        self.metrics.lives().holds(
            key,
            Some(telemetry::Life {
                given: Some(life.given),
                expiry: life.expiry,
                survives_until: survives_until.as_ref().map(|until| until.0),
                token,
            }),
        );
        let overdue = life.next_renewal.is_some_and(|at| at <= now);
        let phase = if problem.is_some() && overdue {
            Phase::AtRisk
        } else if self.holds_older(key, resource, &grant) {
            Phase::Rotating
        } else {
            Phase::Held
        };
        Some(Lifetime {
            phase: Some(phase),
            next_renewal: time(life.next_renewal),
            expiry: time(life.expiry),
            survives_until,
        })
    }

    /// When the next ones are due, and when what the resource holds ends.
    pub(super) fn next_and_expiry(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        terms: Terms,
        grant: &Grant,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let life = self.life(key, resource, terms, grant, None);
        (life.next_renewal, life.expiry)
    }

    fn life(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        terms: Terms,
        grant: &Grant,
        token: Option<&str>,
    ) -> Life {
        let now = self.clock.now();
        let renewed = self.last_renewal(key, resource, grant);
        let renewed = renewed.map(Renewed::in_whole_seconds);
        let denied = self.remembered(key).denied;
        let terms = Terms {
            renews: denied.as_ref() != Some(&grant.lease) || grant.lease.is_empty(),
            ..terms
        };
        let token = match (grant.lease.is_empty(), token) {
            (true, _) => TokenLife::Never,
            (false, Some(token)) => self.ledger.life_of(token, now),
            (false, None) => TokenLife::Unknown,
        };
        Life {
            given: renewed.map_or(grant.since, |renewed| renewed.at),
            next_renewal: terms.next(grant, renewed, now),
            expiry: Terms::expiry(grant, renewed, now),
            token,
        }
    }

    /// How long a resource can wait that should wait at most so long: until half of
    /// what is left to it has passed.
    pub(super) fn patience(&self, key: &ResourceKey, most: Duration) -> Duration {
        let Some(resource) = self.view.borrow().writer(key) else {
            return most;
        };
        let now = self.clock.now();
        let ends = self.grant_of(key, &*resource).and_then(|grant| {
            let renewed = self.last_renewal(key, &*resource, &grant);
            Terms::expiry(&grant, renewed, now)
        });
        let left = ends.map(|ends| Duration::try_from(ends.duration_since(now)));
        // What has ended waits for nothing.
        left.map_or(most, |left| most.min(left.unwrap_or_default() / 2))
    }

    /// Whether a lease of before is kept alive.
    fn holds_older(&self, key: &ResourceKey, resource: &dyn SecretResource, grant: &Grant) -> bool {
        let in_hand = self.unwritten_grant(key);
        let uid = uid_of(resource);
        let leases = self.ledger.leases_of(key).into_iter();
        let mut others = leases.filter(|(_, lease)| lease.uid == uid && !lease.is_of(grant));
        others.any(|(_, lease)| !in_hand.as_ref().is_some_and(|grant| lease.is_of(grant)))
    }

    /// Whether all workloads that the resource restarts are known.
    fn sees_targets(&self, resource: &dyn SecretResource) -> bool {
        let view = self.view.borrow();
        let targets = self.targets(resource);
        let all = targets.iter().all(|one| view.workloads.contains_key(one));
        all && self.finds_all(resource)
    }
}

impl Life {
    /// What is told stands while it is true and nothing was renewed: a token that
    /// is kept alive is no news about each resource that hangs on it.
    fn survives_until(&self, told: &Lifetime, now: Timestamp) -> Option<Time> {
        let same = told.next_renewal == time(self.next_renewal) && told.expiry == time(self.expiry);
        let least = |end: Timestamp| self.expiry.map_or(end, |expiry| expiry.min(end));
        let (known, exact) = match self.token {
            TokenLife::Unknown => (None, false),
            TokenLife::Never => (self.expiry, true),
            TokenLife::NotBefore(end) => (Some(least(end)), false),
            TokenLife::At(end) => (Some(least(end)), true),
        };
        let stands = told.survives_until.as_ref().filter(|told| {
            let early = known.is_none_or(|known| told.0 <= later(known, ROUNDING));
            same && told.0 > now && (!exact || (early && known.is_some()))
        });
        stands.cloned().or_else(|| time(known))
    }
}

/// A time as status carries it.
fn time(at: Option<Timestamp>) -> Option<Time> {
    at.map(|at| Time(whole_seconds(at)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn survives(token: TokenLife, told: Option<i64>, now: i64) -> Option<i64> {
        let life = Life {
            given: at(1000),
            next_renewal: Some(at(1070)),
            expiry: Some(at(1100)),
            token,
        };
        let told = Lifetime {
            next_renewal: time(life.next_renewal),
            expiry: time(life.expiry),
            survives_until: told.map(|told| Time(at(told))),
            ..Lifetime::default()
        };
        let until = life.survives_until(&told, at(now));
        until.map(|until| until.0.as_second())
    }

    #[test]
    fn it_lasts_until_its_own_end_or_its_tokens() {
        let first = |token| survives(token, None, 1000);
        assert_eq!(first(TokenLife::Never), Some(1100));
        assert_eq!(first(TokenLife::At(at(1050))), Some(1050));
        assert_eq!(first(TokenLife::At(at(9000))), Some(1100));
        assert_eq!(first(TokenLife::NotBefore(at(1050))), Some(1050));
        assert_eq!(first(TokenLife::Unknown), None);
        let endless = Life {
            given: at(1000),
            next_renewal: None,
            expiry: None,
            token: TokenLife::Never,
        };
        assert_eq!(endless.survives_until(&Lifetime::default(), at(1000)), None);
    }

    #[test]
    fn what_was_told_stands_while_it_is_true_and_nothing_was_renewed() {
        let told = |token, now| survives(token, Some(1050), now);
        // The token was renewed meanwhile, or nobody knows yet.
        assert_eq!(told(TokenLife::At(at(1080)), 1000), Some(1050));
        assert_eq!(told(TokenLife::At(at(1049)), 1000), Some(1050), "rounding");
        assert_eq!(told(TokenLife::NotBefore(at(1040)), 1000), Some(1050));
        assert_eq!(told(TokenLife::Unknown, 1000), Some(1050));
        // It has passed, or would be too late.
        assert_eq!(told(TokenLife::At(at(1080)), 1050), Some(1080));
        assert_eq!(told(TokenLife::Unknown, 1050), None);
        assert_eq!(told(TokenLife::At(at(1040)), 1000), Some(1040));
        let renewed = Life {
            given: at(1100),
            next_renewal: Some(at(1170)),
            expiry: Some(at(1200)),
            token: TokenLife::At(at(1080)),
        };
        let before = Lifetime {
            survives_until: Some(Time(at(1050))),
            ..Lifetime::default()
        };
        let until = renewed.survives_until(&before, at(1000));
        assert_eq!(until, time(Some(at(1080))));
    }
}
