//! A Role that lacks any one of the shipped rights is told of by name: in
//! `/readyz` where an operator cannot start its work without it, else in a
//! condition, or, where that itself cannot be written, in metric and log.

mod by_names;
mod shipped;
mod work;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ground::judges::role_use::Right;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Operator, Tenant, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::DeleteParams;
use vault_tenant_operator::operator::{KEY_SECRET, secret_names};
use vault_tenant_operator::reconcile::ledger;

use crate::grades::{Grade, Names, grant, tenant_of};
use crate::install::{beside, install_beside};
use crate::lessee::{KIND, dynamic_secret, leased_certificate};
use crate::support::{LONG, Suite, Team, config, prepare};
use shipped::{Shipped, names};

crate::trials![
    "removed_rights": ; in each grade:
    what_a_start_needs_is_told_by_readyz, what_work_needs_is_told_by_conditions_and_metrics,
    its_own_namespace_is_told_of_beside_its_tenant,
];

const LEADERSHIP: &str = "vault-tenant-operator-leadership";
const OWN_NAMESPACE: &str = "vault-tenant-operator-own-namespace";

const OURS: &str = "secrets.hashicorp.com";
const KINDS: [&str; 7] = [
    "SecretTransformation",
    "VaultAuth",
    "VaultAuthGlobal",
    "VaultConnection",
    "VaultDynamicSecret",
    "VaultPKISecret",
    "VaultStaticSecret",
];

/// How long an operator that is told to end may take.
const GRACE: Duration = Duration::from_secs(10);

/// What an operator needs once it works; all other rights it needs to start.
fn is_for_work(right: &Right) -> bool {
    let resource = right.resource.as_str();
    if let Some(name) = &right.name {
        return resource != "leases" && name != KEY_SECRET;
    }
    match right.verb.as_str() {
        "patch" => resource.ends_with("/status") || right.group == "apps",
        "get" => right.group == OURS,
        "delete" => resource == "secrets",
        "create" => ["serviceaccounts/token", "events"].contains(&resource),
        _ => false,
    }
}

/// Whether it is about the ledger, which is needed for what Vault makes.
fn is_of_ledger(right: &Right) -> bool {
    let names = ledger::secret_names();
    right.name.as_ref().is_some_and(|name| names.contains(name))
}

/// Who runs where: an operator of `home` that serves `tenant`.
struct Setting<'a> {
    suite: &'a Suite,
    grade: Grade,
    home: &'a Tenant,
    tenant: &'a Tenant,
}

impl Setting<'_> {
    /// The operator, which finds nothing of an earlier one.
    async fn start(&self) -> Result<Operator> {
        let Self { home, tenant, .. } = self;
        let own: Api<Secret> = home.api();
        for name in secret_names() {
            drop(own.delete(&name, &DeleteParams::default()).await);
        }
        for of in [home, tenant] {
            for lease in ["leader", "claim"] {
                let leases: Api<Lease> = of.api();
                let name = format!("vault-tenant-operator-{lease}");
                drop(leases.delete(&name, &DeleteParams::default()).await);
            }
        }
        home.operator(&self.suite.binary)
            .config(&config(tenant, self.grade.lines()))
            .watch_namespaces(&[&tenant.namespace])
            .start()
            .await
    }

    /// Each right of `shipped` that a start needs: an operator that begins anew
    /// without it says so.
    async fn starts_without(&self, shipped: &Shipped) -> Result<()> {
        // With all of them nothing is told.
        let whole = self.start().await?;
        whole.wait_ready(LONG).await?;
        whole.terminate(GRACE).await;
        for right in shipped.rights.iter().filter(|right| !is_for_work(right)) {
            shipped.without(right).await?;
            let operator = self.start().await?;
            wait_for(&format!("/readyz to tell of {right}"), LONG, || async {
                let said = operator.readyz().await.err().context("it is ready")?;
                ensure!(names(&said.to_string(), right), "{said}");
                Ok(())
            })
            .await?;
            operator.terminate(GRACE).await;
            shipped.with(right).await?;
        }
        Ok(())
    }
}

