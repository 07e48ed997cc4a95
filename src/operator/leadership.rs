//! Who works, and where: one Lease in the operator's namespace for the leader
//! among its instances, and one in each watched namespace, renewed by the
//! leader, by which one operator claims it against others. Turns what electors
//! find into grants (`tenure`), terms of the engine, and what people see. The
//! others watch and write nothing.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Operator;
use super::elector::{Elector, Round, Timing};
use super::http::Readiness;
use super::lease::LeaseClient;
use super::tenure::Tenure;
use crate::policy::OwnIdentity;
use crate::problem::Problem;
use crate::reconcile::Succession;
use crate::telemetry::Metrics;

/// The leader's Lease. Fifteen and ten seconds are what the controllers of
/// Kubernetes use; but they renew every two seconds, and a hundred operators
/// that do would write fifty times a second for nothing.
const LEADER: Timing = Timing {
    duration: Duration::from_secs(15),
    valid: Duration::from_secs(10),
    renew: Duration::from_secs(5),
    retry: Duration::from_secs(2),
};

/// The claims: nobody waits for one but an operator that shouldn't be there, or
/// one that takes over a namespace for good.
const CLAIM: Timing = Timing {
    duration: Duration::from_secs(60),
    valid: Duration::from_secs(50),
    renew: Duration::from_secs(20),
    retry: Duration::from_secs(5),
};

/// What a claim is shortened to at an orderly end: enough for another instance
/// of the same operator to go on, little for another operator to wait.
const CLAIM_LEFT: Duration = Duration::from_secs(10);

/// How long giving up all Leases may take at an orderly end.
const RELEASE_LIMIT: Duration = Duration::from_secs(3);

/// Name of the leader's Lease.
pub const LEADER_LEASE: &str = "vault-tenant-operator-leader";
/// Name of the Lease by which a namespace is claimed.
pub const CLAIM_LEASE: &str = "vault-tenant-operator-claim";

/// What leadership works with.
pub struct Leadership {
    /// Begins and ends its terms.
    pub engine: Rc<Operator>,
    /// Where grants are kept.
    pub tenure: Rc<Tenure>,
    /// Where it is told why nothing is done.
    pub readiness: Readiness,
    /// The same, for alerts.
    pub metrics: Rc<Metrics>,
}

/// The running electors.
pub struct Elections {
    claims: JoinSet<()>,
    leader: JoinSet<()>,
    stop_claims: CancellationToken,
    stop_leader: CancellationToken,
}

/// Starts the elections: for the leader, unless `tenure` leads alone, and for a
/// claim of each namespace. `instance` names this process.
pub fn start(
    work: Leadership,
    client: &kube::Client,
    own: &OwnIdentity,
    namespaces: &[String],
    instance: &str,
) -> Elections {
    let work = Rc::new(work);
    let (leading, follow) = watch::channel(false);
    let mut elections = Elections {
        claims: JoinSet::new(),
        leader: JoinSet::new(),
        stop_claims: CancellationToken::new(),
        stop_leader: CancellationToken::new(),
    };
    let lease = |namespace: &str, name| {
        let (manager, metrics) = (format!("vto-lease-{instance}"), Rc::clone(&work.metrics));
        LeaseClient::new(client.clone(), namespace, name, manager, metrics)
    };
    for namespace in namespaces {
        let holder = format!("{}/{}", own.namespace, operator_name(own));
        let elector = Elector::new(lease(namespace, CLAIM_LEASE), holder, CLAIM);
        let claim = Claim {
            work: Rc::clone(&work),
            namespace: namespace.clone(),
            elector,
            held: false,
            withheld: None,
        };
        let stop = elections.stop_claims.clone();
        elections
            .claims
            .spawn_local(claim.run(follow.clone(), stop));
    }
    if work.tenure.leads() {
        work.begin(&leading, Succession::After(None));
        // Claims are followed as long as somebody may say that the term ended.
        let stop = elections.stop_leader.clone();
        elections.leader.spawn_local(async move {
            stop.cancelled().await;
            drop(leading);
        });
    } else {
        let elector = Elector::new(
            lease(&own.namespace, LEADER_LEASE),
            instance.to_owned(),
            LEADER,
        );
        let stop = elections.stop_leader.clone();
        elections
            .leader
            .spawn_local(work.lead(elector, leading, stop));
    }
    elections
}

/// The operator in claims: the same for all its instances and configurations.
fn operator_name(own: &OwnIdentity) -> &str {
    match own.service_account.as_str() {
        "" => super::cluster::CONTROLLER,
        name => name,
    }
}

impl Elections {
    /// Gives up what is held, claims first, so that others need not wait.
    pub async fn resign(mut self) {
        let release = async {
            self.stop_claims.cancel();
            while self.claims.join_next().await.is_some() {}
            self.stop_leader.cancel();
            while self.leader.join_next().await.is_some() {}
        };
        if tokio::time::timeout(RELEASE_LIMIT, release).await.is_err() {
            tracing::info!("leases were not given up in time and end by themselves");
        }
    }
}

