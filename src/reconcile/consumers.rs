//! Keys that pods cannot start without: a write that takes one of them out of a Secret
//! is refused, unless the resource says that keys may go. What runs goes on without the
//! key, and nobody would see the mistake before the next pod starts.

use super::decide::Plan;
use super::engine::Engine;
use super::ports::{Clock, Cluster, Fence};
use super::queue::{Urgency, WorkKey};
use super::report;
use super::secret::Work;
use super::view::{Store, View, WorkloadKey, WorkloadKind, WorkloadMeta};
use crate::key::{ObjectKey, ResourceKey};
use crate::problem::{Problem, printable};
use crate::render::Rendered;
use crate::vault::Vault;

/// The reason of [`Problem::WouldBreakConsumers`], as status tells it.
const REASON: &str = "WouldBreakConsumers";

/// Each key of a Secret that a workload needs, by workload and key. All workloads that
/// are seen count, whatever their number of pods; but not one that is being deleted.
fn needed<'a>(
    view: &'a View,
    secret: &'a ObjectKey,
) -> impl Iterator<Item = (&'a WorkloadKey, &'a str)> {
    let here = view
        .workloads
        .iter()
        .filter(|(workload, meta)| workload.object.namespace == secret.namespace && !meta.deleting);
    here.flat_map(|(workload, meta)| {
        let uses = meta.uses.iter().filter(|one| one.secret == secret.name);
        uses.flat_map(|one| &one.keys)
            .map(move |key| (workload, key.as_str()))
    })
}

/// What would break if these keys went, if anything would.
fn broken(view: &View, secret: &ObjectKey, goes: impl Fn(&str) -> bool) -> Option<Problem> {
    let mut broken = needed(view, secret).filter(|(_, key)| goes(key));
    let (workload, key) = broken.next()?;
    Some(Problem::WouldBreakConsumers {
        name: secret.name.clone(),
        // No Secret has other keys; but a workload may name what it likes.
        key: printable(key, 100),
        workload: workload.to_string(),
        more: broken.count(),
    })
}

/// Whether the resource is known to be refused for what workloads need.
fn is_refused(view: &View, key: &ResourceKey) -> bool {
    view.writer(key).is_some_and(|found| {
        let ready = report::find(found.told().conditions, "Ready");
        ready.is_some_and(|ready| ready.reason == REASON)
    })
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Before a write: whether it would take a key away that a workload needs. Only what
    /// Vault keeps is looked at: of what it makes, the old is worth nothing for long.
    ///
    /// # Errors
    /// [`Problem::WouldBreakConsumers`]; [`Problem::Conflict`] while the workloads have
    /// not been looked for yet.
    pub(super) async fn check_consumers(
        &self,
        work: &Work,
        plan: &Plan,
        rendered: &Rendered,
    ) -> Result<(), Problem> {
        let allowed = work.resource.destination().allow_key_removal == Some(true);
        if allowed || work.terms.is_some() || plan.first || plan.fence == Fence::Create {
            return Ok(());
        }
        let secret = &work.permitted.destination().secret;
        let lacks = |key: &str| !rendered.data.contains_key(key);
        let (needs, awaited) = {
            let view = self.view.borrow();
            let needs = needed(&view, secret).any(|(_, key)| lacks(key));
            (needs, self.awaits_consumers(&view, work))
        };
        if !(needs || awaited) || self.names_stay(work, plan, rendered) {
            return Ok(());
        }
        if awaited {
            return Err(Problem::Conflict {
                what: "see the workloads that use the Secret".to_owned(),
                why: "their first list is not here yet".to_owned(),
            });
        }
        // Only what is there can go: who waits for a key that never was there keeps
        // no other from being written.
        let live = self
            .cluster
            .secret_content(secret, &work.me.manager)
            .await?;
        let held = live.map(|live| live.data).unwrap_or_default();
        let goes = |key: &str| held.contains_key(key) && lacks(key);
        broken(&self.view.borrow(), secret, goes).map_or(Ok(()), Err)
    }

    /// Whether a workload that is there may be missing in the view.
    fn awaits_consumers(&self, view: &View, work: &Work) -> bool {
        let namespace = &work.key.object.namespace;
        let awaits = |kind| view.stores.awaits(Store::Workloads(kind), namespace);
        let targets = self.targets(&*work.resource);
        let mut kinds = WorkloadKind::ALL.into_iter();
        kinds.any(awaits)
            || targets.iter().any(|target| {
                let store = Store::Workloads(target.kind);
                !view.stores.settled(store, &target.object)
            })
    }

    /// Whether the Secret will hold keys of the same names as after the last write.
    fn names_stay(&self, work: &Work, plan: &Plan, rendered: &Rendered) -> bool {
        plan.before.as_ref().is_some_and(|before| {
            let (_, state) = self.secret_write(work, plan, rendered, false);
            before.fields == state.fields
        })
    }

    /// A workload is another than before, or gone: who was refused for what it needs is
    /// looked at again.
    pub(super) fn consumer_moved(
        &self,
        workload: &WorkloadKey,
        old: Option<&WorkloadMeta>,
        now: Option<&WorkloadMeta>,
    ) {
        let Some(old) = old else { return };
        if now.is_some_and(|now| now.uses == old.uses && now.deleting == old.deleting) {
            return;
        }
        let view = self.view.borrow();
        for one in &old.uses {
            let secret = ObjectKey::new(&workload.object.namespace, &one.secret);
            let writers = view.resources_of_secret(&secret);
            for writer in writers.filter(|writer| is_refused(&view, writer)) {
                self.queue
                    .wake(WorkKey::Resource(writer.clone()), Urgency::Now);
            }
        }
    }
}

#[cfg(test)]
#[path = "consumers_tests.rs"]
mod tests;
