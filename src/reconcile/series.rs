//! What the metrics tell of single resources, within the bound of the configuration:
//! by kind and then by name, so that it is the same ones from one look to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use super::queue::{Lane, WorkKey};
use super::report::is_ready;
use super::resolve::CONFIGURED;
use super::view::View;
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::telemetry::{Series, World};
use crate::vault::Vault;

/// What is known of tokens, beside the view.
pub(super) struct Look {
    limit: usize,
    now: Timestamp,
    tokens: BTreeMap<ObjectKey, Timestamp>,
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Begins to tell of single resources. The connection of the configuration is no
    /// resource, and has no name.
    pub(super) fn begin_series(&self, world: &mut World) -> Look {
        let now = self.clock.now();
        world.left_out = Some(0);
        if let Some(breaker) = self.breakers.borrow().get(&Some(CONFIGURED)) {
            world.series.push(Series {
                breaker_open: Some(breaker.is_open()),
                ..nothing_of(Kind::VaultConnection, "".into(), "")
            });
        }
        let limit = self.config.telemetry.max_resource_series;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Look {
            limit: limit.saturating_add(world.series.len()),
            now,
            tokens: self.sessions.token_ends(now),
        }
    }

    /// Tells of one resource, or counts it among those of which nothing is told.
    pub(super) fn tell_series(
        &self,
        world: &mut World,
        look: &Look,
        kind: Kind,
        object: &ObjectKey,
        ready: bool,
    ) {
        if world.series.len() >= look.limit {
            world.left_out = world.left_out.map(|count| count + 1);
            return;
        }
        let key = ResourceKey {
            kind,
            object: object.clone(),
        };
        let (given, expiry) = self.metrics.lives().times_of(&key);
        let work = WorkKey::Resource(key);
        let read = self
            .memory
            .borrow()
            .get(&work)
            .and_then(|one| one.last_read);
        let lane: Lane = (kind == Kind::VaultConnection).then(|| object.clone());
        let breakers = self.breakers.borrow();
        let breaker = lane.and_then(|lane| breakers.get(&Some(lane)));
        let token = look.tokens.get(object);
        // Those of a namespace follow each other.
        let last = world.series.last().map(|last| &last.namespace);
        let namespace = last.filter(|last| ***last == *object.namespace);
        let namespace = namespace.map_or_else(|| object.namespace.as_str().into(), Arc::clone);
        world.series.push(Series {
            ready: Some(ready),
            last_success: read.max(given),
            next_due: self.queue.due(&work, look.now),
            expiry,
            token_expiry: token.filter(|_| kind == Kind::VaultAuth).copied(),
            breaker_open: breaker.map(|breaker| breaker.is_open()),
            ..nothing_of(kind, namespace, &object.name)
        });
    }

    /// Tells what is in work, where anything is.
    pub(super) fn tell_lanes(&self, view: &View, works: bool) {
        let counts = works.then(|| self.queue.in_line(|key| self.lane(key)));
        let is_there = |connection: &ObjectKey| view.connections.contains_key(connection);
        self.metrics.lanes().in_line(counts, is_there);
    }
}

fn nothing_of(kind: Kind, namespace: Arc<str>, name: &str) -> Series {
    Series {
        kind: kind.as_str(),
        namespace,
        name: name.into(),
        ready: None,
        last_success: None,
        next_due: None,
        expiry: None,
        token_expiry: None,
        breaker_open: None,
    }
}

/// All resources of a kind, and whether each is ready.
pub(super) fn verdicts(
    view: &View,
    kind: Kind,
) -> Box<dyn Iterator<Item = (&ObjectKey, bool)> + '_> {
    macro_rules! all {
        ($store:ident) => {
            Box::new(view.$store.iter().map(|(object, one)| {
                let told = one.status.as_ref().map(|status| &*status.conditions);
                let ready = is_ready(told.unwrap_or_default(), one.metadata.generation);
                (object, ready)
            }))
        };
    }
    match kind {
        Kind::VaultConnection => all!(connections),
        Kind::VaultAuth => all!(auths),
        Kind::VaultAuthGlobal => all!(globals),
        Kind::VaultStaticSecret => all!(statics),
        Kind::VaultDynamicSecret => all!(dynamics),
        Kind::VaultPkiSecret => all!(pkis),
        Kind::SecretTransformation => all!(transformations),
    }
}
