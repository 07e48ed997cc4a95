//! The documents say what is so: tables are held against what they describe,
//! names of tests and links against the files. No ground is needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_yaml::Value;

use crate::{promises, runbooks};

const README: &str = include_str!("../../README.md");
const CARGO: &str = include_str!("../../Cargo.toml");
const GROUND_CARGO: &str = include_str!("../ground/Cargo.toml");
const PERMISSIONS: &str = include_str!("../../docs/permissions.md");
const GATE: &str = include_str!("../../.ci/run");
const ROLE: &str = include_str!("../../rbac/role.yaml");
const ARGO_RULE: &str = include_str!("../../kustomize/components/argo-rollouts/rights.yaml");
const OWN_ROLE: &str = include_str!("../../rbac/own-namespace/role.yaml");
const LEADERSHIP_ROLE: &str = include_str!("../../rbac/leadership/role.yaml");
const MIGRATION_ROLE: &str = include_str!("../../rbac/migration/role.yaml");

/// Our seven kinds, as rules name them.
const KINDS: [&str; 7] = [
    "secrettransformations",
    "vaultauthglobals",
    "vaultauths",
    "vaultconnections",
    "vaultdynamicsecrets",
    "vaultpkisecrets",
    "vaultstaticsecrets",
];

pub fn trials() -> Vec<Trial> {
    let trial = |name: &'static str, run: fn() -> Result<()>| {
        Trial::test(format!("documents::{name}"), move || {
            run().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    vec![
        trial("every_key_with_its_default", every_key_with_its_default),
        trial("every_flag", every_flag),
        trial("every_dependency_has_a_reason", every_dependency),
        trial("every_right_has_a_reason", every_right),
        trial("every_promise_has_its_tests", promises::every_promise),
        trial("every_trial_shows_a_promise", promises::every_trial),
        trial("every_link_leads_somewhere", every_link),
        trial("every_source_is_there", every_source),
        trial("every_command_says_where", runbooks::every_command),
        trial("the_gate_says_the_time_before_the_last_line", gate_times),
    ]
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the operator prints, with nothing set.
fn operator(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_vault-tenant-operator"))
        .args(arguments)
        .env_clear()
        .output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// The cells of the rows of the tables in a text.
pub fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// What stands in backticks.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn every_key_with_its_default() -> Result<()> {
    let shown = operator(&["config", "show"])?;
    let mut keys = Vec::new();
    collect("", &serde_yaml::from_str(&shown)?, &mut keys);
    let variables: Vec<&str> = shown
        .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .filter(|word| word.starts_with("VTO_"))
        .collect();
    ensure!(keys.len() == variables.len(), "{shown}");
    let listed: Vec<_> = rows(README)
        .filter(|row| row.len() == 4 && row[2].starts_with("`VTO_"))
        .map(|row| {
            let variable = quoted(row[2]).next().unwrap_or_default();
            (row[0].trim_matches('`').to_owned(), row[1], variable)
        })
        .collect();
    for ((key, default), variable) in keys.iter().zip(variables) {
        let row = (key.clone(), default.as_str(), variable);
        ensure!(listed.contains(&row), "the README has no row {row:?}");
    }
    ensure!(
        listed.len() == keys.len(),
        "the README has a key that isn't there"
    );
    Ok(())
}

/// Paths and values of the leaves, as the README writes them.
fn collect(path: &str, value: &Value, keys: &mut Vec<(String, String)>) {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => serde_yaml::to_string(other)
            .unwrap_or_default()
            .trim()
            .to_owned(),
    };
    let text = match value {
        Value::Mapping(section) if !section.is_empty() => {
            for (name, value) in section {
                let name = name.as_str().unwrap_or_default();
                let separator = if path.is_empty() { "" } else { "." };
                collect(&format!("{path}{separator}{name}"), value, keys);
            }
            return;
        }
        Value::Sequence(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Mapping(_) | Value::Null => String::new(),
        other => plain(other),
    };
    let cell = match text.as_str() {
        "" => "none".to_owned(),
        text => format!("`{text}`"),
    };
    keys.push((path.to_owned(), cell));
}

fn every_flag() -> Result<()> {
    let help = operator(&["run", "--help"])?;
    let flags: BTreeSet<&str> = help
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| word.starts_with("--") && !["--help", "--config"].contains(word))
        .collect();
    let listed: BTreeSet<&str> = rows(README)
        .filter(|row| row.len() == 4 && row[2].starts_with("`VTO_"))
        .filter_map(|row| quoted(row[2]).find(|word| word.starts_with("--")))
        .collect();
    ensure!(flags == listed, "{flags:?} are there, {listed:?} in README");
    Ok(())
}

fn every_dependency() -> Result<()> {
    let mut direct = BTreeSet::new();
    for (manifest, table) in [
        (CARGO, "\n[dependencies]\n"),
        (CARGO, "\n[dev-dependencies]\n"),
        (GROUND_CARGO, "\n[dependencies]\n"),
    ] {
        let (_, after) = manifest.split_once(table).context("no such table")?;
        let lines = after.lines().take_while(|line| !line.starts_with('['));
        let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
        direct.extend(names.filter(|name| !name.is_empty()));
    }
    let (_, table) = README
        .split_once("\n### Dependencies\n")
        .context("no table")?;
    let listed: BTreeSet<&str> = rows(table)
        .filter(|row| row.len() == 2)
        .filter_map(|row| quoted(row[0]).next())
        .collect();
    ensure!(direct == listed, "{direct:?} are there, {listed:?} listed");
    Ok(())
}

/// Rights as `verb resource`.
type Rights = BTreeSet<String>;

fn every_right() -> Result<()> {
    let (_, table) = PERMISSIONS
        .split_once("in each watched namespace")
        .context("no table")?;
    let (table, rest) = table.split_once("\n## ").context("no end")?;
    same("docs/permissions.md", &listed(table, 4), &held(ROLE)?)?;
    let (_, table) = README
        .split_once("\n## Permissions\n")
        .context("no section")?;
    let (table, _) = table.split_once("\n## ").context("no end")?;
    same("the README", &listed(table, 2), &held(ROLE)?)?;
    for (name, role) in [
        ("`vault-tenant-operator-own-namespace`", OWN_ROLE),
        ("`vault-tenant-operator-leadership`", LEADERSHIP_ROLE),
        ("`vault-tenant-operator-migration`", MIGRATION_ROLE),
    ] {
        let row = rows(rest).find(|row| row.len() == 5 && row[0].starts_with(name));
        let right = row.with_context(|| format!("no row {name}"))?[2];
        let (resources, verbs) = right.rsplit_once(": ").context("no verbs")?;
        same(name, &rights(resources, verbs), &held(role)?)?;
    }
    let name = "`vault-tenant-operator`, with `kustomize/components/argo-rollouts`";
    let row = rows(rest).find(|row| row.len() == 5 && row[0] == name);
    let (resources, verbs) = row.context("no row of Rollouts")?[2]
        .rsplit_once(": ")
        .context("no verbs")?;
    let added: Value = serde_yaml::from_str(ARGO_RULE)?;
    let role = serde_json::json!({ "rules": [added[0]["value"]] });
    same(name, &rights(resources, verbs), &held(&role.to_string())?)
}

fn same(place: &str, listed: &Rights, held: &Rights) -> Result<()> {
    let (more, less): (Vec<_>, Vec<_>) = (
        listed.difference(held).collect(),
        held.difference(listed).collect(),
    );
    ensure!(!held.is_empty(), "{place}: the Role has no rules");
    ensure!(
        more.is_empty() && less.is_empty(),
        "{place} lists {more:?}, which no rule gives, and leaves out {less:?}"
    );
    Ok(())
}

/// What the rows with so many cells list: resources in the first, verbs in the second.
fn listed(table: &str, cells: usize) -> Rights {
    rows(table)
        .filter(|row| row.len() == cells && row[0] != "resource" && !row[0].starts_with("---"))
        .flat_map(|row| rights(row[0], row[1]))
        .collect()
}

/// The rights of one row: `group: resource, resource`, and `verb, verb`.
fn rights(resources: &str, verbs: &str) -> Rights {
    let resources = resources.rsplit(": ").next().unwrap_or_default();
    let resources: Vec<String> = match resources {
        "the seven kinds" => KINDS.map(str::to_owned).to_vec(),
        "`/status` of the seven" => KINDS.map(|kind| format!("{kind}/status")).to_vec(),
        // A name in backticks, of the group or of the one object, isn't the resource.
        list => list
            .trim_start_matches("`events.k8s.io` ")
            .split(", ")
            .filter_map(|word| word.split(' ').next())
            .map(|word| word.trim_matches('`').to_owned())
            .collect(),
    };
    let verbs = verbs.split(", ");
    verbs
        .flat_map(|verb| resources.iter().map(move |one| format!("{verb} {one}")))
        .collect()
}

/// What a Role's rules give; each must say in a comment what it is for.
fn held(role: &str) -> Result<Rights> {
    let lines: Vec<&str> = role.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with("  - ")) {
        ensure!(
            pair[0].trim_start().starts_with('#'),
            "no comment before {}",
            pair[1]
        );
    }
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_sequence().into_iter().flatten();
        list.filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let role: Value = serde_yaml::from_str(role)?;
    let mut held = Rights::new();
    for rule in role["rules"].as_sequence().context("no rules")? {
        for resource in words(&rule["resources"]) {
            let verbs = words(&rule["verbs"]);
            held.extend(verbs.iter().map(|verb| format!("{verb} {resource}")));
        }
    }
    Ok(held)
}

fn every_link() -> Result<()> {
    let mut documents = Vec::new();
    for folder in ["docs", "examples", "kustomize", "tests"] {
        files(&repository().join(folder), "md", &mut documents)?;
    }
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        documents.push(repository().join(name));
    }
    let mut dead = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document)?;
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        for (link, _) in links.filter(|(link, _)| !link.contains("://")) {
            let path = link.split('#').next().unwrap_or_default();
            let folder = document.parent().unwrap_or(repository());
            if !path.is_empty() && !folder.join(path).exists() {
                dead.push(format!("{link} in {}", document.display()));
            }
        }
    }
    ensure!(dead.is_empty(), "dead links: {}", dead.join("; "));
    Ok(())
}

