//! A Role that lacks any one of the shipped rights is told of by name: in
//! `/readyz` where an operator cannot start its work without it, else in a
//! condition, or, where that itself cannot be written, in metric and log.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ground::judges::role_use::{Right, rights};
use ground::judges::workloads::Kind;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Operator, Tenant, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::operator::secret_names;
use vault_tenant_operator::reconcile::ledger;

use crate::endpoints::sample;
use crate::install::{beside, install_beside, is_allowed};
use crate::lessee::{KIND, dynamic_secret, leased_certificate};
use crate::probes::workload;
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "removed_rights": what_a_start_needs_is_told_by_readyz,
    what_work_needs_is_told_by_conditions_and_metrics,
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
    if is_of_ledger(right) {
        return true;
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

/// A Role of the cluster, from which single rights can be taken.
struct Shipped {
    tenant: Tenant,
    name: &'static str,
    rights: BTreeSet<Right>,
}

impl Shipped {
    async fn of(tenant: &Tenant, name: &'static str) -> Result<Self> {
        let roles: Api<Role> = tenant.api();
        let rules = roles.get(name).await?.rules.context("no rules")?;
        let shipped = Self {
            tenant: tenant.clone(),
            name,
            rights: rights(&rules),
        };
        ensure!(!shipped.rights.is_empty(), "{name} gives nothing");
        Ok(shipped)
    }

    /// Takes the right away, and waits until the API server knows.
    async fn without(&self, right: &Right) -> Result<()> {
        self.set(self.rights.iter().filter(|other| *other != right))
            .await?;
        self.wait(right, false).await
    }

    /// Gives it back.
    async fn with(&self, right: &Right) -> Result<()> {
        self.set(self.rights.iter()).await?;
        self.wait(right, true).await
    }

    async fn set(&self, rights: impl Iterator<Item = &Right>) -> Result<()> {
        let rules = rights.map(|right| PolicyRule {
            api_groups: Some(vec![right.group.clone()]),
            resources: Some(vec![right.resource.clone()]),
            resource_names: right.name.clone().map(|name| vec![name]),
            verbs: vec![right.verb.clone()],
            ..PolicyRule::default()
        });
        let patch = Patch::Merge(json!({ "rules": rules.collect::<Vec<_>>() }));
        let roles: Api<Role> = self.tenant.api();
        roles
            .patch(self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    async fn wait(&self, right: &Right, allowed: bool) -> Result<()> {
        let namespace = &self.tenant.namespace;
        let user = format!("system:serviceaccount:{namespace}:{OPERATOR_ACCOUNT}");
        let (resource, subresource) = right
            .resource
            .split_once('/')
            .unwrap_or((&right.resource, ""));
        let attributes = json!({
            "namespace": namespace, "verb": right.verb, "group": right.group,
            "resource": resource, "subresource": subresource, "name": right.name,
        });
        wait_for(&format!("{right}: {allowed}"), LONG, || async {
            let now = is_allowed(&self.tenant, &user, &attributes).await?;
            ensure!(now == allowed, "it is {now}");
            Ok(())
        })
        .await
    }
}

/// Whether a text names the right as one that is lacking.
fn names(text: &str, right: &Right) -> bool {
    // A log holds the quotes of a message escaped.
    let text = text.replace('\\', "");
    let refusal = format!("cannot {} resource \"{}\"", right.verb, right.resource);
    let named = |line: &str| right.name.as_ref().is_none_or(|name| line.contains(name));
    text.lines()
        .any(|line| line.contains(&refusal) && named(line))
}

/// An operator of `home` that finds nothing of an earlier one.
async fn start(suite: &Suite, home: &Tenant, tenant: &Tenant) -> Result<Operator> {
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
    home.operator(&suite.binary)
        .config(&config(tenant, ""))
        .watch_namespaces(&[&tenant.namespace])
        .start()
        .await
}

/// Each right of `shipped` that a start needs: an operator of `home` that begins
/// anew without it says so.
async fn starts_without(
    suite: &Suite,
    home: &Tenant,
    tenant: &Tenant,
    shipped: &Shipped,
) -> Result<()> {
    // With all of them nothing is told.
    let whole = start(suite, home, tenant).await?;
    whole.wait_ready(LONG).await?;
    whole.terminate(GRACE).await;
    for right in shipped.rights.iter().filter(|right| !is_for_work(right)) {
        shipped.without(right).await?;
        let operator = start(suite, home, tenant).await?;
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

async fn what_a_start_needs_is_told_by_readyz(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("forbidden-start").await?;
    prepare(&tenant).await?;
    for name in [OPERATOR_ACCOUNT, LEADERSHIP] {
        let shipped = Shipped::of(&tenant, name).await?;
        starts_without(suite, &tenant, &tenant, &shipped).await?;
    }
    Ok(())
}

async fn its_own_namespace_is_told_of_beside_its_tenant(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("forbidden-beside").await?;
    prepare(&tenant).await?;
    let home = format!("{}-home", tenant.namespace);
    install_beside(suite, &tenant, &home).await?;
    let home = beside(&tenant, &home)?;
    let shipped = Shipped::of(&home, OWN_NAMESPACE).await?;
    starts_without(suite, &home, &tenant, &shipped).await?;
    let spec = leased_certificate(&tenant).await?;
    let rights = shipped.rights.iter().filter(|right| is_of_ledger(right));
    for (round, right) in rights.enumerate() {
        shipped.without(right).await?;
        let operator = start(suite, &home, &tenant).await?;
        // So many that some are to be remembered in this Secret of the ledger.
        let names: Vec<String> = (0..12).map(|n| format!("leased-{round}-{n}")).collect();
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

async fn what_work_needs_is_told_by_conditions_and_metrics(suite: &Suite) -> Result<()> {
    let team = Team::start(suite, "forbidden-work").await?;
    let shipped = Shipped::of(&team.tenant, OPERATOR_ACCOUNT).await?;
    for right in shipped.rights.iter().filter(|right| is_for_work(right)) {
        let resource = right.resource.as_str();
        let told = match (right.verb.as_str(), resource) {
            ("patch", _) if right.group == "apps" => team.restarts_without(&shipped, right).await,
            ("patch", _) => team.reports_without(&shipped, right).await,
            ("get", "vaultdynamicsecrets") => team.mints_without(&shipped, right).await,
            ("get", _) => team.makes_again_without(&shipped, right).await,
            ("delete", _) => team.moves_without(&shipped, right).await,
            ("create", "events") => team.publishes_without(&shipped, right).await,
            _ => team.logs_in_without(&shipped, right).await,
        };
        told.with_context(|| format!("without {right}"))?;
        shipped.with(right).await?;
    }
    Ok(())
}

impl Team {
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

    async fn mints_without(&self, shipped: &Shipped, right: &Right) -> Result<()> {
        shipped.without(right).await?;
        let manifest = dynamic_secret(&self.tenant, "minted", json!({}));
        self.tenant.apply(&manifest.to_string()).await?;
        self.wait_for_condition(KIND, "minted", "Ready", |told| {
            told.reason == "KubernetesForbidden" && names(&told.message, right)
        })
        .await
        .map(drop)
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