impl Leadership {
    /// Runs for the leader's Lease until `stop`, then gives it up.
    async fn lead(
        self: Rc<Self>,
        mut elector: Elector,
        leading: watch::Sender<bool>,
        stop: CancellationToken,
    ) {
        let place = elector.place().to_owned();
        self.readiness.waits(&place, "it was not read yet");
        self.metrics.leads(false);
        loop {
            let round = elector.round().await;
            let wait = match &round {
                Ok(Round::Held { .. }) => elector.timing().renew,
                _ => elector.timing().retry,
            };
            self.after(round, &place, &leading);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.end(&leading);
        elector.release().await;
    }

    fn after(&self, round: Result<Round, Problem>, place: &str, leading: &watch::Sender<bool>) {
        match round {
            Ok(Round::Held { began, succession }) => {
                // Before the new grant: whether there was none, if only for a moment.
                let anew = succession != Succession::Resumed || !self.tenure.leads();
                self.tenure.lead(began, LEADER.valid);
                self.readiness.has(place);
                if anew {
                    self.begin(leading, succession);
                }
            }
            Ok(Round::Other { holder }) => {
                self.end(leading);
                let why = format!("this instance stands by, the leader is {holder}");
                if self.readiness.remarks(place, &why) {
                    tracing::info!(leader = holder, "standing by");
                }
            }
            Err(problem) => {
                // While the last renewal holds there is another try.
                if !self.tenure.leads() {
                    self.end(leading);
                    if self.readiness.waits(place, &problem.to_string()) {
                        tracing::warn!(%problem, "cannot lead, trying again");
                    }
                }
            }
        }
    }

    fn begin(&self, leading: &watch::Sender<bool>, succession: Succession) {
        tracing::info!("leading");
        self.metrics.leads(true);
        self.engine.begin_term(succession);
        leading.send_replace(true);
    }

    fn end(&self, leading: &watch::Sender<bool>) {
        self.tenure.resign();
        if leading.send_replace(false) {
            tracing::info!("leading no longer");
            self.metrics.leads(false);
            self.engine.end_term();
        }
    }
}

/// The claim of one namespace.
struct Claim {
    work: Rc<Leadership>,
    namespace: String,
    elector: Elector,
    /// Whether the engine works in the namespace.
    held: bool,
    /// Why not, as the metric says it.
    withheld: Option<&'static str>,
}

impl Claim {
    /// Runs for the claim while this process leads, until `stop`.
    async fn run(mut self, mut leading: watch::Receiver<bool>, stop: CancellationToken) {
        loop {
            let leads = *leading.borrow_and_update();
            let wait = if leads {
                let round = self.elector.round().await;
                self.after(round)
            } else {
                self.close();
                self.tell(None);
                Duration::MAX
            };
            tokio::select! {
                () = stop.cancelled() => break,
                changed = leading.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(wait) => {}
            }
        }
        if self.work.tenure.leads() {
            self.elector.shorten(CLAIM_LEFT).await;
        }
    }

    /// Acts on what a round found; answers with the time until the next.
    fn after(&mut self, round: Result<Round, Problem>) -> Duration {
        let (timing, place) = (self.elector.timing(), self.elector.place().to_owned());
        let work = Rc::clone(&self.work);
        match round {
            Ok(Round::Held { began, .. }) => {
                // The term may have ended while the answer was on its way.
                if work.tenure.leads() {
                    work.tenure.claim(&self.namespace, began, timing.valid);
                    self.tell(None);
                    self.held = true;
                    work.engine.open(&self.namespace);
                }
                timing.renew
            }
            Ok(Round::Other { holder }) => {
                let problem = Problem::NamespaceClaimed {
                    namespace: self.namespace.clone(),
                    holder,
                };
                self.close();
                self.tell(Some(&problem));
                if work.readiness.remarks(&place, &problem.to_string()) {
                    tracing::warn!(namespace = self.namespace, %problem, "not served");
                }
                timing.retry
            }
            Err(problem) => {
                if !work.tenure.has_claim(&self.namespace) {
                    self.close();
                    work.engine.lose(&self.namespace, &problem);
                    self.tell(Some(&problem));
                    if work.readiness.waits(&place, &problem.to_string()) {
                        tracing::warn!(namespace = self.namespace, %problem, "not served");
                    }
                }
                timing.retry
            }
        }
    }

    /// Counts why nothing is done here; `None`: nothing is wrong.
    fn tell(&mut self, problem: Option<&Problem>) {
        let metrics = &self.work.metrics;
        let reason = problem.map(Problem::reason);
        if let Some(old) = self.withheld.filter(|old| Some(*old) != reason) {
            metrics.withheld(&self.namespace, old, false);
        }
        match reason {
            Some(reason) => metrics.withheld(&self.namespace, reason, true),
            None => self.work.readiness.has(self.elector.place()),
        }
        self.withheld = reason;
    }

    fn close(&mut self) {
        self.work.tenure.yield_claim(&self.namespace);
        if std::mem::take(&mut self.held) {
            self.work.engine.close(&self.namespace);
        }
    }
}
