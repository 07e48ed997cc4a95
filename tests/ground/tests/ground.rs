//! Runs the ground's trials of itself on one shared ground.

use std::process::ExitCode;
use std::sync::Arc;

use ground::{Ground, Options};
use libtest_mimic::{Arguments, Trial};

fn main() -> anyhow::Result<ExitCode> {
    ground::supervisor::dispatch();
    ground::selftest::dispatch();
    let arguments = Arguments::from_args();
    let runtime = tokio::runtime::Runtime::new()?;
    let options = Options {
        crds: false,
        ..Options::default()
    };
    let ground = Arc::new(runtime.block_on(Ground::start(options))?);
    let trials = ground::selftest::trials().into_iter().map(|trial| {
        let (ground, runtime) = (Arc::clone(&ground), runtime.handle().clone());
        Trial::test(trial.name, move || {
            runtime
                .block_on((trial.run)(ground))
                .map_err(|error| format!("{error:#}").into())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if conclusion.has_failed() {
        ground.keep();
        eprintln!("the logs are in {}", ground.dir().display());
    }
    runtime.block_on(ground.stop())?;
    Ok(conclusion.exit_code())
}
