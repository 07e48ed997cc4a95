//! Clients in the pods of a workload: each goes on with what the Secret held when
//! its pod was created, for as long as the pod lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::wait_for;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{LONG, Team};

/// Between two connections of a client.
const APART: Duration = Duration::from_millis(100);

/// What the clients of a workload's pods saw, by the uids of the pods.
#[derive(Debug, Default)]
pub struct Seen {
    pub accepted: BTreeMap<String, usize>,
    pub refused: Vec<String>,
}

/// The text of a Secret's keys.
pub struct SecretText(Secret);

impl SecretText {
    pub fn get(&self, key: &str) -> Result<String> {
        let data = self.0.data.as_ref();
        let value = data.and_then(|data| data.get(key));
        let value = value.with_context(|| format!("no key {key}"))?;
        Ok(String::from_utf8(value.0.clone())?)
    }
}

/// What an application does with a Secret.
pub trait Consumer: Send + Sync + 'static {
    /// What it keeps from its start on.
    type Held: Send + Sync + 'static;

    /// Its start, with what the Secret holds.
    fn begin(&self, secret: &SecretText) -> impl Future<Output = Result<Self::Held>> + Send;

    /// A new connection; why it was refused, if it was.
    fn connect(&self, held: &Self::Held) -> impl Future<Output = Result<Option<String>>> + Send;
}

/// One in each pod of the namespace: a new connection every 100 ms. They end when this
/// is dropped.
pub struct Clients {
    pub seen: Arc<Mutex<Seen>>,
    watch: AbortOnDropHandle<Result<()>>,
}

impl Clients {
    pub fn start<C: Consumer>(team: &Team, secret: &'static str, consumer: C) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (tenant, shared) = (team.tenant.clone(), Arc::clone(&seen));
        let consumer = Arc::new(consumer);
        let watch = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut running = BTreeMap::new();
            loop {
                let pods = tenant.api::<Pod>().list(&ListParams::default()).await?;
                let uids: Vec<String> = pods
                    .items
                    .into_iter()
                    .filter_map(|p| p.metadata.uid)
                    .collect();
                running.retain(|uid, _| uids.contains(uid));
                for uid in uids {
                    if running.contains_key(&uid) {
                        continue;
                    }
                    let Some(held) = tenant.secret(secret).await? else {
                        continue;
                    };
                    let held = consumer.begin(&SecretText(held)).await?;
                    let client = Client {
                        consumer: Arc::clone(&consumer),
                        held,
                        pods: tenant.api(),
                        pod: uid.clone(),
                        seen: Arc::clone(&shared),
                    };
                    let client = AbortOnDropHandle::new(tokio::spawn(client.run()));
                    running.insert(uid, client);
                }
                tokio::time::sleep(APART).await;
            }
        }));
        Self { seen, watch }
    }

    /// Waits until as many that run now as these were let in five times more.
    pub async fn wait_busy(&self, pods: usize) -> Result<()> {
        let before = self.seen.lock().await.accepted.clone();
        wait_for("busy clients", LONG, || async {
            let seen = self.seen.lock().await;
            let busy = seen.accepted.iter().filter(|(pod, count)| {
                **count >= before.get(*pod).copied().unwrap_or_default() + 5
            });
            let busy = busy.count();
            ensure!(busy >= pods, "{busy} of {pods}");
            Ok(())
        })
        .await
    }

    /// Ends them and answers with what they saw.
    pub async fn end(self) -> Result<Seen> {
        ensure!(!self.watch.is_finished(), "the clients ended by themselves");
        drop(self.watch);
        Ok(std::mem::take(&mut *self.seen.lock().await))
    }
}

/// That of one pod.
struct Client<C: Consumer> {
    consumer: Arc<C>,
    held: C::Held,
    pods: Api<Pod>,
    pod: String,
    seen: Arc<Mutex<Seen>>,
}

impl<C: Consumer> Client<C> {
    async fn run(self) -> Result<()> {
        loop {
            match self.consumer.connect(&self.held).await? {
                None => {
                    let mut seen = self.seen.lock().await;
                    *seen.accepted.entry(self.pod.clone()).or_default() += 1;
                }
                // A client ends a moment later than its pod, and nobody cares for what it is
                // told then.
                Some(_) if !self.lives().await? => return Ok(()),
                Some(why) => {
                    let refused = format!("{} {why}", self.pod);
                    self.seen.lock().await.refused.push(refused);
                }
            }
            tokio::time::sleep(APART).await;
        }
    }

    async fn lives(&self) -> Result<bool> {
        let pods = self.pods.list(&ListParams::default()).await?;
        Ok(pods
            .iter()
            .any(|pod| pod.metadata.uid.as_ref() == Some(&self.pod)))
    }
}

/// Pods that take a second to be ready and a second to end.
pub fn slow_pods(replicas: usize) -> Value {
    let annotations = json!({
        "ground.test/ready-after-seconds": "1",
        "ground.test/terminates-after-seconds": "1",
    });
    json!({
        "replicas": replicas,
        "revisionHistoryLimit": 30,
        "template": { "metadata": { "annotations": annotations } },
    })
}

/// Waits for so many pods, all ready.
pub async fn wait_pods(team: &Team, count: usize) -> Result<()> {
    wait_for(&format!("{count} pods, all ready"), LONG, || async {
        let pods = team.tenant.api::<Pod>();
        let pods = pods.list(&ListParams::default()).await?.items;
        let ready = pods.iter().filter(|pod| {
            let status = pod.status.as_ref();
            let conditions = status.and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|one| one.type_ == "Ready" && one.status == "True")
        });
        ensure!(
            pods.len() == count && ready.count() == count,
            "{}",
            pods.len()
        );
        Ok(())
    })
    .await
}
