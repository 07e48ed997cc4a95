//! What the operator needs, by grade, configuration and resources. Each right
//! stands here once, with the feature that asks for it; `rbac/` says the same for
//! the grade of namespaces, and a test holds the two together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Grade, Reason, Right, Rights};
use crate::api::{GROUP, VaultConnection};
use crate::config::Config;
use crate::key::{Kind, ObjectKey, ResourceKey, is_object_name};
use crate::operator::{CLAIM_LEASE, KEY_SECRET, LEADER_LEASE};
use crate::policy::{CaSource, LoginMethod, OwnIdentity, Policy, permit, permit_connection};
use crate::problem::{Problem, printable};
use crate::reconcile::ledger;
use crate::reconcile::sources::{KINDS, SecretResource, key_of, named_targets};
use crate::reconcile::view::{View, WorkloadKey, WorkloadKind};
use crate::reconcile::{Scope, asked, connection};

const CORE: &str = "";
const LEASES: (&str, &str) = ("coordination.k8s.io", "leases");
const EVENTS: (&str, &str) = ("events.k8s.io", "events");
const SECRETS: (&str, &str) = (CORE, "secrets");
const TOKENS: (&str, &str) = (CORE, "serviceaccounts/token");

/// What is made by an apply and never watched: its reader, and the apply, which
/// is authorized as `create` too where it makes the object.
const KEEP: [&str; 3] = ["get", "create", "patch"];
/// A Secret that the operator makes and keeps true.
const OWN: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];
/// A Secret of somebody else that it only writes into.
const WRITE_INTO: [&str; 4] = ["get", "list", "watch", "patch"];
/// What it only reads.
const READ: [&str; 3] = ["get", "list", "watch"];
const SEE: [&str; 2] = ["list", "watch"];
const RESTART: [&str; 3] = ["list", "watch", "patch"];

/// What the operator needs, and which resources ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// By namespace.
    pub namespaces: BTreeMap<String, Rights>,
    /// Resources that are not served as they are, and so need nothing yet; of
    /// the grade [`Grade::Named`] alone, since the other asks none of them.
    pub unserved: BTreeMap<ResourceKey, Problem>,
}

/// The least rights with which an operator of this configuration serves what is
/// in `view`. Resources of namespaces that it does not watch are left out.
///
/// The guardrails of the configuration apply: what they refuse needs no right.
/// Files of the operator's container are taken to be there.
#[must_use]
pub fn needed(grade: Grade, config: &Config, own: &OwnIdentity, view: &View) -> Needed {
    let mut needed = Needed::default();
    let watched = config.watched(&own.namespace);
    for namespace in &watched {
        needed.everywhere(namespace);
        if grade == Grade::Namespace {
            needed.all_of(namespace, config);
        }
    }
    let key_is_covered = grade == Grade::Namespace && watched.contains(&own.namespace);
    let home = &own.namespace;
    if !key_is_covered {
        let feature = "the key of the hashes that tell whether content changed";
        needed.add(home, None, SECRETS, Some(KEY_SECRET), &KEEP, feature);
        let feature = "the ledger: what Vault made and must be given back";
        for name in ledger::secret_names() {
            needed.add(home, None, SECRETS, Some(&name), &KEEP, feature);
        }
    }
    if config.leader_elect {
        let feature = "leadership: one instance works, others stand by";
        needed.add(home, None, LEASES, Some(LEADER_LEASE), &KEEP, feature);
    }
    if grade == Grade::Named {
        let asking = Asking {
            scope: Scope {
                view,
                defaults: &config.connection,
                operator_namespace: &own.namespace,
            },
            config,
            own,
            policy: Policy::new(config),
        };
        needed.named(&asking, &watched);
    }
    needed
}

/// What decides about the names that resources ask for.
struct Asking<'a> {
    scope: Scope<'a>,
    config: &'a Config,
    own: &'a OwnIdentity,
    policy: Policy,
}

impl Needed {
    /// What a watched namespace needs in every grade, none of it by the names of
    /// its objects.
    fn everywhere(&mut self, namespace: &str) {
        for kind in Kind::ALL.map(Kind::plural) {
            let feature = "what is asked for: one watch for each kind";
            self.add(namespace, None, (GROUP, kind), None, &SEE, feature);
            let status = (GROUP, format!("{kind}/status"));
            let feature = "conditions in the status";
            self.add(namespace, None, status, None, &["patch"], feature);
        }
        for kind in KINDS.map(Kind::plural) {
            let feature = "the live look at a resource before its Secret is made again or deleted, and what Vault made for it is given back";
            self.add(namespace, None, (GROUP, kind), None, &["get"], feature);
        }
        let feature = "events, when the reason of a condition changes";
        self.add(namespace, None, EVENTS, None, &["create"], feature);
        let feature = "the claim: one operator at a time serves a namespace";
        self.add(namespace, None, LEASES, Some(CLAIM_LEASE), &KEEP, feature);
    }

    /// What the grade [`Grade::Namespace`] adds, whatever resources there are.
    fn all_of(&mut self, namespace: &str, config: &Config) {
        let feature = "destinations, CA certificates, and the operator's key where it lives here";
        self.add(namespace, None, SECRETS, None, &OWN, feature);
        let feature = "login by a token of a ServiceAccount";
        self.add(namespace, None, TOKENS, None, &["create"], feature);
        for kind in restarted(config) {
            self.add_workload(namespace, None, kind, None);
        }
    }

