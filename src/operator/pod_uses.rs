//! What a pod template uses of Secrets: the fields of a pod that name one (Kubernetes,
//! "Secrets"), and with which keys missing its pods do not start.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

use crate::reconcile::view::Use;

/// The longest name of a Secret, and of a key in one (Kubernetes, `ConfigMapKey`). No Secret has a longer one, whatever
/// a template says.
const NAME_LIMIT: usize = 253;

/// So many Secrets of a template are kept, and so many keys of each: nobody uses more, and templates of tenants
/// must not fill the memory.
const MOST: usize = 200;

/// So many keys of all its Secrets together.
const MOST_KEYS: usize = 1000;

/// The key that the kubelet looks for in a Secret of `imagePullSecrets`.
const PULL_KEY: &str = ".dockerconfigjson";

/// The part of the `spec` of a pod template that restarts look at; the rest is skipped while it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Seconds that the pods are given to end.
    pub termination_grace_period_seconds: Option<i64>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    image_pull_secrets: Option<Vec<Named>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Option<Vec<Variable>>,
    env_from: Option<Vec<Variables>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    value_from: Option<ValueFrom>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    secret_key_ref: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Variables {
    secret_ref: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Volume {
    secret: Option<Named>,
    projected: Option<Projected>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Source>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    secret: Option<Named>,
}

/// What names a Secret: a volume does so by another field than the others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    name: Option<String>,
    secret_name: Option<String>,
    key: Option<String>,
    items: Option<Vec<Item>>,
    optional: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    key: Option<String>,
}

/// What was found, within the limits.
#[derive(Default)]
struct Found {
    secrets: BTreeMap<String, BTreeSet<String>>,
    keys: usize,
}

impl Found {
    fn add(&mut self, name: Option<String>, keys: impl IntoIterator<Item = String>) {
        let fits = |text: &String| !text.is_empty() && text.len() <= NAME_LIMIT;
        let Some(name) = name.filter(fits) else {
            return;
        };
        if self.secrets.len() >= MOST && !self.secrets.contains_key(&name) {
            return;
        }
        let known = self.secrets.entry(name).or_default();
        for key in keys.into_iter().filter(fits) {
            if known.len() < MOST && self.keys < MOST_KEYS && known.insert(key) {
                self.keys += 1;
            }
        }
    }

    fn add_reference(&mut self, named: Option<Named>) {
        let Some(named) = named else { return };
        let items = named.items.into_iter().flatten();
        let keys = items.filter_map(|item| item.key).chain(named.key);
        let needed = named.optional != Some(true);
        self.add(
            named.name.or(named.secret_name),
            keys.filter(move |_| needed),
        );
    }
}

/// The Secrets that its pods use, by name.
#[must_use]
pub fn uses(pod: PodSpec) -> Vec<Use> {
    let mut found = Found::default();
    let containers = pod.containers.into_iter().flatten();
    for container in containers.chain(pod.init_containers.into_iter().flatten()) {
        for variable in container.env.into_iter().flatten() {
            found.add_reference(variable.value_from.and_then(|from| from.secret_key_ref));
        }
        for variables in container.env_from.into_iter().flatten() {
            found.add_reference(variables.secret_ref);
        }
    }
    for volume in pod.volumes.into_iter().flatten() {
        found.add_reference(volume.secret);
        let sources = volume.projected.and_then(|projected| projected.sources);
        for source in sources.into_iter().flatten() {
            found.add_reference(source.secret);
        }
    }
    for named in pod.image_pull_secrets.into_iter().flatten() {
        found.add(named.name, [PULL_KEY.to_owned()]);
    }
    let uses = found.secrets.into_iter();
    uses.map(|(secret, keys)| Use { secret, keys }).collect()
}

#[cfg(test)]
#[path = "pod_uses_tests.rs"]
mod tests;
