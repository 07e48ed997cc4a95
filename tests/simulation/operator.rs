//! An operator process in the model world: engine, sessions and watches, made
//! anew after each crash from nothing but what the cluster holds.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault_tenant_operator::config::Config;
use vault_tenant_operator::config::address::AddressPattern;
use vault_tenant_operator::key::{Kind, ObjectKey};
use vault_tenant_operator::policy::{OwnIdentity, Policy};
use vault_tenant_operator::reconcile::observe::{Base, Resources, Secrets, Workloads};
use vault_tenant_operator::reconcile::view::{Store, WorkloadKind};
use vault_tenant_operator::reconcile::{Engine, Parts, Succession};
use vault_tenant_operator::render::{HashKey, KEY_LENGTH};
use vault_tenant_operator::telemetry::Metrics;
use vault_tenant_operator::vault::Sessions;

use crate::api_server::DEPLOYMENTS;
use crate::objects::{NAMESPACE, Object};
use crate::ports::{Line, SimCluster, SimVault};
use crate::vault::ADDRESS;
use crate::watches;
use crate::world::{SimClock, World};

type SimEngine = Engine<SimCluster, SimVault, SimClock>;

/// The configuration of all runs.
pub fn config() -> Config {
    let mut config = Config::default();
    config.policy.vault_addresses = vec![AddressPattern::parse(ADDRESS).unwrap()];
    config
}

fn engine(line: Line) -> Rc<SimEngine> {
    let world = Rc::clone(&line.world);
    let cluster = Rc::new(SimCluster(line.clone()));
    let config = config();
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
    let engine = engine(line);
    if absent_since.is_some() {
        engine.begin_term(Succession::After(absent_since));
        engine.open(NAMESPACE);
    }
    let mut tasks = JoinSet::new();
    let base = |store| Base::new(Rc::clone(&engine), store, NAMESPACE);
    macro_rules! watch {
        ($store:expr, $cut:expr, $observer:expr) => {
            tasks.spawn_local(watches::run(Rc::clone(&world), $store, $cut, $observer));
        };
    }
    let store = Store::Resource(Kind::VaultConnection);
    watch!(
        store,
        cut!(Connection, found => (**found).clone()),
        Resources(base(store))
    );
    let store = Store::Resource(Kind::VaultAuth);
    watch!(
        store,
        cut!(Auth, found => (**found).clone()),
        Resources(base(store))
    );
    let store = Store::Resource(Kind::VaultStaticSecret);
    watch!(
        store,
        cut!(Static, found => (**found).clone()),
        Resources(base(store))
    );
    let secrets = Secrets {
        base: base(Store::Secrets),
        own_key: ObjectKey::new("operators", "key"),
        own_key_gone: Rc::new(Notify::new()),
    };
    watch!(Store::Secrets, cut!(Secret, found => found.meta()), secrets);
    let workloads = Workloads(base(DEPLOYMENTS), WorkloadKind::Deployment);
    watch!(
        DEPLOYMENTS,
        cut!(Workload, found => found.meta()),
        workloads
    );
    tasks.spawn_local(engine.run(CancellationToken::new()));
    tasks
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
        };
        let mut tasks = start(line.clone(), absent_since.take());
        tokio::select! {
            biased;
            () = world.crash.notified() => {
                line.alive.set(false);
                tasks.shutdown().await;
                world.note("---- the operator ended");
                world.judge.borrow_mut().operator_ended();
                world.pause(Duration::from_secs(5)).await;
            }
            () = world.handover.notified() => {
                world.note("---- another instance leads");
                line.leads.set(false);
                world.judge.borrow_mut().operator_ended();
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