    /// What the grade [`Grade::Named`] adds: the names that resources ask for.
    fn named(&mut self, asking: &Asking<'_>, watched: &[String]) {
        let view = asking.scope.view;
        let is_watched = |key: &ObjectKey| watched.contains(&key.namespace);
        for (key, resource) in view.connections.iter().filter(|(key, _)| is_watched(key)) {
            let key = resource_key(Kind::VaultConnection, key);
            self.or_unserved(&key, |this| this.of_connection(asking, &key, resource));
        }
        for resource in view.writers() {
            let key = key_of(resource);
            if is_watched(&key.object) {
                self.or_unserved(&key, |this| this.of_writer(asking, &key, resource));
            }
        }
    }

    fn or_unserved(
        &mut self,
        key: &ResourceKey,
        add: impl FnOnce(&mut Self) -> Result<(), Problem>,
    ) {
        if let Err(problem) = add(self) {
            self.unserved.insert(key.clone(), problem);
        }
    }

    fn of_connection(
        &mut self,
        asking: &Asking<'_>,
        key: &ResourceKey,
        resource: &VaultConnection,
    ) -> Result<(), Problem> {
        let mut connection = connection(asking.scope, resource)?;
        without_file(&mut connection.ca);
        let permitted = permit_connection(connection, &asking.policy, asking.own)?;
        if let CaSource::Secret { secret, .. } = &permitted.get().ca {
            let feature = "CA certificates of a connection";
            let ObjectKey { namespace, name } = secret;
            check("spec.caCertSecretRef", name)?;
            self.add(namespace, Some(key), SECRETS, Some(name), &READ, feature);
        }
        Ok(())
    }

    fn of_writer(
        &mut self,
        asking: &Asking<'_>,
        key: &ResourceKey,
        resource: &dyn SecretResource,
    ) -> Result<(), Problem> {
        let mut resolved = asked(asking.scope, resource)?;
        without_file(&mut resolved.connection.ca);
        let permitted = permit(resolved, &asking.policy, asking.own)?;
        let destination = &permitted.destination().secret;
        check("spec.destination.name", &destination.name)?;
        let LoginMethod::Kubernetes {
            service_account: account,
            ..
        } = &permitted.login().get().method
        else {
            return Ok(());
        };
        check(
            "spec.kubernetes.serviceAccount of its VaultAuth",
            &account.name,
        )?;
        let restarted = restarted(asking.config);
        let targets = named_targets(resource).filter(|target| restarted.contains(&target.kind));
        let targets: Vec<WorkloadKey> = targets.collect();
        for target in &targets {
            check("spec.rolloutRestartTargets", &target.object.name)?;
        }
        let (verbs, feature): (&[_], _) = if resource.destination().create {
            let feature = "a destination: seen, made, kept true, made anew for another type";
            (&OWN, feature)
        } else {
            let feature = "a destination that somebody else makes: seen and written into";
            (&WRITE_INTO, feature)
        };
        let ObjectKey { namespace, name } = destination;
        self.add(namespace, Some(key), SECRETS, Some(name), verbs, feature);
        let ObjectKey { namespace, name } = account;
        let feature = "login by a token of this ServiceAccount";
        self.add(
            namespace,
            Some(key),
            TOKENS,
            Some(name),
            &["create"],
            feature,
        );
        for WorkloadKey { kind, object } in &targets {
            let ObjectKey { namespace, name } = object;
            self.add_workload(namespace, Some(key), *kind, Some(name));
        }
        Ok(())
    }

    fn add_workload(
        &mut self,
        namespace: &str,
        by: Option<&ResourceKey>,
        kind: WorkloadKind,
        name: Option<&str>,
    ) {
        let resource = (kind.group(), kind.plural());
        let feature = "rolloutRestartTargets: what the pods run, and the restart";
        self.add(namespace, by, resource, name, &RESTART, feature);
    }

    /// `by` is the resource that asks for it, if one does.
    fn add<R: Into<Cow<'static, str>>>(
        &mut self,
        namespace: &str,
        by: Option<&ResourceKey>,
        (group, resource): (&'static str, R),
        name: Option<&str>,
        verbs: &[&'static str],
        feature: &'static str,
    ) {
        let rights = self.namespaces.entry(namespace.to_owned()).or_default();
        let resource = resource.into();
        for verb in verbs {
            let right = Right {
                group: Cow::Borrowed(group),
                resource: resource.clone(),
                name: name.map(str::to_owned),
                verb: Cow::Borrowed(verb),
            };
            rights.entry(right).or_default().insert(Reason {
                feature,
                resource: by.cloned(),
            });
        }
    }
}

/// No object can have another name; and in a rule an empty one would stand for
/// requests without a name, such as a list of all.
fn check(field: &str, name: &str) -> Result<(), Problem> {
    if is_object_name(name) {
        return Ok(());
    }
    Err(Problem::InvalidSpec {
        field: field.to_owned(),
        why: format!(
            "{:?} is no name that an object can have: use lower-case letters, digits, dots and hyphens",
            printable(name, 80)
        ),
    })
}

/// Only the operator's own container shows whether a file may be named.
fn without_file(ca: &mut CaSource) {
    if matches!(ca, CaSource::File(_)) {
        *ca = CaSource::System;
    }
}

fn restarted(config: &Config) -> Vec<WorkloadKind> {
    let restarts = |kind: &WorkloadKind| config.rollout.restarts(kind.as_str());
    WorkloadKind::ALL.into_iter().filter(restarts).collect()
}

fn resource_key(kind: Kind, object: &ObjectKey) -> ResourceKey {
    ResourceKey {
        kind,
        object: object.clone(),
    }
}
