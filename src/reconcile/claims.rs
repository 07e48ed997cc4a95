//! Several resources that name one Secret: who may write it. Who holds it stays,
//! else the older one comes first, so that nobody takes it from another and the
//! answer is the same at every look. Those that share take part side by side.

use std::rc::Rc;

use jiff::Timestamp;

use super::decide::Me;
use super::engine::Engine;
use super::kept::Kept;
use super::ownership::state_of_tag;
use super::parting::manager_of;
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::sources::{SecretResource, destination_of, key_of, uid_of};
use super::state::{State, state_annotation};
use super::view::{Manager, SecretMeta, View};
use crate::api::Destination;
use crate::key::{ObjectKey, ResourceKey};
use crate::problem::Problem;
use crate::render::{ResourceTag, SecretData};
use crate::vault::Vault;

/// One resource that names the Secret.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// Which.
    pub key: &'a ResourceKey,
    /// Whether its field manager has a part in the Secret already.
    pub holds: bool,
    /// When it was created.
    pub since: Option<Timestamp>,
    /// `spec.destination.share`.
    pub share: bool,
}

/// What became of the claims on one Secret, from one resource's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// It may write, beside these.
    Admitted(Vec<&'a ResourceKey>),
    /// This one came first, and the two do not share.
    After(&'a ResourceKey),
}

/// All claims on a Secret; who is being deleted has none.
pub fn claims_on<'a>(view: &'a View, secret: &ObjectKey) -> Vec<Claim<'a>> {
    let meta = view.secrets.get(secret);
    view.resources_of_secret(secret)
        .filter_map(|claimant| Some((claimant, view.writer(claimant)?)))
        .filter(|(_, found)| found.metadata().deletion_timestamp.is_none())
        .map(|(claimant, found)| Claim {
            key: claimant,
            holds: holds(meta, uid_of(&*found)),
            since: found
                .metadata()
                .creation_timestamp
                .as_ref()
                .map(|time| time.0),
            share: found.destination().share == Some(true),
        })
        .collect()
}

/// Whether one of them comes after another, as [`place`] says.
pub fn is_contested(claims: &[Claim<'_>]) -> bool {
    claims.len() > 1 && !claims.iter().all(|claim| claim.share)
}

/// The place of `me` among all claims on one Secret, its own among them.
pub fn place<'a>(mut claims: Vec<Claim<'a>>, me: &ResourceKey) -> Place<'a> {
    claims.sort_by(|one, other| {
        let rank = |claim: &Claim<'_>| (!claim.holds, claim.since.is_none(), claim.since);
        rank(one)
            .cmp(&rank(other))
            .then_with(|| one.key.cmp(other.key))
    });
    let mut admitted: Vec<&Claim<'_>> = Vec::new();
    for claim in &claims {
        let rival = admitted.iter().find(|first| !(first.share && claim.share));
        match rival {
            Some(rival) if claim.key == me => return Place::After(rival.key),
            Some(_) => {}
            None if claim.key == me => {
                return Place::Admitted(admitted.iter().map(|first| first.key).collect());
            }
            None => admitted.push(claim),
        }
    }
    Place::Admitted(Vec::new())
}

/// Whether the resource with this uid has a part in the Secret.
pub fn holds(meta: Option<&SecretMeta>, uid: &str) -> bool {
    meta.is_some_and(|meta| {
        let wrote = |manager: &Manager| manager.name == manager_of(uid);
        // One that the Vault Secrets Operator made for it is its own as well.
        meta.owners.iter().any(|owner| owner == uid) || meta.managers.iter().any(wrote)
    })
}

