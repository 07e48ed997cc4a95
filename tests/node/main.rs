//! The operator as it is installed: its image, its overlays and the pods that use its Secrets, on a real node.
//!
//! ```text
//! cargo test --test node            # as root, on Linux
//! ```
//!
//! What has to be built or fetched is so first; then the program starts itself again in namespaces of its own, in which
//! all of the ground runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod authority;
mod consumers;
mod deletion;
mod installed;
mod numbers;
mod power;
mod rotation;
mod site;
mod tenancy;
mod tokens;
mod troubles;
mod upgrade;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};
use futures::future::BoxFuture;
use ground::node::{self, isolation};
use ground::shipped;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, watch};

use site::Site;

/// Trials mostly wait, so more of them run at a time than there are cores.
const TRIALS_AT_A_TIME: usize = 4;

/// A trial, by its name.
pub struct TrialOf {
    name: &'static str,
    run: fn(Arc<Site>) -> BoxFuture<'static, Result<()>>,
}

/// Trials run in phases: first those that measure times, then those that are alone in their namespaces, then what
/// concerns the whole cluster, last what takes the pods of all others away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Measured,
    Apart,
    Cluster,
    Node,
}

impl Phase {
    /// How many there are.
    const COUNT: usize = Self::Node as usize + 1;

    /// Its trials run one after the other.
    fn takes_turns(self) -> bool {
        self != Self::Apart
    }
}

impl TrialOf {
    /// The phase that it begins in, and the one that is not over without it.
    fn phases(&self) -> (Phase, Phase) {
        match self.name.split_once("::").map(|(module, _)| module) {
            Some("installed") => (Phase::Measured, Phase::Measured),
            // Ten minutes, in which it waits and minds nothing that the next phase does.
            Some("tokens") => (Phase::Apart, Phase::Cluster),
            Some("authority" | "upgrade") => (Phase::Cluster, Phase::Cluster),
            Some("power") => (Phase::Node, Phase::Node),
            _ => (Phase::Apart, Phase::Apart),
        }
    }
}

/// How many trials of each phase are to come or under way, by the phase that waits for them.
#[derive(Clone)]
struct Phases {
    left: Arc<[watch::Sender<usize>; Phase::COUNT]>,
    /// Held by one trial at a time of those that take turns.
    turn: Arc<Mutex<()>>,
}

impl Phases {
    fn of<'a>(trials: impl Iterator<Item = &'a TrialOf>) -> Self {
        let left: [watch::Sender<usize>; Phase::COUNT] = Default::default();
        for trial in trials {
            left[trial.phases().1 as usize].send_modify(|left| *left += 1);
        }
        Self {
            left: Arc::new(left),
            turn: Arc::default(),
        }
    }

    /// Runs a trial once those of earlier phases are over.
    async fn run(self, trial: TrialOf, site: Arc<Site>) -> Result<()> {
        let (begins, ends) = trial.phases();
        let _done = Done(&self.left[ends as usize]);
        for earlier in &self.left[..begins as usize] {
            earlier.subscribe().wait_for(|left| *left == 0).await?;
        }
        let _turn = match begins.takes_turns() {
            true => Some(self.turn.lock().await),
            false => None,
        };
        (trial.run)(site).await
    }
}

/// A trial is over, however it ended.
struct Done<'a>(&'a watch::Sender<usize>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|left| *left -= 1);
    }
}

/// The trials of a module, named after it: `trials!["installed": function, ...]` makes its `trials()`.
#[macro_export]
macro_rules! trials {
    [$module:literal: $($function:ident),+ $(,)?] => {
        pub fn trials() -> Vec<$crate::TrialOf> {
            vec![$($crate::TrialOf {
                name: concat!($module, "::", stringify!($function)),
                run: |site| Box::pin(async move { $function(&site).await }),
            }),+]
        }
    };
}

fn main() -> Result<ExitCode> {
    ground::supervisor::dispatch();
    isolation::dispatch();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TRIALS_AT_A_TIME);
    let runtime = Runtime::new()?;
    let all = [
        installed::trials(),
        // The longest one, which mostly waits.
        tokens::trials(),
        numbers::trials(),
        consumers::trials(),
        rotation::trials(),
        deletion::trials(),
        troubles::trials(),
        authority::trials(),
        upgrade::trials(),
        power::trials(),
    ];
    let all: Vec<TrialOf> = all.into_iter().flatten().collect();
    let chosen = |trial: &&TrialOf| {
        let fits = |wanted: &str| match arguments.exact {
            true => trial.name == wanted,
            false => trial.name.contains(wanted),
        };
        arguments.filter.as_deref().is_none_or(fits) && !arguments.skip.iter().any(|one| fits(one))
    };
    if !arguments.list && !isolation::is_inside() {
        isolation::ensure_possible()?;
        runtime.block_on(node::fetch())?;
        shipped::build_image(shipped::TAG, &[], &[])?;
        if all
            .iter()
            .filter(&chosen)
            .any(|trial| trial.name.starts_with("upgrade::"))
        {
            upgrade::build()?;
        }
        isolation::enter()?;
    }
    let site: Arc<OnceLock<Result<Arc<Site>, String>>> = Arc::default();
    let phases = Phases::of(all.iter().filter(&chosen));
    let trials = all.into_iter().map(|trial| {
        let (site, handle) = (Arc::clone(&site), runtime.handle().clone());
        let phases = phases.clone();
        Trial::test(trial.name, move || {
            let site = site.get_or_init(|| {
                let started = handle.block_on(Site::start());
                started.map(Arc::new).map_err(|error| format!("{error:#}"))
            });
            let outcome = handle.block_on(async {
                let site = site.clone().map_err(|error| anyhow!(error))?;
                phases.run(trial, site).await
            });
            outcome.map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(Ok(site)) = site.get() {
        if conclusion.has_failed() {
            site.ground.keep();
            eprintln!("the logs are in {}", site.ground.dir().display());
        }
        runtime.block_on(site.ground.stop())?;
    }
    Ok(conclusion.exit_code())
}
