//! Leases and the tokens that they hang on: what the operator's ledger knows goes on,
//! what it does not know is left to its end and replaced, and what a tenant writes
//! is not believed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::engines::DatabaseRole;
use ground::judges::Mark;
use ground::judges::vault_audit::VaultRequest;
use ground::judges::workloads::Kind;
use ground::postgres::Login;
use ground::wait_for;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use vault_tenant_operator::operator::secret_names;

use crate::adoption::left_by_that_operator;
use crate::endpoints::sample;
use crate::grades::{Grade, Names};
use crate::install::beside;
use crate::leases::SHORT;
use crate::lessee::{KIND, Lessee, dynamic_secret};
use crate::overlays::{home_of, start_beside};
use crate::probes::{Eye, workload};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "parents": a_lease_of_another_resource_in_the_state_is_neither_renewed_nor_revoked,
    what_another_operator_left_is_replaced_one_by_one;
    in each grade:
    moved_with_its_ledger_it_keeps_every_lease, what_a_lost_ledger_knew_is_replaced_one_by_one,
];

/// The operator's own key, which is not lost with the ledger.
const KEY: &str = "vault-tenant-operator-key";

/// Over what time what the ledger does not know is replaced here.
const SPREAD: Duration = Duration::from_secs(10);

/// So many that by chance not all have the same moment: one in a million that all
/// are within a second.
const MANY: [&str; 8] = [
    "app-0", "app-1", "app-2", "app-3", "app-4", "app-5", "app-6", "app-7",
];

const MANY_NAMES: Names<'_> = Names {
    secrets: &MANY,
    workloads: &[(Kind::Deployment, "web")],
};

/// What says the spread, and the shortest drain.
const SPREAD_OUT: &str = "rotation: {drain: 1s, unknownParentSpread: 10s}\n";

impl Lessee {
    /// A team with the shortest drain and the spread of these trials.
    pub async fn spread_out(
        suite: &Suite,
        grade: Grade,
        name: &str,
        names: Names<'_>,
        role: &DatabaseRole<'_>,
    ) -> Result<Self> {
        Self::with(suite, grade, name, names, role, SPREAD_OUT).await
    }

    /// Asks for all of `MANY`; the first one restarts `web`. Answers with their leases.
    pub async fn ask_for_many(&self, spec: &Value) -> Result<Vec<String>> {
        for name in MANY {
            self.ask(name, spec.clone()).await?;
        }
        let web = workload(Kind::Deployment, "web", MANY[0], json!({}));
        self.team.tenant.apply(&web.to_string()).await?;
        self.edit(MANY[0], json!({ "spec": targets() })).await?;
        let mut leases = Vec::new();
        for name in MANY {
            leases.push(self.wait_lease(name).await?);
        }
        self.team
            .wait_condition(KIND, MANY[0], "RolloutRestart", "True")
            .await?;
        Ok(leases)
    }

    /// Waits until each of `MANY` has another lease, and looks at how: one new
    /// credential each, at moments of their own. Answers with the requests for them.
    pub async fn each_is_replaced_once(
        &self,
        suite: &Suite,
        before: &[String],
        mark: Mark,
    ) -> Result<Vec<VaultRequest>> {
        let eye = Eye::on(suite, &self.team);
        for (name, old) in MANY.iter().zip(before) {
            let what = format!("another lease of {name}");
            wait_for(&what, LONG, || async {
                let new = self.lease_of(name).await?;
                ensure!(new != *old, "still {old}");
                Ok(())
            })
            .await?;
            ensure!(self.login(name).await? == Login::Accepted, "{name}");
        }
        let minted = eye.at_vault().path(&self.creds).since(mark);
        let minted = eye.settled(&minted).await?;
        ensure!(minted.len() == MANY.len(), "{} credentials", minted.len());
        let took = took(&minted)?;
        ensure!(took >= Duration::from_secs(1), "all within {took:?}");
        Ok(minted)
    }
}

/// The time from the first to the last.
pub fn took(requests: &[VaultRequest]) -> Result<Duration> {
    let at = |one: &VaultRequest| one.at;
    let first = requests.iter().map(at).min().context("none")?;
    let last = requests.iter().map(at).max().context("none")?;
    Ok(Duration::try_from(last.duration_since(first))?)
}

fn targets() -> Value {
    json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] })
}

/// The operator's own Secrets in the tenant's namespace.
async fn own_secrets(team: &Team) -> Result<Vec<Secret>> {
    let mut found = Vec::new();
    for name in secret_names() {
        found.extend(team.tenant.secret(&name).await?);
    }
    Ok(found)
}

