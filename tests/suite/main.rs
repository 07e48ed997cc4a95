//! All trials against the real control plane and the real Vault, in one binary:
//! one ground for the run, trials in parallel, each with a tenant of its own.
//! Without a filter, a second run judges the whole suite; refusals and requests
//! outside an operator's namespaces also when a trial failed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adoption;
mod alerts;
mod answers;
mod applied;
mod argo;
mod attempts;
mod bad_inputs;
mod bad_specs;
mod bearer;
mod budgets;
mod certificate_ends;
mod certificate_forms;
mod certificate_rotation;
mod certificates;
mod clients;
mod configured;
mod conformance;
mod consumers;
mod destinations;
mod documents;
mod drift;
mod endings;
mod endpoints;
mod example_certificate;
mod example_database;
mod examples;
mod finalizers;
mod found;
mod gitops;
mod grades;
mod guardrails;
mod install;
mod judgement;
mod killed;
mod large_outages;
mod leadership;
mod lease_outages;
mod leases;
mod lessee;
mod lifetimes;
mod manifests;
mod many;
mod migration;
mod minting;
mod monitors;
mod moves;
mod named;
mod namespaces;
mod narrowing;
mod neighbours;
mod one_command;
mod outages;
mod overlays;
mod overrides;
mod own_key;
mod ownership;
mod pacing;
mod pacing_kinds;
mod pacing_line;
mod parents;
mod partings;
mod phases;
mod pods;
mod poisoned;
mod probes;
mod process;
mod prometheus;
mod promises;
mod rbac;
mod rbac_files;
mod readme;
mod reasons;
mod removed_rights;
mod restarts;
mod rollout_status;
mod rollouts;
mod rotation;
mod runbooks;
mod sandbox;
mod sandbox_home;
mod scale;
#[path = "../conformance/mod.rs"]
mod script;
mod secrecy;
mod series;
mod sharing;
mod signals;
mod source_deletion;
mod sources;
mod static_secrets;
mod status_command;
mod status_watch;
mod support;
mod thefts;
mod token_ends;
mod two_vaults;
mod unfinished;
mod unseen;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};
use futures::future::{BoxFuture, Either};
use ground::{Ground, OperatorBinary, Options};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{RwLock, Semaphore};

use support::{Suite, TrialOf};

/// Trials mostly wait, so more of them run at a time than there are cores.
const TRIALS_AT_A_TIME: usize = 8;

/// How many of them have clients that connect ten times in a second.
const CROWDS_AT_A_TIME: usize = 4;

fn main() -> Result<ExitCode> {
    ground::supervisor::dispatch();
    ground::selftest::dispatch();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TRIALS_AT_A_TIME);
    let runtime = Runtime::new()?;
    let shared = Arc::new(Shared {
        handle: runtime.handle().clone(),
        suite: OnceLock::new(),
        running: RwLock::default(),
    });
    let trials = all()
        .into_iter()
        .map(|trial| shared.trial(trial.name, trial.run))
        .chain(of_the_ground(&shared))
        .chain(documents::trials())
        .chain(reasons::trials())
        .chain(rbac_files::trials())
        // Last, so that nothing has to wait until it has waited for the others.
        .chain(
            scale::trials()
                .into_iter()
                .map(|trial| shared.trial_in(trial.name, true, trial.run)),
        )
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut code = conclusion.exit_code();
    // The judges look at the whole suite, so they only speak after the whole suite.
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    if whole {
        let judges = judgement::trials()
            .into_iter()
            // A trial that failed may have used no right; what was asked in vain or outside
            // is told all the same.
            .filter(|judge| {
                !conclusion.has_failed() || judgement::SPEAK_ALWAYS.contains(&judge.name)
            })
            .map(|judge| shared.trial(judge.name, judge.run))
            .collect();
        let judged = libtest_mimic::run(&arguments, judges);
        if !conclusion.has_failed() {
            code = judged.exit_code();
        }
    }
    if let Some(Ok(suite)) = shared.suite.get() {
        if code != ExitCode::SUCCESS {
            suite.ground.keep();
            eprintln!("the logs are in {}", suite.ground.dir().display());
        }
        runtime.block_on(suite.ground.stop())?;
    }
    Ok(code)
}

