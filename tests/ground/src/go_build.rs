//! Runs `go`, and turns its failures into one sentence that says what to do, followed by go's own last lines.
//!
//! A build that waits for ever (a module proxy that takes connections and says nothing) is given up.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use tokio::time::{Instant, interval};

use crate::components::Recipe;
use crate::disk;
use crate::process::{Process, Spec};

/// The user's own settings for other modules must not reach these builds, except where modules come from.
const SETTINGS: [(&str, &str); 2] = [("GOWORK", "off"), ("GOFLAGS", "")];

/// How long a build may use no processor time. Go itself gives up on a silent connection only sometimes.
const STALL: Duration = Duration::from_secs(180);

/// How many of go's own lines an error shows.
const LAST_LINES: usize = 12;

const PROXY: &str = "The Go module proxy does not answer: check the network and the proxy (go env GOPROXY), then run \
                     again; what was built is kept";

/// What go's output holds when a cause is known, and the sentence for it.
const CAUSES: [(&[&str], &str); 5] = [
    (&disk::SIGNS, disk::FULL),
    (
        &["pkg-config", "libseccomp"],
        "The headers of libseccomp are missing: install libseccomp-dev and pkg-config (on Debian; libseccomp-devel elsewhere)",
    ),
    (
        &[
            "no such host",
            "connection refused",
            "i/o timeout",
            "TLS handshake timeout",
            "network is unreachable",
            "connection reset",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway",
            "server misbehaving",
            "unexpected EOF",
        ],
        PROXY,
    ),
    (
        &["requires go >=", "download go", "toolchain not available"],
        "This Go is too old and may not fetch a newer one: install the version named below, or unset GOTOOLCHAIN",
    ),
    (
        &["signal: killed", "cannot allocate memory", "out of memory"],
        "Memory ran out: about 3 GB must be free while a component is built, then run again",
    ),
];

/// The program that builds: found on `PATH`.
pub(crate) const GO: &str = "go";

/// `go version` as the module in `dir` sees it (its `go` line may choose another toolchain than the installed one).
pub(crate) fn version(dir: &Path) -> Result<String> {
    let output = Command::new(GO)
        .arg("version")
        .current_dir(dir)
        .envs(SETTINGS)
        .output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "Go is not installed, or not on PATH: install it (https://go.dev/doc/install); the components of the test \
             ground are built with it"
        ),
        _ => anyhow!("can't run go: {error}"),
    })?;
    ensure!(
        output.status.success(),
        explain(
            "ask go for its version",
            &String::from_utf8_lossy(&output.stderr)
        )
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folder of a module's files, downloaded where it isn't there yet; `sum` is its hash as a go.sum has it.
pub(crate) fn files(module: &str, version: &str, sum: &str) -> Result<PathBuf> {
    let output = Command::new(GO)
        .args(["mod", "download", "-json", &format!("{module}@{version}")])
        // Where no go.mod has a say.
        .current_dir(std::env::temp_dir())
        .envs(SETTINGS)
        // The hash is looked at here.
        .env("GONOSUMDB", module)
        .output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let [dir, has, error] = ["Dir", "Sum", "Error"].map(|name| said[name].as_str());
    let Some(dir) = dir.filter(|_| output.status.success()) else {
        let error = error.map(str::to_owned);
        let error = error.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned());
        bail!(explain(&format!("download {module}"), &error));
    };
    ensure!(
        has == Some(sum),
        "{module}@{version} is not what it was: its hash is {has:?}, not {sum}"
    );
    Ok(dir.into())
}

/// Builds a component by the program `go` into `output`, with a log beside it while it lasts; a failed build leaves no
/// output.
///
/// Go runs under a supervisor like everything else: a killed run doesn't go on building.
pub(crate) async fn build(go: &Path, recipe: &Recipe, output: &Path) -> Result<()> {
    let mut spec = Spec::new("go", go, &recipe.dir);
    spec.log = output.with_extension("log");
    spec.args = recipe.args(output);
    spec.env = std::env::vars_os().collect();
    for (name, value) in SETTINGS {
        spec = spec.env(name, value);
    }
    spec = spec.env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" });
    let _ = std::fs::remove_file(&spec.log);
    let go = Process::start(spec).await?;
    let task = format!("build {}", recipe.name);
    let succeeded = tokio::select! {
        exit = go.wait() => exit.success(),
        () = stall(go.pid()) => {
            go.kill();
            go.wait().await;
            let _ = std::fs::remove_file(output);
            bail!(
                "can't {task}: Go has done nothing for {} minutes. {PROXY}.\n{}",
                STALL.as_secs() / 60,
                go.last_lines(LAST_LINES)
            )
        }
    };
    let lines = go.last_lines(LAST_LINES);
    let _ = std::fs::remove_file(go.log());
    if !succeeded {
        let _ = std::fs::remove_file(output);
        bail!(explain(&task, &lines));
    }
    Ok(())
}

/// Returns when the process group has used no processor time for [`STALL`].
async fn stall(group: u32) {
    let (mut used, mut since) = (0, Instant::now());
    let mut ticks = interval(Duration::from_secs(5));
    while since.elapsed() < STALL {
        ticks.tick().await;
        let now = processor_time(group);
        // An idle Go program ticks a little; a build or a download uses far more.
        if now.abs_diff(used) > 10 {
            (used, since) = (now, Instant::now());
        }
    }
}

/// The processor time of all processes of a group, in clock ticks (a hundredth of a second).
fn processor_time(group: u32) -> u64 {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats =
        processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            // Fields of proc(5) after the name: 2 is the group, 11 to 14 the times of it and of its dead children.
            let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
            let times = fields
                .get(11..15)?
                .iter()
                .filter_map(|time| time.parse::<u64>().ok());
            (fields.get(2)?.parse() == Ok(group)).then(|| times.sum::<u64>())
        })
        .sum()
}

fn explain(task: &str, output: &str) -> String {
    let said = output.to_lowercase();
    let known = CAUSES
        .iter()
        .find(|(signs, _)| signs.iter().any(|sign| said.contains(&sign.to_lowercase())));
    let sentence = known.map_or("Go's own message follows", |(_, sentence)| sentence);
    let lines: Vec<&str> = output.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    format!("can't {task}. {sentence}.\n{last}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_known_cause_is_named_and_the_last_lines_of_go_are_kept() {
        let text = explain("build x", "go: writing: write /x: no space left on device");
        assert!(
            text.starts_with("can't build x. The disk is full"),
            "{text}"
        );
        assert!(
            text.ends_with("write /x: no space left on device"),
            "{text}"
        );
        let text = explain("build x", "dial tcp: lookup example.invalid: no such host");
        assert!(text.contains("module proxy does not answer"), "{text}");
        assert!(explain("build x", "syntax error").contains("Go's own message follows"));
    }

    #[test]
    fn only_the_last_lines_are_shown() {
        let many: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let text = explain("build x", &many);
        assert!(
            text.contains("line 99") && !text.contains("line 50\n"),
            "{text}"
        );
    }

    #[test]
    fn a_module_that_is_another_one_is_refused() {
        let [module, version] = ["golang.org/x/text", "v0.41.0"];
        let error = files(module, version, "h1:other").unwrap_err();
        assert!(error.to_string().contains("is not what it was"), "{error}");
    }

    #[test]
    fn processor_time_is_that_of_a_whole_group() {
        let group = rustix::process::getpgrp()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        while processor_time(group) == 0 {}
        assert_eq!(processor_time(u32::MAX), 0);
    }
}
