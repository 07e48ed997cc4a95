//! Every query that is shipped, and what it gives for the scene: `expected.yaml` has
//! each of them, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use ground::prometheus::Sample;
use ground::wait_for;
use serde::Deserialize;

use super::Seen;
use crate::documents::{files, quoted, repository, rows};
use crate::monitors::panels;
use crate::support::LONG;

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

const EXPECTED: &str = "tests/suite/prometheus/expected.yaml";

/// Elements by their labels, without the tenant's namespace and what a scrape adds.
type Elements = BTreeMap<String, Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    query: String,
    #[serde(default)]
    gives: Elements,
    /// Instead: so many elements, of those that change places among each other.
    #[serde(default)]
    several: Option<Several>,
    /// What it gives without the comparison at its end, or without what takes the place
    /// of nothing: that where nothing is given, there is something to be compared.
    #[serde(default)]
    before: Elements,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    count: usize,
    each: Value,
}

/// A number, or the least and the greatest that it may be: `0.1..5`; after a `?`, of what
/// may be missing, since it depends on who comes first.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Exactly(f64),
    Between(String),
}

impl Value {
    fn is_optional(&self) -> bool {
        matches!(self, Self::Between(text) if text.starts_with('?'))
    }

    fn allows(&self, value: f64) -> Result<bool> {
        match self {
            Self::Exactly(exactly) => Ok((value - exactly).abs() < 1e-9),
            Self::Between(text) => {
                let (least, most) = text
                    .trim_start_matches('?')
                    .split_once("..")
                    .context("no range")?;
                Ok((least.parse()?..=most.parse()?).contains(&value))
            }
        }
    }
}

impl Seen<'_> {
    /// The labels of an element, as `expected.yaml` has them.
    fn labels(&self, sample: &Sample) -> String {
        let scraped = ["__name__", "instance", "job"];
        let labels = sample.labels.iter();
        let told: Vec<String> = labels
            .filter(|(name, value)| {
                let own = *name == "namespace" && *value == self.namespace;
                !own && !scraped.contains(&name.as_str())
            })
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        told.join(",")
            .replace(self.beside, "$beside")
            .replace(self.namespace, "$namespace")
            .replace(vault_tenant_operator::REVISION, "$revision")
            .replace(env!("CARGO_PKG_VERSION"), "$version")
            .replace(std::env::consts::ARCH, "$arch")
    }

    fn told(&self, found: &[Sample]) -> BTreeMap<String, f64> {
        // What was not done in the range has no quantile.
        let numbers = found.iter().filter(|sample| !sample.value.is_nan());
        numbers
            .map(|sample| (self.labels(sample), sample.value))
            .collect()
    }

    /// An expression gives just these elements.
    async fn gives(&self, expression: &str, expected: &Elements) -> Result<()> {
        let found = self.prometheus.query(expression).await?;
        let found = self.told(&found);
        let mut right = expected
            .iter()
            .all(|(labels, value)| found.contains_key(labels) || value.is_optional());
        for (labels, value) in &found {
            right &= expected
                .get(labels)
                .map_or(Ok(false), |it| it.allows(*value))?;
        }
        ensure!(right, "{expression} gives {found:#?}, not {expected:?}");
        Ok(())
    }

    async fn holds(&self, expectation: &Expectation) -> Result<()> {
        let query = self.chosen(&expectation.query);
        if let Some(several) = &expectation.several {
            let found = self.prometheus.query(&query).await?;
            let mut right = found.len() == several.count;
            for sample in &found {
                right &= several.each.allows(sample.value)?;
            }
            ensure!(right, "{query} gives {:#?}", self.told(&found));
            return Ok(());
        }
        self.gives(&query, &expectation.gives).await?;
        match unbound(&query) {
            Some(all) if !expectation.before.is_empty() => {
                self.gives(all, &expectation.before).await
            }
            Some(_) if query.ends_with(FALLBACK) => bail!("no `before`"),
            None if !expectation.before.is_empty() => bail!("it has no bound"),
            _ => {
                // What gives nothing would do so with any name.
                ensure!(!expectation.gives.is_empty(), "neither gives anything");
                Ok(())
            }
        }
    }
}

