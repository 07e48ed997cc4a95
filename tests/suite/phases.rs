//! Make before break, disturbed in each of its phases: the operator killed, the Secret
//! deleted by hand, another target named. Clients in pods go on with the credentials
//! that their pod began with, and none is refused; in the end one lease is left.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use ground::engines::DatabaseRole;
use ground::faults::{HttpProxy, KillPoint, Match, Pause};
use ground::judges::workloads::Kind;
use ground::{Right, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::clients::{Clients, slow_pods, wait_pods};
use crate::grades::{Grade, Names, tenant_of};
use crate::lessee::{Lessee, engine_of};
use crate::probes::{Eye, api_proxy, vault_proxy, workload};
use crate::rotation::database_clients;
use crate::support::{LONG, Suite, Team, merge};

crate::trials![
    "phases": the_operator_is_killed_in_each_phase, the_secret_is_deleted_in_each_phase,
    another_target_is_named_in_each_phase,
];

/// A drain that is long enough to be seen and disturbed, and nobody waits for the Lease
/// of who was killed.
const CONFIG: &str = "rotation: {drain: 6s}\nleaderElect: false\n";

/// Where a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Vault has made the new credential, and its answer is on its way.
    Unanswered,
    /// The answer is there, and the Secret not written.
    Unwritten,
    /// The Secret is written, and no target patched.
    Unpatched,
    /// Pods are being replaced.
    Rolling,
    /// They are, and the drain has not passed.
    Draining,
    /// Vault is asked to revoke the old one.
    Revoking,
}

use Phase::{Draining, Revoking, Rolling, Unanswered, Unpatched, Unwritten};

const PHASES: [Phase; 6] = [
    Unanswered, Unwritten, Unpatched, Rolling, Draining, Revoking,
];

/// What happens in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    Kill,
    Delete,
    /// Its pods run the first credential, unless that is being revoked.
    Target,
}

/// What a rotation that is disturbed may cost.
struct Costs {
    /// Credentials that Vault makes after the first.
    minted: RangeInclusive<usize>,
    /// Restarts of the target that is named from the start,
    web: RangeInclusive<usize>,
    /// and of the one that is named in the phase.
    late: usize,
}

impl Disturbance {
    fn costs(self, phase: Phase) -> Costs {
        let (minted, web, late) = match (self, phase) {
            // The answer is lost, and nobody knows the lease.
            (Self::Kill, Unanswered) => (2..=2, 1..=1, 0),
            // The ledger knows it, the Secret does not.
            (Self::Kill, Unwritten) => (1..=2, 1..=1, 0),
            (Self::Kill, _) => (1..=1, 1..=1, 0),
            // What is in hand is written into the next Secret.
            (Self::Delete, Unanswered | Unwritten) => (1..=2, 1..=1, 0),
            (Self::Delete, Unpatched) => (2..=2, 1..=2, 0),
            (Self::Delete, _) => (2..=2, 2..=2, 0),
            (Self::Target, Revoking) => (1..=1, 1..=1, 0),
            (Self::Target, _) => (1..=1, 1..=1, 1),
        };
        Costs { minted, web, late }
    }
}

/// One rotation, with a team of its own.
struct Scene<'a> {
    suite: &'a Suite,
    lessee: Lessee,
    vault: HttpProxy,
    api: HttpProxy,
    /// Where the second credential comes from.
    other: String,
    /// The lease of the first.
    old: String,
}

/// How a phase is met.
enum Stop {
    /// A request waits.
    Held(Pause),
    /// It kills.
    Kills(KillPoint),
    /// It is seen.
    Seen,
}

impl<'a> Scene<'a> {
    async fn set(suite: &'a Suite, phase: Phase, disturbance: Disturbance) -> Result<Self> {
        let names = Names {
            workloads: &[(Kind::Deployment, "web"), (Kind::Deployment, "late")],
            ..Names::APP
        };
        let name = format!("{disturbance:?}-{phase:?}").to_lowercase();
        let (mut tenant, more) = tenant_of(suite, Grade::Namespace, &name, names, CONFIG).await?;
        let role = DatabaseRole::default();
        let (engine, creds) = engine_of(suite, &tenant, &role).await?;
        let other = engine.role("other", &role).await?;
        tenant.grant(&[&creds, &other], &Right::ALL).await?;
        let (vault, api) = (
            vault_proxy(&suite.ground).await?,
            api_proxy(&suite.ground).await?,
        );
        tenant.vault_address = vault.url();
        let team = Team::of(suite, tenant, Some(&api.url()), &more).await?;
        let lessee = Lessee {
            team,
            engine,
            creds,
        };
        lessee.ask("app", targets(&["web"])).await?;
        let old = lessee.wait_lease("app").await?;
        lessee.make_target("web").await?;
        wait_pods(&lessee.team, 1).await?;
        let recorded =
            lessee
                .team
                .wait_condition(crate::lessee::KIND, "app", "RolloutRestart", "True");
        recorded.await?;
        Ok(Self {
            suite,
            lessee,
            vault,
            api,
            other,
            old,
        })
    }

