//! Secrets that a resource wrote and no longer names. Derived from the view
//! alone, so that nothing needs to be remembered over a crash; kept in step with
//! every change of it, since looking through all Secrets would cost too much.

use super::state::{State, is_state, state_annotation};
use super::view::View;
use crate::key::{ObjectKey, ResourceKey};
use crate::render::ResourceTag;

impl View {
    /// Looks again whether a Secret is a stray: its states or the resources that
    /// name it changed.
    pub(super) fn judge_stray(&mut self, key: &ObjectKey) {
        let named: Vec<String> = self
            .resources_of_secret(key)
            .map(|resource| state_annotation(&ResourceTag::of(resource)))
            .collect();
        let stray = self.secrets.get(key).is_some_and(|meta| {
            let mut states = meta.states.keys().filter(|name| is_state(name));
            states.any(|name| !named.contains(name))
        });
        let moved = if stray {
            self.strays.insert(key.clone())
        } else {
            self.strays.remove(key)
        };
        if moved {
            self.naming.moved();
        }
    }

    /// The resources that wrote a stray and must part from it, as their states
    /// name them; they may be gone.
    pub(super) fn writers_of_stray(&self, key: &ObjectKey) -> Vec<ResourceKey> {
        let meta = self.secrets.get(key).filter(|_| self.strays.contains(key));
        meta.into_iter()
            .flat_map(|meta| &meta.states)
            .filter_map(|(name, text)| State::parse(text)?.writer(&key.namespace, name))
            .collect()
    }

    /// The Secrets of a namespace that carry a state of this resource and that it
    /// does not name. One that it shares may be a stray for another's sake.
    pub(super) fn strays_of(&self, namespace: &str, tag: &ResourceTag) -> Vec<ObjectKey> {
        let name = state_annotation(tag);
        let carries = |key: &&ObjectKey| {
            key.namespace == namespace
                && self
                    .secrets
                    .get(*key)
                    .is_some_and(|meta| meta.states.contains_key(&name))
                && !self
                    .resources_of_secret(key)
                    .any(|resource| ResourceTag::of(resource) == *tag)
        };
        self.strays.iter().filter(carries).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::VaultStaticSecret;
    use crate::key::Kind;
    use crate::reconcile::kept::Kept as _;
    use crate::reconcile::view::SecretMeta;
    use serde_json::json;
    use std::rc::Rc;

    fn resource(name: &str, secret: &str) -> (ObjectKey, Rc<VaultStaticSecret>) {
        let object = json!({
            "metadata": { "name": name, "namespace": "team" },
            "spec": {
                "mount": "kv", "path": name, "type": "kv-v2", "destination": { "name": secret },
            },
        });
        let found = serde_json::from_value(object).unwrap();
        (ObjectKey::new("team", name), Rc::new(found))
    }

    fn tag(name: &str) -> ResourceTag {
        ResourceTag::of(&ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", name),
        })
    }

    fn written_by(name: &str, state: &str) -> SecretMeta {
        SecretMeta {
            uid: "s".into(),
            resource_version: "1".into(),
            deleting: false,
            owners: Vec::new(),
            states: [(state_annotation(&tag(name)), state.to_owned())]
                .into_iter()
                .collect(),
            managers: Vec::new(),
            vso_made: false,
            vso_owns: false,
        }
    }

    #[test]
    fn a_stray_is_one_in_whatever_order_the_watches_tell() {
        let (key, named) = resource("app", "new");
        let old = ObjectKey::new("team", "old");
        let only_old = vec![old.clone()];
        let mut view = View::default();
        view.put_secret(&old, written_by("app", "{}"));
        assert_eq!(view.strays_of("team", &tag("app")), only_old);
        VaultStaticSecret::put(&mut view, &key, Some(named));
        assert_eq!(view.strays_of("team", &tag("app")), only_old);
        assert!(view.strays_of("team", &tag("other")).is_empty());
        assert!(view.strays_of("elsewhere", &tag("app")).is_empty());
        VaultStaticSecret::put(&mut view, &key, Some(resource("app", "old").1));
        assert!(view.strays.is_empty(), "it names it again");
        VaultStaticSecret::put(&mut view, &key, None);
        assert_eq!(view.strays_of("team", &tag("app")), only_old);
        view.remove_secret(&old);
        assert!(view.strays.is_empty());
        // What others annotate is no state.
        let mut marked = written_by("app", "{}");
        let mark = ("vault-tenant-operator.io/orphaned-at".into(), "x".into());
        marked.states = [mark].into_iter().collect();
        view.put_secret(&old, marked);
        assert!(view.strays.is_empty());
    }

    #[test]
    fn a_secret_that_another_left_is_no_stray_of_those_that_still_share_it() {
        let (key, named) = resource("app", "one");
        let one = ObjectKey::new("team", "one");
        let mut shared = written_by("app", "{}");
        shared.states.extend(written_by("gone", "{}").states);
        let mut view = View::default();
        VaultStaticSecret::put(&mut view, &key, Some(named));
        view.put_secret(&one, shared);
        assert_eq!(view.strays_of("team", &tag("gone")), vec![one]);
        assert!(view.strays_of("team", &tag("app")).is_empty());
    }

    #[test]
    fn a_state_names_its_writer_only_under_the_writers_own_tag() {
        let state = |of: &str| {
            json!({
                "uid": "u", "generation": 1, "hash": "id:hash", "fields": "f", "keys": 1,
                "changedAt": "2026-01-01T00:00:00Z", "of": of,
            })
            .to_string()
        };
        let old = ObjectKey::new("team", "old");
        let writers = |of: &str| {
            let mut view = View::default();
            view.put_secret(&old, written_by("app", &state(of)));
            view.writers_of_stray(&old).len()
        };
        assert_eq!(writers("VaultStaticSecret/app"), 1);
        for forged in ["VaultStaticSecret/other", "Pod/app", "app", ""] {
            assert_eq!(writers(forged), 0, "{forged}");
        }
    }
}
