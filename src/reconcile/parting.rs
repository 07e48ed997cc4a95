//! What a resource leaves behind in a Secret that it no longer names: deleted
//! where the resource made it, else only its own keys are taken out. Nothing is
//! done on the word of an annotation: our manager's entry, the owner reference
//! and two live looks must agree, and the operator's own Secrets are never touched.

use std::collections::BTreeMap;

use super::decide::state_of_tag;
use super::engine::Engine;
use super::ports::{Clock, Cluster, Fence, Life, SecretWrite};
use super::state::state_annotation;
use super::static_secret::Work;
use super::view::SecretMeta;
use crate::key::ObjectKey;
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
}

/// The field manager of a resource's writes.
pub fn manager_of(uid: &str) -> String {
    format!("vto-{uid}")
}

/// How the resource with this tag and uid parts from a Secret, by what the
/// Secret proves of itself.
pub fn parting(meta: &SecretMeta, tag: &ResourceTag, uid: &str) -> Parting {
    let wrote = meta
        .managers
        .iter()
        .any(|manager| manager.name == manager_of(uid));
    if meta.deleting || !wrote || state_of_tag(tag, uid, meta).is_none() {
        return Parting::Nothing;
    }
    if is_ours_alone(meta, tag, uid) {
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
        } else if manager.owns_data || manager.name.starts_with("vto-") {
            return false;
        }
    }
    wrote && meta.owners == [uid] && meta.states.keys().all(|name| *name == mine)
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Parts from the Secrets that the resource wrote under other names, once
    /// the one that it names now holds what it should.
    pub(super) async fn leave_former(&self, work: &Work) -> Result<(), Problem> {
        let me = &work.me;
        let namespace = &work.key.object.namespace;
        let former = self.view.borrow().strays_of(namespace, &me.tag);
        if former.is_empty() || !self.destination_is_written(work) {
            return Ok(());
        }
        for secret in former {
            let seen = self.view.borrow().secrets.get(&secret).cloned();
            let due = seen.map_or(Parting::Nothing, |meta| parting(&meta, &me.tag, &me.uid));
            if due != Parting::Nothing {
                self.leave(work, &secret).await?;
            }
        }
        Ok(())
    }

    async fn leave(&self, work: &Work, secret: &ObjectKey) -> Result<(), Problem> {
        let me = &work.me;
        if self.is_own(secret) {
            return Ok(());
        }
        self.still_asked(work).await?;
        let Some(live) = self.look_at(secret).await? else {
            return Ok(());
        };
        let told = match parting(&live, &me.tag, &me.uid) {
            Parting::Nothing => return Ok(()),
            Parting::Delete => {
                // The watch will tell when it is gone, to all who wait for it.
                self.cluster.delete_secret(secret, &live).await?;
                "deleted"
            }
            Parting::TakeOut => {
                self.take_out_of(secret, &me.manager, &live).await?;
                "left without the keys of this resource, since it is not its alone"
            }
        };
        let message = format!(
            "the Secret {} was replaced by {} and is {told}",
            secret.name, me.secret
        );
        self.tell(work, "DestinationMoved", message).await;
        Ok(())
    }

    /// Whether the destination holds what this generation of the resource wrote.
    fn destination_is_written(&self, work: &Work) -> bool {
        let view = self.view.borrow();
        let meta = view
            .secrets
            .get(&work.permitted.destination().secret)
            .filter(|meta| !meta.deleting);
        let state = meta.and_then(|meta| super::decide::state_of(&work.me, meta));
        state.is_some_and(|state| state.generation == work.me.generation)
    }

    /// Takes all that a field manager owns out of a Secret, as it was seen.
    pub(super) async fn take_out_of(
        &self,
        secret: &ObjectKey,
        manager: &str,
        seen: &SecretMeta,
    ) -> Result<(), Problem> {
        let empty = SecretWrite {
            secret: secret.clone(),
            manager: manager.to_owned(),
            fence: Fence::Update {
                uid: seen.uid.clone(),
                resource_version: seen.resource_version.clone(),
            },
            type_: None,
            data: SecretData::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
        };
        let meta = self.cluster.apply_secret(&empty).await?;
        self.view.borrow_mut().put_secret_answer(secret, meta);
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

    /// What the API server holds now; the view learns it.
    pub(super) async fn look_at(&self, secret: &ObjectKey) -> Result<Option<SecretMeta>, Problem> {
        let live = self.cluster.secret_meta(secret).await?;
        let mut view = self.view.borrow_mut();
        match &live {
            Some(meta) => view.put_secret_answer(secret, meta.clone()),
            None => {
                view.forget_secret(secret);
            }
        }
        Ok(live)
    }

    /// Whether a Secret is one of the operator's own.
    pub(super) fn is_own(&self, secret: &ObjectKey) -> bool {
        secret.namespace == self.own.namespace && self.own.secret_names.contains(&secret.name)
    }
}

#[cfg(test)]
#[path = "parting_tests.rs"]
mod tests;
