//! The part of the tour about credentials that Vault makes: `examples/database.yaml` on a real PostgreSQL, with a client
//! that connects anew ten times a second.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::judges::{AccessFilter, AccessLog};
use ground::postgres::{Database, Login};
use ground::{Tenant, wait_for};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;
use vault_tenant_operator::api::VaultDynamicSecret;

use crate::observe::{self, LONG};
use crate::platform::{NAMESPACE, Site, let_log_in};
use crate::screen::Screen;
use crate::tour::{Told, step};

/// The name of everything in `examples/database.yaml`, and of the role of its engine.
const ORDERS: &str = "orders";

/// The role that takes its place.
const NEXT: &str = "orders-next";

/// Between two connections of a pod's client.
const APART: Duration = Duration::from_millis(100);

/// Walks through these steps.
///
/// # Errors
/// The first step that doesn't see what it should.
pub async fn walk(screen: &Screen, site: &Site<'_>) -> Result<()> {
    let database = set_up(site).await?;
    let client = Client::start(&site.tenant, database);
    step(
        screen,
        "6. A login of a PostgreSQL database arrives, and a new one takes its place under a client",
        rotates(site, &client),
    )
    .await?;
    step(
        screen,
        "7. The operator is killed, and its successor goes on with the same login",
        killed(site, &client),
    )
    .await?;
    client.task.abort();
    Ok(())
}

/// What `examples/vault-database.sh example example orders ...` does by Vault's CLI, with one more role.
async fn set_up(site: &Site<'_>) -> Result<Database> {
    let database = site.ground.postgres().await?.database(NAMESPACE).await?;
    let engine = site.tenant.database_engine(&database).await?;
    let name = format!("tenant-{}", engine.mount);
    let mut rules = String::new();
    for role in [ORDERS, NEXT] {
        let creds = engine.role(role, &DatabaseRole::default()).await?;
        rules += &format!("path \"{creds}\" {{ capabilities = [\"read\"] }}\n");
        for task in ["renew", "revoke"] {
            rules += &format!(
                "path \"sys/leases/{task}/{creds}/*\" {{ capabilities = [\"update\"] }}\n"
            );
        }
    }
    for task in ["lookup", "renew"] {
        rules +=
            &format!("path \"auth/token/{task}-accessor\" {{ capabilities = [\"update\"] }}\n");
    }
    let_log_in(&site.ground.vault.api, &name, ORDERS, "24h", &rules).await?;
    Ok(database)
}

async fn rotates(site: &Site<'_>, client: &Client) -> Result<Told> {
    let tenant = &site.tenant;
    tenant.apply(&site.database_manifests()?).await?;
    let ready = ready(tenant).await?;
    let (first, old) = (user(tenant).await?, lease(tenant).await?);
    observe::rolled_out(tenant, ORDERS).await?;
    client.wait_accepted(&first).await?;
    let next = Patch::Merge(json!({ "spec": { "path": format!("creds/{NEXT}") } }));
    resources(tenant)
        .patch(ORDERS, &PatchParams::default(), &next)
        .await?;
    wait_for("the first login to be given back", LONG, || async {
        let found = site.ground.vault.api.lease(&old).await?;
        ensure!(found.is_none(), "Vault still knows {old}");
        Ok(())
    })
    .await?;
    let second = user(tenant).await?;
    client.wait_accepted(&second).await?;
    let released = observe::event(tenant, ORDERS, "LeaseReleased", "given back").await?;
    let restarts = observe::restarts(tenant, ORDERS).await?;
    ensure!(restarts == 1, "the Deployment has rolled {restarts} times");
    let accepted = client.all_accepted()?;
    Ok(Told {
        done: format!(
            "applied examples/database.yaml with a client in its pod, then asked for the role {NEXT} in place of {ORDERS}"
        ),
        seen: vec![
            format!(
                "VaultDynamicSecret orders is {}: {}",
                ready.reason, ready.message
            ),
            format!("the user {first}, then the user {second}; the Deployment orders rolled once"),
            format!("an event LeaseReleased: {released}"),
            format!("{accepted} connections of the client, none of them refused"),
        ],
    })
}

