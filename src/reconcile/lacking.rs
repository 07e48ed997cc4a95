//! What the Role lacks. A refusal of the API server is asked back, right by
//! right, so that the condition names the very rule to add.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;

use super::engine::Engine;
use super::kept::{Kept, of_kind};
use super::ports::{Clock, Cluster};
use super::view::{Store, View, WorkloadKey, WorkloadKind};
use crate::config::Grade;
use crate::key::{Kind, ObjectKey};
use crate::problem::Problem;
use crate::rights::{self, Difference, Right, Rights, as_rules};
use crate::vault::Vault;

/// Copies a resource from one view into another.
fn copy<T: Kept>(from: &View, into: &mut View, object: &ObjectKey) {
    T::put(into, object, T::get(from, object));
}

/// What a Secret takes that is named by no resource any more.
const FORMER: [&str; 4] = ["get", "list", "watch", "delete"];

/// What a look at all rights found, by namespace.
type ByNamespace = RefCell<BTreeMap<String, BTreeSet<Right>>>;

/// The rights that are known to be missing, and those that are too much.
#[derive(Debug, Default)]
pub struct Lacking {
    missing: ByNamespace,
    /// At the last look.
    surplus: ByNamespace,
    /// Told when a refusal showed another one.
    news: watch::Sender<()>,
}

