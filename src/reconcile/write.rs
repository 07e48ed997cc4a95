//! Writing a destination: the fenced apply, what must come before it, and what
//! must be checked in its answer.

use std::collections::BTreeMap;

use super::decide::{Plan, Why, last_editor, made_by};
use super::engine::Engine;
use super::fields;
use super::ports::{Clock, Cluster, Fence, Note, Owner, SecretWrite, WorkloadPatch};
use super::queue::{Urgency, WorkKey};
use super::restart;
use super::state::{State, state_annotation};
use super::static_secret::{Work, source_name};
use super::view::{SecretMeta, targets_of};
use crate::key::Redacted;
use crate::problem::Problem;
use crate::render::{ContentHash, Rendered, SecretData};
use crate::vault::Vault;

/// What the API server takes as the data of one Secret (Kubernetes,
/// `MaxSecretSize`).
const SECRET_SIZE_LIMIT: usize = 1024 * 1024;

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
        check_size(&work.me.secret, &rendered.data)?;
        if plan.content_changed
            && let Some(before) = &plan.before
        {
            self.baselines_before(work, &before.hash).await?;
        }
        if plan.before.is_none() && !plan.first && self.runs_unrecorded(work) {
            // The state was stripped: what the Secret holds is what such pods run.
            let mut live = self.live_content(work).await?;
            live.retain(|name, _| rendered.data.contains_key(name));
            let hash = self.key.content(&work.me.tag, &live);
            self.baselines_before(work, &hash).await?;
        }
        if plan.fence == Fence::Create && !self.may_create(work).await? {
            return Ok(());
        }
        let (write, state) = self.secret_write(work, plan, rendered);
        let editor = self.editor(work);
        let written = self.cluster.apply_secret(&write).await;
        let meta = match written {
            // The next decision sees what is really there.
            Err(Problem::Conflict { .. }) => return self.look_live(work).await,
            other => other?,
        };
        if plan.fence == Fence::Create {
            if !self.created_by_us(work, &meta) {
                return self.take_out(work, &write, &meta).await;
            }
            self.keep_in_memory(work, |memory| memory.made = Some(meta.uid.clone()));
        }
        self.remember(work, meta);
        self.metrics.secret_written();
        self.tell_written(work, plan, &state, editor).await;
        Ok(())
    }

    fn secret_write(&self, work: &Work, plan: &Plan, rendered: &Rendered) -> (SecretWrite, State) {
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
            changed_at: kept.map_or_else(|| self.clock.now(), |before| before.changed_at),
            initial: plan.first || kept.is_some_and(|before| before.initial),
            first_write: plan.fence == Fence::Create,
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
            owner: me.create.then(|| Owner {
                kind: work.key.kind,
                name: work.key.object.name.clone(),
                uid: me.uid.clone(),
            }),
        };
        (write, state)
    }

    /// Every target must carry what it runs now before the content changes, or
    /// the need for a restart could be lost.
    async fn baselines_before(&self, work: &Work, hash: &ContentHash) -> Result<(), Problem> {
        let tag = &work.me.tag;
        self.patch_targets(work, |workload| {
            restart::baseline_before_change(workload, tag, hash)
        })
        .await
    }

    /// A lost key: the live content, hashed with the new key, becomes the
    /// baseline of every workload that ran just that.
    pub(super) async fn rekey(
        &self,
        work: &Work,
        state: &State,
        rendered: &Rendered,
    ) -> Result<ContentHash, Problem> {
        let mut data = self.live_content(work).await?;
        // Keys that others added to the Secret are no content of ours; which ones
        // are ours is known as long as their number has not changed. A drifted
        // Secret has no content to compare: then a restart is the safe side.
        if rendered.keys == state.keys {
            data.retain(|name, _| rendered.data.contains_key(name));
        }
        let hash = self.key.content(&work.me.tag, &data);
        let tag = &work.me.tag;
        self.patch_targets(work, |workload| {
            restart::rekeyed_baseline(workload, tag, &state.hash, &hash)
        })
        .await?;
        Ok(hash)
    }

    /// What the Secret holds now, without `_raw`.
    async fn live_content(&self, work: &Work) -> Result<SecretData, Problem> {
        let secret = &work.permitted.destination().secret;
        let mut data = self.cluster.secret_data(secret).await?.unwrap_or_default();
        data.remove(crate::render::RAW_KEY);
        Ok(data)
    }

    /// Whether a target carries no record of what its pods run.
    fn runs_unrecorded(&self, work: &Work) -> bool {
        let view = self.view.borrow();
        targets_of(&work.resource)
            .filter(|target| self.restarts(target.kind))
            .filter_map(|target| view.workloads.get(&target))
            .any(|workload| restart::is_unrecorded(workload, &work.me.tag))
    }

    async fn patch_targets(
        &self,
        work: &Work,
        patch: impl Fn(&super::view::WorkloadMeta) -> Option<WorkloadPatch>,
    ) -> Result<(), Problem> {
        let stores = self.target_stores(&work.resource);
        let namespace = &work.key.object.namespace;
        if !self.view.borrow().stores.settled(&stores, namespace) {
            return Err(Problem::Conflict {
                what: "see the rollout targets".to_owned(),
                why: "their first list is not here yet".to_owned(),
            });
        }
        for target in targets_of(&work.resource).filter(|target| self.restarts(target.kind)) {
            let due = self.view.borrow().workloads.get(&target).and_then(&patch);
            if let Some(due) = due {
                let meta = self.cluster.patch_workload(&target, &due).await?;
                self.view.borrow_mut().put_workload_answer(&target, meta);
            }
        }
        Ok(())
    }

    /// Whether a Secret that the view lacks may be created. The first write of a
    /// new resource costs no request; before any other one, which may act on an
    /// old view, both resource and destination are looked at live.
    async fn may_create(&self, work: &Work) -> Result<bool, Problem> {
        let written = work
            .resource
            .status
            .as_ref()
            .is_some_and(|s| s.secret_mac.is_some());
        if written || self.remembered(&work.key).creating {
            if !self.cluster.resource_lives(&work.key, &work.me.uid).await? {
                return Err(Problem::Conflict {
                    what: format!("create the Secret {} again", work.me.secret),
                    why: "the resource is being deleted".to_owned(),
                });
            }
            self.look_live(work).await?;
            let view = self.view.borrow();
            if view
                .secrets
                .contains_key(&work.permitted.destination().secret)
            {
                return Ok(false);
            }
        }
        self.keep_in_memory(work, |memory| memory.creating = true);
        Ok(true)
    }

    fn keep_in_memory(&self, work: &Work, change: impl FnOnce(&mut super::engine::Memory)) {
        change(
            self.memory
                .borrow_mut()
                .entry(WorkKey::Resource(work.key.clone()))
                .or_default(),
        );
    }

    /// Puts what the API server holds now into the view.
    async fn look_live(&self, work: &Work) -> Result<(), Problem> {
        let secret = &work.permitted.destination().secret;
        let live = self.cluster.secret_meta(secret).await?;
        let mut view = self.view.borrow_mut();
        match live {
            Some(meta) => view.put_secret_answer(secret, meta),
            None => {
                view.secrets.remove(secret);
            }
        }
        Ok(())
    }

    fn created_by_us(&self, work: &Work, meta: &SecretMeta) -> bool {
        let ours = meta
            .managers
            .iter()
            .find(|manager| manager.name == work.me.manager);
        work.me.overwrite || ours.is_some_and(|ours| made_by(meta, ours))
    }

    /// The creating apply met a Secret that the view did not know: takes out
    /// again what it merged in, and reports whose the Secret is.
    async fn take_out(
        &self,
        work: &Work,
        write: &SecretWrite,
        meta: &SecretMeta,
    ) -> Result<(), Problem> {
        let empty = SecretWrite {
            fence: Fence::Update {
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
            },
            type_: None,
            data: SecretData::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
            ..write.clone()
        };
        let meta = self.cluster.apply_secret(&empty).await?;
        self.remember(work, meta);
        Ok(())
    }

    fn remember(&self, work: &Work, meta: SecretMeta) {
        let secret = &work.permitted.destination().secret;
        self.view.borrow_mut().put_secret_answer(secret, meta);
        for target in targets_of(&work.resource) {
            self.queue.wake(WorkKey::Workload(target), Urgency::Now);
        }
    }

    /// Who edited the destination, when this write repairs an edit.
    fn editor(&self, work: &Work) -> Option<String> {
        if work.why != Some(Why::Drift) {
            return None;
        }
        let view = self.view.borrow();
        let meta = view.secrets.get(&work.permitted.destination().secret)?;
        Some(
            last_editor(&work.me, meta)
                .unwrap_or("an unnamed field manager")
                .to_owned(),
        )
    }

    async fn tell_written(&self, work: &Work, plan: &Plan, state: &State, editor: Option<String>) {
        let secret = &work.me.secret;
        let source = source_name(&work.resource, &state.version);
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
            None if plan.content_changed || plan.before.is_none() => (
                "SecretSynced",
                format!("{source} written to the Secret {secret}"),
            ),
            // Same content: labels, annotations, `_raw` or the generation moved.
            None => return,
        };
        self.tell(work, reason, message).await;
    }

    async fn tell(&self, work: &Work, reason: &'static str, message: String) {
        let note = Note {
            about: work.key.clone(),
            uid: work.me.uid.clone(),
            warning: false,
            reason,
            message,
            action: "Sync",
        };
        self.publish(note).await;
    }

    /// Events inform; a reconcile does not fail because one could not be told.
    pub(super) async fn publish(&self, note: Note) {
        if let Err(problem) = self.cluster.publish(&note).await {
            tracing::warn!(resource = %note.about, reason = note.reason, %problem, "event not published");
        }
    }
}

fn check_size(secret: &str, data: &SecretData) -> Result<(), Problem> {
    let size = |value: &Redacted<Vec<u8>>| value.expose().len();
    let total: usize = data.values().map(size).sum();
    if total <= SECRET_SIZE_LIMIT {
        return Ok(());
    }
    let largest = data.iter().max_by_key(|(_, value)| size(value));
    let (name, bytes) = largest.map_or(("", 0), |(name, value)| (name.as_str(), size(value)));
    Err(Problem::DestinationInvalid {
        name: secret.to_owned(),
        why: format!(
            "{total} bytes of data are more than the {SECRET_SIZE_LIMIT} that a Secret can hold; the largest key is {name} with {bytes}: exclude keys, or set excludeRaw"
        ),
    })
}