async fn killed(site: &Site<'_>, client: &Client) -> Result<Told> {
    let tenant = &site.tenant;
    let version = async || anyhow::Ok(tenant.api::<Secret>().get(ORDERS).await?.resource_version());
    let before = (version().await?, lease(tenant).await?);
    let log = AccessLog::new(&site.ground.vault.access_log);
    let begun = log.mark()?;
    let since = |prefix: &str| AccessFilter::new().path_prefix(prefix).since(begun);
    site.operator.kill_and_restart(site.ground, tenant).await?;
    log.wait_for(&since("/v1/sys/leases/lookup"), 1, LONG)
        .await?;
    let asked = log.count(&since("/v1/example-database/creds/"))?;
    ensure!(asked == 0, "it has asked for {asked} logins");
    let after = (version().await?, lease(tenant).await?);
    ensure!(after == before, "it was {before:?} and is {after:?}");
    let restarts = observe::restarts(tenant, ORDERS).await?;
    ensure!(restarts == 1, "the Deployment has rolled {restarts} times");
    client.wait_accepted(&user(tenant).await?).await?;
    let accepted = client.all_accepted()?;
    let until = &resources(tenant).get(ORDERS).await?.status;
    let until = until
        .as_ref()
        .and_then(|status| status.lifetime.expiry.clone());
    let until = until.context("status has no expiry")?.0;
    Ok(Told {
        done: "killed the operator with SIGKILL, and started it again".to_owned(),
        seen: vec![
            "it looked whether Vault knows the lease, and asked for no other".to_owned(),
            format!("the same Secret and the same lease, good until {until} and renewed before"),
            format!("{accepted} connections of the client by now, none of them refused"),
        ],
    })
}

fn resources(tenant: &Tenant) -> Api<VaultDynamicSecret> {
    Api::namespaced(tenant.client.clone(), &tenant.namespace)
}

async fn ready(
    tenant: &Tenant,
) -> Result<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    observe::condition::<VaultDynamicSecret>(tenant, ORDERS, "Ready", "True").await
}

/// The lease that status names.
async fn lease(tenant: &Tenant) -> Result<String> {
    ready(tenant).await?;
    let status = resources(tenant).get(ORDERS).await?.status;
    Ok(status.context("no status")?.secret_lease.id)
}

/// The user that the Secret names.
async fn user(tenant: &Tenant) -> Result<String> {
    let secret = tenant.secret(ORDERS).await?;
    let (user, _) = login_of(secret).context("there is no Secret orders with a login")?;
    Ok(user)
}

fn login_of(secret: Option<Secret>) -> Option<(String, String)> {
    let data = secret?.data?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some((text("username")?, text("password")?))
}

/// What the client saw: connections by user, and refusals.
#[derive(Default)]
struct Seen {
    accepted: BTreeMap<String, usize>,
    refused: Vec<String>,
}

/// A client in each pod of the Deployment: it connects with what the Secret held when its pod began, for as long as the
/// pod is there.
struct Client {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Client {
    fn start(tenant: &Tenant, database: Database) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (tenant, shared) = (tenant.clone(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut logins = BTreeMap::new();
            loop {
                if let Err(error) = connect(&tenant, &database, &mut logins, &shared).await {
                    lock(&shared).refused.push(format!("{error:#}"));
                }
                tokio::time::sleep(APART).await;
            }
        });
        Self { seen, task }
    }

    /// Waits until a user was let in some times.
    async fn wait_accepted(&self, user: &str) -> Result<()> {
        let so_far = lock(&self.seen).accepted.get(user).copied();
        let wanted = so_far.unwrap_or_default() + 5;
        wait_for(&format!("connections of {user}"), LONG, || async {
            let seen = lock(&self.seen).accepted.get(user).copied();
            ensure!(seen.unwrap_or_default() >= wanted, "{seen:?}");
            Ok(())
        })
        .await
    }

    /// How many connections there were; none may have been refused.
    fn all_accepted(&self) -> Result<usize> {
        let seen = lock(&self.seen);
        ensure!(seen.refused.is_empty(), "refused: {:?}", seen.refused);
        Ok(seen.accepted.values().sum())
    }
}

/// One connection of each pod.
async fn connect(
    tenant: &Tenant,
    database: &Database,
    logins: &mut BTreeMap<String, (String, String)>,
    seen: &Mutex<Seen>,
) -> Result<()> {
    let of_orders = ListParams::default().labels(&format!("app.kubernetes.io/name={ORDERS}"));
    let pods = tenant.api::<Pod>().list(&of_orders).await?.items;
    let uids: Vec<String> = pods.iter().filter_map(ResourceExt::uid).collect();
    logins.retain(|uid, _| uids.contains(uid));
    for uid in uids {
        if let Entry::Vacant(place) = logins.entry(uid)
            && let Some(login) = login_of(tenant.secret(ORDERS).await?)
        {
            place.insert(login);
        }
    }
    for (user, password) in logins.values() {
        let login = database.login(user, password).await?;
        let mut seen = lock(seen);
        match login {
            Login::Accepted => *seen.accepted.entry(user.clone()).or_default() += 1,
            Login::Refused(why) => seen.refused.push(format!("{user}: {why}")),
        }
    }
    Ok(())
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
