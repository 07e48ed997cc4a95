//! The pipeline of a resource that has a Secret written: resolve, permit,
//! observe, decide, and the step that was decided, until nothing is due; then
//! the report.

use std::rc::Rc;

use super::decide::{Me, Situation, Step, Why, decide};
use super::engine::{Engine, Next};
use super::gone_source::source_followed;
use super::grants::Terms;
use super::ledger::Release;
use super::minting::{rendering, request_hash};
use super::overrides;
use super::parting::manager_of;
use super::ports::{Clock, Cluster};
use super::queue::{Urgency, WorkKey};
use super::report::is_ready;
use super::report_secret::asked_resync;
use super::resolve::asked;
use super::rotation::{Rotation, rotation_of};
use super::slots::Slots;
use super::sources::{self, Held, SecretResource, destination_of, uid_of};
use super::time::{fraction, later};
use super::view::{Store, WorkloadKey};
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::policy::{Permitted, permit};
use crate::problem::Problem;
use crate::render::{ContentHash, Filter, Rendered, ResourceTag};
use crate::vault::Vault;

/// Steps of one reconcile after which it starts afresh: more mean that the
/// world changes faster than it can be looked at.
const STEPS_LIMIT: usize = 8;

/// One reconcile's knowledge of its resource.
pub(super) struct Work {
    pub key: ResourceKey,
    pub resource: Rc<dyn SecretResource>,
    pub me: Me,
    pub permitted: Permitted,
    pub filter: Filter,
    pub slots: Option<Slots>,
    pub terms: Option<Terms>,
    pub rotation: Rotation,
    /// Why the source was read, if it was.
    pub why: Option<Why>,
    /// What the view had of the destination then: uid and resourceVersion.
    pub seen: Option<(String, String)>,
}

/// How a reconcile that ended well left the resource.
pub(super) struct Synced {
    pub again: Option<jiff::Timestamp>,
    /// Whether the source was read.
    pub read: bool,
    pub version: String,
    pub hash: Option<ContentHash>,
    /// What it holds of Vault.
    pub held: Option<Held>,
    /// Why what it held before could not be given back yet.
    pub unreleased: Option<Problem>,
    /// Former Secrets that the Role lets the operator do nothing about.
    pub left: Vec<(String, Problem)>,
}