fn all() -> Vec<TrialOf> {
    [
        static_secrets::trials(),
        sources::trials(),
        configured::trials(),
        conformance::trials(),
        consumers::trials(),
        destinations::trials(),
        migration::trials(),
        moves::trials(),
        ownership::trials(),
        adoption::trials(),
        sharing::trials(),
        bad_inputs::trials(),
        bad_specs::trials(),
        rollout_status::trials(),
        rollouts::trials(),
        found::trials(),
        argo::trials(),
        pacing::trials(),
        pacing_kinds::trials(),
        pacing_line::trials(),
        restarts::trials(),
        killed::trials(),
        overlays::trials(),
        overrides::trials(),
        guardrails::trials(),
        narrowing::trials(),
        thefts::trials(),
        two_vaults::trials(),
        unfinished::trials(),
        unseen::trials(),
        secrecy::trials(),
        manifests::trials(),
        example_certificate::trials(),
        example_database::trials(),
        examples::trials(),
        finalizers::trials(),
        gitops::trials(),
        install::trials(),
        pods::trials(),
        leadership::trials(),
        lease_outages::trials(),
        leases::trials(),
        lifetimes::trials(),
        minting::trials(),
        answers::trials(),
        rotation::trials(),
        phases::trials(),
        named::trials(),
        namespaces::trials(),
        budgets::trials(),
        certificates::trials(),
        certificate_ends::trials(),
        certificate_forms::trials(),
        bad_inputs::certificates::trials(),
        certificate_rotation::trials(),
        process::trials(),
        endpoints::trials(),
        endings::trials(),
        signals::trials(),
        alerts::trials(),
        monitors::trials(),
        prometheus::trials(),
        series::trials(),
        drift::trials(),
        large_outages::trials(),
        poisoned::trials(),
        source_deletion::trials(),
        neighbours::trials(),
        outages::trials(),
        own_key::trials(),
        parents::trials(),
        one_command::trials(),
        token_ends::trials(),
        partings::trials(),
        rbac::trials(),
        status_command::trials(),
        status_watch::trials(),
        removed_rights::trials(),
        readme::trials(),
        sandbox::trials(),
    ]
    .concat()
}

/// The ground's trials of itself run on the ground of the suite.
fn of_the_ground(shared: &Arc<Shared>) -> impl Iterator<Item = Trial> {
    ground::selftest::trials().into_iter().map(|trial| {
        let run = move |suite: Arc<Suite>| (trial.run)(Arc::clone(&suite.ground));
        shared.trial(trial.name, run)
    })
}

/// The ground starts with the first trial that runs: listing starts none.
struct Shared {
    handle: Handle,
    suite: OnceLock<Result<Arc<Suite>, String>>,
    /// Read by each trial while it runs, and written by one that runs alone.
    running: RwLock<()>,
}

impl Shared {
    fn suite(&self) -> Result<Arc<Suite>> {
        let started = self.suite.get_or_init(|| {
            self.handle
                .block_on(start())
                .map(Arc::new)
                .map_err(|error| format!("{error:#}"))
        });
        started.clone().map_err(|error| anyhow!(error))
    }

    fn trial<R>(self: &Arc<Self>, name: &'static str, run: R) -> Trial
    where
        R: FnOnce(Arc<Suite>) -> BoxFuture<'static, Result<()>> + Send + 'static,
    {
        self.trial_in(name, false, run)
    }

    /// A trial that runs beside the others, or `alone`: one that measures a time.
    fn trial_in<R>(self: &Arc<Self>, name: &'static str, alone: bool, run: R) -> Trial
    where
        R: FnOnce(Arc<Suite>) -> BoxFuture<'static, Result<()>> + Send + 'static,
    {
        let shared = Arc::clone(self);
        Trial::test(name, move || {
            let suite = shared.suite()?;
            let outcome = shared.handle.block_on(async {
                let _turn = match alone {
                    true => Either::Left(shared.running.write().await),
                    false => Either::Right(shared.running.read().await),
                };
                run(suite).await
            });
            outcome.map_err(|error| Failed::from(format!("{error:#}")))
        })
    }
}

async fn start() -> Result<Suite> {
    let binary = OperatorBinary {
        path: env!("CARGO_BIN_EXE_vault-tenant-operator").into(),
        args_prefix: Vec::new(),
    };
    Ok(Suite {
        ground: Arc::new(Ground::start(Options::default()).await?),
        binary,
        crowds: Semaphore::new(CROWDS_AT_A_TIME),
    })
}