fn of_former(secret: &str) -> [Right; 4] {
    FORMER.map(|verb| Right {
        group: "".into(),
        resource: "secrets".into(),
        name: Some(secret.to_owned()),
        verb: verb.into(),
    })
}

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// A problem as it is told: a refusal with the rule that the Role lacks.
    pub(super) async fn explained(&self, problem: Problem) -> Problem {
        let Problem::KubernetesForbidden { what, why } = &problem else {
            return problem;
        };
        let Some((namespace, refused)) = rights::refused(why) else {
            return problem;
        };
        let needed = self.needed_with(&namespace, &refused);
        let mut missing = self.not_granted(&namespace, &needed, false).await;
        // An answer that knows nothing of the refusal is older than it.
        if missing.iter().all(|right| right.verb != refused.verb) {
            missing = self.not_granted(&namespace, &needed, true).await;
        }
        if missing.is_empty() {
            return problem;
        }
        let rules = as_rules(&missing);
        let told = Problem::KubernetesForbidden {
            what: what.clone(),
            why: format!("{why}; add to its Role the rule {rules}"),
        };
        if self.lacks(&namespace, missing) {
            tracing::warn!(
                namespace,
                rules,
                "a right is missing, add the rule to the Role"
            );
            self.lacking.news.send_replace(());
        }
        told
    }

    async fn not_granted(
        &self,
        namespace: &str,
        needed: &BTreeSet<Right>,
        anew: bool,
    ) -> BTreeSet<Right> {
        let mut missing = BTreeSet::new();
        for right in needed {
            if matches!(self.cluster.may(namespace, right, anew).await, Ok(false)) {
                missing.insert(right.clone());
            }
        }
        missing
    }

    /// An outcome as it is told ([`Engine::explained`]).
    pub(super) async fn told<T>(&self, outcome: Result<T, Problem>) -> Result<T, Problem> {
        match outcome {
            Err(problem) => Err(self.explained(problem).await),
            well => well,
        }
    }

    /// Remembers missing rights; tells whether one of them is news.
    fn lacks(&self, namespace: &str, missing: BTreeSet<Right>) -> bool {
        let mut all = self.lacking.missing.borrow_mut();
        let known = all.entry(namespace.to_owned()).or_default();
        let before = known.len();
        known.extend(missing);
        self.metrics.rights_missing(namespace, known.len());
        before < known.len()
    }

    /// All that is needed of the object that a refusal speaks of.
    fn needed_with(&self, namespace: &str, refused: &Right) -> BTreeSet<Right> {
        let users = self.users_of(namespace, refused);
        let grade = self.config.secret_access;
        let needed = rights::needed(grade, &self.config, &self.own, &users);
        let same = |right: &&Right| {
            right.group == refused.group
                && right.resource == refused.resource
                && (right.name.is_none() || right.name == refused.name)
        };
        let of_namespace = needed.namespaces.get(namespace).into_iter();
        let rights = of_namespace.flat_map(Rights::keys).filter(same).cloned();
        let mut rights: BTreeSet<Right> = rights.collect();
        if rights.iter().any(|right| right.verb == refused.verb) {
            return rights;
        }
        if grade == Grade::Named
            && refused.resource == "secrets"
            && let Some(name) = &refused.name
        {
            rights.extend(of_former(name));
        }
        rights.insert(refused.clone());
        rights
    }

    /// The view with no other resources than those that name the object, and
    /// with what these refer to.
    fn users_of(&self, namespace: &str, refused: &Right) -> View {
        let view = self.view.borrow();
        let mut users = View::default();
        users.connections.clone_from(&view.connections);
        users.auths.clone_from(&view.auths);
        let object = ObjectKey::new(namespace, refused.name.clone().unwrap_or_default());
        let kind = WorkloadKind::ALL
            .into_iter()
            .find(|kind| Store::Workloads(*kind).to_string() == refused.resource);
        let keys: Vec<_> = match kind {
            Some(kind) => {
                let target = WorkloadKey { kind, object };
                view.resources_of_workload(&target).cloned().collect()
            }
            None => view.resources_of_secret(&object).cloned().collect(),
        };
        for key in keys {
            of_kind!(key.kind, copy(&view, &mut users, &key.object));
        }
        users
    }

    /// Whether all that decides what is needed was seen, or cannot be.
    #[must_use]
    pub fn knows_what_is_asked(&self) -> bool {
        let view = self.view.borrow();
        let namespaces = self.config.watched(&self.own.namespace);
        namespaces.iter().all(|namespace| {
            let any = ObjectKey::new(namespace, "");
            let unseen = |kind| view.stores.unseen(Store::Resource(kind), &any);
            let mut awaited = Kind::ALL.into_iter().filter_map(unseen);
            awaited.all(|problem| problem.is_finding())
        })
    }

    /// What the operator needs in a namespace for what it sees now, and for the
    /// former Secrets that it cannot see.
    #[must_use]
    pub fn needed_in(&self, namespace: &str) -> Rights {
        let view = self.view.borrow();
        let grade = self.config.secret_access;
        let mut needed = rights::needed(grade, &self.config, &self.own, &view);
        let mut rights = needed.namespaces.remove(namespace).unwrap_or_default();
        for secret in view.unseen_former(namespace) {
            for right in of_former(&secret.name) {
                rights.entry(right).or_default();
            }
        }
        rights
    }

    /// Until a refusal has shown that something is missing in a namespace.
    pub async fn refused_in(&self, namespace: &str) {
        let mut news = self.lacking.news.subscribe();
        let lacks = || {
            let missing = self.lacking.missing.borrow();
            missing
                .get(namespace)
                .is_some_and(|rights| !rights.is_empty())
        };
        while !lacks() && news.changed().await.is_ok() {}
    }

    /// What a look at all rights in a namespace found. Tells whether any is
    /// missing.
    pub fn reviewed(&self, namespace: &str, found: &Difference) -> bool {
        let Difference { missing, surplus } = found;
        let noted = |all: &ByNamespace, found: &BTreeSet<Right>| {
            let before = all.borrow_mut().insert(namespace.to_owned(), found.clone());
            before.unwrap_or_default()
        };
        let before = noted(&self.lacking.missing, missing);
        self.metrics.rights_missing(namespace, missing.len());
        self.metrics.rights_surplus(namespace, surplus.len());
        if !missing.is_subset(&before) {
            let rules = as_rules(missing);
            tracing::warn!(
                namespace,
                rules,
                "rights are missing, add the rules to the Role"
            );
        } else if missing.is_empty() && !before.is_empty() {
            tracing::info!(namespace, "no right is missing any more");
        }
        let before = noted(&self.lacking.surplus, surplus);
        if *surplus != before && !surplus.is_empty() {
            let rules = as_rules(surplus);
            tracing::warn!(
                namespace,
                rules,
                "the operator may do more than it needs, take it out of its Roles"
            );
        } else if surplus.is_empty() && !before.is_empty() {
            tracing::info!(namespace, "no right is too much any more");
        }
        self.look_at_granted(namespace, surplus.difference(&before));
        !missing.is_empty()
    }

    /// Names that the Role knows, since this look, and no resource: what a resource
    /// left behind that was renamed or deleted while nobody looked may be there.
    fn look_at_granted<'a>(&self, namespace: &str, surplus: impl Iterator<Item = &'a Right>) {
        if !self.knows_names_only() {
            return;
        }
        let secrets = surplus.filter(|right| right.resource == "secrets" && right.verb == "list");
        let names = secrets.filter_map(|right| right.name.clone());
        let mut view = self.view.borrow_mut();
        for name in names {
            view.hint(ObjectKey::new(namespace, name));
        }
    }
}
