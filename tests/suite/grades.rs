//! The grades of rights: the same trial with the shipped Role for a namespace,
//! and with the Role of names that `kubectl vto rbac` prints.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ground::faults::HttpProxy;
use ground::judges::workloads::Kind;
use ground::{Ground, Tenant, wait_for};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::install::is_allowed;
use crate::leadership::LEADER;
use crate::probes::{api_proxy, vault_proxy};
use crate::support::{LONG, Suite, Team, config, static_secret};

/// A grade of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    Namespace,
    Named,
}

impl Grade {
    /// What the operator's configuration says of it, at its end.
    pub const fn lines(self) -> &'static str {
        match self {
            Self::Namespace => "",
            Self::Named => "secretAccess: named\n",
        }
    }

    /// A tenant with the shipped Role, by whose name the judges know the grade.
    pub async fn tenant(self, ground: &Ground, name: &str) -> Result<Tenant> {
        match self {
            Self::Namespace => ground.tenant(name).await,
            Self::Named => ground.tenant(&format!("{name}-named")).await,
        }
    }

    /// Gives the tenant's operator what this grade needs for its configuration and
    /// these resources: in the grade of the namespace it has that.
    pub async fn allow(self, tenant: &Tenant, config: &str, resources: &[Value]) -> Result<()> {
        match self {
            Self::Namespace => Ok(()),
            Self::Named => grant(&[tenant], &tenant.namespace, config, resources).await,
        }
    }
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

    /// The tenant's VaultConnection, VaultAuth, and resources that name these.
    pub fn resources(self, tenant: &Tenant) -> Vec<Value> {
        let targets: Vec<Value> = self
            .workloads
            .iter()
            .map(|(kind, name)| json!({ "kind": format!("{kind:?}"), "name": name }))
            .collect();
        let secret =
            |name: &&str| static_secret(tenant, name, json!({ "rolloutRestartTargets": targets }));
        let references = ground::resources::references(tenant).into_iter();
        references
            .chain(self.secrets.iter().map(secret))
            .map(|resource| placed(tenant, resource))
            .collect()
    }
}

/// A resource that says in which namespace it is.
pub fn placed(tenant: &Tenant, mut resource: Value) -> Value {
    resource["metadata"]["namespace"] = json!(tenant.namespace);
    resource
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

    /// The same, with a proxy in front of Vault, and `more` in its configuration.
    pub async fn graded_behind_vault_proxy(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        more: &str,
    ) -> Result<(Self, HttpProxy)> {
        let (mut tenant, more) = tenant_of(suite, grade, name, names, more).await?;
        let proxy = vault_proxy(&suite.ground).await?;
        tenant.vault_address = proxy.url();
        let team = Self::of(suite, tenant, None, &more).await?;
        Ok((team, proxy))
    }

    /// Makes the Role anew, for other names.
    pub async fn regrant(&self, names: Names<'_>) -> Result<()> {
        let tenant = &self.tenant;
        let config = config(tenant, Grade::Named.lines());
        let resources = names.resources(tenant);
        Grade::Named.allow(tenant, &config, &resources).await
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
    tenant_on(&suite.ground, grade, name, names, more).await
}

/// The same, on a ground of the trial's own.
pub async fn tenant_on(
    ground: &Ground,
    grade: Grade,
    name: &str,
    names: Names<'_>,
    more: &str,
) -> Result<(Tenant, String)> {
    let tenant = grade.tenant(ground, name).await?;
    let more = format!("{more}{}", grade.lines());
    let config = config(&tenant, &more);
    grade
        .allow(&tenant, &config, &names.resources(&tenant))
        .await?;
    Ok((tenant, more))
}

/// Gives the operator in the namespace `home` what `kubectl vto rbac` prints for
/// these resources of these tenants, instead of the Roles that it has there; waits
/// until that holds. All are of one ground.
pub async fn grant(
    tenants: &[&Tenant],
    home: &str,
    config: &str,
    resources: &[Value],
) -> Result<()> {
    let first = tenants.first().context("no tenant")?;
    let file = |name: &str| -> PathBuf { first.dir.join(name) };
    std::fs::write(file("rbac-config.yaml"), config)?;
    let documents = resources.iter().map(|one| format!("---\n{one}\n"));
    std::fs::write(file("rbac-resources.yaml"), documents.collect::<String>())?;
    let watched: Vec<&str> = tenants.iter().map(|one| one.namespace.as_str()).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-vto"))
        .args(["rbac", "--namespace", home])
        .args(["--watch-namespaces", &watched.join(",")])
        .arg("--config")
        .arg(file("rbac-config.yaml"))
        .arg("-f")
        .arg(file("rbac-resources.yaml"))
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kubectl vto rbac: {said}");
    first.apply(&String::from_utf8(output.stdout)?).await?;
    for tenant in tenants {
        narrowed(tenant, home).await?;
    }
    Ok(())
}

/// Waits until the API server goes by the Role: the resources can be listed, and
/// no list of all Secrets any more.
pub async fn narrowed(tenant: &Tenant, home: &str) -> Result<()> {
    wait_for_rights(tenant, home, &lists(tenant, false)).await
}

/// The same for the shipped Roles, with which all Secrets can be listed; also for what
/// the operator has of its own in `home`.
pub async fn widened(tenant: &Tenant, home: &str) -> Result<()> {
    let own = |group: &str, resource: &str, name: &str| {
        let right = json!({
            "namespace": home, "verb": "get", "group": group, "resource": resource, "name": name,
        });
        (right, true)
    };
    let mut rights = lists(tenant, true).to_vec();
    rights.push(own("", "secrets", "vault-tenant-operator-key"));
    rights.push(own("coordination.k8s.io", "leases", LEADER));
    wait_for_rights(tenant, home, &rights).await
}

fn lists(tenant: &Tenant, all_secrets: bool) -> [(Value, bool); 2] {
    let list = |group: &str, resource: &str| {
        json!({
            "namespace": tenant.namespace, "verb": "list", "group": group, "resource": resource,
        })
    };
    let ours = list("secrets.hashicorp.com", "vaultstaticsecrets");
    [(ours, true), (list("", "secrets"), all_secrets)]
}

/// Waits until the API server allows the operator in `home` this, and denies it that.
async fn wait_for_rights(tenant: &Tenant, home: &str, rights: &[(Value, bool)]) -> Result<()> {
    let account = format!(
        "system:serviceaccount:{home}:{}",
        ground::tenant::OPERATOR_ACCOUNT
    );
    wait_for("the Roles to hold", LONG, || async {
        for (attributes, wanted) in rights {
            let may = is_allowed(tenant, &account, attributes).await?;
            ensure!(may == *wanted, "{attributes} is {may}");
        }
        Ok(())
    })
    .await
}