    /// Prepares to meet a phase.
    fn stop(&self, phase: Phase, disturbance: Disturbance) -> Stop {
        let named = |kind: &str, name: &str| {
            Match::method("PATCH").path_contains(format!("/{kind}/{name}"))
        };
        let (proxy, matcher, answered) = match phase {
            Unanswered => {
                let mint = Match::any().path(format!("/v1/{}", self.other));
                (&self.vault, mint, true)
            }
            Unwritten => (&self.api, named("secrets", "app"), false),
            Unpatched => (&self.api, named("deployments", "web"), false),
            Revoking => {
                let revoke = Match::any().path_contains("/v1/sys/leases/revoke");
                (&self.vault, revoke, disturbance == Disturbance::Kill)
            }
            Rolling | Draining => return Stop::Seen,
        };
        if disturbance == Disturbance::Kill {
            let process = self.lessee.team.operator.process.clone();
            let pid = move || process.pid();
            return Stop::Kills(match answered {
                true => KillPoint::at_answer(proxy, matcher, pid),
                false => KillPoint::at_request(proxy, matcher, pid),
            });
        }
        Stop::Held(match answered {
            true => Pause::at_answer(proxy, matcher),
            false => Pause::at_request(proxy, matcher),
        })
    }

    /// Waits for the phase, and disturbs it.
    async fn meet(&self, stop: Stop, phase: Phase, disturbance: Disturbance) -> Result<()> {
        let team = &self.lessee.team;
        match stop {
            Stop::Kills(point) => {
                point.killed(LONG).await?;
                team.operator.process.wait().await;
                team.operator.restart().await
            }
            Stop::Held(mut pause) => {
                pause.reached(LONG).await?;
                self.disturb(phase, disturbance).await?;
                pause.go();
                Ok(())
            }
            Stop::Seen => {
                team.wait_restarts(Kind::Deployment, "web", 1).await?;
                let rolled = phase == Draining;
                wait_for(&format!("{phase:?}"), LONG, || async {
                    let found = team.deployments().get("web").await?;
                    let pods = team.tenant.api::<k8s_openapi::api::core::v1::Pod>();
                    let pods = pods.list(&kube::api::ListParams::default()).await?;
                    let of = pods
                        .iter()
                        .filter(|pod| {
                            pod.metadata
                                .name
                                .as_deref()
                                .is_some_and(|name| name.starts_with("web"))
                        })
                        .count();
                    ensure!(
                        (is_rolled(&found) && of == 1) == rolled,
                        "{:?}",
                        found.status
                    );
                    Ok(())
                })
                .await?;
                self.disturb(phase, disturbance).await
            }
        }
    }

    async fn disturb(&self, phase: Phase, disturbance: Disturbance) -> Result<()> {
        let team = &self.lessee.team;
        match disturbance {
            Disturbance::Kill => {
                team.operator.process.kill();
                team.operator.process.wait().await;
            }
            Disturbance::Delete => {
                let secrets = team.secrets();
                secrets.delete("app", &DeleteParams::default()).await?;
            }
            Disturbance::Target => {
                if phase == Revoking {
                    self.lessee.make_target("late").await?;
                }
                let spec = json!({ "spec": targets(&["web", "late"]) });
                self.lessee.edit("app", spec).await?;
            }
        }
        // Else the phase was over.
        let lives = team.tenant.vault.lease(&self.old).await?;
        ensure!(lives.is_some(), "the old lease is revoked");
        match disturbance {
            Disturbance::Kill => team.operator.restart().await,
            Disturbance::Delete | Disturbance::Target => Ok(()),
        }
    }

    async fn play(&self, phase: Phase, disturbance: Disturbance) -> Result<()> {
        let (lessee, team) = (&self.lessee, &self.lessee.team);
        let late = disturbance == Disturbance::Target && phase != Revoking;
        if late {
            lessee.make_target("late").await?;
            wait_pods(team, 2).await?;
        }
        let clients = database_clients(lessee);
        clients.wait_busy(1 + usize::from(late)).await?;
        let stop = self.stop(phase, disturbance);
        lessee
            .edit("app", json!({ "spec": { "path": "creds/other" } }))
            .await?;
        self.meet(stop, phase, disturbance).await?;
        self.ends_well(phase, disturbance, clients).await
    }

