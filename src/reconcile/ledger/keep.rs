//! Reading and writing the ledger: entry by entry, the Secret made where it is
//! missing. What is written is remembered, so that nothing is read twice.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::MutexGuard;

use super::entry::{LeaseEntry, TokenEntry, named};
use super::release::LATE_WRITES;
use super::{Entry, place, secret_names};
use crate::key::{Kind, ObjectKey, Redacted};
use crate::policy::PermittedLogin;
use crate::problem::Problem;
use crate::reconcile::engine::{Engine, Next};
use crate::reconcile::ports::{Clock, Cluster, LedgerChange};
use crate::reconcile::queue::{Urgency, WorkKey};
use crate::reconcile::secret::Work;
use crate::reconcile::time::later;
use crate::reconcile::view::Store;
use crate::render::Grant;
use crate::vault::{Token, Vault};

/// By how much a token must live longer than was noted, to be noted again.
const LONGER: SignedDuration = SignedDuration::from_secs(3);

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// The ledger's turn, which every list that becomes complete asks for.
    pub(in crate::reconcile) async fn reconcile_ledger(&self) -> Next {
        // A login before its VaultAuth is seen would be forgotten with that sight.
        let references = [Kind::VaultConnection, Kind::VaultAuth].map(Store::Resource);
        let pending = |namespace: &String| {
            let view = self.view.borrow();
            view.stores.incomplete(&references, namespace) == Some(None)
        };
        if self.config.watched(&self.own.namespace).iter().any(pending) {
            return Next::Settled(None);
        }
        let loaded = match self.load_ledger().await {
            Ok(()) => self.load_late_entries().await,
            Err(problem) => Err(problem),
        };
        match loaded {
            Ok(again) => Next::Settled(again),
            Err(problem) => Next::Failed(problem),
        }
    }

    /// Reads the ledger, once in each term; whoever is named in it is looked at.
    ///
    /// # Errors
    /// Rights and transport.
    pub(in crate::reconcile) async fn load_ledger(&self) -> Result<(), Problem> {
        let _gate = self.ledger.gate.lock().await;
        if self.ledger.loaded.get() {
            return Ok(());
        }
        let found = self.read_ledger().await?;
        *self.ledger.older.borrow_mut() = found.keys().cloned().collect();
        *self.ledger.entries.borrow_mut() = found;
        self.ledger.loaded.set(true);
        self.look_at_all();
        Ok(())
    }

    /// Takes in what the operator before this one had sent, and what arrived after
    /// the ledger was read. Answers when that will be known, until it is.
    async fn load_late_entries(&self) -> Result<Option<Timestamp>, Problem> {
        let late = later(self.term.borrow().started, LATE_WRITES);
        if self.ledger.complete.get() || self.clock.now() < late {
            return Ok((!self.ledger.complete.get()).then_some(late));
        }
        let _gate = self.ledger.gate.lock().await;
        let mut found = self.read_ledger().await?;
        found.retain(|name, _| !self.ledger.entries.borrow().contains_key(name));
        self.ledger.complete.set(true);
        if !found.is_empty() {
            self.ledger.older.borrow_mut().extend(found.keys().cloned());
            self.ledger.entries.borrow_mut().extend(found);
            self.look_at_all();
        }
        Ok(None)
    }

    async fn read_ledger(&self) -> Result<BTreeMap<String, Entry>, Problem> {
        let mut found = BTreeMap::new();
        for name in secret_names() {
            let secret = ObjectKey::new(&self.own.namespace, name);
            let data = self.cluster.ledger(&secret).await?.unwrap_or_default();
            for (name, value) in data {
                match serde_json::from_slice::<Entry>(value.expose()) {
                    Ok(entry) => {
                        found.insert(name, entry);
                    }
                    Err(_) => {
                        tracing::warn!(%secret, entry = name, "an entry of the ledger cannot be read and is left as it is");
                    }
                }
            }
        }
        Ok(found)
    }

    /// Has everybody looked at whom the ledger names.
    fn look_at_all(&self) {
        for resource in self.ledger.resources() {
            self.wake_targets(&resource);
        }
        for secret in self.ledger.cleared() {
            self.view.borrow_mut().hint(secret);
        }
        self.count_leases();
        for resource in self.ledger.resources() {
            self.queue
                .wake(WorkKey::Resource(resource), Urgency::Routine);
        }
        self.wake_tokens();
    }

    /// Has all tokens looked at.
    pub(in crate::reconcile) fn wake_tokens(&self) {
        for (name, _) in self.ledger.tokens() {
            self.queue.wake(WorkKey::Token(name), Urgency::Routine);
        }
    }

    /// What the ledger knows, for the metrics.
    pub(in crate::reconcile) fn tell_ledger(&self) {
        self.count_leases();
        for (name, ends) in self.ledger.told_ends.borrow().iter() {
            self.metrics.lives().token_ends(name, *ends);
        }
    }

    fn count_leases(&self) {
        self.metrics.lives().leases(self.ledger.count_leases());
    }

    /// Notes the token that the next request will [carry](super::Ledger::carry), unless it is noted.
    pub(in crate::reconcile) async fn note_token(
        &self,
        login: &PermittedLogin,
        token: &Token,
    ) -> Result<(), Problem> {
        let name = self.token_name(token);
        let now = self.clock.now();
        // What is left of it: others may have used it for a while.
        let life = self.sessions.life_of(login, token, now);
        let left = life.map_or(token.ttl, |life| life.left.unwrap_or_default());
        let ends = (!left.is_zero()).then(|| later(now, left));
        self.note_told_end(&name, ends);
        // Its entry may be on its way out.
        drop(self.ledger.gate.lock().await);
        if self.ledger.has(&name) {
            return Ok(());
        }
        let entry = TokenEntry {
            accessor: token.accessor.clone(),
            entity: token.entity.clone(),
            connection: login.connection().get().clone(),
            login: login.get().clone(),
            since: now,
            seconds: left.as_secs(),
        };
        self.write_entry(&name, Some(Entry::Token(Box::new(entry))))
            .await?;
        self.queue.wake(WorkKey::Token(name), Urgency::Routine);
        Ok(())
    }

    /// Takes the entry of a token out, unless something hangs on it by now. Answers
    /// whether it is out.
    pub(super) async fn forget_token(&self, name: &str) -> Result<bool, Problem> {
        let gate = self.ledger.gate.lock().await;
        let named = self.ledger.is_in_use(name) || self.ledger.has_certificates(name);
        if named || self.hangs_on(name) {
            return Ok(false);
        }
        // First: where no answer comes, whoever takes the token notes it again, and an
        // entry too many harms nobody.
        self.ledger.entries.borrow_mut().remove(name);
        self.write_behind(&gate, name, None).await.map(|()| true)
    }

    /// Name of the ledger's entry of a token.
    pub(in crate::reconcile) fn token_name(&self, token: &Token) -> String {
        TokenEntry::name(token, &self.key)
    }

    /// Notes that a token lives longer than was noted, for who comes after this process
    /// and may not ask.
    pub(super) async fn note_life(&self, name: &str, left: Duration) -> Result<(), Problem> {
        let Some(mut entry) = self.ledger.token(name) else {
            return Ok(());
        };
        let now = self.clock.now();
        let ends = later(now, left);
        let longer = (entry.ends()).is_none_or(|noted| ends.duration_since(noted) > LONGER);
        if left.is_zero() || !longer {
            return Ok(());
        }
        (entry.since, entry.seconds) = (now, left.as_secs());
        self.write_entry(name, Some(Entry::Token(Box::new(entry))))
            .await
    }

    /// Notes a lease, before the Secret with its credentials is written; or again
    /// where the spec says another end for it by now.
    pub(in crate::reconcile) async fn note_lease(
        &self,
        work: &Work,
        grant: &Grant,
        token: &str,
    ) -> Result<(), Problem> {
        let read = work.permitted.read();
        let entry = LeaseEntry {
            of: named(&work.key),
            uid: work.me.uid.clone(),
            token: token.to_owned(),
            vault_namespace: read.vault_namespace.clone(),
            mount: read.mount.clone(),
            path: read.path.clone(),
            lease: grant.lease.clone(),
            serial: grant.serial.clone(),
            renewable: grant.renewable,
            clears: work.me.clear.then(|| work.me.secret.clone()),
            since: grant.since,
            seconds: grant.seconds,
            revoke: work.resource.revokes(),
        };
        let (name, entry) = (entry.name(), Entry::Lease(Box::new(entry)));
        if self.ledger.entries.borrow().get(&name) == Some(&entry) {
            return Ok(());
        }
        self.write_entry(&name, Some(entry)).await
    }

    /// Keeps what the entries of a living resource say in step with its spec.
    pub(in crate::reconcile) async fn renew_entries(&self, work: &Work) -> Result<(), Problem> {
        for (name, mut lease) in self.ledger.leases_of(&work.key) {
            let clears = work.me.clear.then(|| work.me.secret.clone());
            let asked = (work.resource.revokes(), clears);
            if lease.uid == work.me.uid && (lease.revoke, lease.clears.clone()) != asked {
                (lease.revoke, lease.clears) = asked;
                self.write_entry(&name, Some(Entry::Lease(Box::new(lease))))
                    .await?;
            }
        }
        Ok(())
    }

    /// Writes one entry, or takes it out.
    pub(super) async fn write_entry(
        &self,
        name: &str,
        entry: Option<Entry>,
    ) -> Result<(), Problem> {
        let gate = self.ledger.gate.lock().await;
        self.write_behind(&gate, name, entry).await
    }

    async fn write_behind(
        &self,
        _gate: &MutexGuard<'_, ()>,
        name: &str,
        entry: Option<Entry>,
    ) -> Result<(), Problem> {
        let text = entry.as_ref().map(as_text).transpose()?;
        let secret = place(&self.own.namespace, name);
        let change = BTreeMap::from([(name.to_owned(), text)]);
        if !self.cluster.merge_ledger(&secret, &change).await? && entry.is_some() {
            self.cluster.make_ledger(&secret).await?;
            // Somebody deleted it, perhaps: what it held is known.
            let mut all = self.shard(&secret)?;
            all.extend(change);
            if !self.cluster.merge_ledger(&secret, &all).await? {
                return Err(Problem::Conflict {
                    what: format!("write into the Secret {secret}"),
                    why: "it went again".to_owned(),
                });
            }
        }
        self.ledger.older.borrow_mut().remove(name);
        self.ledger.stuck.borrow_mut().remove(name);
        self.ledger.warned.borrow_mut().remove(name);
        let mut entries = self.ledger.entries.borrow_mut();
        match entry {
            Some(entry) => entries.insert(name.to_owned(), entry),
            None => {
                self.ledger.told_ends.borrow_mut().remove(name);
                self.metrics.lives().token_gone(name);
                entries.remove(name)
            }
        };
        drop(entries);
        self.count_leases();
        Ok(())
    }

    /// All that is known of one of the ledger's Secrets.
    fn shard(&self, secret: &ObjectKey) -> Result<LedgerChange, Problem> {
        let entries = self.ledger.entries.borrow();
        let here = entries
            .iter()
            .filter(|(name, _)| place(&self.own.namespace, name) == *secret);
        here.map(|(name, entry)| Ok((name.clone(), Some(as_text(entry)?))))
            .collect()
    }
}

fn as_text(entry: &Entry) -> Result<Redacted<Vec<u8>>, Problem> {
    let text = serde_json::to_vec(entry).map_err(|error| Problem::Internal {
        why: format!("an entry of the ledger: {error}"),
    })?;
    Ok(Redacted::new(text))
}
