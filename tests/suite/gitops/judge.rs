//! Both interpreters, as a program of the ground: asked about one object at a time.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use ground::{Tenant, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{LONG, Suite};

const DOCUMENT: &str = include_str!("../../../docs/gitops.md");

/// What both tools say: health and status, each with its message.
#[derive(Debug)]
pub struct Found {
    pub health: (String, String),
    pub status: (String, String),
}

impl Found {
    fn is(&self, health: &str, status: &str) -> bool {
        self.health.0 == health && self.status.0 == status
    }
}

/// The interpreters, with the ConfigMap of an Argo CD that has the script.
pub struct Judge {
    program: PathBuf,
    config: PathBuf,
}

impl Judge {
    /// The script is put into the cluster by the command of the document, and read from there.
    pub async fn of(suite: &Suite, tenant: &Tenant) -> Result<(Self, ConfigMap)> {
        let before = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "argocd-cm" },
            "data": { "url": "https://argocd.example" },
        });
        tenant.apply(&before.to_string()).await?;
        let line = DOCUMENT
            .lines()
            .find(|line| line.starts_with("kubectl apply --server-side"));
        let words = line.context("no command")?.split_whitespace().skip(1);
        let output = Command::new(suite.ground.components().path("kubectl")?)
            .args(words.filter(|word| *word != "--namespace=argocd"))
            .arg(format!("--namespace={}", tenant.namespace))
            .current_dir(ground::paths::repository())
            .env("KUBECONFIG", &suite.ground.plane.kubeconfig)
            .env("HOME", &tenant.dir)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line:?}: {said}");
        let live = tenant.api::<ConfigMap>().get("argocd-cm").await?;
        let config = tenant.dir.join("argocd-cm.json");
        let text = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": live.data });
        std::fs::write(&config, text.to_string())?;
        let program = suite.ground.components().path("gitops")?.to_owned();
        Ok((Self { program, config }, live))
    }

    pub async fn ask(&self, object: &Value) -> Result<Value> {
        let mut child = Command::new(&self.program)
            .arg(format!("--argocd-cm={}", self.config.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(object.to_string().as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}, of {object}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    pub async fn about(&self, object: &Value) -> Result<Found> {
        let said = self.ask(object).await?;
        let finding = |tool: &str| -> Result<(String, String)> {
            let text = |field: &str| said[tool][field].as_str().map(str::to_owned);
            let both = text("status").zip(text("message"));
            both.with_context(|| format!("{tool} says nothing: {said}"))
        };
        Ok(Found {
            health: finding("argocd")?,
            status: finding("kstatus")?,
        })
    }

    async fn now(&self, tenant: &Tenant, kind: &str, name: &str) -> Result<Found> {
        let live = ground::resources::resources(tenant, kind).get(name).await?;
        self.about(&serde_json::to_value(live)?).await
    }

    /// Nobody works on the object now; both say so, and Argo CD's message is returned.
    pub async fn is(
        &self,
        tenant: &Tenant,
        of: (&str, &str),
        health: &str,
        status: &str,
    ) -> Result<String> {
        let found = self.now(tenant, of.0, of.1).await?;
        ensure!(found.is(health, status), "{of:?}: {found:?}");
        Ok(found.health.1)
    }

    /// Waits until both say so, and returns Argo CD's message.
    pub async fn wait(
        &self,
        tenant: &Tenant,
        of: (&str, &str),
        health: &str,
        status: &str,
    ) -> Result<String> {
        wait_for(&format!("{of:?}: {health}, {status}"), LONG, || async {
            let found = self.now(tenant, of.0, of.1).await?;
            ensure!(found.is(health, status), "{found:?}");
            Ok(found.health.1)
        })
        .await
    }
}
