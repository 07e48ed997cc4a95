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
        if stray {
            self.strays.insert(key.clone());
        } else {
            self.strays.remove(key);
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

    /// The strays of a namespace that carry a state of this resource.
    pub(super) fn strays_of(&self, namespace: &str, tag: &ResourceTag) -> Vec<ObjectKey> {
        let name = state_annotation(tag);
        let carries = |key: &&ObjectKey| {
            key.namespace == namespace
                && self
                    .secrets
                    .get(*key)
                    .is_some_and(|meta| meta.states.contains_key(&name))
        };
        self.strays.iter().filter(carries).cloned().collect()
    }
}
