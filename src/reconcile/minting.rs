//! Sources that make something new for each request: it is asked for as rarely
//! as can be. What was made and not written yet is held; what the Secret holds is
//! taken from there, as long as the request to Vault would be the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use super::decide::{Me, Why};
use super::engine::Engine;
use super::ledger::Release;
use super::ownership::state_of;
use super::parting::manager_of;
use super::ports::{Clock, Cluster};
use super::secret::Work;
use super::sources::Held;
use super::state::State;
use super::time::later;
use crate::api::Destination;
use crate::key::{ObjectKey, Redacted, ResourceKey};
use crate::policy::{LoginMethod, Permitted};
use crate::problem::Problem;
use crate::render::{
    ContentHash, Grant, HashKey, Material, RAW_KEY, Rendered, ResourceTag, SecretData, fingerprint,
    render,
};
use crate::vault::{Token, Vault};

/// The longest that what was made is held for a write that does not succeed.
const HELD_LIMIT: Duration = Duration::from_secs(3600);

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// The content that is due: what is in hand, what the Secret holds of the same
    /// request, or something new.
    pub(super) async fn obtain(&self, work: &Work) -> Result<Rendered, Problem> {
        self.load_ledger().await?;
        let request = request_hash(&work.permitted, &work.me.tag, &self.key);
        let replaces = matches!(work.why, Some(Why::Due | Why::Lost));
        if replaces && self.holds_what_is_in_hand(work) {
            // It was written, and only the answer was lost.
            self.written_out(&work.key);
        }
        if let Some(material) = self.in_hand(work, &request) {
            return self.note_and_render(work, &material).await;
        }
        if !replaces && let Some(rendered) = self.reuse(work, &request).await? {
            return Ok(rendered);
        }
        self.mint(work, request).await
    }

    /// Asks Vault for something new, after a live look at resource and destination.
    async fn mint(&self, work: &Work, request: ContentHash) -> Result<Rendered, Problem> {
        if let Some(problem) = self.why_futile(work, &request) {
            return Err(problem);
        }
        self.still_asked(work).await?;
        self.still_as_seen(work).await?;
        let login = work.permitted.login();
        let carried = RefCell::new(None);
        let note = async |token: &Token| {
            // First: from here on nobody takes it for free.
            let name = self.token_name(token);
            carried.replace(Some(self.ledger.carry(name)));
            self.note_token(login, token).await
        };
        let orphaned = self.is_orphaned(work);
        self.outlast(work).await?;
        let now = self.clock.now();
        // What an engine says no to in words of its own is no outage of Vault's.
        let asked = async {
            let asked = self.sessions.read_after(&work.permitted, now, &note);
            let asked = asked.await;
            asked.map_err(|problem| work.resource.explained(problem))
        };
        let reply = self.ask(&work.key, login.connection(), asked).await?;
        let now = self.clock.now();
        let material = self.meaning(work, reply, now).await;
        let mut material = material.map_err(|problem| self.note_futile(work, &request, problem))?;
        self.metrics.minted();
        if orphaned {
            self.metrics.left_to_expire();
        }
        if let Some(grant) = &mut material.grant {
            grant.request = Some(request.clone());
        }
        let carried = carried.into_inner();
        let token = carried.as_ref().map(|one| one.name.clone());
        let material = Rc::new(InHand {
            material,
            token: token.unwrap_or_default(),
        });
        if work.why == Some(Why::Due)
            && let Some(problem) = work
                .terms
                .and_then(|terms| self.gains_nothing(work, terms, &material))
        {
            // So that it is revoked.
            let problem = self.note_futile(work, &request, problem);
            self.note_and_render(work, &material).await?;
            return Err(problem);
        }
        self.unwritten
            .borrow_mut()
            .insert(work.key.clone(), Rc::clone(&material));
        self.note_and_render(work, &material).await
    }

    /// The ledger learns of a lease or a certificate before the Secret does.
    async fn note_and_render(&self, work: &Work, hand: &InHand) -> Result<Rendered, Problem> {
        if let Some(grant) = &hand.material.grant {
            if !grant.lease.is_empty() {
                // An id of another path could be renewed and revoked by nobody.
                work.permitted.lease(&grant.lease)?;
            }
            if !grant.lease.is_empty() || !grant.serial.is_empty() {
                self.note_lease(work, grant, &hand.token).await?;
            }
        }
        self.rendered(work, &hand.material)
    }

    /// The content of a material, as the spec asks for it.
    pub(super) fn rendered(&self, work: &Work, material: &Material) -> Result<Rendered, Problem> {
        let transformation = work.resource.destination().transformation.as_ref();
        let exclude_raw = transformation.and_then(|t| t.exclude_raw).unwrap_or(false);
        let (filter, me) = (&work.filter, &work.me);
        render(
            material,
            filter,
            exclude_raw,
            &me.secret,
            &me.tag,
            &self.key,
        )
    }

    /// What was made in an earlier attempt, whose write did not succeed.
    fn in_hand(&self, work: &Work, request: &ContentHash) -> Option<Rc<InHand>> {
        let mut unwritten = self.unwritten.borrow_mut();
        let hand = unwritten.get(&work.key)?;
        let grant = hand.material.grant.as_ref()?;
        let lasts = match grant.duration() {
            Duration::ZERO => HELD_LIMIT,
            given => (given / 2).min(HELD_LIMIT),
        };
        let fits =
            grant.request.as_ref() == Some(request) && later(grant.since, lasts) > self.clock.now();
        if !fits {
            unwritten.remove(&work.key);
            return None;
        }
        Some(Rc::clone(hand))
    }

    fn holds_what_is_in_hand(&self, work: &Work) -> bool {
        let held = self.held(work).map(|held| held.grant);
        held.is_some() && held == self.unwritten_grant(&work.key)
    }

    /// What is in hand, not written yet.
    pub(super) fn unwritten_grant(&self, key: &ResourceKey) -> Option<Grant> {
        let unwritten = self.unwritten.borrow();
        unwritten.get(key)?.material.grant.clone()
    }

    /// A write succeeded: nothing is held any longer.
    pub(super) fn written_out(&self, key: &ResourceKey) {
        self.unwritten.borrow_mut().remove(key);
    }

    /// Mints on no old view of the destination.
    async fn still_as_seen(&self, work: &Work) -> Result<(), Problem> {
        let secret = &work.permitted.destination().secret;
        let live = self.look_at(secret).await?;
        if live.map(|meta| (meta.uid, meta.resource_version)) == work.seen {
            return Ok(());
        }
        Err(Problem::Conflict {
            what: format!("ask for the content of the Secret {}", secret.name),
            why: "it changed meanwhile".to_owned(),
        })
    }

    /// The content made anew of what the resource's Secret holds, or one that it
    /// named before; `None` where that is of another request, or was edited.
    async fn reuse(&self, work: &Work, request: &ContentHash) -> Result<Option<Rendered>, Problem> {
        let named = work.permitted.destination().secret.clone();
        let strays = {
            let view = self.view.borrow();
            view.strays_of(&work.key.object.namespace, &work.me.tag)
        };
        for secret in std::iter::once(named).chain(strays) {
            let state = {
                let view = self.view.borrow();
                let meta = view.secrets.get(&secret).filter(|meta| !meta.deleting);
                meta.and_then(|meta| state_of(&work.me, meta))
            };
            let Some(state) = state.filter(|state| self.is_answer_to(state, request)) else {
                continue;
            };
            if let Some(rendered) = self.reuse_of(work, &secret, state, request).await? {
                return Ok(Some(rendered));
            }
        }
        Ok(None)
    }

    /// Whether what a Secret holds answers this request. One under a key that is
    /// gone cannot be compared, and is taken for it.
    fn is_answer_to(&self, state: &State, request: &ContentHash) -> bool {
        let asked = state
            .grant
            .as_ref()
            .and_then(|grant| grant.request.as_ref());
        asked.is_some_and(|asked| asked == request || !asked.is_of(&self.key))
    }

    async fn reuse_of(
        &self,
        work: &Work,
        secret: &ObjectKey,
        state: State,
        request: &ContentHash,
    ) -> Result<Option<Rendered>, Problem> {
        let manager = manager_of(&work.me.uid);
        let Some(found) = self.cluster.secret_content(secret, &manager).await? else {
            return Ok(None);
        };
        let seen = self.view.borrow().secrets.get(secret).cloned();
        if !seen.is_some_and(|seen| seen.is_at(&found.uid, &found.resource_version)) {
            self.look_at(secret).await?;
            return Err(Problem::Conflict {
                what: format!("read what the Secret {} holds", secret.name),
                why: "it changed meanwhile".to_owned(),
            });
        }
        let mut grant = state.grant.clone();
        if let Some(grant) = &mut grant {
            grant.request = Some(request.clone());
        }
        let mut data = found.data;
        let raw = data.remove(RAW_KEY);
        let untouched = is_untouched(&state, &data, raw.as_ref(), &work.me, &self.key);
        let Some(raw) = raw.filter(|_| untouched) else {
            let same = untouched && state.rendering == work.me.rendering && state.raw.is_none();
            return Ok(same.then(|| Rendered {
                hash: self.key.content(&work.me.tag, &data),
                raw_hash: None,
                keys: data.len(),
                data,
                version: state.version,
                grant,
            }));
        };
        let Ok(text) = String::from_utf8(raw.into_exposed()) else {
            return Ok(None);
        };
        let Ok(raw) = RawValue::from_string(text) else {
            return Ok(None);
        };
        let Ok(content) = work.resource.content(&raw, &work.permitted.read().path) else {
            return Ok(None);
        };
        let path = &work.permitted.read().path;
        if let Some(read_back) = grant.take() {
            grant = Some(work.resource.granted(&raw, path, read_back)?);
        }
        let material = Material {
            content,
            raw: Redacted::new(raw),
            version: state.version,
            grant,
            volatile: work.resource.volatile(),
        };
        self.rendered(work, &material).map(Some)
    }

    /// What the resource holds, for its status.
    pub(super) fn held(&self, work: &Work) -> Option<Held> {
        work.terms?;
        let view = self.view.borrow();
        let meta = view.secrets.get(&work.permitted.destination().secret)?;
        let grant = state_of(&work.me, meta)?.grant?;
        let renewed = self.last_renewal(&work.key, &*work.resource, &grant);
        Some(Held { grant, renewed })
    }

    /// What follows once the Secret holds what it should: the ledger says what the
    /// spec says, and what nobody needs is given back.
    pub(super) async fn after_minting(
        &self,
        work: &Work,
        again: Option<Timestamp>,
    ) -> Result<Release, Problem> {
        let mut release = Release::default();
        if work.terms.is_some() {
            self.load_ledger().await?;
            self.renew_entries(work).await?;
            release = self.release_as_gone(&work.key, Some(work)).await;
            release.joins(self.release_superseded(work).await);
        }
        release.again = release.again.into_iter().chain(again).min();
        Ok(release)
    }
}

