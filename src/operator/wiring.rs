//! How the engine is put together: its ports, its guardrails, and its watches:
//! one for each kind and namespace, or, as the grade of rights asks, by names. Decides nothing and runs nothing by itself.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::cluster::WallClock;
use super::fenced::Fenced;
use super::names::Names;
use super::watches::{self, Health, SecretMetadata, WorkloadObject};
use super::{Found, Operator, hash_key, meta};
use crate::api;
use crate::config::{Config, Grade};
use crate::key::ObjectKey;
use crate::policy::{OwnIdentity, Policy, address_allowed, redirect_allowed};
use crate::reconcile::kept::Kept;
use crate::reconcile::observe::{Resources, Secrets, Workloads};
use crate::reconcile::view::{Store, WorkloadKind};
use crate::reconcile::{Engine, Parts};
use crate::vault::{HttpVault, Limits, Sessions, TravelRules};

/// The engine over the real ports, fenced by the tenure.
pub fn engine(config: Config, found: &Found) -> Rc<Operator> {
    let own = found.own.clone();
    let metrics = Rc::clone(&found.metrics);
    let policy = Arc::new(Policy::new(&config));
    let kubernetes = Rc::clone(&found.cluster);
    let limits = Limits {
        requests_per_second: at_least_one(config.sync.vault_requests_per_second),
        burst: at_least_one(config.sync.vault_requests_burst),
    };
    let observed = Rc::clone(&metrics);
    let vault = HttpVault::new(
        &own.namespace,
        limits,
        travel_rules(&policy, &own),
        Rc::new(move |operation, outcome, seconds| {
            observed.vault_request(operation, outcome, Duration::from_secs_f64(seconds));
        }),
    );
    let vault = Fenced::new(vault, Rc::clone(&found.tenure));
    let observed = Rc::clone(&metrics);
    let sessions =
        Sessions::new(Rc::clone(&kubernetes), vault).observed(Rc::new(move |method, outcome| {
            observed.vault_login(method, outcome)
        }));
    let engine = Rc::new(Engine::new(Parts {
        sessions,
        cluster: kubernetes,
        clock: WallClock,
        config,
        policy,
        own,
        key: found.key.clone(),
        metrics,
    }));
    // Weak, since the engine has the metrics.
    let seen = Rc::downgrade(&engine);
    found.metrics.looks(move || {
        seen.upgrade()
            .map(|engine| engine.world())
            .unwrap_or_default()
    });
    engine
}

/// The configuration refuses zero; the type says so.
fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

fn travel_rules(policy: &Arc<Policy>, own: &OwnIdentity) -> TravelRules {
    let (rules, own) = (Arc::clone(policy), own.clone());
    let redirects = Arc::clone(policy);
    TravelRules {
        address: Arc::new(move |ip, connection| {
            let listed = rules.lists(&connection.address);
            address_allowed(ip, listed, &own).map_err(|problem| problem.to_string())
        }),
        redirect: Arc::new(move |to, connection| {
            let url = |text: &str| reqwest::Url::parse(text).map_err(|error| error.to_string());
            let (from, to) = (url(&connection.address)?, url(to)?);
            redirect_allowed(&from, &to, &redirects).map_err(|problem| problem.to_string())
        }),
    }
}

/// Starts the watches of one namespace.
pub fn watch_all(
    tasks: &mut JoinSet<()>,
    engine: &Rc<Operator>,
    client: &Client,
    namespace: &str,
    health: &Health,
    key_gone: &Rc<Notify>,
) {
    let config = engine.config();
    let (access, interval) = (config.secret_access, config.sync.poll_interval);
    macro_rules! watch {
        ($api:expr, $store:expr, $cut:expr, $observe:expr) => {{
            let (base, place) = watches::whole(engine, $store, namespace);
            let (api, health, observer) = ($api, health.clone(), $observe(base));
            tasks.spawn_local(async move {
                watches::run(api, place, health, $cut, observer).await;
            });
        }};
    }
    macro_rules! follow {
        ($api:expr, $store:expr, $cut:expr, $observe:expr) => {
            match access {
                Grade::Namespace => watch!($api, $store, $cut, $observe),
                Grade::Named => {
                    let names = Names {
                        engine: Rc::clone(engine),
                        api: $api,
                        store: $store,
                        namespace: namespace.to_owned(),
                        health: health.clone(),
                        cut: $cut,
                        observe: $observe,
                        interval,
                    };
                    tasks.spawn_local(names.run());
                }
            }
        };
    }
    macro_rules! resources {
        ($($type:ty),+) => {$({
            let api: Api<DeserializeGuard<$type>> = Api::namespaced(client.clone(), namespace);
            watch!(api, Store::Resource(<$type as Kept>::KIND), meta::resource, Resources);
        })+};
    }
    resources!(
        api::VaultConnection,
        api::VaultAuth,
        api::VaultAuthGlobal,
        api::SecretTransformation,
        api::VaultStaticSecret,
        api::VaultDynamicSecret,
        api::VaultPKISecret
    );
    let secrets: Api<SecretMetadata> = Api::namespaced(client.clone(), namespace);
    let own_key = ObjectKey::new(engine.own_namespace(), hash_key::SECRET_NAME);
    let key_gone = Rc::clone(key_gone);
    let observe = move |base| Secrets {
        base,
        own_key: own_key.clone(),
        own_key_gone: Rc::clone(&key_gone),
    };
    follow!(
        secrets,
        Store::Secrets,
        |object| Some(meta::secret(object)),
        observe
    );
    for kind in WorkloadKind::ALL
        .into_iter()
        .filter(|kind| engine.restarts(*kind))
    {
        let resource = meta::workload_resource(kind);
        let api: Api<WorkloadObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        follow!(
            api,
            Store::Workloads(kind),
            move |object| Some(meta::workload(object, kind)),
            move |base| Workloads(base, kind)
        );
    }
}
