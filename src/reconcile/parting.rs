//! What a resource leaves behind in a Secret that it no longer names: deleted
//! where the resource made it, else only its own keys are taken out. Nothing is
//! done on the word of an annotation: our manager's entry, the owner reference
//! and two live looks must agree, and the operator's own Secrets are never touched.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::decide::fence;
use super::engine::Engine;
use super::ownership::{state_of, state_of_tag};
use super::ports::{Clock, Cluster, Fence, Life, SecretWrite};
use super::secret::Work;
use super::sources::uid_of;
use super::state::{ORPHANED_AT, State, is_state, state_annotation};
use super::view::SecretMeta;
use crate::key::{ObjectKey, ResourceKey};
use crate::problem::Problem;
use crate::render::{ResourceTag, SecretData};
use crate::vault::Vault;

/// What becomes of a Secret that its writer no longer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing of the resource is in it, or it goes by itself.
    Nothing,
    /// The resource made it and nobody else has a part in it: it goes.
    Delete,
    /// It is somebody else's too: our keys, labels and annotations go.
    TakeOut,
    /// It is kept as it is, with a word about since when.
    Mark,
}

/// Begins the field manager of every resource's writes.
const MANAGER: &str = "vto-";

/// The field manager of a resource's writes.
pub fn manager_of(uid: &str) -> String {
    format!("{MANAGER}{uid}")
}

/// Whether a field manager is that of some resource's writes.
pub fn is_a_resources(manager: &str) -> bool {
    manager.starts_with(MANAGER)
}

/// How the resource with this tag and uid parts from a Secret, by what the
/// Secret proves of itself.
pub fn parting(meta: &SecretMeta, tag: &ResourceTag, uid: &str) -> Parting {
    let wrote = meta
        .managers
        .iter()
        .any(|manager| manager.name == manager_of(uid));
    let state = state_of_tag(tag, uid, meta).filter(|_| wrote && !meta.deleting);
    let Some(state) = state else {
        return Parting::Nothing;
    };
    if state.retain && meta.states.contains_key(ORPHANED_AT) {
        Parting::Nothing
    } else if state.retain {
        Parting::Mark
    } else if is_ours_alone(meta, tag, uid) {
        Parting::Delete
    } else {
        Parting::TakeOut
    }
}

/// Whether the Secret was made for this resource, and nobody else has a part in
/// it: its only owner, our manager's entry, no other's keys, no other's state.
pub fn is_ours_alone(meta: &SecretMeta, tag: &ResourceTag, uid: &str) -> bool {
    let (ours, mine) = (manager_of(uid), state_annotation(tag));
    let mut wrote = false;
    for manager in &meta.managers {
        if manager.name == ours {
            wrote = true;
        } else if manager.owns_data || manager.owns_type || is_a_resources(&manager.name) {
            return false;
        }
    }
    let mut states = meta.states.keys().filter(|name| is_state(name));
    wrote && meta.owners == [uid] && states.all(|name| *name == mine)
}

