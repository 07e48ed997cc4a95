//! An operator process in the model world: engine, sessions and watches, made
//! anew after each crash from nothing but what the cluster holds.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use vault_tenant_operator::config::address::{Address, AddressPattern};
use vault_tenant_operator::config::{Config, Grade};
use vault_tenant_operator::key::{Kind, ObjectKey};
use vault_tenant_operator::policy::{OwnIdentity, Policy};
use vault_tenant_operator::reconcile::observe::{Base, Observer, Resources, Secrets, Workloads};
use vault_tenant_operator::reconcile::stores::Place;
use vault_tenant_operator::reconcile::view::Store;
use vault_tenant_operator::reconcile::{Engine, Parts, Succession};
use vault_tenant_operator::render::{HashKey, KEY_LENGTH};
use vault_tenant_operator::rights::{Difference, Right};
use vault_tenant_operator::telemetry::Metrics;
use vault_tenant_operator::vault::Sessions;

use crate::line::Line;
use crate::objects::{NAMESPACE, Object};
use crate::ports::SimCluster;
use crate::vault::ADDRESS;
use crate::vault_port::SimVault;
use crate::watches;
use crate::world::{Server, SimClock, World};
use crate::{defects, lease_defects};

type SimEngine = Engine<SimCluster, SimVault, SimClock>;

/// The configuration of a run.
fn config(world: &World) -> Config {
    let mut config = Config {
        watch_namespaces: vec![NAMESPACE.to_owned()],
        secret_access: world.grade.get(),
        rollout: defects::in_policy(world.defect, &world.policy.borrow()),
        rotation: world.rotation.borrow().clone(),
        ..Config::default()
    };
    config.policy.vault_addresses = vec![AddressPattern::parse(ADDRESS).unwrap()];
    // For those that name no VaultConnection, where there is none called `default`.
    config.connection.address = Some(Address::parse(ADDRESS).unwrap());
    if !world.looks.get() {
        config.rotation.lookup_interval = Duration::ZERO;
    }
    config
}

fn engine(line: Line) -> Rc<SimEngine> {
    let world = Rc::clone(&line.world);
    let cluster = Rc::new(SimCluster(line.clone()));
    let config = config(&world);
    Rc::new(Engine::new(Parts {
        sessions: Sessions::new(Rc::clone(&cluster), SimVault(line)),
        cluster,
        clock: world.clock(),
        policy: Arc::new(Policy::new(&config)),
        config,
        own: OwnIdentity {
            namespace: "operators".to_owned(),
            service_account: "vto".to_owned(),
            api_audiences: vec!["https://kubernetes.default.svc".to_owned()],
            ..OwnIdentity::default()
        },
        key: HashKey::new(vec![world.hash_key.get(); KEY_LENGTH]).unwrap(),
        metrics: Rc::new(Metrics::new()),
    }))
}

macro_rules! cut {
    ($variant:ident, $found:ident => $as:expr) => {
        |object: &Object| match object {
            Object::$variant($found) => Some($as),
            _ => None,
        }
    };
}

/// `absent_since`: until when another instance led, if this one follows it.
fn start(line: Line, absent_since: Option<Timestamp>) -> JoinSet<()> {
    let world = Rc::clone(&line.world);
    let defect = world.defect;
    let engine = engine(line);
    if absent_since.is_some() {
        engine.begin_term(Succession::After(absent_since));
        engine.open(NAMESPACE);
    }
    let mut tasks = JoinSet::new();
    macro_rules! watch {
        ($store:expr, $cut:expr, $observe:expr) => {{
            let base = Base::new(Rc::clone(&engine), $store, NAMESPACE);
            let (world, place) = (Rc::clone(&world), base.place().clone());
            tasks.spawn_local(watches::run(world, place, $cut, $observe(base)));
        }};
    }
    macro_rules! follow {
        ($store:expr, $cut:expr, $observe:expr) => {
            match world.grade.get() {
                Grade::Namespace => watch!($store, $cut, $observe),
                Grade::Named => {
                    let (world, engine) = (Rc::clone(&world), Rc::clone(&engine));
                    tasks.spawn_local(follow_names(world, engine, $store, $cut, $observe));
                }
            }
        };
    }
    watch!(
        Store::Resource(Kind::VaultConnection),
        cut!(Connection, found => (**found).clone()),
        Resources
    );
    watch!(
        Store::Resource(Kind::VaultAuth),
        cut!(Auth, found => (**found).clone()),
        Resources
    );
    watch!(
        Store::Resource(Kind::VaultStaticSecret),
        move |object: &Object| match object {
            Object::Static(found) => Some(defects::in_static(defect, found)),
            _ => None,
        },
        Resources
    );
    watch!(
        Store::Resource(Kind::VaultDynamicSecret),
        cut!(Dynamic, found => (**found).clone()),
        Resources
    );
    watch!(
        Store::Resource(Kind::VaultPkiSecret),
        cut!(Pki, found => (**found).clone()),
        Resources
    );
    follow!(
        Store::Secrets,
        cut!(Secret, found => found.meta()),
        |base| Secrets {
            base,
            own_key: ObjectKey::new("operators", "key"),
            own_key_gone: Rc::new(Notify::new()),
        }
    );
    let workloads = world.api.borrow().workload_kind();
    follow!(
        Store::Workloads(workloads),
        move |object: &Object| match object {
            Object::Workload(found) => Some(defects::in_workload(defect, found, workloads)),
            _ => None,
        },
        move |base| Workloads(base, workloads)
    );
    if world.grade.get() == Grade::Named {
        tasks.spawn_local(review(Rc::clone(&world), Rc::clone(&engine)));
    }
    tasks.spawn_local(engine.run(CancellationToken::new()));
    tasks
}