/// Whether the Secret is one that this resource made or was let into, to share it.
fn is_at_home(meta: Option<&SecretMeta>, key: &ResourceKey, uid: &str) -> bool {
    let Some(meta) = meta else { return false };
    let state = state_of_tag(&ResourceTag::of(key), uid, meta);
    let wrote = |one: &Manager| one.name == manager_of(uid);
    state.is_some_and(|state| state.shares.is_some()) && meta.managers.iter().any(wrote)
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Whether the resource joins others in the Secret that it names; or why it
    /// may not write there.
    pub(super) fn claim(
        &self,
        view: &View,
        key: &ResourceKey,
        resource: &dyn SecretResource,
    ) -> Result<bool, Problem> {
        let secret = destination_of(resource);
        let meta = view.secrets.get(&secret);
        self.still_held(view, &secret, resource)?;
        let claims = claims_on(view, &secret);
        if claims.len() < 2 {
            return Ok(false);
        }
        let conflict = |why: String| Problem::DestinationConflict {
            name: secret.name.clone(),
            why,
        };
        let joins = resource.destination().share == Some(true)
            && claims
                .iter()
                .filter(|other| other.share && other.key != key)
                .filter_map(|other| Some((other.key, view.writer(other.key)?)))
                .any(|(other, found)| is_at_home(meta, other, uid_of(&*found)));
        let beside = match place(claims, key) {
            Place::Admitted(beside) => beside,
            Place::After(first) => {
                return Err(conflict(format!(
                    "the {} {} names it too and came first; choose another spec.destination.name, or set spec.destination.share: true on both, so that each owns its own keys",
                    first.kind, first.object.name
                )));
            }
        };
        for first in &beside {
            let Some(other) = view.writer(first) else {
                continue;
            };
            let (one, two) = (resource.destination(), other.destination());
            if one.create != two.create || self.retains(one) != self.retains(two) {
                return Err(conflict(format!(
                    "the {} {}, which shares it, has another spec.destination.create or retainOnDelete, so that one of the two would decide over all of it: give both the same",
                    first.kind, first.object.name
                )));
            }
            if let Some(what) = differing_metadata(one, two) {
                return Err(conflict(format!(
                    "the {} {}, which shares it, sets the {what} to another value: give both the same one, or leave it out in one",
                    first.kind, first.object.name
                )));
            }
        }
        Ok(joins)
    }

    /// Whether a destination stays when its resource goes, as the resource says
    /// or else the configuration.
    pub(super) fn retains(&self, destination: &Destination) -> bool {
        destination
            .retain_on_delete
            .unwrap_or(self.config.sync.retain_on_delete)
    }

    /// Stores a resource or removes it, and wakes those whose claim on a Secret
    /// is another now.
    pub(super) fn put_resource<T: Kept>(&self, key: &ObjectKey, new: Option<Rc<T>>) {
        let claim = || {
            let found = self.view.borrow().writer(&ResourceKey {
                kind: T::KIND,
                object: key.clone(),
            });
            found.map(|found| {
                let deleting = found.metadata().deletion_timestamp.is_some();
                let asked = found.destination();
                let metadata = (asked.labels.clone(), asked.annotations.clone());
                (destination_of(&*found), asked.share, metadata, deleting)
            })
        };
        let before = claim();
        T::put(&mut self.view.borrow_mut(), key, new);
        let after = claim();
        if before == after {
            return;
        }
        let view = self.view.borrow();
        for (secret, ..) in [before, after].iter().flatten() {
            for beside in view.resources_of_secret(secret) {
                self.queue
                    .wake(WorkKey::Resource(beside.clone()), Urgency::Now);
            }
        }
    }

    /// A resource that named the Secret before may still own it: it goes, or is
    /// given up, by itself.
    fn still_held(
        &self,
        view: &View,
        secret: &ObjectKey,
        resource: &dyn SecretResource,
    ) -> Result<(), Problem> {
        let Some(meta) = view.secrets.get(secret) else {
            return Ok(());
        };
        if !view.strays.contains(secret) || holds(Some(meta), uid_of(resource)) {
            return Ok(());
        }
        let named: Vec<String> = view
            .resources_of_secret(secret)
            .map(|named| state_annotation(&ResourceTag::of(named)))
            .collect();
        let former = meta
            .states
            .iter()
            .filter(|(name, _)| !named.contains(name))
            .filter_map(|(_, text)| State::parse(text))
            .find(|state| meta.owners.contains(&state.uid) && holds(Some(meta), &state.uid));
        let Some(former) = former else { return Ok(()) };
        let mut writers = view.writers();
        let whose = writers.find(|found| uid_of(*found) == former.uid);
        let whose = whose.map(key_of).map_or_else(
            || "a resource that is gone".to_owned(),
            |key| {
                format!(
                    "the {} {}, which names another now",
                    key.kind, key.object.name
                )
            },
        );
        Err(Problem::DestinationConflict {
            name: secret.name.clone(),
            why: format!(
                "it still belongs to {whose}; it is made for this one as soon as it is given up"
            ),
        })
    }

    /// Whether a key that is to be written belongs to another resource that
    /// shares the Secret.
    pub(super) fn check_overlap(
        &self,
        secret: &ObjectKey,
        me: &Me,
        data: &SecretData,
    ) -> Result<(), Problem> {
        if !me.share {
            return Ok(());
        }
        let view = self.view.borrow();
        let Some(meta) = view.secrets.get(secret) else {
            return Ok(());
        };
        let mine = state_annotation(&me.tag);
        for (name, text) in meta.states.iter().filter(|(name, _)| **name != mine) {
            let Some(state) = State::parse(text).filter(|state| holds(Some(meta), &state.uid))
            else {
                continue;
            };
            let alive = view
                .resources_of_secret(secret)
                .any(|named| state_annotation(&ResourceTag::of(named)) == *name);
            if state.shares.is_none() && alive {
                return Err(Problem::DestinationConflict {
                    name: secret.name.clone(),
                    why: "another resource that names it has not written it as shared yet; it goes on as soon as that is done".to_owned(),
                });
            }
            let taken = state
                .shares
                .iter()
                .flatten()
                .find(|key| data.contains_key(*key));
            if let Some(key) = taken {
                let whose = state.writer(&secret.namespace, name);
                let whose = whose.map_or_else(
                    || "another resource".to_owned(),
                    |whose| format!("the {} {}", whose.kind, whose.object.name),
                );
                return Err(Problem::DestinationConflict {
                    name: secret.name.clone(),
                    why: format!(
                        "the key {} belongs to {whose}, which shares it: exclude the key in one of the two (spec.destination.transformation: excludes, or excludeRaw for _raw)",
                        crate::problem::printable(key, 80)
                    ),
                });
            }
        }
        Ok(())
    }
}

