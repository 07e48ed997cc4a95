//! docs/promises.md and the tests, held against each other: what it names is
//! there, and no trial shows something that it does not promise.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::documents::{files, quoted, repository, rows};

const PROMISES: &str = include_str!("../../docs/promises.md");

/// Trials that show no promise of the operator: beginnings of names, and why.
const OF_NO_PROMISE: [(&str, &str); 2] = [
    ("ground::", "of the ground, on which all others stand"),
    (
        "documents::",
        "of the documents, that they agree with the rest",
    ),
];

/// Each promise names tests, and each of those is there.
pub fn every_promise() -> Result<()> {
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        files(&repository().join(folder), "rs", &mut sources)?;
    }
    let mut wrong = Vec::new();
    for row in rows(PROMISES).filter(|row| !row[0].starts_with("---")) {
        let tests: Vec<&str> = quoted(row[row.len() - 1])
            .filter(|word| word.contains("::"))
            .collect();
        let open = row[row.len() - 1].contains("not yet");
        let header = row[row.len() - 1].starts_with("shown by");
        if tests.is_empty() && !open && !header {
            wrong.push(format!("{:?} names no test", row[0]));
        }
        for name in tests {
            if !is_there(name, &sources)? {
                wrong.push(format!("there is no test {name}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "docs/promises.md: {}", wrong.join("; "));
    Ok(())
}

/// Whether a file of the module has a function of this name.
fn is_there(test: &str, sources: &[PathBuf]) -> Result<bool> {
    let (module, function) = test.rsplit_once("::").context("no module")?;
    for file in sources {
        let path = file.with_extension("");
        let path: Vec<_> = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        let of_module = module
            .split("::")
            .all(|part| path.iter().any(|component| component == part));
        if of_module && std::fs::read_to_string(file)?.contains(&format!("fn {function}(")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Each trial of the suite is named, once for both grades.
pub fn every_trial() -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--list")
        .output()?;
    ensure!(output.status.success(), "--list: {}", output.status);
    let listed = String::from_utf8(output.stdout)?;
    // The judges speak after the whole suite, and are not in its list.
    let judges = crate::judgement::trials();
    let trials: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|name| name.strip_suffix("::named").unwrap_or(name))
        .chain(judges.iter().map(|judge| judge.name))
        .collect();
    for (beginning, why) in OF_NO_PROMISE {
        let found = trials.iter().any(|trial| trial.starts_with(beginning));
        ensure!(found, "there is no trial {beginning}... ({why}) any more");
    }
    let named: Vec<&str> = quoted(PROMISES)
        .map(|name| name.strip_prefix("suite::").unwrap_or(name))
        .collect();
    let mut left_out: Vec<&str> = trials
        .into_iter()
        .filter(|trial| !named.contains(trial))
        .filter(|trial| !OF_NO_PROMISE.iter().any(|(of, _)| trial.starts_with(of)))
        .collect();
    left_out.sort_unstable();
    left_out.dedup();
    ensure!(
        left_out.is_empty(),
        "docs/promises.md does not name {}: add each to the row of the promise that it shows, or a row with that promise; one of the ground or the documents alone belongs to OF_NO_PROMISE in {}",
        left_out.join(", "),
        file!()
    );
    Ok(())
}