/// Stores without which no resource can be judged: others may name the same Secret.
fn needed() -> Vec<Store> {
    let references = [Kind::VaultConnection, Kind::VaultAuth];
    let resources = references.into_iter().chain(sources::KINDS);
    resources
        .map(Store::Resource)
        .chain([Store::Secrets])
        .collect()
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    pub(super) async fn reconcile_secret(&self, key: &ResourceKey) -> Next {
        if let Some(next) = self.blind(key, &needed()).await {
            if let Next::Failed(problem) = &next {
                self.count_sync(key, Err(problem));
            }
            return next;
        }
        let Some(resource) = self.view.borrow().writer(key) else {
            self.metrics.lives().holds(key, None);
            return match self.give_up_as_gone(key).await {
                Ok(again) => {
                    self.forget(key);
                    Next::Settled(again)
                }
                Err(problem) => {
                    self.keep_unseen(key, &problem).await;
                    Next::Failed(problem)
                }
            };
        };
        self.sees_again(key);
        if let Err(problem) = self.drop_foreign_finalizers(key, resource.metadata()).await {
            return Next::Failed(problem);
        }
        if resource.metadata().deletion_timestamp.is_some() {
            return Next::Settled(None);
        }
        let follows = !self.knows_names_only() || self.asks(key, &*resource);
        if follows
            && self.knows_names_only()
            && let Some(next) = self
                .blind_to(key, Store::Secrets, &destination_of(&*resource))
                .await
        {
            return next;
        }
        if follows && self.awaits_workloads(&*resource) {
            return Next::Settled(None);
        }
        let began = self.clock.now();
        let outcome = self.told(self.sync(key, &resource).await).await;
        self.count_sync(key, outcome.as_ref());
        let next = match &outcome {
            Ok(synced) => {
                self.remember_read(&*resource, key, began, synced);
                let unreleased = synced.unreleased.clone();
                unreleased.map_or(Next::Settled(synced.again), Next::Failed)
            }
            Err(problem) => Next::Failed(problem.clone()),
        };
        if outcome.as_ref().is_err_and(|problem| !problem.is_finding()) {
            // The world moved, and it is looked at again at once.
            return next;
        }
        let told = self.report_secret(key, &resource, outcome.as_ref()).await;
        let next = told.map_or_else(Next::Failed, |()| next);
        if matches!(next, Next::Failed(_)) {
            self.wake_when_due(key, &*resource);
        }
        next
    }

    /// Counts a sync: one that read its source, or could not be. A look that finds
    /// nothing due is none, nor is one at an old view, which is taken again at once.
    pub(super) fn count_sync(&self, key: &ResourceKey, outcome: Result<&Synced, &Problem>) {
        let told = match outcome {
            Ok(synced) if synced.read => "ok",
            Err(problem) if problem.is_finding() => problem.reason(),
            _ => return,
        };
        let namespace = &key.object.namespace;
        self.metrics.synced(namespace, key.kind.as_str(), told);
    }

    /// What a resource that is gone wrote and was given.
    async fn give_up_as_gone(&self, key: &ResourceKey) -> Result<Option<jiff::Timestamp>, Problem> {
        // What cannot be left keeps nothing at Vault.
        let left = self.leave_as_gone(key).await;
        let release = self.release_as_gone(key, None).await;
        left.and(release.problem.map_or(Ok(release.again), Err))
    }

    async fn sync(
        &self,
        key: &ResourceKey,
        resource: &Rc<dyn SecretResource>,
    ) -> Result<Synced, Problem> {
        let mut work = self.prepare(key, resource)?;
        if work.terms.is_none() {
            return self.converge(&mut work).await;
        }
        // What a Secret says of its lease is believed only as far as the ledger does.
        self.load_ledger().await?;
        let outcome = self.converge(&mut work).await;
        if let Err(problem) = &outcome
            && problem.is_finding()
            && !problem.may_be_an_outage()
        {
            // However long that goes on, what nobody needs goes all the same.
            self.release_superseded(&work).await;
        }
        outcome
    }

    /// Step by step, until nothing is due.
    async fn converge(&self, work: &mut Work) -> Result<Synced, Problem> {
        let (key, resource) = (work.key.clone(), Rc::clone(&work.resource));
        let mut rendered: Option<Rendered> = None;
        let mut live: Option<ContentHash> = None;
        for _ in 0..STEPS_LIMIT {
            match self.next_step(work, rendered.as_ref(), live.as_ref()) {
                Step::Wait(again) => {
                    self.take_up(work).await?;
                    let left = self.leave_former(work).await?;
                    let release = self.after_minting(work, again).await?;
                    return Ok(self.synced(work, rendered.as_ref(), release, left));
                }
                Step::Refuse(problem) => return Err(problem),
                Step::Adopt(former) => self.adopt(work, &former).await?,
                Step::Fetch(why) => {
                    // As it was decided on; what comes meanwhile may change that.
                    let seen = self.seen(work);
                    if why == Why::Missing {
                        self.check_type(work).await?;
                        self.announce(work).await?;
                    }
                    if self.knows_names_only() {
                        self.see_authority(&*resource).await;
                        *work = self.prepare(&key, &resource)?;
                    }
                    (work.why, work.seen) = (Some(why), seen);
                    match self.fetch(work).await {
                        Ok(fresh) => rendered = Some(fresh),
                        Err(problem) => {
                            self.follow_source(work, &problem).await?;
                            return Err(problem);
                        }
                    }
                }
                Step::Renew(grant) => self.renew(work, &grant).await?,
                Step::Look(grant) => self.look_for_lease(work, &grant).await?,
                Step::Rekey(state) => {
                    live = Some(self.rekey(work, &state).await?);
                }
                Step::Write(plan) => {
                    let Some(rendered) = &rendered else { break };
                    self.write(work, &plan, rendered).await?;
                    live = None;
                    // Another that shares it may have been faster.
                    work.me.joins = self.claim(&self.view.borrow(), &key, &*resource)?;
                }
            }
        }
        Err(Problem::KubernetesRefused {
            what: format!("keep the Secret {} as it was written", work.me.secret),
            why: "another controller or an admission rule changes it at once; its managedFields name who, exempt the operator's annotations there".to_owned(),
        })
    }

    /// Resolve and permit, and all that can be wrong before anything is sent.
    pub(super) fn prepare(
        &self,
        key: &ResourceKey,
        resource: &Rc<dyn SecretResource>,
    ) -> Result<Work, Problem> {
        let destination = resource.destination();
        let view = self.view.borrow();
        let resolved = asked(self.scope(&view), &**resource)?;
        let permitted = permit(resolved, &self.policy, &self.own)?;
        let transformation = destination.transformation.clone().unwrap_or_default();
        let filter = Filter::new(
            transformation.excludes.as_deref().unwrap_or_default(),
            transformation.includes.as_deref().unwrap_or_default(),
        )?;
        let joins = self.claim(&view, key, &**resource)?;
        let uid = uid_of(&**resource).to_owned();
        let refresh = resource.refresh_after()?;
        let rotation = rotation_of(&**resource, &self.config.rotation)?;
        overrides::check(resource.rollout(), &self.config.rollout)?;
        let terms = resource.terms(fraction(&uid))?.map(|terms| Terms {
            margin: self.margin(&**resource, rotation),
            look_every: self.looks_every(),
            ..terms
        });
        let tag = ResourceTag::of(key);
        let mints = permitted.read().mints;
        let request = mints.then(|| request_hash(&permitted, &tag, &self.key));
        Ok(Work {
            key: key.clone(),
            resource: Rc::clone(resource),
            me: Me {
                generation: resource.metadata().generation.unwrap_or_default(),
                tag,
                manager: manager_of(&uid),
                secret: destination.name.clone(),
                create: destination.create,
                overwrite: destination.overwrite,
                share: destination.share == Some(true),
                retain: self.retains(destination) && destination.create,
                clear: resource.clears() && !destination.create,
                joins,
                source: source_followed(&**resource, &permitted),
                rendering: terms.map(|_| rendering(destination)),
                request,
                uid: uid.clone(),
            },
            permitted,
            filter,
            slots: refresh.map(|after| Slots::new(after, &uid)),
            terms,
            rotation,
            why: None,
            seen: None,
        })
    }

    /// Uid and resourceVersion of the destination, as the view has it.
    fn seen(&self, work: &Work) -> Option<(String, String)> {
        let view = self.view.borrow();
        let meta = view.secrets.get(&work.permitted.destination().secret)?;
        Some((meta.uid.clone(), meta.resource_version.clone()))
    }

    fn next_step(
        &self,
        work: &Work,
        rendered: Option<&Rendered>,
        live: Option<&ContentHash>,
    ) -> Step {
        let view = self.view.borrow();
        let memory = self.remembered(&work.key);
        let (started, absent_since) = {
            let term = self.term.borrow();
            (term.started, term.absent_since)
        };
        let (told, generation) = (work.resource.told(), work.me.generation);
        let meta = view.secrets.get(&work.permitted.destination().secret);
        // Only those with terms pay for a look into the state.
        let grant = (work.terms.and(meta))
            .and_then(|meta| super::ownership::state_of(&work.me, meta)?.grant);
        let parent = (grant.as_ref())
            .and_then(|grant| self.ledger.parent_of(&work.key, &work.me.uid, &grant.lease));
        let denied = (grant.as_ref()).is_some_and(|grant| {
            memory.denied.as_ref() == Some(&grant.lease) && !grant.lease.is_empty()
        });
        let renewed = grant.and_then(|grant| self.last_renewal(&work.key, &*work.resource, &grant));
        decide(&Situation {
            me: &work.me,
            destination: meta,
            rendered,
            live,
            reported_ready: is_ready(told.conditions, Some(generation)),
            edited: told.observed_generation != Some(generation),
            resync: asked_resync(&*work.resource).is_some_and(|asked| {
                told.last_resync != Some(&asked) && memory.resynced.as_ref() != Some(&asked)
            }),
            last_read: memory.last_read,
            repairs: &memory.repairs,
            started,
            absent_since,
            slots: work.slots,
            terms: work.terms.map(|terms| Terms {
                renews: !denied,
                ..terms
            }),
            renewed,
            parent,
            inherited: told.lease.and(told.renewed),
            spread: self.config.rotation.unknown_parent_spread,
            lost: memory.lost.as_deref(),
            looked: memory.looked,
            key: &self.key,
            now: self.clock.now(),
        })
    }

    async fn fetch(&self, work: &Work) -> Result<Rendered, Problem> {
        let login = work.permitted.login();
        if work.permitted.read().mints {
            return self.telling_of_login(login, self.obtain(work)).await;
        }
        let read = self.sessions.read(&work.permitted, self.clock.now());
        let read = self.ask(&work.key, login.connection(), read);
        let reply = self.telling_of_login(login, read).await;
        let now = self.clock.now();
        let material = self.meaning(work, reply?, now).await?;
        self.rendered(work, &material)
    }

    /// A read counts once what it gave is in the Secret.
    fn remember_read(
        &self,
        resource: &dyn SecretResource,
        key: &ResourceKey,
        began: jiff::Timestamp,
        synced: &Synced,
    ) {
        if synced.read {
            let mut memory = self.memory.borrow_mut();
            let entry = memory.entry(WorkKey::Resource(key.clone())).or_default();
            entry.last_read = Some(began);
            entry.resynced = asked_resync(resource);
            entry.version.clone_from(&synced.version);
        }
    }

    fn synced(
        &self,
        work: &Work,
        rendered: Option<&Rendered>,
        release: Release,
        left: Vec<(String, Problem)>,
    ) -> Synced {
        let view = self.view.borrow();
        let state = view
            .secrets
            .get(&work.permitted.destination().secret)
            .and_then(|meta| super::ownership::state_of(&work.me, meta));
        let read = rendered.map_or_else(
            || self.remembered(&work.key).version,
            |rendered| rendered.version.clone(),
        );
        let (version, hash) = state.map_or((String::new(), None), |s| (s.version, Some(s.hash)));
        let look_again = later(self.clock.now(), self.config.sync.poll_interval);
        Synced {
            again: match release.again {
                Some(again) if !left.is_empty() => Some(again.min(look_again)),
                None if !left.is_empty() => Some(look_again),
                again => again,
            },
            unreleased: release.problem,
            left,
            read: rendered.is_some(),
            version: if read.is_empty() { version } else { read },
            hash,
            held: self.held(work),
        }
    }

    pub(super) fn wake_resource(&self, kind: Kind, object: &ObjectKey) {
        let key = ResourceKey {
            kind,
            object: object.clone(),
        };
        self.queue.wake(WorkKey::Resource(key), Urgency::Now);
    }

    /// The workloads that a resource restarts, as far as the configuration lets it.
    pub(super) fn targets(&self, resource: &dyn SecretResource) -> Vec<WorkloadKey> {
        let mut targets = self.view.borrow().targets_of(resource);
        targets.retain(|target| self.restarts(target.kind));
        targets
    }
}
