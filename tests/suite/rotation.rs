//! Make before break: clients in pods go on with the credentials that their pod
//! began with, for as long as it lives.

use anyhow::{Result, ensure};
use ground::engines::DatabaseRole;
use ground::judges::workloads::Kind;
use ground::postgres::Login;
use ground::{Right, wait_for};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::clients::{Clients, Consumer, SecretText, slow_pods, wait_pods};
use crate::grades::{Grade, Names};
use crate::lessee::Lessee;
use crate::probes::workload;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "rotation": no_client_is_refused_while_credentials_change_twenty_times;
    in each grade:
    with_replace_clients_are_refused, a_target_that_is_replaced_by_hand_keeps_the_old_credential,
    a_target_that_is_named_late_is_restarted_too,
];

/// Connects to the database with what the pod began with.
struct Database(ground::postgres::Database);

impl Consumer for Database {
    type Held = (String, String);

    async fn begin(&self, secret: &SecretText) -> Result<Self::Held> {
        Ok((secret.get("username")?, secret.get("password")?))
    }

    async fn connect(&self, (user, password): &Self::Held) -> Result<Option<String>> {
        Ok(match self.0.login(user, password).await? {
            Login::Accepted => None,
            Login::Refused(why) => Some(format!("as {user}: {why}")),
        })
    }
}

/// Clients of the database in the pods of the namespace.
pub fn database_clients(lessee: &Lessee) -> Clients {
    let database = Database(lessee.engine.database.clone());
    Clients::start(&lessee.team, "app", database)
}

impl Lessee {
    /// A team with the roles `app` and `other`, and a workload of slow pods.
    async fn rolled(
        suite: &Suite,
        grade: Grade,
        name: &str,
        kind: Kind,
        replicas: usize,
        rotation: Value,
    ) -> Result<Self> {
        let names = Names {
            workloads: &[(kind, "web")],
            ..Names::APP
        };
        let role = DatabaseRole::default();
        let lessee = Self::start(suite, grade, name, names, &role).await?;
        let other = lessee.engine.role("other", &role).await?;
        let both = [lessee.creds.as_str(), &other];
        lessee.team.tenant.grant(&both, &Right::ALL).await?;
        let targets = json!([{ "kind": format!("{kind:?}"), "name": "web" }]);
        let spec = json!({ "rolloutRestartTargets": targets, "rotation": rotation });
        lessee.ask("app", spec).await?;
        lessee.wait_lease("app").await?;
        let web = workload(kind, "web", "app", slow_pods(replicas));
        lessee.team.tenant.apply(&web.to_string()).await?;
        wait_pods(&lessee.team, replicas).await?;
        Ok(lessee)
    }

    /// Waits until the condition `Overlap` names this, or is not there.
    async fn wait_overlap_cut(&self, named: Option<&str>) -> Result<()> {
        wait_for("what is told of the overlap", LONG, || async {
            let status = self.status("app").await?;
            let conditions = status["conditions"].as_array();
            let told = conditions
                .into_iter()
                .flatten()
                .find(|one| one["type"] == "Overlap");
            let is_told = told.is_some_and(|told| {
                told["reason"] == "OverlapCut"
                    && told["message"].to_string().contains(named.unwrap_or("/"))
            });
            ensure!(is_told == named.is_some(), "{told:?}");
            Ok(())
        })
        .await
    }

    /// Asks for credentials of another role, and waits for them.
    async fn rotate(&self, role: &str) -> Result<String> {
        let path = format!("creds/{role}");
        self.edit("app", json!({ "spec": { "path": path } }))
            .await?;
        let lease = self.wait_lease("app").await?;
        ensure!(lease.contains(&path), "{lease}");
        Ok(lease)
    }

    /// The live leases of all roles.
    pub async fn all_leases(&self) -> Result<Vec<String>> {
        let mount = format!("{}/creds", self.engine.mount);
        self.team.tenant.vault.leases(&mount).await
    }
}

