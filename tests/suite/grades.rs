//! The grades of rights: the same trial with the shipped Role for a namespace,
//! and with the Role of names that `kubectl vto rbac` prints.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use ground::faults::HttpProxy;
use ground::judges::workloads::Kind;
use ground::{Tenant, wait_for};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::probes::api_proxy;
use crate::support::{LONG, Suite, Team, config, static_secret};

/// A grade of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    Namespace,
    Named,
}

/// What the resources of a trial name.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// Destinations that the operator makes.
    pub secrets: &'a [&'a str],
    /// Workloads to restart.
    pub workloads: &'a [(Kind, &'a str)],
}

impl<'a> Names<'a> {
    /// The Secret `app`.
    pub const APP: Self = Self::secrets(&["app"]);

    /// The Secret `app` and the Deployment `web`.
    pub const ROLLED: Self = Self {
        workloads: &[(Kind::Deployment, "web")],
        ..Self::APP
    };

    /// Secrets, and nothing to restart.
    pub const fn secrets(secrets: &'a [&'a str]) -> Self {
        Self {
            secrets,
            workloads: &[],
        }
    }
}

impl Team {
    /// A team whose operator has this grade; where it goes by names, those.
    pub async fn graded(suite: &Suite, grade: Grade, name: &str, names: Names<'_>) -> Result<Self> {
        let (tenant, more) = tenant_of(suite, grade, name, names, "").await?;
        Self::of(suite, tenant, None, &more).await
    }

    /// The same, with a proxy in front of the API server.
    pub async fn graded_behind_api_proxy(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
    ) -> Result<(Self, HttpProxy)> {
        let (tenant, more) = tenant_of(suite, grade, name, names, "").await?;
        let proxy = api_proxy(&suite.ground).await?;
        let team = Self::of(suite, tenant, Some(&proxy.url()), &more).await?;
        Ok((team, proxy))
    }

    /// Makes the Role anew, for other names.
    pub async fn regrant(&self, names: Names<'_>) -> Result<()> {
        let tenant = &self.tenant;
        let config = config(tenant, "secretAccess: named\n");
        grant(tenant, &tenant.namespace, &config, names).await
    }
}

/// A tenant with the rights of a grade, and what its operator's configuration
/// says beside `more`.
pub async fn tenant_of(
    suite: &Suite,
    grade: Grade,
    name: &str,
    names: Names<'_>,
    more: &str,
) -> Result<(Tenant, String)> {
    if grade == Grade::Namespace {
        return Ok((suite.ground.tenant(name).await?, more.to_owned()));
    }
    let tenant = suite.ground.tenant(&format!("{name}-named")).await?;
    let more = format!("{more}secretAccess: named\n");
    let config = config(&tenant, &more);
    grant(&tenant, &tenant.namespace, &config, names).await?;
    Ok((tenant, more))
}

/// Resources that name these.
fn manifests(tenant: &Tenant, names: Names<'_>) -> Vec<Value> {
    let targets: Vec<Value> = names
        .workloads
        .iter()
        .map(|(kind, name)| json!({ "kind": format!("{kind:?}"), "name": name }))
        .collect();
    names
        .secrets
        .iter()
        .map(|name| static_secret(tenant, name, json!({ "rolloutRestartTargets": targets })))
        .collect()
}

/// Gives the operator in the namespace `home` what `kubectl vto rbac` prints for
/// the VaultConnection, the VaultAuth and resources of the tenant that name these,
/// instead of the Role that it has there; waits until that holds.
pub async fn grant(tenant: &Tenant, home: &str, config: &str, names: Names<'_>) -> Result<()> {
    let manifests = manifests(tenant, names);
    let file = |name: &str| -> PathBuf { tenant.dir.join(name) };
    std::fs::write(file("rbac-config.yaml"), config)?;
    let mut text = String::new();
    for manifest in ground::resources::references(tenant)
        .iter()
        .chain(&manifests)
    {
        text += &format!("---\n{manifest}\n");
    }
    std::fs::write(file("rbac-manifests.yaml"), text)?;
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-vto"))
        .args(["rbac", "--namespace", home])
        .args(["--watch-namespaces", &tenant.namespace])
        .arg("--config")
        .arg(file("rbac-config.yaml"))
        .arg("-f")
        .arg(file("rbac-manifests.yaml"))
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl vto rbac: {said}");
    tenant.apply(&String::from_utf8(output.stdout)?).await?;
    narrowed(tenant, home).await
}

/// Waits until the API server goes by the Role: no list of all Secrets any more.
async fn narrowed(tenant: &Tenant, home: &str) -> Result<()> {
    let account = format!(
        "system:serviceaccount:{home}:{}",
        ground::tenant::OPERATOR_ACCOUNT
    );
    let reviews: Api<SubjectAccessReview> = Api::all(tenant.client.clone());
    let attributes =
        json!({ "namespace": tenant.namespace, "verb": "list", "resource": "secrets" });
    let review = json!({ "spec": { "user": account, "resourceAttributes": attributes } });
    let review = serde_json::from_value(review)?;
    wait_for("the Role of names to hold", LONG, || async {
        let answer = reviews.create(&PostParams::default(), &review).await?;
        let may = answer.status.is_some_and(|status| status.allowed);
        ensure!(!may, "all Secrets can still be listed");
        Ok(())
    })
    .await
}
