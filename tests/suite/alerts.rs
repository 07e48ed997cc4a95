//! The shipped alerts: promtool takes them, each fires where it should and is silent
//! where it should, and each has its page of what to do.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ground::prometheus::promtool;
use serde_yaml::Value;

use crate::documents::{files, repository};
use crate::support::Suite;

crate::trials![
    "alerts": promtool_takes_the_rules_and_each_fires_and_is_silent,
    each_has_its_labels_its_page_and_its_tests,
];

const RULES: &str = include_str!("../../kustomize/components/prometheus-rule/rules.yaml");

const TESTS: [(&str, &str); 3] = [
    ("operator.yaml", include_str!("alerts/operator.yaml")),
    ("secrets.yaml", include_str!("alerts/secrets.yaml")),
    ("vault.yaml", include_str!("alerts/vault.yaml")),
];

/// The rule file in the shipped PrometheusRule: what the Prometheus Operator makes of it.
pub fn rule_file() -> Result<String> {
    let rule: Value = serde_yaml::from_str(RULES)?;
    Ok(serde_yaml::to_string(&rule["spec"])?)
}

/// Each rule, as it is in the file.
pub fn rules() -> Result<Vec<Value>> {
    let rule: Value = serde_yaml::from_str(RULES)?;
    let groups = rule["spec"]["groups"].as_sequence().context("no groups")?;
    let rules = groups
        .iter()
        .filter_map(|group| group["rules"].as_sequence());
    Ok(rules.flatten().cloned().collect())
}

pub fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    let found = value[field].as_str().filter(|text| !text.is_empty());
    found.with_context(|| format!("no {field}: {value:?}"))
}

async fn promtool_takes_the_rules_and_each_fires_and_is_silent(suite: &Suite) -> Result<()> {
    let components = suite.ground.components();
    let dir = suite.ground.dir().join("alerts");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("rules.yaml"), rule_file()?)?;
    let said = promtool(
        components,
        &dir,
        &["check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"],
        "",
    )
    .await?;
    let found = format!("{} rules found", rules()?.len());
    ensure!(said.contains(&found), "{said}");
    let mut args = vec!["test", "rules"];
    for (name, text) in TESTS {
        std::fs::write(dir.join(name), text)?;
        args.push(name);
    }
    promtool(components, &dir, &args, "").await?;
    can_fail(suite, &dir).await
}

/// An alert that is awaited where there is none fails the tests.
async fn can_fail(suite: &Suite, dir: &Path) -> Result<()> {
    let (_, text) = TESTS[0];
    let wrong = text.replace("values: '1x20'", "values: '0x20'");
    ensure!(wrong != text, "nothing was changed");
    std::fs::write(dir.join("wrong.yaml"), wrong)?;
    let components = suite.ground.components();
    let passed = promtool(components, dir, &["test", "rules", "wrong.yaml"], "").await;
    let error = passed.err().context("a wrong test passed")?.to_string();
    ensure!(error.contains("VtoRolloutFailed"), "{error}");
    Ok(())
}

async fn each_has_its_labels_its_page_and_its_tests(_: &Suite) -> Result<()> {
    let folder = repository().join("docs/runbooks");
    let mut paths = Vec::new();
    files(&folder, "md", &mut paths)?;
    let mut pages: BTreeSet<_> = paths.into_iter().collect();
    let mut tests = Vec::new();
    for (_, text) in TESTS {
        let file: Value = serde_yaml::from_str(text)?;
        tests.extend(file["tests"].as_sequence().context("no tests")?.clone());
    }
    for rule in rules()? {
        let alert = text(&rule, "alert")?;
        let severity = text(&rule["labels"], "severity")?;
        ensure!(["warning", "critical"].contains(&severity), "{severity}");
        for field in ["summary", "description"] {
            text(&rule["annotations"], field).with_context(|| alert.to_owned())?;
        }
        let url = text(&rule["annotations"], "runbook_url")?;
        let (_, page) = url.split_once("/docs/runbooks/").context("no page")?;
        let page = folder.join(page);
        ensure!(pages.remove(&page), "{} isn't there alone", page.display());
        let about = std::fs::read_to_string(&page)?;
        for part in [&format!("# {alert}\n"), "\n## How to look\n", "\n## Causes"] {
            ensure!(about.contains(part), "{} lacks {part}", page.display());
        }
        for (how, fires) in [("fires", true), ("is silent", false)] {
            let begin = format!("{alert} {how}");
            let found = tests.iter().find(|test| {
                let name = test["name"].as_str().unwrap_or_default();
                name.starts_with(&begin)
            });
            let test = found.with_context(|| format!("no test {begin}"))?;
            ensure!(awaits(test, alert)? == fires, "{begin}: {test:?}");
        }
    }
    ensure!(pages.is_empty(), "no alert has {pages:?}");
    Ok(())
}

/// Whether a test awaits that this alert, which is what it asks for, fires at some time.
fn awaits(test: &Value, alert: &str) -> Result<bool> {
    let asked = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
    let mut fires = false;
    for check in test["promql_expr_test"]
        .as_sequence()
        .context("no checks")?
    {
        ensure!(check["expr"] == asked.as_str(), "{check:?}");
        let samples = check["exp_samples"].as_sequence().context("no samples")?;
        fires |= !samples.is_empty();
    }
    Ok(fires)
}
