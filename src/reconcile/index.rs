//! Which resources name a thing. Nearly always it is one, so an entry takes no
//! more room than its resources: with ten thousand of them that counts.

use std::collections::BTreeMap;

use crate::key::ResourceKey;

/// From a thing to the resources that name it, in order.
#[derive(Debug)]
pub(super) struct Index<K>(BTreeMap<K, Vec<ResourceKey>>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Index<K> {
    /// A resource names it.
    pub(super) fn link(&mut self, thing: K, resource: &ResourceKey) {
        let resources = self.0.entry(thing).or_default();
        if let Err(place) = resources.binary_search(resource) {
            resources.reserve_exact(1);
            resources.insert(place, resource.clone());
        }
    }

    /// A resource names it no more.
    pub(super) fn unlink(&mut self, thing: &K, resource: &ResourceKey) {
        let Some(resources) = self.0.get_mut(thing) else {
            return;
        };
        if let Ok(place) = resources.binary_search(resource) {
            resources.remove(place);
        }
        if resources.is_empty() {
            self.0.remove(thing);
        }
    }

    /// Whether a resource names it.
    pub(super) fn has(&self, thing: &K, resource: &ResourceKey) -> bool {
        let resources = self.0.get(thing);
        resources.is_some_and(|resources| resources.binary_search(resource).is_ok())
    }

    /// All that name it.
    pub(super) fn of(&self, thing: &K) -> impl Iterator<Item = &ResourceKey> {
        self.0.get(thing).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Kind, ObjectKey};

    fn resource(name: &str) -> ResourceKey {
        ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: ObjectKey::new("team", name),
        }
    }

    #[test]
    fn each_names_it_once_and_in_order_until_it_does_no_more() {
        let mut index = Index::default();
        for name in ["b", "a", "b"] {
            index.link("secret", &resource(name));
        }
        let of = |index: &Index<&str>| index.of(&"secret").cloned().collect::<Vec<_>>();
        assert_eq!(of(&index), [resource("a"), resource("b")]);
        let has = |index: &Index<&str>, name| index.has(&"secret", &resource(name));
        assert!(has(&index, "a") && !has(&index, "c"));
        index.unlink(&"secret", &resource("a"));
        index.unlink(&"secret", &resource("other"));
        assert_eq!(of(&index), [resource("b")]);
        index.unlink(&"secret", &resource("b"));
        assert!(index.0.is_empty(), "nothing is left behind");
    }
}