/// The same for a resource that is gone: what has an owner is left to the garbage
/// collector, and what was not to be shared or kept stays as it is.
pub fn parting_of_gone(meta: &SecretMeta, tag: &ResourceTag, uid: &str) -> Parting {
    let due = parting(meta, tag, uid);
    let shared = state_of_tag(tag, uid, meta).is_some_and(|state| state.shares.is_some());
    let clears = state_of_tag(tag, uid, meta).is_some_and(|state| state.clear);
    match due {
        // Also from a Secret that has an owner of its own.
        Parting::TakeOut | Parting::Delete if clears => Parting::TakeOut,
        Parting::TakeOut if shared && meta.owners != [uid] => due,
        Parting::Mark => due,
        _ => Parting::Nothing,
    }
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Parts from the Secrets that the resource wrote under other names, once
    /// the one that it names now holds what it should. Answers with those for
    /// which a Role of names has no rule any more.
    pub(super) async fn leave_former(
        &self,
        work: &Work,
    ) -> Result<Vec<(String, Problem)>, Problem> {
        let me = &work.me;
        let namespace = &work.key.object.namespace;
        let former = self.view.borrow().strays_of(namespace, &me.tag);
        let mut left = Vec::new();
        for (name, problem) in self.unseen_former(&*work.resource) {
            left.push((name, self.explained(problem).await));
        }
        if former.is_empty() || !self.destination_is_written(work) {
            return Ok(left);
        }
        for secret in former {
            let seen = self.view.borrow().secrets.get(&secret).cloned();
            let seen = seen.filter(|meta| !self.is_last_good(work, meta));
            let due = seen.map_or(Parting::Nothing, |meta| parting(&meta, &me.tag, &me.uid));
            if due == Parting::Nothing {
                continue;
            }
            match self.leave(work, &secret).await {
                Err(problem @ Problem::KubernetesForbidden { .. }) if self.knows_names_only() => {
                    left.push((secret.name, self.explained(problem).await));
                }
                outcome => outcome?,
            }
        }
        Ok(left)
    }

    /// Whether a former Secret holds data and the one that is named now none: the
    /// source may be empty by mistake.
    fn is_last_good(&self, work: &Work, former: &SecretMeta) -> bool {
        let keys = |meta: &SecretMeta| state_of(&work.me, meta).map_or(0, |state| state.keys);
        let view = self.view.borrow();
        let now = view.secrets.get(&work.permitted.destination().secret);
        keys(former) > 0 && now.map_or(0, keys) == 0
    }

    async fn leave(&self, work: &Work, secret: &ObjectKey) -> Result<(), Problem> {
        let me = &work.me;
        if self.is_own(secret) || *secret == work.permitted.destination().secret {
            return Ok(());
        }
        self.still_asked(work).await?;
        let Some(live) = self.look_at(secret).await? else {
            return Ok(());
        };
        if self.is_last_good(work, &live) {
            return Ok(());
        }
        let told = match parting(&live, &me.tag, &me.uid) {
            Parting::Nothing => return Ok(()),
            Parting::Delete => {
                // The watch will tell when it is gone, to all who wait for it.
                self.cluster.delete_secret(secret, &live).await?;
                if let Some(seen) = self.view.borrow_mut().secrets.get_mut(secret) {
                    seen.deleting = true;
                }
                "deleted"
            }
            Parting::TakeOut => {
                self.take_out_of(secret, &me.manager, fence(&live)).await?;
                "left without the keys of this resource, since it is not its alone"
            }
            Parting::Mark => {
                self.mark_orphaned(secret, &live).await?;
                "kept"
            }
        };
        let message = format!(
            "the Secret {} was replaced by {} and is {told}",
            secret.name, me.secret
        );
        self.tell(work, "DestinationMoved", message).await;
        Ok(())
    }

    /// Parts from what a resource that is gone left behind, as its states say.
    pub(super) async fn leave_as_gone(&self, key: &ResourceKey) -> Result<(), Problem> {
        let tag = ResourceTag::of(key);
        let left = self.view.borrow().strays_of(&key.object.namespace, &tag);
        let mut outcome = Ok(());
        for secret in left {
            // One that cannot be left keeps no other.
            outcome = outcome.and(self.leave_one_as_gone(key, &tag, &secret).await);
        }
        outcome
    }

    async fn leave_one_as_gone(
        &self,
        key: &ResourceKey,
        tag: &ResourceTag,
        secret: &ObjectKey,
    ) -> Result<(), Problem> {
        let seen = self.view.borrow().secrets.get(secret).cloned();
        let Some(seen) = seen.filter(|_| !self.is_own(secret)) else {
            return Ok(());
        };
        let state = seen.states.get(&state_annotation(tag));
        let Some(State { uid, .. }) = state.and_then(|text| State::parse(text)) else {
            return Ok(());
        };
        if parting_of_gone(&seen, tag, &uid) == Parting::Nothing || self.is_known(&uid) {
            return Ok(());
        }
        if self.cluster.life(key, &uid).await? != Life::Gone {
            return Err(Problem::Conflict {
                what: format!("give up what {key} wrote"),
                why: "the resource is still there".to_owned(),
            });
        }
        let Some(live) = self.look_at(secret).await? else {
            return Ok(());
        };
        let what = match parting_of_gone(&live, tag, &uid) {
            Parting::TakeOut => {
                self.take_out_of(secret, &manager_of(&uid), fence(&live))
                    .await?;
                "its keys are taken out"
            }
            Parting::Mark => {
                self.mark_orphaned(secret, &live).await?;
                "it is kept"
            }
            Parting::Delete | Parting::Nothing => return Ok(()),
        };
        // There is no resource any more that an event could be about.
        tracing::info!(resource = %key, %secret, what, "the resource of a Secret is gone");
        Ok(())
    }

    /// Whether a resource of this uid is in the view, under whatever name: a
    /// state may be forged, and must not make us undo what a live one wrote.
    pub(super) fn is_known(&self, uid: &str) -> bool {
        let view = self.view.borrow();
        view.writers().any(|found| uid_of(found) == uid)
    }

    /// A destination that was kept when nobody asked for it is asked for again.
    pub(super) async fn take_up(&self, work: &Work) -> Result<(), Problem> {
        let secret = &work.permitted.destination().secret;
        let seen = self.view.borrow().secrets.get(secret).cloned();
        let marked = |meta: &SecretMeta| {
            meta.states.contains_key(ORPHANED_AT) && state_of(&work.me, meta).is_some()
        };
        let Some(seen) = seen.filter(marked) else {
            return Ok(());
        };
        let unmarked = (ORPHANED_AT, None);
        let asked = self.view.borrow().moment();
        let meta = self
            .cluster
            .annotate_secret(secret, &seen, unmarked)
            .await?;
        self.learn(secret, meta, asked);
        Ok(())
    }

    async fn mark_orphaned(&self, secret: &ObjectKey, seen: &SecretMeta) -> Result<(), Problem> {
        let now = format!("{:.0}", self.clock.now());
        let mark = (ORPHANED_AT, Some(now.as_str()));
        let asked = self.view.borrow().moment();
        let meta = self.cluster.annotate_secret(secret, seen, mark).await?;
        self.learn(secret, meta, asked);
        Ok(())
    }

    /// Whether the destination holds what this generation of the resource wrote.
    fn destination_is_written(&self, work: &Work) -> bool {
        let view = self.view.borrow();
        let meta = view
            .secrets
            .get(&work.permitted.destination().secret)
            .filter(|meta| !meta.deleting);
        let state = meta.and_then(|meta| state_of(&work.me, meta));
        state.is_some_and(|state| state.generation == work.me.generation)
    }

    /// Takes all that a field manager owns out of a Secret, as it was seen, and
    /// then the manager's name: it still owns the map `data`, though nothing in it.
    pub(super) async fn take_out_of(
        &self,
        secret: &ObjectKey,
        manager: &str,
        fence: Fence,
    ) -> Result<(), Problem> {
        let mut empty = SecretWrite {
            secret: secret.clone(),
            manager: manager.to_owned(),
            fence,
            type_: None,
            data: SecretData::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
        };
        let asked = self.view.borrow().moment();
        let mut meta = match self.cluster.apply_secret(&empty).await {
            // A type that we alone own would go back to its default, which is refused.
            Err(Problem::DestinationImmutable { .. }) => {
                let Some(found) = self.cluster.secret_content(secret, manager).await? else {
                    return Ok(());
                };
                empty.type_ = Some(found.type_);
                self.cluster.apply_secret(&empty).await?
            }
            answer => answer?,
        };
        if meta.managers.iter().any(|left| left.name == manager)
            && empty.type_.is_none()
            && let Some(mut fields) = self.cluster.managed_fields(secret).await?
        {
            fields
                .entries
                .retain(|entry| entry.manager.as_deref() != Some(manager));
            if fields.entries.is_empty() {
                // An empty list would change nothing (Kubernetes, "Server-Side Apply").
                fields.entries.push(ManagedFieldsEntry::default());
            }
            meta = self.cluster.set_managed_fields(secret, &fields).await?;
        }
        self.learn(secret, meta, asked);
        Ok(())
    }

    /// Asks live whether the resource still is as this reconcile knows it.
    pub(super) async fn still_asked(&self, work: &Work) -> Result<(), Problem> {
        match self.cluster.life(&work.key, &work.me.uid).await? {
            Life::Alive(generation) if generation == work.me.generation => Ok(()),
            Life::Alive(_) => Err(Problem::Conflict {
                what: format!("work for {}", work.key),
                why: "its spec changed meanwhile".to_owned(),
            }),
            Life::Leaving | Life::Gone => Err(Problem::Conflict {
                what: format!("work for {}", work.key),
                why: "the resource is being deleted".to_owned(),
            }),
        }
    }

    /// Whether a Secret is one of the operator's own, or of another one's.
    pub(super) fn is_own(&self, secret: &ObjectKey) -> bool {
        self.own.secret_names.contains(&secret.name)
    }
}

#[cfg(test)]
#[path = "parting_tests.rs"]
mod tests;