/// What takes the place of nothing.
const FALLBACK: &str = " or vector(0)";

/// An expression without the comparison with a number, or the fallback, that it ends with.
fn unbound(expression: &str) -> Option<&str> {
    if let Some(before) = expression.strip_suffix(FALLBACK) {
        return Some(before);
    }
    let (before, bound) = expression.rsplit_once(' ')?;
    bound.parse::<f64>().ok()?;
    let signs = [" >", " <", " =="];
    signs.iter().find_map(|sign| before.strip_suffix(sign))
}

/// Every metric that a text names, by the families of docs/metrics.md.
fn named(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("vto_") || word.starts_with("process_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
}

/// Those of the document, of the runbooks and of the dashboard, with their places; all
/// of them go by metrics that the document has.
fn queries() -> Result<BTreeMap<String, String>> {
    let documented: Vec<_> = rows(DOCUMENT)
        .filter(|row| row.len() >= 5 && row.iter().any(|cell| cell.starts_with('`')))
        .collect();
    let families: BTreeSet<&str> = documented
        .iter()
        .filter_map(|row| quoted(row[row.len() - 5]).next())
        .collect();
    let mut queries = BTreeMap::new();
    let mut note = |query: &str, place: String| -> Result<()> {
        for metric in named(query) {
            ensure!(families.contains(metric), "{place}: no metric {metric}");
        }
        queries.insert(query.to_owned(), place);
        Ok(())
    };
    for row in &documented {
        let query = quoted(row[row.len() - 1]).next().context("no query")?;
        let place = "docs/metrics.md".to_owned();
        // Others' series are in a Prometheus, too.
        ensure!(query.contains("namespace=\"team\""), "{place}: {query}");
        note(query, place)?;
    }
    let mut pages = Vec::new();
    files(&repository().join("docs/runbooks"), "md", &mut pages)?;
    for page in pages {
        let text = std::fs::read_to_string(&page)?;
        // Blocks of code are no queries.
        let prose: Vec<&str> = text.split("```").step_by(2).collect();
        for code in quoted(&prose.join("")) {
            let place = page.display().to_string();
            if code.starts_with("up{") {
                note(code, place)?;
            } else {
                let mut metrics = named(code).peekable();
                let is_query = metrics.peek().is_some_and(|metric| *metric != code);
                ensure!(
                    metrics.all(|metric| families.contains(metric)),
                    "{place}: {code}"
                );
                if is_query {
                    note(code, place)?;
                }
            }
        }
    }
    for panel in panels()? {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().context("no targets")? {
            let query = target["expr"].as_str().context("no query")?;
            note(query, format!("panel {title}"))?;
        }
    }
    Ok(queries)
}

/// Each of them gives what is expected of it.
pub async fn each_query(seen: &Seen<'_>) -> Result<()> {
    let queries = queries()?;
    let file = std::fs::read_to_string(repository().join(EXPECTED))?;
    let expectations: Vec<Expectation> = serde_yaml::from_str(&file)?;
    let known: BTreeSet<&str> = expectations.iter().map(|one| one.query.as_str()).collect();
    ensure!(
        known.len() == expectations.len(),
        "one is expected two times"
    );
    let mut wrong: Vec<String> = Vec::new();
    for (query, place) in &queries {
        if !known.contains(query.as_str()) {
            let found = seen.prometheus.query(&seen.chosen(query)).await?;
            let found = seen.told(&found);
            wrong.push(format!(
                "{place} has {query}, which nothing is expected of: {found:#?}"
            ));
        }
    }
    let shipped = known.iter().filter(|query| !queries.contains_key(**query));
    wrong.extend(shipped.map(|query| format!("nobody asks for {query}")));
    wait_for("every query to give what it should", LONG, || async {
        let mut wrong = wrong.clone();
        for expectation in &expectations {
            if let Err(error) = seen.holds(expectation).await {
                wrong.push(format!("{}: {error:#}", expectation.query));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
    .await
}
