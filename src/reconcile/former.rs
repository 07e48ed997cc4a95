//! Secrets that a resource wrote under another name. Where all Secrets are
//! watched they show themselves (`strays`). Where only names are, the last ones
//! are known from status: a hint where to look, which proves nothing, since
//! tenants can write it. What becomes of such a Secret is decided by what it
//! proves of itself (`parting`), and by live looks.

use serde_json::json;

use super::engine::Engine;
use super::parting::{Parting, parting};
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::secret::Work;
use super::sources::{SecretResource, destination_of, uid_of};
use super::state::ORPHANED_AT;
use super::view::{SecretMeta, Store};
use crate::config::Grade;
use crate::key::{ObjectKey, ResourceKey, is_object_name};
use crate::problem::Problem;
use crate::render::ResourceTag;
use crate::vault::Vault;

/// The most former names that are taken from a status.
const LIMIT: usize = 8;

/// The Secrets that a resource wrote before the one that it names, as its status
/// says.
pub fn former_of(resource: &dyn SecretResource) -> impl Iterator<Item = ObjectKey> + use<> {
    let now = destination_of(resource);
    let names = resource.told().destinations.iter();
    let others = names.filter(|name| is_object_name(name)).take(LIMIT);
    others
        .map(|name| ObjectKey::new(&now.namespace, name))
        .filter(|key| key.name != now.name)
        .collect::<Vec<_>>()
        .into_iter()
}

/// All Secrets that may hold what a resource wrote, as its status says.
pub fn written_of(resource: &dyn SecretResource) -> impl Iterator<Item = ObjectKey> + use<> {
    let now = destination_of(resource);
    let wrote = resource.told().destinations.contains(&now.name);
    wrote.then_some(now).into_iter().chain(former_of(resource))
}

/// Whether nothing is to be done any more for a Secret whose writer is gone.
pub fn is_settled(meta: &SecretMeta) -> bool {
    meta.states.contains_key(ORPHANED_AT)
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Whether the Role gives rights to single names.
    pub(super) fn knows_names_only(&self) -> bool {
        self.config.secret_access == Grade::Named
    }

    /// Those former Secrets that cannot be seen, with the reason.
    pub(super) fn unseen_former(&self, resource: &dyn SecretResource) -> Vec<(String, Problem)> {
        let view = self.view.borrow();
        former_of(resource)
            .filter_map(|secret| {
                let problem = view.stores.failure(Store::Secrets, &secret)?.clone();
                Some((secret.name, problem))
            })
            .collect()
    }

    /// Where only names are watched, status lists a Secret before it is made: else
    /// one that a crash, a lost answer or a rename left behind would be found by
    /// nobody.
    ///
    /// # Errors
    /// [`Problem::Conflict`] once that is done: the work begins anew with it.
    pub(super) async fn announce(&self, work: &Work) -> Result<(), Problem> {
        let name = &work.permitted.destination().secret.name;
        let Some((metadata, mut status)) =
            self.plain(&work.key).filter(|_| self.knows_names_only())
        else {
            return Ok(());
        };
        let told = &work.resource.told().destinations;
        if told.contains(name) {
            return Ok(());
        }
        let destinations: Vec<&String> = std::iter::once(name).chain(*told).collect();
        let mut told = work.resource.status_fields(None, None);
        told["destinations"] = json!(destinations);
        let stored = self.cluster.apply_status(&work.key, &told).await?;
        for (name, value) in told.as_object().into_iter().flatten() {
            status[name] = value.clone();
        }
        self.put_status(&work.key, &metadata, status, stored.version);
        // Nobody is to wait for that.
        self.queue
            .wake(WorkKey::Resource(work.key.clone()), Urgency::Now);
        Err(Problem::Conflict {
            what: format!("make the Secret {name}"),
            why: "its name is in the status of the resource by now".to_owned(),
        })
    }

    /// The names of all Secrets that may hold what the resource wrote, as its
    /// status is to list them.
    pub(super) fn destinations(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        synced: bool,
    ) -> Vec<String> {
        let view = self.view.borrow();
        let (tag, uid) = (ResourceTag::of(key), uid_of(resource));
        let is_left = |secret: &ObjectKey| match view.secrets.get(secret) {
            Some(meta) => parting(meta, &tag, uid) != Parting::Nothing,
            None => !view.stores.sees(Store::Secrets, secret),
        };
        let now = destination_of(resource);
        let told = resource.told().destinations;
        let wrote = synced || told.contains(&now.name);
        let former = former_of(resource)
            .filter(is_left)
            .map(|secret| secret.name);
        wrote
            .then_some(now.name.clone())
            .into_iter()
            .chain(former)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::VaultStaticSecret;

    #[test]
    fn a_status_names_a_few_others_and_nothing_that_is_no_name() {
        let mut names: Vec<String> = (0..50).map(|n| format!("old-{n}")).collect();
        names.insert(0, "now".to_owned());
        names.insert(1, "a,metadata.namespace=other".to_owned());
        names.insert(2, String::new());
        let resource = json!({
            "metadata": { "name": "app", "namespace": "team" },
            "spec": { "mount": "kv", "path": "app", "type": "kv-v2", "destination": { "name": "now" } },
            "status": { "lastGeneration": 1, "destinations": names },
        });
        let resource: VaultStaticSecret = serde_json::from_value(resource).unwrap();
        let former: Vec<ObjectKey> = former_of(&resource).collect();
        assert_eq!(former.len(), LIMIT - 1, "the present one counts");
        assert_eq!(former[0], ObjectKey::new("team", "old-0"));
        assert!(former.iter().all(|key| key.name.starts_with("old-")));
    }
}
