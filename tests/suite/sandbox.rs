//! The sandbox itself, as a person runs it: its tour, several at a time, and how it ends.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ground::process::Spec;
use ground::{Exit, Process, wait_for};

use crate::support::{LONG, Suite};

crate::trials![
    "sandbox": two_at_a_time_tour_and_end_cleanly, a_killed_one_leaves_no_process
];

/// What stands at the beginning of the line of each step.
const STEPS: [&str; 5] = [
    "1. A KV v2 secret arrives",
    "2. A new version in Vault arrives",
    "3. A Secret that was edited by hand is repaired",
    "4. A Secret that was deleted comes back",
    "5. A VaultAuth with a method that isn't allowed is refused",
];

async fn two_at_a_time_tour_and_end_cleanly(suite: &Suite) -> Result<()> {
    let (once, visited) = tokio::try_join!(
        start(suite, "sandbox-once", &["--once"]),
        start(suite, "sandbox-visited", &[]),
    )?;
    let exit = once.ended().await?;
    ensure!(
        exit.success(),
        "--once ended with {exit:?}:\n{}",
        once.output()?
    );
    let output = once.output()?;
    for step in STEPS {
        let told = output
            .split(step)
            .nth(1)
            .with_context(|| format!("no {step:?}:\n{output}"))?;
        let told = told.split("\n\n").next().unwrap_or_default();
        for fact in ["done", "seen", "took"] {
            ensure!(
                told.contains(&format!("\n  {fact}  ")),
                "{step:?} tells no {fact}:\n{output}"
            );
        }
    }
    ensure!(!output.contains('\x1b'), "colours in a file:\n{output}");
    visited.wait_until_it_stays().await?;
    let output = visited.output()?;
    for command in [
        "export KUBECONFIG=",
        "kubectl get vaultstaticsecrets -A",
        "export VAULT_ADDR=https://127.0.0.1:",
    ] {
        ensure!(output.contains(command), "{command} isn't told:\n{output}");
    }
    ensure!(
        !processes_of(&visited.run_dir()?)?.is_empty(),
        "nothing names the folder of the run"
    );
    visited.interrupt()?;
    let exit = visited.ended().await?;
    ensure!(
        exit.success(),
        "it ended with {exit:?}:\n{}",
        visited.output()?
    );
    for sandbox in [&once, &visited] {
        // At once, not after a while: what it started ends before it does.
        sandbox.left_no_process()?;
        ensure!(
            !sandbox.run_dir()?.exists(),
            "the folder of the run is still there"
        );
    }
    Ok(())
}

async fn a_killed_one_leaves_no_process(suite: &Suite) -> Result<()> {
    let sandbox = start(suite, "sandbox-killed", &[]).await?;
    sandbox.wait_until_it_stays().await?;
    let folder = sandbox.run_dir()?;
    let before = processes_of(&folder)?;
    // Six of the control plane and Vault and the operator, each with its supervisor.
    ensure!(before.len() >= 14, "only {before:?}");
    sandbox.process.kill();
    ensure!(
        sandbox.ended().await? == Exit::Signal(9),
        "it was not killed"
    );
    wait_for(
        "the end of all processes of the killed sandbox",
        LONG,
        || async { sandbox.left_no_process() },
    )
    .await
}

/// A running sandbox.
struct Sandbox {
    process: Process,
    runs: PathBuf,
}

/// Starts a sandbox with a target folder of its own, whose path has spaces, and the components of the suite's ground.
async fn start(suite: &Suite, name: &str, args: &[&str]) -> Result<Sandbox> {
    let target = suite.ground.dir().join(format!("target of {name}"));
    let assets = target.join("assets");
    std::fs::create_dir_all(&assets)?;
    for (name, path) in suite.ground.components().iter() {
        symlink(path, assets.join(name))?;
    }
    let mut spec = Spec::new(name, &program()?, &target)
        .env("CARGO_TARGET_DIR", &target)
        .env("VTO_VAULT_BIN", assets.join("vault"))
        .env("KUBEBUILDER_ASSETS", assets);
    for arg in args {
        spec = spec.arg(*arg);
    }
    let process = Process::start(spec).await?;
    let runs = target.join("ground/runs");
    Ok(Sandbox { process, runs })
}

/// `cargo test` builds the examples beside the tests.
fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test
        .ancestors()
        .nth(2)
        .context("the test lies in no target folder")?;
    let program = profile.join("examples/sandbox");
    ensure!(
        program.is_file(),
        "{} is not built: run `cargo build --example sandbox`, or `cargo test` without --test",
        program.display()
    );
    Ok(program)
}

impl Sandbox {
    fn output(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.process.log())?)
    }

    /// The folder of its run, named after its process.
    fn run_dir(&self) -> Result<PathBuf> {
        Ok(self.runs.join(format!("{}-0", self.process.pid())))
    }

    /// Waits until the tour is over and it only waits for Ctrl-C.
    async fn wait_until_it_stays(&self) -> Result<()> {
        let told = || async {
            let output = self.output()?;
            ensure!(output.contains("until Ctrl-C"), "it has told:\n{output}");
            Ok(())
        };
        self.process.ready(LONG * 3, told).await
    }

    /// SIGINT to it alone, as from Ctrl-C.
    fn interrupt(&self) -> Result<()> {
        let pid = self.process.pid().to_string();
        let kill = std::process::Command::new("sh")
            .args(["-c", "kill -INT \"$0\"", &pid])
            .status()?;
        ensure!(kill.success(), "the signal was not sent");
        Ok(())
    }

    async fn ended(&self) -> Result<Exit> {
        let ended = tokio::time::timeout(LONG * 3, self.process.wait()).await;
        ended.with_context(|| format!("{} does not end", self.process.name()))
    }

    fn left_no_process(&self) -> Result<()> {
        let left = processes_of(&self.run_dir()?)?;
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    }
}

/// The command lines of all processes that name this folder in their arguments or their environment.
fn processes_of(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_str().context("the folder is not UTF-8")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        // A process may end while it is looked at.
        let read = |file: &str| {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let (arguments, environment) = (read("cmdline"), read("environ"));
        if arguments.contains(folder) || environment.contains(folder) {
            found.push(arguments);
        }
    }
    Ok(found)
}