async fn no_client_is_refused_while_credentials_change_twenty_times(suite: &Suite) -> Result<()> {
    const ROTATIONS: usize = 20;
    const REPLICAS: usize = 6;
    let grade = Grade::Namespace;
    let _turn = suite.crowds.acquire().await?;
    let lessee = Lessee::rolled(
        suite,
        grade,
        "rotates",
        Kind::Deployment,
        REPLICAS,
        json!({}),
    )
    .await?;
    let clients = database_clients(&lessee);
    // Those of the first credential count too, at the end.
    clients.wait_busy(REPLICAS).await?;
    let mut old = lessee.lease_of("app").await?;
    for number in 0..ROTATIONS {
        let new = lessee.rotate(["other", "app"][number % 2]).await?;
        wait_for(&format!("the end of {old}"), LONG, || async {
            let live = lessee.all_leases().await?;
            ensure!(live.len() <= 2, "{} live leases", live.len());
            ensure!(live == [new.as_str()], "still {live:?}");
            Ok(())
        })
        .await?;
        clients.wait_busy(REPLICAS).await?;
        old = new;
    }
    let seen = clients.end().await?;
    ensure!(
        seen.refused.is_empty(),
        "{} refused: {:?}",
        seen.refused.len(),
        seen.refused.first()
    );
    let busy = seen.accepted.values().filter(|count| **count >= 5).count();
    ensure!(
        busy >= REPLICAS * (ROTATIONS + 1),
        "{busy} pods were busy: {:?}",
        seen.accepted
    );
    ensure!(lessee.team.restarts(Kind::Deployment, "web").await? == ROTATIONS);
    Ok(())
}

/// The same clients, and credentials that are given back at once: what the trial
/// above sees is what it looks for.
async fn with_replace_clients_are_refused(suite: &Suite, grade: Grade) -> Result<()> {
    let _turn = suite.crowds.acquire().await?;
    let replace = json!({ "strategy": "replace" });
    let lessee = Lessee::rolled(suite, grade, "replaces", Kind::Deployment, 2, replace).await?;
    let clients = database_clients(&lessee);
    let old = lessee.lease_of("app").await?;
    wait_for("clients", LONG, || async {
        ensure!(clients.seen.lock().await.accepted.len() == 2, "not yet");
        Ok(())
    })
    .await?;
    lessee.rotate("other").await?;
    lessee.wait_gone(&old).await?;
    lessee
        .team
        .wait_restarts(Kind::Deployment, "web", 1)
        .await?;
    wait_for("a client to be refused", LONG, || async {
        let seen = clients.seen.lock().await;
        ensure!(!seen.refused.is_empty(), "none: {:?}", seen.accepted);
        Ok(())
    })
    .await?;
    clients.end().await.map(drop)
}