/// Requests about this lease.
fn about(eye: &Eye, mark: Mark, lease: &str) -> Result<Vec<VaultRequest>> {
    let filter = eye.at_vault().path_prefix("sys/leases/").since(mark);
    let mut found = eye.vault.requests(&filter)?;
    found.retain(|one| one.path.ends_with(lease) || one.lease == lease);
    Ok(found)
}

async fn moved_with_its_ledger_it_keeps_every_lease(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole {
        ttl: Duration::from_secs(100),
        ..SHORT
    };
    let mut lessee = Lessee::start(suite, grade, "moves-lease", MANY_NAMES, &role).await?;
    let leases = lessee.ask_for_many(&json!({ "renewalPercent": 5 })).await?;
    lessee.team.end_operator().await?;
    let along = own_secrets(&lessee.team).await?;
    // The key, and what holds the entries: by chance all lie in one Secret.
    ensure!((2..=3).contains(&along.len()), "{} Secrets", along.len());
    let tenant = &lessee.team.tenant;
    let eye = Eye::of(&suite.ground, &beside(tenant, &home_of(tenant))?);
    let (mark, _) = eye.mark()?;
    lessee.team.operator = start_beside(suite, grade, tenant, MANY_NAMES, &along).await?;
    for lease in &leases {
        let renewals = format!("sys/leases/renew/{lease}");
        let renewals = eye.at_vault().path(&renewals).since(mark);
        eye.vault.wait_for(&renewals, 2, LONG).await?;
    }
    for (name, lease) in MANY.iter().zip(&leases) {
        lessee
            .team
            .wait_condition(KIND, name, "LeaseRenewal", "True")
            .await?;
        ensure!(lessee.lease_of(name).await? == *lease, "{name} has another");
    }
    ensure!(lessee.leases().await?.len() == MANY.len());
    let minted = eye.vault.count(&eye.at_vault().path(&lessee.creds))?;
    ensure!(minted == 0, "{minted} new credentials");
    let restarts = lessee.team.restarts(Kind::Deployment, "web").await?;
    ensure!(restarts == 0, "{restarts} restarts");
    Ok(())
}

async fn what_a_lost_ledger_knew_is_replaced_one_by_one(suite: &Suite, grade: Grade) -> Result<()> {
    let role = DatabaseRole::default();
    let lessee = Lessee::spread_out(suite, grade, "lost-ledger", MANY_NAMES, &role).await?;
    let leases = lessee.ask_for_many(&json!({})).await?;
    lessee.team.operator.terminate(LONG).await;
    let own = own_secrets(&lessee.team).await?;
    let own = own.into_iter().filter_map(|secret| secret.metadata.name);
    let ledger: Vec<String> = own.filter(|name| name != KEY).collect();
    ensure!(!ledger.is_empty(), "no ledger");
    for name in ledger {
        let secrets = lessee.team.secrets();
        secrets.delete(&name, &DeleteParams::default()).await?;
    }
    let eye = Eye::on(suite, &lessee.team);
    let (mark, _) = eye.mark()?;
    lessee.team.operator.restart().await?;
    let minted = lessee.each_is_replaced_once(suite, &leases, mark).await?;
    let took = took(&minted)?;
    ensure!(took <= SPREAD + Duration::from_secs(5), "over {took:?}");
    lessee
        .team
        .wait_restarts(Kind::Deployment, "web", 1)
        .await?;
    let told = lessee.told_beside(&eye, mark, &leases).await?;
    for (name, old) in MANY.iter().zip(&leases) {
        let lives = lessee.team.tenant.vault.lease(old).await?;
        ensure!(lives.is_some(), "{old} was not left to its end");
        lessee
            .team
            .wait_condition(KIND, name, "LeaseRenewal", "True")
            .await?;
    }
    // One whose moment comes right after the start is replaced before it is told.
    let unknown = told.iter().find(|one| one.0 == "LeaseParentUnknown");
    let (_, message) = unknown.with_context(|| format!("{told:?}"))?;
    ensure!(
        message.contains("vault-tenant-operator-ledger-0") && message.contains(KEY),
        "{message}"
    );
    let metrics = lessee.team.operator.metrics().await?;
    let left = sample(&metrics, "vto_leases_left_to_expire_total", &[]);
    ensure!(left == Some(8.0), "{left:?}");
    Ok(())
}

