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
    /// Whether it measures a time.
    fn is_first(&self) -> bool {
        self.name.starts_with("installed::")
    }
}

/// One of the first is over, however it ended.
struct Done(Arc<watch::Sender<usize>>);

impl Drop for Done {
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
    ];
    let all: Vec<TrialOf> = all.into_iter().flatten().collect();
    let chosen = |trial: &&TrialOf| {
        let filter = arguments.filter.as_deref();
        trial.is_first() && filter.is_none_or(|filter| trial.name.contains(filter))
    };
    // Those that measure times come first, one after the other, on a node with nothing else to do.
    let (left, first) = watch::channel(all.iter().filter(chosen).count());
    let (left, turn) = (Arc::new(left), Arc::new(Mutex::new(())));
    let trials = all.into_iter().map(|trial| {
        let (site, handle) = (Arc::clone(&site), runtime.handle().clone());
        let (left, mut first, turn) = (Arc::clone(&left), first.clone(), Arc::clone(&turn));
        Trial::test(trial.name, move || {
            let site = site.get_or_init(|| {
                let started = handle.block_on(Site::start());
                started.map(Arc::new).map_err(|error| format!("{error:#}"))
            });
            let outcome = handle.block_on(async {
                let site = site.clone().map_err(|error| anyhow!(error))?;
                if !trial.is_first() {
                    first.wait_for(|left| *left == 0).await?;
                    return (trial.run)(site).await;
                }
                let _done = Done(left);
                let _turn = turn.lock().await;
                (trial.run)(site).await
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