/// Each `name.rs` that a document names: from the root of the repository, or in
/// the folder of one named before it on the same line.
fn every_source() -> Result<()> {
    let mut documents = Vec::new();
    files(&repository().join("docs"), "md", &mut documents)?;
    for name in ["README.md", "CONTRIBUTING.md"] {
        documents.push(repository().join(name));
    }
    let (mut missing, mut found) = (Vec::new(), 0);
    for document in documents {
        for line in std::fs::read_to_string(&document)?.lines() {
            let mut folders = BTreeSet::from([repository().to_owned()]);
            for name in quoted(line).filter(|word| word.ends_with(".rs")) {
                found += 1;
                if !folders.iter().any(|folder| folder.join(name).is_file()) {
                    missing.push(format!("{name} in {}", document.display()));
                }
                let folder = repository().join(name);
                folders.extend(folder.parent().map(Path::to_owned));
            }
        }
    }
    ensure!(found > 0, "no document names a source");
    ensure!(missing.is_empty(), "not there: {}", missing.join("; "));
    Ok(())
}

/// The functions of `.ci/run` that say the time, given what `cargo test` prints.
fn gate_times() -> Result<()> {
    let function = |name: &str| -> Result<String> {
        let start = format!("\n{name}() {{");
        let (_, body) = GATE.split_once(&start).context("no such function")?;
        let (body, _) = body.split_once("}\n").context("no end")?;
        Ok(format!("{start}{body}}}\n"))
    };
    let script = format!(
        "{}{}current=tests began=0 SECONDS=130; printf 'one ... ok\\ntest result: ok. 1\\n' | timed",
        function("clock")?,
        function("timed")?
    );
    let output = Command::new("bash").args(["-euc", &script]).output()?;
    let said = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "one ... ok",
        "== tests: 2 min 10 s (2 min 10 s since the start)",
        "test result: ok. 1",
    ];
    ensure!(lines == expected, "{said}");
    ensure!(
        function("tests")?.ends_with("\"${@:2}\" 2>&1 | timed\n}\n"),
        "the tests are not timed"
    );
    let last = "tests 'tests' cargo test\nif [ -n \"$real_node\" ]; then\n  tests 'the real node' cargo test --test node\nfi";
    ensure!(
        GATE.trim_end().ends_with(last),
        "the tests are not the last step"
    );
    Ok(())
}

/// All files of an extension below a folder.
pub fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, extension, found)?;
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    Ok(())
}