    /// In the end there is one lease, which all pods run.
    async fn ends_well(
        &self,
        phase: Phase,
        disturbance: Disturbance,
        clients: Clients,
    ) -> Result<()> {
        let (lessee, team) = (&self.lessee, &self.lessee.team);
        let lost = usize::from((disturbance, phase) == (Disturbance::Kill, Unanswered));
        wait_for("the end of the rotation", LONG, || async {
            let status = lessee.status("app").await?;
            ensure!(status["phase"] == "Held", "{status}");
            let lease = lessee.lease_of("app").await?;
            ensure!(lease.starts_with(&self.other), "{lease}");
            let remembered = lessee.remembered().await?;
            ensure!(remembered == [lease.as_str()], "{lease}, {remembered:?}");
            let live = lessee.all_leases().await?;
            ensure!(
                live.len() == 1 + lost && live.contains(&lease),
                "{lease}, {live:?}"
            );
            Ok(())
        })
        .await?;
        let costs = disturbance.costs(phase);
        let eye = Eye::on(self.suite, team);
        let minted = eye.vault.count(&eye.at_vault().path(&self.other))?;
        ensure!(costs.minted.contains(&minted), "{minted} credentials");
        let web = team.restarts(Kind::Deployment, "web").await?;
        ensure!(costs.web.contains(&web), "{web} restarts");
        let mut pods = 1;
        if disturbance == Disturbance::Target {
            team.wait_restarts(Kind::Deployment, "late", costs.late)
                .await?;
            pods += 1;
        }
        wait_pods(team, pods).await?;
        // Those of now were there to see it.
        clients.wait_busy(pods).await?;
        let seen = clients.end().await?;
        let first = seen.refused.first();
        ensure!(first.is_none(), "{} refused: {first:?}", seen.refused.len());
        // Of each generation one was let in; the first and the last were busy.
        let seen_in = seen.accepted.len();
        ensure!(seen_in > web, "{seen_in} pods: {:?}", seen.accepted);
        Ok(())
    }
}

fn targets(names: &[&str]) -> Value {
    let target = |name: &&str| json!({ "kind": "Deployment", "name": name });
    let targets: Vec<Value> = names.iter().map(target).collect();
    json!({ "rolloutRestartTargets": targets })
}

/// Whether a Deployment has none but new pods, all ready.
fn is_rolled(found: &Deployment) -> bool {
    let status = found.status.clone().unwrap_or_default();
    let all = found.spec.as_ref().and_then(|spec| spec.replicas);
    status.observed_generation == found.metadata.generation
        && [
            status.replicas,
            status.updated_replicas,
            status.available_replicas,
        ] == [all; 3]
}

impl Lessee {
    async fn make_target(&self, name: &str) -> Result<()> {
        // A rollout that is long enough to be seen, too.
        let slower = json!({
            "ground.test/ready-after-seconds": "3",
            "ground.test/terminates-after-seconds": "3",
        });
        let slower = json!({ "template": { "metadata": { "annotations": slower } } });
        let mut more = slow_pods(1);
        merge(&mut more, slower);
        let target = workload(Kind::Deployment, name, "app", more);
        self.team.tenant.apply(&target.to_string()).await?;
        Ok(())
    }
}

async fn in_each_phase(suite: &Suite, disturbance: Disturbance) -> Result<()> {
    let play = async |phase: Phase| {
        let _turn = suite.crowds.acquire().await?;
        let scene = Scene::set(suite, phase, disturbance).await;
        let scene = scene.with_context(|| format!("{disturbance:?}, before {phase:?}"))?;
        let played = scene.play(phase, disturbance).await;
        played.with_context(|| format!("{disturbance:?}, {phase:?}"))
    };
    try_join_all(PHASES.map(play)).await.map(drop)
}

async fn the_operator_is_killed_in_each_phase(suite: &Suite) -> Result<()> {
    in_each_phase(suite, Disturbance::Kill).await
}

async fn the_secret_is_deleted_in_each_phase(suite: &Suite) -> Result<()> {
    in_each_phase(suite, Disturbance::Delete).await
}

async fn another_target_is_named_in_each_phase(suite: &Suite) -> Result<()> {
    in_each_phase(suite, Disturbance::Target).await
}
