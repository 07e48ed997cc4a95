//! What tells of a right that work lacks, and that no name has.

use anyhow::{Context, Result, ensure};
use ground::judges::role_use::Right;
use ground::judges::workloads::Kind;
use ground::wait_for;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::shipped::{Shipped, names};
use super::{KINDS, OURS};
use crate::bearer;
use crate::endpoints::sample;
use crate::lessee::{KIND, dynamic_secret};
use crate::probes::workload;
use crate::support::{LONG, Team};

impl Team {
    /// Shows what tells of a right that is taken away.
    pub async fn works_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        match (right.verb.as_str(), right.resource.as_str()) {
            ("patch", _) if right.group == "apps" => self.restarts_without(shipped, right).await,
            ("patch", _) => self.reports_without(shipped, right).await,
            ("get", "vaultdynamicsecrets") => self.mints_without(shipped, right, KIND).await,
            ("get", "vaultpkisecrets") => self.mints_without(shipped, right, bearer::KIND).await,
            ("get", _) => self.makes_again_without(shipped, right).await,
            ("delete", _) => self.moves_without(shipped, right).await,
            ("create", "events") => self.publishes_without(shipped, right).await,
            _ => self.logs_in_without(shipped, right).await,
        }
    }

    /// A Secret that is synced, under a name of its own.
    async fn synced(&self, name: &str, more: Value) -> Result<()> {
        self.put(name, json!({ "password": "vault" })).await?;
        self.static_secret(name, more).await?;
        self.wait_ready(name).await.map(drop)
    }

    /// Waits until a condition that is False names the right.
    async fn wait_named(&self, name: &str, type_: &str, reason: &str, right: &Right) -> Result<()> {
        self.wait_for_condition("VaultStaticSecret", name, type_, |told| {
            told.status == "False" && told.reason == reason && names(&told.message, right)
        })
        .await
        .map(drop)
    }

    /// Refused requests with the verb of the right, as the metrics count them.
    async fn refused(&self, right: &Right) -> Result<f64> {
        let metrics = self.operator.metrics().await?;
        let labels = [right.verb.as_str(), "\"KubernetesForbidden\""];
        let counted = sample(&metrics, "vto_kubernetes_requests_total", &labels);
        Ok(counted.unwrap_or_default())
    }

    /// Waits until more than `before` refused requests are counted, and the log
    /// names the right.
    async fn wait_counted(&self, right: &Right, before: f64) -> Result<()> {
        wait_for(&format!("{right} to be counted"), LONG, || async {
            let counted = self.refused(right).await?;
            ensure!(counted > before, "{counted} are counted");
            let log = self.operator.log()?;
            ensure!(names(&log, right), "the log does not name it");
            Ok(())
        })
        .await
    }

    async fn restarts_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        let kind = match right.resource.as_str() {
            "daemonsets" => Kind::DaemonSet,
            "statefulsets" => Kind::StatefulSet,
            _ => Kind::Deployment,
        };
        let name = right.resource.as_str();
        shipped.without(right).await?;
        let manifest = workload(kind, name, name, json!({}));
        self.tenant.apply(&manifest.to_string()).await?;
        let targets = json!([{ "kind": manifest["kind"], "name": name }]);
        self.put(name, json!({ "password": "vault" })).await?;
        self.static_secret(name, json!({ "rolloutRestartTargets": targets }))
            .await?;
        self.wait_named(name, "RolloutRestart", "RolloutRestartFailed", right)
            .await
    }

    async fn reports_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        let kind = KINDS
            .into_iter()
            .find(|kind| right.resource == format!("{}s/status", kind.to_lowercase()))
            .context("no such kind")?;
        let spec = match kind {
            "VaultStaticSecret" => {
                json!({ "mount": "kv", "type": "kv-v2", "path": "app", "destination": { "name": "told" } })
            }
            "VaultDynamicSecret" => {
                json!({ "mount": "db", "path": "creds/app", "destination": { "name": "told" } })
            }
            "VaultPKISecret" => {
                json!({ "mount": "pki", "role": "web", "destination": { "name": "told" } })
            }
            "VaultConnection" => json!({ "address": "https://vault.example" }),
            _ => json!({}),
        };
        shipped.without(right).await?;
        let before = self.refused(right).await?;
        let manifest = json!({
            "apiVersion": format!("{OURS}/v1beta1"), "kind": kind,
            "metadata": { "name": "told" }, "spec": spec,
        });
        self.tenant.apply(&manifest.to_string()).await?;
        self.wait_counted(right, before).await
    }

    async fn makes_again_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        self.synced("again", json!({})).await?;
        shipped.without(right).await?;
        self.secrets()
            .delete("again", &DeleteParams::default())
            .await?;
        self.wait_named("again", "Ready", "KubernetesForbidden", right)
            .await
    }

    async fn mints_without(&self, shipped: &Shipped, right: &Right, kind: &str) -> Result<()> {
        shipped.without(right).await?;
        let mut manifest = dynamic_secret(&self.tenant, "minted", json!({}));
        if kind == bearer::KIND {
            manifest["kind"] = json!(kind);
            let destination = manifest["spec"]["destination"].take();
            let spec = json!({ "mount": "pki", "role": "web", "destination": destination });
            manifest["spec"] = spec;
        }
        self.tenant.apply(&manifest.to_string()).await?;
        self.wait_for_condition(kind, "minted", "Ready", |told| {
            told.reason == "KubernetesForbidden" && names(&told.message, right)
        })
        .await?;
        let resources = self.resources(kind);
        resources.delete("minted", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn moves_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        self.synced("moves", json!({})).await?;
        shipped.without(right).await?;
        self.edit("moves", json!({ "destination": { "name": "moved" } }))
            .await?;
        self.wait_named("moves", "Ready", "KubernetesForbidden", right)
            .await
    }

    async fn publishes_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        shipped.without(right).await?;
        let before = self.refused(right).await?;
        self.synced("unpublished", json!({})).await?;
        self.wait_counted(right, before).await
    }

    async fn logs_in_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        shipped.without(right).await?;
        let mut second = self.resources("VaultAuth").get("default").await?;
        let auth = json!({
            "apiVersion": format!("{OURS}/v1beta1"), "kind": "VaultAuth",
            "metadata": { "name": "second" }, "spec": second.data["spec"].take(),
        });
        self.tenant.apply(&auth.to_string()).await?;
        self.static_secret("second", json!({ "vaultAuthRef": "second" }))
            .await?;
        self.wait_named("second", "Ready", "KubernetesForbidden", right)
            .await
    }
}