/// Deletes shipped Roles whose rights a printed one holds too, so that each right
/// is given once.
async fn delete_roles(tenant: &Tenant, names: &[&str]) -> Result<()> {
    let roles: Api<Role> = tenant.api();
    for name in names {
        roles.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

async fn what_a_start_needs_is_told_by_readyz(suite: &Suite, grade: Grade) -> Result<()> {
    let nothing = Names::secrets(&[]);
    let (tenant, _) = tenant_of(suite, grade, "forbidden-start", nothing, "").await?;
    prepare(&tenant).await?;
    let roles: &[_] = match grade {
        Grade::Namespace => &[OPERATOR_ACCOUNT, LEADERSHIP],
        Grade::Named => &[OPERATOR_ACCOUNT],
    };
    if grade == Grade::Named {
        delete_roles(&tenant, &[LEADERSHIP]).await?;
    }
    let setting = Setting {
        suite,
        grade,
        home: &tenant,
        tenant: &tenant,
    };
    for name in roles {
        let shipped = Shipped::of(&tenant, name).await?;
        setting.starts_without(&shipped).await?;
    }
    Ok(())
}

/// So many certificates that some are remembered in each Secret of the ledger: one in
/// a million that by chance none is.
const LEASED: usize = 20;

/// Rights to the ledger: three verbs on each of its Secrets.
const ROUNDS: usize = 6;

/// Their Secrets in one round of the trial.
fn leased(round: usize) -> impl Iterator<Item = String> {
    (0..LEASED).map(move |number| format!("leased-{round}-{number}"))
}

async fn its_own_namespace_is_told_of_beside_its_tenant(suite: &Suite, grade: Grade) -> Result<()> {
    let tenant = grade.tenant(&suite.ground, "forbidden-beside").await?;
    prepare(&tenant).await?;
    let home = format!("{}-home", tenant.namespace);
    install_beside(suite, &tenant, &home).await?;
    let home = beside(&tenant, &home)?;
    if grade == Grade::Named {
        let all: Vec<String> = (0..ROUNDS).flat_map(leased).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let resources = Names::secrets(&all).resources(&tenant);
        let config = config(&tenant, grade.lines());
        grant(&[&tenant], &home.namespace, &config, &resources).await?;
        delete_roles(&home, &[OWN_NAMESPACE, LEADERSHIP]).await?;
    }
    let role = match grade {
        Grade::Namespace => OWN_NAMESPACE,
        Grade::Named => OPERATOR_ACCOUNT,
    };
    let shipped = Shipped::of(&home, role).await?;
    let setting = Setting {
        suite,
        grade,
        home: &home,
        tenant: &tenant,
    };
    setting.starts_without(&shipped).await?;
    let spec = leased_certificate(&tenant).await?;
    let rights: Vec<_> = shipped.rights.iter().filter(|r| is_of_ledger(r)).collect();
    ensure!(rights.len() == ROUNDS, "{rights:?}");
    for (round, right) in rights.into_iter().enumerate() {
        shipped.without(right).await?;
        let operator = setting.start().await?;
        let names: Vec<String> = leased(round).collect();
        for name in &names {
            let manifest = dynamic_secret(&tenant, name, spec.clone());
            tenant.apply(&manifest.to_string()).await?;
        }
        let resources = ground::resources::resources(&tenant, KIND);
        wait_for(
            &format!("a condition that tells of {right}"),
            LONG,
            || async {
                for name in &names {
                    let found = resources.get(name).await?.data["status"]["conditions"].take();
                    let conditions: Vec<Condition> =
                        serde_json::from_value(found).unwrap_or_default();
                    let told = conditions.iter().any(|told| {
                        told.reason == "KubernetesForbidden" && self::names(&told.message, right)
                    });
                    if told {
                        return Ok(());
                    }
                }
                bail!("none does")
            },
        )
        .await?;
        operator.terminate(GRACE).await;
        shipped.with(right).await?;
    }
    Ok(())
}

async fn what_work_needs_is_told_by_conditions_and_metrics(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let (team, shipped) = match grade {
        Grade::Namespace => {
            let team = Team::start(suite, "forbidden-work").await?;
            let shipped = Shipped::of(&team.tenant, OPERATOR_ACCOUNT).await?;
            (team, shipped)
        }
        Grade::Named => by_names::each_name_lacks_a_verb(suite, "forbidden-work").await?,
    };
    let whole = |right: &&Right| right.name.is_none() && is_for_work(right);
    for right in shipped.rights.iter().filter(whole) {
        team.works_without(&shipped, right)
            .await
            .with_context(|| format!("without {right}"))?;
        shipped.with(right).await?;
    }
    Ok(())
}
