//! Writing a destination: the fenced apply, what must come before it, and what
//! must be checked in its answer.

use std::collections::BTreeMap;

use super::decide::{self, Plan, Why};
use super::discovery::Unfound;
use super::drift;
use super::engine::Engine;
use super::fields;
use super::fits;
use super::ports::{Clock, Cluster, Fence, Note, Owner, SecretWrite, WorkloadPatch};
use super::queue::WorkKey;
use super::report::is_ready;
use super::restart;
use super::secret::Work;
use super::state::{State, state_annotation};
use super::view::{Moment, SecretMeta, Store};
use crate::key::ResourceKey;
use crate::policy::permit_type;
use crate::problem::Problem;
use crate::render::{ContentHash, Rendered};
use crate::vault::Vault;

/// Labels of every Secret that a resource of ours makes.
const OWN_LABELS: [(&str, &str); 2] = [
    ("app.kubernetes.io/managed-by", "vault-tenant-operator"),
    ("app.kubernetes.io/component", "secret-sync"),
];

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    pub(super) async fn write(
        &self,
        work: &Work,
        plan: &Plan,
        rendered: &Rendered,
    ) -> Result<(), Problem> {
        fits::check_size(&work.me.secret, &rendered.data)?;
        if plan.fence == Fence::Create {
            // Later, others may own what the type needs.
            let type_ = &work.permitted.destination().type_;
            fits::check_type(&work.me.secret, type_, &rendered.data)?;
        }
        let secret = &work.permitted.destination().secret;
        self.check_overlap(secret, &work.me, &rendered.data)?;
        self.check_consumers(work, plan, rendered).await?;
        if plan.first && plan.fence != Fence::Create {
            self.check_type(work).await?;
        }
        let mut plan = plan.clone();
        let unrecorded = self.record_before(work, &mut plan, rendered).await?;
        let plan = &plan;
        if plan.fence == Fence::Create {
            self.announce(work).await?;
            self.may_create(work).await?;
        }
        let (write, state) = self.secret_write(work, plan, rendered, unrecorded);
        let editor = self.editor(work);
        let asked = self.view.borrow().moment();
        match self.cluster.apply_secret(&write).await {
            // The next decision sees what is really there.
            Err(Problem::Conflict { .. }) => self.look_at(secret).await.map(drop),
            Err(Problem::DestinationImmutable { what, why }) => {
                self.replace(work, plan, rendered, unrecorded, (what, why))
                    .await
            }
            answer => {
                self.written(work, answer?, asked);
                if editor.is_some() || self.was_deleted(work, plan) {
                    let now = self.clock.now();
                    self.keep_in_memory(&work.key, |memory| memory.repairs.note(now));
                    let namespace = &work.key.object.namespace;
                    self.metrics
                        .drift_repaired(namespace, work.key.kind.as_str());
                }
                self.tell_written(work, plan, &state, editor).await;
                Ok(())
            }
        }
    }

    /// Remembers the answer of an apply.
    pub(super) fn written(&self, work: &Work, meta: SecretMeta, asked: Moment) {
        self.written_out(&work.key);
        self.learn(&work.permitted.destination().secret, meta, asked);
        self.metrics.secret_written();
    }

    /// A Secret that somebody else made may be of a type that no resource may write.
    pub(super) async fn check_type(&self, work: &Work) -> Result<(), Problem> {
        let secret = &work.permitted.destination().secret;
        if !self.view.borrow().secrets.contains_key(secret) {
            return Ok(());
        }
        let found = self
            .cluster
            .secret_content(secret, &work.me.manager)
            .await?;
        match found {
            Some(found) => permit_type(&found.type_),
            None => Ok(()),
        }
    }

    /// Before the content changes, every target must carry what it runs now, or
    /// the need for a restart could be lost. Returns whether that could not be
    /// written on one of them: no missing right keeps a Secret from being true.
    async fn record_before(
        &self,
        work: &Work,
        plan: &mut Plan,
        rendered: &Rendered,
    ) -> Result<bool, Problem> {
        let adopted = work.why == Some(Why::Adopted);
        let held = match &plan.before {
            Some(before) if plan.content_changed => before.hash.clone(),
            Some(before) => return Ok(before.unrecorded),
            None if plan.first => return Ok(false),
            None => {
                // The state was stripped, or was never ours: what the Secret holds
                // is what pods start with.
                let (held, keys) = self.live_content(work).await?;
                if rendered.keys == 0 && keys > 0 {
                    return Err(decide::wiped(&work.me, rendered, keys));
                }
                plan.first = adopted && held == rendered.hash;
                held
            }
        };
        let recorded = self.baselines_before(work, &held, &rendered.hash).await?;
        Ok(!recorded && held != rendered.hash)
    }

    pub(super) fn secret_write(
        &self,
        work: &Work,
        plan: &Plan,
        rendered: &Rendered,
        unrecorded: bool,
    ) -> (SecretWrite, State) {
        let me = &work.me;
        let asked = work.permitted.destination();
        let (mut labels, mut annotations) = (BTreeMap::new(), BTreeMap::new());
        if me.create {
            labels.extend(asked.labels.clone());
            labels.extend(OWN_LABELS.map(|(k, v)| (k.to_owned(), v.to_owned())));
            annotations.extend(asked.annotations.clone());
        }
        let state_name = state_annotation(&me.tag);
        let names = annotations
            .keys()
            .cloned()
            .chain([state_name.clone()])
            .collect();
        let kept = plan.before.as_ref().filter(|_| !plan.content_changed);
        let replaces = kept.map_or_else(
            || {
                let old = plan
                    .before
                    .as_ref()
                    .and_then(|before| before.grant.as_ref());
                old.zip(rendered.grant.as_ref())
                    .is_some_and(|(old, new)| new.is_another(old))
            },
            |before| before.replaces,
        );
        let state = State {
            uid: me.uid.clone(),
            generation: me.generation,
            hash: rendered.hash.clone(),
            raw: rendered.raw_hash.clone(),
            fields: fields::digest(
                rendered.data.keys().cloned().collect(),
                labels.keys().cloned().collect(),
                names,
            ),
            keys: rendered.keys,
            version: rendered.version.clone(),
            source: me.source.clone(),
            changed_at: kept.map_or_else(|| self.clock.now(), |before| before.changed_at),
            initial: plan.first || kept.is_some_and(|before| before.initial),
            unrecorded,
            of: (me.share || me.retain || me.clear)
                .then(|| format!("{}/{}", work.key.kind, work.key.object.name)),
            shares: me.share.then(|| rendered.data.keys().cloned().collect()),
            retain: me.retain,
            clear: me.clear,
            grant: rendered.grant.clone(),
            replaces,
            rendering: me.rendering.clone(),
        };
        annotations.insert(state_name, state.to_annotation());
        let write = SecretWrite {
            secret: asked.secret.clone(),
            manager: me.manager.clone(),
            fence: plan.fence.clone(),
            type_: me.create.then(|| {
                if asked.type_.is_empty() {
                    "Opaque".to_owned()
                } else {
                    asked.type_.clone()
                }
            }),
            data: rendered.data.clone(),
            labels,
            annotations,
            owner: (me.create && !me.retain).then(|| Owner {
                kind: work.key.kind,
                name: work.key.object.name.clone(),
                uid: me.uid.clone(),
            }),
        };
        (write, state)
    }

    /// Records on every target what the Secret holds until `new` is written,
    /// where that is due; whether it could be.
    async fn baselines_before(
        &self,
        work: &Work,
        held: &ContentHash,
        new: &ContentHash,
    ) -> Result<bool, Problem> {
        let tag = &work.me.tag;
        let patched = self
            .patch_targets(work, |workload| {
                restart::baseline_before_change(workload, tag, held, new)
            })
            .await;
        match patched {
            Ok(()) => {
                let stores = &self.view.borrow().stores;
                let targets = self.targets(&*work.resource);
                let mut seen = targets.iter().all(|target| {
                    let store = Store::Workloads(target.kind);
                    stores.failure(store, &target.object).is_none()
                });
                let unfound = self.unfound(&*work.resource);
                seen &= !unfound.iter().any(|one| matches!(one, Unfound::Unseen(..)));
                Ok(seen)
            }
            Err(Problem::KubernetesForbidden { .. } | Problem::KubernetesRefused { .. }) => {
                Ok(false)
            }
            Err(problem) => Err(problem),
        }
    }

    /// A lost key: the live content, hashed with the new key, becomes the
    /// baseline of every workload that ran just that.
    pub(super) async fn rekey(&self, work: &Work, state: &State) -> Result<ContentHash, Problem> {
        let (hash, _) = self.live_content(work).await?;
        let tag = &work.me.tag;
        self.patch_targets(work, |workload| {
            restart::rekeyed_baseline(workload, tag, &state.hash, &hash)
        })
        .await?;
        Ok(hash)
    }

    /// Hash of what the Secret holds now of ours, and its number of keys. A key
    /// that somebody edited is not ours any more: what it held is not known, and a
    /// restart is the safe side.
    ///
    /// # Errors
    /// [`Problem::Conflict`] when it is not as it was seen: what was decided from
    /// its state is not about this content.
    async fn live_content(&self, work: &Work) -> Result<(ContentHash, usize), Problem> {
        let secret = &work.permitted.destination().secret;
        let found = self
            .cluster
            .secret_content(secret, &work.me.manager)
            .await?;
        let seen = self.view.borrow().secrets.get(secret).cloned();
        let same = match (&found, &seen) {
            (Some(found), Some(seen)) => seen.is_at(&found.uid, &found.resource_version),
            (found, seen) => found.is_none() && seen.is_none(),
        };
        if !same {
            self.look_at(secret).await?;
            return Err(Problem::Conflict {
                what: format!("read what the Secret {} holds", secret.name),
                why: "it changed meanwhile".to_owned(),
            });
        }
        let mut data = found.map(|found| found.data).unwrap_or_default();
        data.remove(crate::render::RAW_KEY);
        let keys = data.len();
        let volatile = work.resource.volatile();
        data.retain(|name, _| !volatile.contains(&name.as_str()));
        Ok((self.key.content(&work.me.tag, &data), keys))
    }

    async fn patch_targets(
        &self,
        work: &Work,
        patch: impl Fn(&super::view::WorkloadMeta) -> Option<WorkloadPatch>,
    ) -> Result<(), Problem> {
        let targets = self.targets(&*work.resource);
        let settled = targets.iter().all(|target| {
            let stores = &self.view.borrow().stores;
            stores.settled(Store::Workloads(target.kind), &target.object)
        });
        if !settled {
            return Err(Problem::Conflict {
                what: "see the rollout targets".to_owned(),
                why: "their first list is not here yet".to_owned(),
            });
        }
        for target in targets {
            let due = self.view.borrow().workloads.get(&target).and_then(&patch);
            if let Some(due) = due {
                let asked = self.view.borrow().moment();
                let meta = self.cluster.patch_workload(&target, &due).await?;
                self.learn_workload(&target, meta, asked);
            }
        }
        Ok(())
    }

    /// Before a Secret is created: the first write of a new resource costs no
    /// further request; before any other one, which may act on an old view, the
    /// resource is looked at live.
    async fn may_create(&self, work: &Work) -> Result<(), Problem> {
        let written = work.resource.told().secret_mac.is_some();
        let gone = self.view.borrow().saw_go(&work.me.uid);
        if written || gone || self.remembered(&work.key).creating {
            self.still_asked(work).await?;
        }
        self.keep_in_memory(&work.key, |memory| memory.creating = true);
        Ok(())
    }

    pub(super) fn keep_in_memory(
        &self,
        key: &ResourceKey,
        change: impl FnOnce(&mut super::engine::Memory),
    ) {
        change(
            self.memory
                .borrow_mut()
                .entry(WorkKey::Resource(key.clone()))
                .or_default(),
        );
    }

    /// Whether this write makes a Secret again that was there before.
    fn was_deleted(&self, work: &Work, plan: &Plan) -> bool {
        let conditions = work.resource.told().conditions;
        plan.fence == Fence::Create && is_ready(conditions, Some(work.me.generation))
    }

    /// Who edited the destination, when this write repairs an edit.
    fn editor(&self, work: &Work) -> Option<String> {
        if work.why != Some(Why::Drift) {
            return None;
        }
        let view = self.view.borrow();
        let meta = view.secrets.get(&work.permitted.destination().secret)?;
        Some(drift::editor(&work.me, meta))
    }

    async fn tell_written(&self, work: &Work, plan: &Plan, state: &State, editor: Option<String>) {
        let secret = &work.me.secret;
        let source = work.resource.source_name(&state.version);
        let (reason, message) = match editor {
            Some(editor) if plan.content_changed => (
                "SecretDataDrift",
                format!("the Secret {secret} was changed by {editor}; {source} is written over it"),
            ),
            Some(editor) => (
                "SecretDataDrift",
                format!(
                    "the Secret {secret} was changed by {editor} and is repaired from {source}; pods that run have the right content, nothing restarts for this"
                ),
            ),
            None if plan.content_changed && work.terms.is_some() && plan.before.is_some() => (
                "SecretRotated",
                format!("other credentials of {source} written to the Secret {secret}"),
            ),
            None if plan.content_changed || plan.before.is_none() => (
                "SecretSynced",
                format!("{source} written to the Secret {secret}"),
            ),
            // Same content: labels, annotations, `_raw` or the generation moved.
            None => return,
        };
        self.tell(work, reason, message).await;
    }

    pub(super) async fn tell(&self, work: &Work, reason: &'static str, message: String) {
        let note = Note {
            about: work.key.clone(),
            uid: work.me.uid.clone(),
            warning: false,
            reason,
            message,
            action: "Sync",
            at: self.clock.now(),
        };
        self.publish(note).await;
    }
}
