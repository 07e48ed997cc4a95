//! The operator as it is installed: its image, its overlays and the pods that use its Secrets, on a real node.
//!
//! ```text
//! cargo test --test node            # as root, on Linux
//! ```
//!
//! What has to be built or fetched is so first; then the program starts itself again in namespaces of its own, in which
//! all of the ground runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod consumers;
mod deletion;
mod installed;
mod numbers;
mod power;
mod rotation;
mod site;
mod tokens;
mod troubles;

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

impl TrialOf {
    /// In which of the [`PHASES`] it runs: first those that measure times, one after the other, last what takes the
    /// pods of all others away.
    fn phase(&self) -> usize {
        match self.name {
            name if name.starts_with("installed::") => 0,
            name if name.starts_with("power::") => 2,
            _ => 1,
        }
    }
}

/// How many there are.
const PHASES: usize = 3;

/// How many trials of each phase are to come or under way.
#[derive(Clone)]
struct Phases {
    left: Arc<[watch::Sender<usize>; PHASES]>,
    /// Held by one trial of the first phase at a time.
    turn: Arc<Mutex<()>>,
}

impl Phases {
    fn of<'a>(trials: impl Iterator<Item = &'a TrialOf>) -> Self {
        let left: [watch::Sender<usize>; PHASES] = Default::default();
        for trial in trials {
            left[trial.phase()].send_modify(|left| *left += 1);
        }
        Self {
            left: Arc::new(left),
            turn: Arc::default(),
        }
    }

    /// Runs a trial once those of earlier phases are over.
    async fn run(self, trial: TrialOf, site: Arc<Site>) -> Result<()> {
        let phase = trial.phase();
        let _done = Done(&self.left[phase]);
        for earlier in &self.left[..phase] {
            earlier.subscribe().wait_for(|left| *left == 0).await?;
        }
        let _turn = match phase {
            0 => Some(self.turn.lock().await),
            _ => None,
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
    if !arguments.list && !isolation::is_inside() {
        isolation::ensure_possible()?;
        runtime.block_on(node::fetch())?;
        shipped::build_image()?;
        isolation::enter()?;
    }
    let site: Arc<OnceLock<Result<Arc<Site>, String>>> = Arc::default();
    let all = [
        installed::trials(),
        // The longest one, which mostly waits.
        tokens::trials(),
        numbers::trials(),
        consumers::trials(),
        rotation::trials(),
        deletion::trials(),
        troubles::trials(),
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
    let phases = Phases::of(all.iter().filter(chosen));
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
