//! Runs `go`, and turns its failures into one sentence that says what to do, followed by go's own last lines.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

use crate::components::Recipe;

/// How many of go's own lines an error shows.
const LAST_LINES: usize = 12;

/// What go's output holds when a cause is known, and the sentence for it.
const CAUSES: [(&[&str], &str); 4] = [
    (
        &["no space left on device", "disk quota exceeded"],
        "The disk is full: free about 6 GB in Go's caches (go env GOCACHE GOMODCACHE) and in the target folder, then run again",
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
        "The Go module proxy does not answer: check the network and the proxy (go env GOPROXY), then run again; what was built is kept",
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

/// `go version` as the module in `dir` sees it (its `go` line may choose another toolchain than the installed one).
pub(crate) fn version(dir: &Path) -> Result<String> {
    let output = run(go(dir).arg("version"))?;
    if !output.status.success() {
        bail!(explain("ask go for its version", &output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds a component into `output`; a failed build leaves nothing there.
pub(crate) fn build(recipe: &Recipe, output: &Path) -> Result<()> {
    let result = run(go(&recipe.dir).args(recipe.args(output)))?;
    if !result.status.success() {
        let _ = std::fs::remove_file(output);
        bail!(explain(&format!("build {}", recipe.name), &result));
    }
    Ok(())
}

fn go(dir: &Path) -> Command {
    let mut go = Command::new("go");
    // The user's own settings for other modules must not reach these builds, except where modules come from.
    go.current_dir(dir)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .env("GOFLAGS", "");
    go
}

fn run(go: &mut Command) -> Result<Output> {
    go.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "Go is not installed, or not on PATH: install it (https://go.dev/doc/install), or name ready programs with \
             KUBEBUILDER_ASSETS and VTO_VAULT_BIN"
        ),
        _ => anyhow::Error::from(error),
    })
    .context("the components of the test ground are built with Go")
}

fn explain(task: &str, output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    let known = CAUSES
        .iter()
        .find(|(signs, _)| signs.iter().any(|sign| text.contains(sign)));
    let sentence = known.map_or("Go's own message follows", |(_, sentence)| sentence);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    format!("can't {task}. {sentence}.\n{last}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn explained(stderr: &str) -> String {
        let output = Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
        };
        explain("build x", &output)
    }

    #[test]
    fn a_known_cause_is_named_and_the_last_lines_of_go_are_kept() {
        let text = explained("go: writing: write /x: no space left on device");
        assert!(
            text.starts_with("can't build x. The disk is full"),
            "{text}"
        );
        assert!(
            text.ends_with("write /x: no space left on device"),
            "{text}"
        );
        let text = explained(
            "Get \"https://example.invalid/\": dial tcp: lookup example.invalid: no such host",
        );
        assert!(text.contains("module proxy does not answer"), "{text}");
        assert!(explained("syntax error").contains("Go's own message follows"));
    }

    #[test]
    fn only_the_last_lines_are_shown() {
        let many: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let text = explained(&many);
        assert!(
            text.contains("line 99") && !text.contains("line 50\n"),
            "{text}"
        );
    }
}
