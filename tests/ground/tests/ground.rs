//! Runs the ground's trials of itself on one shared ground, which the first of them starts.

use std::process::ExitCode;
use std::sync::Arc;

use ground::selftest::{self, trials};
use ground::{Ground, Options};
use libtest_mimic::{Arguments, Trial};
use tokio::sync::OnceCell;

/// The shared ground, or why there is none: a start that failed isn't tried again by each trial.
static GROUND: OnceCell<Result<Arc<Ground>, String>> = OnceCell::const_new();

async fn shared() -> anyhow::Result<Arc<Ground>> {
    let start = || async {
        let options = Options {
            crds: false,
            ..Options::default()
        };
        let ground = Ground::start(options).await;
        ground.map(Arc::new).map_err(|error| format!("{error:?}"))
    };
    GROUND
        .get_or_init(start)
        .await
        .clone()
        .map_err(anyhow::Error::msg)
}

async fn run(trial: selftest::Trial) -> anyhow::Result<()> {
    (trial.run)(shared().await?).await
}

fn main() -> anyhow::Result<ExitCode> {
    ground::supervisor::dispatch();
    selftest::dispatch();
    let runtime = tokio::runtime::Runtime::new()?;
    let trials = trials().into_iter().map(|trial| {
        let runtime = runtime.handle().clone();
        Trial::test(trial.name, move || {
            runtime
                .block_on(run(trial))
                .map_err(|error| format!("{error:?}").into())
        })
    });
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.collect());
    if let Some(Ok(ground)) = GROUND.get() {
        if conclusion.has_failed() {
            ground.keep();
            eprintln!("The logs are in {}.", ground.dir().display());
        }
        runtime.block_on(ground.stop())?;
    }
    Ok(conclusion.exit_code())
}
