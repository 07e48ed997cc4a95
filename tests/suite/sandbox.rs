//! The sandbox itself, as a person runs it: its tour, several at a time, as root and as a user, what it tells to type,
//! how it ends, and what it says when it can't begin.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ground::documents::path_with_tools;
use ground::process::{Spec, processes_naming};
use ground::{Exit, Process, wait_for};

use crate::sandbox_home::Home;
use crate::support::{LONG, Suite};

crate::trials![
    "sandbox": two_at_a_time_tour_and_end_cleanly, a_killed_one_leaves_no_process,
    an_interrupted_set_up_leaves_nothing, without_a_go_that_builds_it_says_what_to_do,
];

/// What stands at the beginning of the line of each step.
const STEPS: [&str; 10] = [
    "1. A KV v2 secret arrives",
    "2. A new version in Vault arrives",
    "3. A Secret that was edited by hand is repaired",
    "4. A Secret that was deleted comes back",
    "5. A VaultAuth with a method that isn't allowed is refused",
    "6. A login of a PostgreSQL database arrives",
    "7. The operator is killed",
    "8. A certificate arrives",
    "9. A restart waits for its window",
    "10. The window is taken away",
];

async fn two_at_a_time_tour_and_end_cleanly(suite: &Suite) -> Result<()> {
    let home = Home::new(suite, "two sandboxes")?;
    let (once, visited) = tokio::try_join!(
        Sandbox::start(&home, "sandbox-once", &["--once"]),
        Sandbox::start(&home, "sandbox-visited", &[]),
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
    // The status table of the restart that waits.
    ensure!(output.contains("Pending (Window, in "), "{output}");
    ensure!(!output.contains('\x1b'), "colours in a file:\n{output}");
    visited.wait_until_it_stays().await?;
    visited.follow_what_it_says(suite, &home).await?;
    ensure!(
        !processes_naming(&visited.run_dir()?)?.is_empty(),
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
    let home = Home::of_a_user(suite, "a killed sandbox")?;
    let sandbox = Sandbox::start(&home, "sandbox-killed", &[]).await?;
    sandbox.wait_until_it_stays().await?;
    let folder = sandbox.run_dir()?;
    let before = processes_naming(&folder)?;
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
    .await?;
    ensure!(folder.exists(), "who removed the folder of a killed run?");
    let next = Sandbox::start(&home, "sandbox-after-a-crash", &["--once"]).await?;
    let exit = next.ended().await?;
    ensure!(
        exit.success(),
        "after a crash it ended with {exit:?}:\n{}",
        next.output()?
    );
    ensure!(
        !folder.exists(),
        "the next run left the folder of the killed one"
    );
    Ok(())
}

async fn an_interrupted_set_up_leaves_nothing(suite: &Suite) -> Result<()> {
    let home = Home::new(suite, "an interrupted sandbox")?;
    let sandbox = Sandbox::start(&home, "sandbox-interrupted", &[]).await?;
    let folder = sandbox.run_dir()?;
    let begun = || async {
        ensure!(!processes_naming(&folder)?.is_empty(), "nothing runs there");
        Ok(())
    };
    sandbox.process.ready(LONG, begun).await?;
    sandbox.interrupt()?;
    let exit = sandbox.ended().await?;
    ensure!(
        exit == Exit::Code(130),
        "it ended with {exit:?}:\n{}",
        sandbox.output()?
    );
    sandbox.left_no_process()?;
    ensure!(!folder.exists(), "the folder of the run is still there");
    Ok(())
}

async fn without_a_go_that_builds_it_says_what_to_do(suite: &Suite) -> Result<()> {
    let home = Home::without_components(suite, "a sandbox without go")?;
    for (go, sentence) in [
        (None, "Go is not installed, or not on PATH: install it"),
        (
            Some("write /x: no space left on device"),
            "The disk is full: free about",
        ),
        (
            Some("dial tcp 127.0.0.1:9: connect: connection refused"),
            "The Go module proxy does not answer: check the network",
        ),
    ] {
        let path = home.dir.join("path");
        fs::create_dir_all(&path)?;
        if let Some(says) = go {
            let file = path.join("go");
            fs::write(&file, go_that_fails(says))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        let mut spec = home.spec("sandbox-without-go", &["--once"]);
        let _ = fs::remove_file(&spec.log);
        spec = spec.env("PATH", &path);
        let sandbox = Sandbox::of(&home, spec).await?;
        let exit = sandbox.ended().await?;
        let output = sandbox.output()?;
        ensure!(
            exit == Exit::Code(1) && output.contains(sentence),
            "with a go of {go:?} it ended with {exit:?}:\n{output}"
        );
        ensure!(
            go.is_none_or(|says| output.contains(says)),
            "go's own words are missing:\n{output}"
        );
    }
    Ok(())
}

/// A `go` that has a version and builds nothing.
fn go_that_fails(says: &str) -> String {
    format!(
        "#!/bin/sh\nif [ \"$1\" = version ]; then echo go version go1.26.0 linux/amd64; exit; fi\n\
         echo '{says}' >&2\nexit 1\n"
    )
}

/// A running sandbox.
struct Sandbox {
    process: Process,
    runs: PathBuf,
}

/// What to type so as to see what the sandbox's `curl` has written.
const ARRIVED: &str = "kubectl wait --namespace=example --timeout=60s \
                       --for=jsonpath='{.data.password}'=\"$(printf by-hand | base64)\" secret/app";

/// What stands in the queries that it tells, and in Prometheus' answers to them.
const ANSWERS: [(&str, &str); 3] = [
    ("vto_resources_not_ready", "\"kind\":\"VaultStaticSecret\""),
    ("vto_secret_expiry", "\"kind\":\"VaultDynamicSecret\""),
    ("vto_syncs_total", "\"outcome\":\"ok\""),
];

impl Sandbox {
    async fn start(home: &Home, name: &str, args: &[&str]) -> Result<Self> {
        Self::of(home, home.spec(name, args)).await
    }

    async fn of(home: &Home, spec: Spec) -> Result<Self> {
        let process = Process::start(spec).await?;
        let runs = home.dir.join("ground/runs");
        Ok(Self { process, runs })
    }

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

    /// Types the commands that it prints into one shell, and waits for what they wrote into Vault.
    async fn follow_what_it_says(&self, suite: &Suite, home: &Home) -> Result<()> {
        let output = self.output()?;
        let programs = ["export ", "kubectl ", "curl "];
        let mut commands: Vec<String> = output
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| programs.iter().any(|program| line.starts_with(program)))
            .map(str::to_owned)
            .collect();
        for told in [
            "export KUBECONFIG=",
            "kubectl vto status --namespace=example",
            "kubectl get vaultstaticsecrets -A",
            "export VAULT_ADDR=https://127.0.0.1:",
            "curl --cacert ",
            "curl --fail --silent --show-error --get http://127.0.0.1:",
        ] {
            ensure!(
                commands.iter().any(|command| command.starts_with(told)),
                "{told} isn't told:\n{output}"
            );
        }
        for (query, answer) in ANSWERS {
            let mut asking = commands.iter_mut().filter(|line| line.contains(query));
            let asks = asking.next();
            let asks = asks.with_context(|| format!("{query} isn't told:\n{output}"))?;
            *asks += &format!(" | grep --quiet --fixed-strings '{answer}'");
        }
        let asked = commands
            .iter()
            .filter(|line| line.contains("/api/v1/query"));
        ensure!(asked.count() == ANSWERS.len(), "{commands:#?}");
        for command in &mut commands {
            // One of its secrets is refused, which the tour shows.
            if command.starts_with("kubectl vto status") {
                let expected = format!(
                    "code=0; {command}\ntest $code = 1",
                    command = command.replace("   #", " || code=$?   #")
                );
                *command = expected;
            }
        }
        commands.push(ARRIVED.to_owned());
        let path = path_with_tools(suite.ground.components(), &home.dir.join("bin"))?;
        let shell = tokio::process::Command::new("bash")
            .args(["-euc", &commands.join("\n")])
            .env_clear()
            .envs([("PATH", path), ("HOME", OsString::from(&home.dir))])
            .output()
            .await?;
        ensure!(
            shell.status.success(),
            "what it tells to type ends with {}:\n{}\n{}",
            shell.status,
            String::from_utf8_lossy(&shell.stdout),
            String::from_utf8_lossy(&shell.stderr)
        );
        Ok(())
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
        let left = processes_naming(&self.run_dir()?)?;
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(())
    }
}