async fn a_lease_of_another_resource_in_the_state_is_neither_renewed_nor_revoked(
    suite: &Suite,
) -> Result<()> {
    let names = Names::secrets(&["app", "other"]);
    let role = DatabaseRole::default();
    let grade = Grade::Namespace;
    let lessee = Lessee::spread_out(suite, grade, "forged-state", names, &role).await?;
    lessee.ask("app", json!({})).await?;
    lessee.ask("other", json!({})).await?;
    let own = lessee.wait_lease("app").await?;
    let theirs = lessee.wait_lease("other").await?;
    let eye = Eye::on(suite, &lessee.team);
    let (mark, _) = eye.mark()?;
    // Of the same path, and as if its renewal were due.
    let annotations = lessee.team.secret("app").await?.metadata.annotations;
    let mut annotations = annotations.unwrap_or_default().into_iter();
    let state = annotations.find(|(name, _)| name.contains("/state-"));
    let (annotation, state) = state.context("no state")?;
    let mut state: Value = serde_json::from_str(&state)?;
    let given = Timestamp::now() - Duration::from_secs(3000);
    state["grant"]["lease"] = json!(theirs);
    state["grant"]["since"] = json!(given.to_string());
    let forged = json!({ "metadata": { "annotations": { annotation: state.to_string() } } });
    let params = PatchParams {
        field_manager: Some("kubectl-edit".to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(forged);
    lessee.team.secrets().patch("app", &params, &patch).await?;
    let forged = json!({ "status": {
        "lastRenewalTime": given.as_second(),
        "secretLease": { "id": theirs, "duration": 3600, "renewable": true, "requestID": "" },
    } });
    lessee
        .team
        .resources(KIND)
        .patch_status("app", &params, &Patch::Merge(forged))
        .await?;
    wait_for("credentials of its own", LONG, || async {
        let now = lessee.lease_of("app").await?;
        ensure!(now != own && now != theirs, "{now}");
        Ok(())
    })
    .await?;
    // What it had is known to the ledger, and given back when the next one is in use.
    lessee.wait_gone(&own).await?;
    let found = about(&eye, mark, &theirs)?;
    ensure!(found.is_empty(), "{found:?}");
    ensure!(
        !about(&eye, mark, &own)?.is_empty(),
        "nothing was looked for"
    );
    ensure!(lessee.lease_of("other").await? == theirs);
    for name in ["app", "other"] {
        ensure!(lessee.login(name).await? == Login::Accepted, "{name}");
    }
    Ok(())
}

async fn what_another_operator_left_is_replaced_one_by_one(suite: &Suite) -> Result<()> {
    let role = DatabaseRole::default();
    let grade = Grade::Namespace;
    let lessee = Lessee::spread_out(suite, grade, "left-leases", MANY_NAMES, &role).await?;
    lessee.team.operator.process.kill();
    lessee.team.operator.process.wait().await;
    let tenant = &lessee.team.tenant;
    let mut leases = Vec::new();
    for name in MANY {
        let (id, data) = lessee.credentials().await?;
        let spec = if name == MANY[0] {
            targets()
        } else {
            json!({})
        };
        let manifest = dynamic_secret(tenant, name, spec);
        let status = json!({
            "lastRenewalTime": Timestamp::now().as_second(),
            "secretLease": { "id": id, "duration": 3600, "renewable": true, "requestID": "" },
        });
        left_by_that_operator(tenant, &manifest, data, status).await?;
        leases.push(id);
    }
    let web = workload(Kind::Deployment, "web", MANY[0], json!({}));
    tenant.apply(&web.to_string()).await?;
    let eye = Eye::on(suite, &lessee.team);
    let (mark, _) = eye.mark()?;
    lessee.team.operator.restart().await?;
    lessee.each_is_replaced_once(suite, &leases, mark).await?;
    lessee
        .team
        .wait_restarts(Kind::Deployment, "web", 1)
        .await?;
    let told = lessee.told_beside(&eye, mark, &leases).await?;
    let unknown = told.iter().any(|one| one.0 == "LeaseParentUnknown");
    ensure!(unknown, "{told:?}");
    Ok(())
}

impl Lessee {
    /// Credentials of the role `app` for somebody else: their lease, and what the
    /// Secret would hold.
    async fn credentials(&self) -> Result<(String, Value)> {
        let answer = self.team.tenant.vault.read(&self.creds).await?;
        let id = answer["lease_id"].as_str().context("no lease")?.to_owned();
        let mut data = answer["data"].clone();
        data["_raw"] = json!(answer["data"].to_string());
        Ok((id, data))
    }

    /// The events of the resources, none of whose leases of before Vault was asked about.
    async fn told_beside(
        &self,
        eye: &Eye,
        mark: Mark,
        leases: &[String],
    ) -> Result<Vec<(String, String)>> {
        let mut told = Vec::new();
        for (name, old) in MANY.iter().zip(leases) {
            told.extend(self.team.events(name).await?);
            let found = about(eye, mark, old)?;
            ensure!(found.is_empty(), "{found:?}");
        }
        Ok(told)
    }
}
