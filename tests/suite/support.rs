//! What trials share: a team (a tenant with its connection, its login and its
//! operator), and sentences to wait for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use ground::{Ground, Operator, OperatorBinary, Tenant, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub use ground::resources::{config, merge, prepare, resources, static_secret};

/// Long enough for a busy machine; a trial that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(60);

/// The ground of the run, and the operator under test.
pub struct Suite {
    pub ground: Arc<Ground>,
    pub binary: OperatorBinary,
    /// Taken for as long as clients connect: a crowd of them slows every other trial.
    pub crowds: Semaphore,
}

/// One trial.
#[derive(Clone, Copy)]
pub struct TrialOf {
    pub name: &'static str,
    pub run: fn(Arc<Suite>) -> BoxFuture<'static, Result<()>>,
}

/// Lists the trials of a module: `trials!["static_secrets": a, b]`. Those after
/// `; in each grade:` run once in each grade of rights, and take it as argument.
#[macro_export]
macro_rules! trials {
    ($module:literal: $($name:ident),* $(,)? $(; in each grade: $($graded:ident),+ $(,)?)?) => {
        pub fn trials() -> Vec<$crate::support::TrialOf> {
            vec![
                $($crate::support::TrialOf {
                    name: concat!($module, "::", stringify!($name)),
                    run: |suite| Box::pin(async move { $name(&suite).await }),
                },)*
                $($($crate::support::TrialOf {
                    name: concat!($module, "::", stringify!($graded)),
                    run: |suite| Box::pin(async move {
                        $graded(&suite, $crate::grades::Grade::Namespace).await
                    }),
                }, $crate::support::TrialOf {
                    name: concat!($module, "::", stringify!($graded), "::named"),
                    run: |suite| Box::pin(async move {
                        $graded(&suite, $crate::grades::Grade::Named).await
                    }),
                },)+)?
            ]
        }
    };
}

/// A tenant with a VaultConnection and a VaultAuth, both called `default`, and
/// an operator that runs as its ServiceAccount.
pub struct Team {
    pub tenant: Tenant,
    pub operator: Operator,
}

impl Team {
    pub async fn start(suite: &Suite, name: &str) -> Result<Self> {
        let tenant = suite.ground.tenant(name).await?;
        Self::of(suite, tenant, None, "").await
    }

    /// Applies a VaultStaticSecret for `<kv2>/<name>` into the Secret `<name>`,
    /// with `more` merged into its spec.
    pub async fn static_secret(&self, name: &str, more: Value) -> Result<()> {
        let manifest = static_secret(&self.tenant, name, more);
        self.tenant.apply(&manifest.to_string()).await.map(drop)
    }

    pub async fn put(&self, path: &str, data: Value) -> Result<u64> {
        self.tenant
            .vault
            .kv2_put(&self.tenant.kv2, path, &data)
            .await
    }

    /// One key of a Secret, as text.
    pub async fn value(&self, secret: &str, key: &str) -> Result<String> {
        let found = self.tenant.secret(secret).await?.context("no Secret")?;
        let bytes = found
            .data
            .unwrap_or_default()
            .remove(key)
            .context("no such key")?;
        Ok(String::from_utf8(bytes.0)?)
    }

    pub async fn wait_value(&self, secret: &str, key: &str, expected: &str) -> Result<()> {
        wait_for(
            &format!("{key} of {secret} to be {expected:?}"),
            LONG,
            || async {
                let value = self.value(secret, key).await?;
                ensure!(value == expected, "it is {value:?}");
                Ok(())
            },
        )
        .await
    }

    /// Waits until a condition has this status, and returns it.
    pub async fn wait_condition(
        &self,
        kind: &str,
        name: &str,
        type_: &str,
        status: &str,
    ) -> Result<Condition> {
        self.wait_for_condition(kind, name, type_, |condition| condition.status == status)
            .await
    }

    /// Waits until a condition is as `wanted`, for the present generation.
    pub async fn wait_for_condition(
        &self,
        kind: &str,
        name: &str,
        type_: &str,
        wanted: impl Fn(&Condition) -> bool,
    ) -> Result<Condition> {
        wait_for(&format!("{type_} of {kind} {name}"), LONG, || async {
            let object = self.resources(kind).get(name).await?;
            let list = object.data["status"]["conditions"].clone();
            let conditions: Vec<Condition> = serde_json::from_value(list).unwrap_or_default();
            let found = conditions.iter().find(|c| c.type_ == type_);
            let found = found.with_context(|| format!("conditions: {conditions:?}"))?;
            ensure!(
                found.observed_generation == object.metadata.generation,
                "old: {found:?}"
            );
            ensure!(wanted(found), "{found:?}");
            Ok(found.clone())
        })
        .await
    }

    pub async fn wait_ready(&self, name: &str) -> Result<Condition> {
        self.wait_condition("VaultStaticSecret", name, "Ready", "True")
            .await
    }

    pub fn resources(&self, kind: &str) -> Api<DynamicObject> {
        resources(&self.tenant, kind)
    }

    pub fn secrets(&self) -> Api<Secret> {
        self.tenant.api()
    }

    pub fn deployments(&self) -> Api<Deployment> {
        self.tenant.api()
    }

    /// Reasons and notes of the events about an object.
    pub async fn events(&self, name: &str) -> Result<Vec<(String, String)>> {
        let events: Api<Event> = self.tenant.api();
        let list = events.list(&ListParams::default()).await?;
        let about =
            |event: &Event| event.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name);
        Ok(list
            .items
            .into_iter()
            .filter(about)
            .map(|event| {
                (
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default(),
                )
            })
            .collect())
    }

    /// The events about an object, once these are as expected: they come after status,
    /// and some of them wait while somebody waits for a Secret.
    pub async fn wait_events(
        &self,
        name: &str,
        expected: impl Fn(&[(String, String)]) -> bool,
    ) -> Result<()> {
        wait_for(&format!("the events about {name}"), LONG, || async {
            let events = self.events(name).await?;
            ensure!(expected(&events), "{events:?}");
            Ok(())
        })
        .await
    }

    /// Changes one key of a Secret by hand.
    pub async fn edit_secret(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let patch = Patch::Merge(json!({ "stringData": { key: value } }));
        let params = PatchParams {
            field_manager: Some("kubectl-edit".into()),
            ..PatchParams::default()
        };
        self.secrets().patch(name, &params, &patch).await?;
        Ok(())
    }
}

/// A Deployment of one replica whose pods read the Secret.
pub fn deployment(name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{
                    "name": "app", "image": "app:1",
                    "envFrom": [{ "secretRef": { "name": secret } }],
                }] },
            },
        },
    })
}
