//! What a pod template uses of Secrets: the fields of a pod that name one (Kubernetes,
//! "Secrets"), and with which keys missing its pods do not start.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

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

/// What was found, within the limits.
#[derive(Default)]
struct Found {
    secrets: BTreeMap<String, BTreeSet<String>>,
    keys: usize,
}

impl Found {
    fn add<'a>(&mut self, name: &Value, keys: impl IntoIterator<Item = &'a str>) {
        let fits = |text: &&str| !text.is_empty() && text.len() <= NAME_LIMIT;
        let Some(name) = name.as_str().filter(fits) else {
            return;
        };
        if self.secrets.len() >= MOST && !self.secrets.contains_key(name) {
            return;
        }
        let known = self.secrets.entry(name.to_owned()).or_default();
        for key in keys.into_iter().filter(fits) {
            if known.len() < MOST && self.keys < MOST_KEYS && known.insert(key.to_owned()) {
                self.keys += 1;
            }
        }
    }

    /// `name`: the field that names the Secret.
    fn add_reference(&mut self, reference: &Value, name: &str) {
        let items = list(&reference["items"]).iter();
        let keys = items.map(|item| &item["key"]).chain([&reference["key"]]);
        let needed = reference["optional"] != true;
        let keys = keys.filter_map(Value::as_str).filter(|_| needed);
        self.add(&reference[name], keys);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The Secrets that the pods of this `spec` use, by name. What is not as the API server has it is not there.
#[must_use]
pub fn uses(pod: &Value) -> Vec<Use> {
    let mut found = Found::default();
    let containers = list(&pod["containers"]).iter();
    for container in containers.chain(list(&pod["initContainers"])) {
        for variable in list(&container["env"]) {
            found.add_reference(&variable["valueFrom"]["secretKeyRef"], "name");
        }
        for variables in list(&container["envFrom"]) {
            found.add_reference(&variables["secretRef"], "name");
        }
    }
    for volume in list(&pod["volumes"]) {
        found.add_reference(&volume["secret"], "secretName");
        for source in list(&volume["projected"]["sources"]) {
            found.add_reference(&source["secret"], "name");
        }
    }
    for named in list(&pod["imagePullSecrets"]) {
        found.add(&named["name"], [PULL_KEY]);
    }
    let uses = found.secrets.into_iter();
    uses.map(|(secret, keys)| Use { secret, keys }).collect()
}

#[cfg(test)]
#[path = "pod_uses_tests.rs"]
mod tests;