/// A label or annotation that both ask for with different values.
fn differing_metadata(one: &Destination, other: &Destination) -> Option<String> {
    if !one.create || !other.create {
        return None;
    }
    let sets = [
        ("label", &one.labels, &other.labels),
        ("annotation", &one.annotations, &other.annotations),
    ];
    sets.into_iter().find_map(|(what, one, other)| {
        let mut pairs = one.iter().flatten();
        let differs = |(name, value): &(&String, &String)| {
            let theirs = other.as_ref().and_then(|other| other.get(*name));
            theirs.is_some_and(|theirs| theirs != *value)
        };
        pairs
            .find(differs)
            .map(|(name, _)| format!("{what} {name}"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key::Kind;

    fn key(name: &str) -> ResourceKey {
        ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", name),
        }
    }

    /// Name, whether it holds the Secret, second of its creation, whether it shares.
    type Row = (&'static str, bool, i64, bool);

    /// Who may write, and after whom the others are.
    fn places(rows: &[Row]) -> Vec<String> {
        let keys: Vec<ResourceKey> = rows.iter().map(|row| key(row.0)).collect();
        let claims = |rows: &[Row]| -> Vec<Claim<'_>> {
            rows.iter()
                .zip(&keys)
                .map(|(row, key)| Claim {
                    key,
                    holds: row.1,
                    since: Some(Timestamp::from_second(row.2).unwrap()),
                    share: row.3,
                })
                .collect()
        };
        let after = |me| matches!(place(claims(rows), me), Place::After(_));
        assert_eq!(is_contested(&claims(rows)), keys.iter().any(after));
        keys.iter()
            .map(|me| match place(claims(rows), me) {
                Place::Admitted(_) => format!("{} writes", me.object.name),
                Place::After(first) => format!("{} after {}", me.object.name, first.object.name),
            })
            .collect()
    }

    #[test]
    fn the_older_one_comes_first_and_the_name_decides_a_tie() {
        assert_eq!(
            places(&[("b", false, 1, false), ("a", false, 2, false)]),
            ["b writes", "a after b"]
        );
        assert_eq!(
            places(&[("b", false, 1, false), ("a", false, 1, false)]),
            ["b after a", "a writes"]
        );
        assert_eq!(places(&[("a", false, 1, false)]), ["a writes"]);
    }

    #[test]
    fn who_holds_it_keeps_it() {
        assert_eq!(
            places(&[("old", false, 1, false), ("new", true, 9, false)]),
            ["old after new", "new writes"]
        );
    }

    #[test]
    fn only_those_that_both_share_write_side_by_side() {
        assert_eq!(
            places(&[("a", true, 1, true), ("b", false, 2, true)]),
            ["a writes", "b writes"]
        );
        for (a, b) in [(true, false), (false, true)] {
            assert_eq!(
                places(&[("a", true, 1, a), ("b", false, 2, b)]),
                ["a writes", "b after a"]
            );
        }
        // One that has to wait keeps nobody else out.
        assert_eq!(
            places(&[
                ("a", true, 1, true),
                ("b", false, 2, false),
                ("c", false, 3, true)
            ]),
            ["a writes", "b after a", "c writes"]
        );
    }
}