/// Follows the names of a store that the engine wants, by a watch for each.
async fn follow_names<T: 'static, O: Observer<T> + 'static>(
    world: Rc<World>,
    engine: Rc<SimEngine>,
    store: Store,
    cut: impl Fn(&Object) -> Option<T> + Copy + 'static,
    observe: impl Fn(Base<SimEngine>) -> O,
) {
    let changes = engine.follow_names(store, NAMESPACE);
    let mut tasks = JoinSet::new();
    let mut followed: BTreeMap<String, AbortHandle> = BTreeMap::new();
    loop {
        let wanted = engine.wanted(store, NAMESPACE);
        let place = |name: &String| Place {
            store,
            namespace: NAMESPACE.to_owned(),
            name: Some(name.clone()),
        };
        followed.retain(|name, watch| {
            let stays = wanted.contains(name);
            if !stays {
                watch.abort();
                engine.forget_place(&place(name));
            }
            stays
        });
        for name in wanted {
            let place = place(&name);
            followed.entry(name).or_insert_with(|| {
                let observer = observe(Base::at(Rc::clone(&engine), place.clone()));
                tasks.spawn_local(watches::run(Rc::clone(&world), place, cut, observer))
            });
        }
        changes.notified().await;
    }
}

/// What the look at its own rights tells the operator: which names the Role has.
async fn review(world: Rc<World>, engine: Rc<SimEngine>) {
    while !engine.knows_what_is_asked() || world.is_away(Server::Kubernetes) {
        world.pause(Duration::from_millis(500)).await;
    }
    let named = |name: &String| Right {
        group: "".into(),
        resource: "secrets".into(),
        name: Some(name.clone()),
        verb: "list".into(),
    };
    let surplus = world.api.borrow().secrets.keys().map(named).collect();
    let missing = BTreeSet::new();
    engine.reviewed(NAMESPACE, &Difference { missing, surplus });
}

/// An instance that leads no longer is frozen for so long, and gone then.
const FROZEN: Duration = Duration::from_secs(30);

/// Runs the operator for ever, a new one after each crash, and another one after
/// each handover: what the one before had sent arrives beside what it sends.
pub async fn supervise(world: Rc<World>) {
    let mut absent_since = None;
    loop {
        let line = Line {
            world: Rc::clone(&world),
            alive: Rc::new(Cell::new(true)),
            leads: Rc::new(Cell::new(true)),
            wrote: Rc::default(),
            born: world.now(),
        };
        lease_defects::at_start(&world);
        world.term.set(world.term.get() + 1);
        let mut tasks = start(line.clone(), absent_since.take());
        tokio::select! {
            biased;
            () = world.crash.notified() => {
                line.alive.set(false);
                tasks.shutdown().await;
                world.note("---- the operator ended");
                world.judge.borrow_mut().operator_ended();
                world.leases.borrow_mut().operator_ended();
                world.pause(Duration::from_secs(5)).await;
            }
            () = world.handover.notified() => {
                world.note("---- another instance leads");
                line.leads.set(false);
                world.judge.borrow_mut().operator_ended();
                world.leases.borrow_mut().operator_ended();
                absent_since = Some(world.now());
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(FROZEN).await;
                    line.alive.set(false);
                    tasks.shutdown().await;
                });
            }
        }
        world.logged_in.set(None);
        world.note("---- the operator starts");
    }
}