async fn a_target_that_is_replaced_by_hand_keeps_the_old_credential(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let _turn = suite.crowds.acquire().await?;
    let lessee = Lessee::rolled(
        suite,
        grade,
        "by-hand-pods",
        Kind::StatefulSet,
        1,
        json!({}),
    )
    .await?;
    let sets = lessee
        .team
        .tenant
        .api::<k8s_openapi::api::apps::v1::StatefulSet>();
    let params = kube::api::PatchParams::default();
    // Told before anything rotates; `None`: there is nothing to tell.
    for (strategy, told) in [
        (
            json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } }),
            Some("StatefulSet/web"),
        ),
        (
            json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } }),
            None,
        ),
        (
            json!({ "type": "OnDelete", "rollingUpdate": null }),
            Some("StatefulSet/web"),
        ),
    ] {
        let strategy = json!({ "spec": { "updateStrategy": strategy } });
        sets.patch("web", &params, &kube::api::Patch::Merge(strategy))
            .await?;
        lessee.wait_overlap_cut(told).await?;
    }
    let clients = database_clients(&lessee);
    let old = lessee.lease_of("app").await?;
    let new = lessee.rotate("other").await?;
    lessee
        .team
        .wait_restarts(Kind::StatefulSet, "web", 1)
        .await?;
    // Longer than the drain: nothing is given back while the pod runs.
    let wanted = clients.seen.lock().await.accepted.values().sum::<usize>() + 40;
    wait_for("a busy client", LONG, || async {
        let seen = clients.seen.lock().await;
        let accepted: usize = seen.accepted.values().sum();
        ensure!(seen.refused.is_empty(), "{:?}", seen.refused);
        ensure!(accepted >= wanted, "{accepted} connections");
        Ok(())
    })
    .await?;
    let mut both = [old.clone(), new.clone()];
    both.sort();
    ensure!(lessee.all_leases().await? == both);
    let status = lessee.status("app").await?;
    ensure!(status["phase"] == "Rotating", "{status}");
    let pods = lessee.team.tenant.api::<Pod>();
    pods.delete("web-0", &kube::api::DeleteParams::default())
        .await?;
    lessee.wait_gone(&old).await?;
    wait_for("the end of the rotation", LONG, || async {
        let status = lessee.status("app").await?;
        ensure!(status["phase"] == "Held", "{status}");
        Ok(())
    })
    .await?;
    let seen = clients.end().await?;
    ensure!(seen.refused.is_empty(), "{:?}", seen.refused);
    Ok(())
}

async fn a_target_that_is_named_late_is_restarted_too(suite: &Suite, grade: Grade) -> Result<()> {
    let lessee =
        Lessee::rolled(suite, grade, "late-target", Kind::Deployment, 1, json!({})).await?;
    // Its pods run the first credential, and nothing names it.
    let late = workload(Kind::Deployment, "late", "app", json!({}));
    lessee.team.tenant.apply(&late.to_string()).await?;
    wait_pods(&lessee.team, 2).await?;
    // What keeps the old one alive: a rollout that does not end.
    let stuck = json!({ "spec": { "template": { "metadata": { "annotations": {
        "ground.test/ready-after-seconds": "600",
    } } } } });
    let deployments = lessee.team.deployments();
    let params = kube::api::PatchParams::default();
    let old = lessee.lease_of("app").await?;
    deployments
        .patch("web", &params, &kube::api::Patch::Merge(stuck))
        .await?;
    let names = Names {
        workloads: &[(Kind::Deployment, "web"), (Kind::Deployment, "late")],
        ..Names::APP
    };
    if grade == Grade::Named {
        lessee.team.regrant_leased(names).await?;
    }
    lessee.rotate("other").await?;
    lessee
        .team
        .wait_restarts(Kind::Deployment, "web", 1)
        .await?;
    let targets = json!([
        { "kind": "Deployment", "name": "web" }, { "kind": "Deployment", "name": "late" },
    ]);
    lessee
        .edit(
            "app",
            json!({ "spec": { "rolloutRestartTargets": targets } }),
        )
        .await?;
    lessee
        .team
        .wait_restarts(Kind::Deployment, "late", 1)
        .await?;
    ensure!(
        lessee.team.tenant.vault.lease(&old).await?.is_some(),
        "given back too early"
    );
    let paused = json!({ "spec": { "paused": true } });
    deployments
        .patch("late", &params, &kube::api::Patch::Merge(paused))
        .await?;
    lessee
        .wait_overlap_cut(Some("Deployment/late is paused"))
        .await?;
    // It is so too, once that has taken too long.
    lessee
        .edit(
            "app",
            json!({ "spec": { "rotation": { "timeout": "1s" } } }),
        )
        .await?;
    lessee.wait_gone(&old).await
}

impl Team {
    /// Makes the Role anew for a configuration with the shortest drain.
    async fn regrant_leased(&self, names: Names<'_>) -> Result<()> {
        let more = format!("{}{}", crate::lessee::QUICK, Grade::Named.lines());
        let config = crate::support::config(&self.tenant, &more);
        let resources = names.resources(&self.tenant);
        Grade::Named.allow(&self.tenant, &config, &resources).await
    }
}