/// What was made and not written yet.
#[derive(Debug)]
pub(super) struct InHand {
    material: Material,
    token: String,
}

impl InHand {
    /// Name of the ledger's entry of the token that it hangs on.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// For how long it was given.
    pub(super) const fn grant(&self) -> Option<&Grant> {
        self.material.grant.as_ref()
    }
}

/// Whether what was read is what the resource wrote: by its hashes; where their
/// key is gone, by who owns it, which was looked at before.
fn is_untouched(
    state: &State,
    data: &SecretData,
    raw: Option<&Redacted<Vec<u8>>>,
    me: &Me,
    key: &HashKey,
) -> bool {
    if !state.hash.is_of(key) {
        return data.len() == state.keys && raw.is_some() == state.raw.is_some();
    }
    let raw = raw.map(|raw| {
        let alone = SecretData::from([(RAW_KEY.to_owned(), raw.clone())]);
        key.content(&me.tag, &alone)
    });
    // `_raw` alone gives the rest; without it the rest must be whole.
    match (&state.raw, raw) {
        (Some(was), Some(is)) => *was == is,
        (None, None) => key.content(&me.tag, data) == state.hash,
        _ => false,
    }
}

/// Keyed hash of all that makes Vault answer with something else: not of what
/// the resource does with it.
pub(super) fn request_hash(permitted: &Permitted, tag: &ResourceTag, key: &HashKey) -> ContentHash {
    let (read, login) = (permitted.read(), permitted.login());
    let role = match &login.get().method {
        LoginMethod::Kubernetes { role, .. } => role.as_str(),
        LoginMethod::NotServed(name) => name.as_str(),
    };
    let body = read.body.as_ref().map(|body| json!(body).to_string());
    let parts = [
        ("address", login.connection().get().address.as_str()),
        (
            "namespace",
            read.vault_namespace.as_deref().unwrap_or_default(),
        ),
        ("path", &read.path),
        ("body", body.as_deref().unwrap_or_default()),
        ("auth", &login.get().mount),
        (
            "auth namespace",
            login.get().vault_namespace.as_deref().unwrap_or_default(),
        ),
        ("role", role),
    ];
    let parts = parts.map(|(name, text)| (name.to_owned(), Redacted::new(text.into())));
    key.content(tag, &SecretData::from(parts))
}

/// Fingerprint of how content is made of what Vault gave.
pub(super) fn rendering(destination: &Destination) -> String {
    let transformation = destination.transformation.clone().unwrap_or_default();
    let lists = [&transformation.excludes, &transformation.includes];
    let patterns = lists.map(|list| json!(list).to_string());
    let raw = json!(transformation.exclude_raw).to_string();
    let type_ = destination.type_.as_deref().unwrap_or_default();
    fingerprint([patterns[0].as_str(), &patterns[1], &raw, type_])
}
