//! A real Prometheus on loopback, which scrapes operators and evaluates rules, and promtool, which checks both.
//!
//! A ground starts it when somebody first asks for it. Whom it scrapes is read from a file, so that operators come and go
//! while it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::components::Components;
use crate::go_build;
use crate::operator::Operator;
use crate::ports::start_on_free_ports;
use crate::process::{Process, Spec};
use crate::wait::wait_for;

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(60);

/// The files of its folder that are written while it runs: whom it scrapes, and its rules.
const TARGETS: &str = "targets.json";
const RULES: &str = "rules.yaml";

/// The label `job` of all that it scrapes, as the shipped monitors set it.
pub const JOB: &str = "vault-tenant-operator";

/// The module of the Prometheus Operator whose definitions the API server gets, with its hash.
const OPERATOR: [&str; 3] = [
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
];

/// The server of one ground.
#[derive(Debug)]
pub struct Prometheus {
    /// The server; stop, continue and kill it here.
    pub process: Process,
    /// Where it is asked: `http://127.0.0.1:PORT`.
    pub url: String,
    dir: PathBuf,
    http: reqwest::Client,
}

/// An operator that is scraped, and the pod that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its metrics are asked for every second.
    pub operator: &'a Operator,
    /// The namespace that a monitor would find the pod in.
    pub namespace: &'a str,
    /// The pod's name.
    pub pod: &'a str,
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels, `__name__` among them where it has one.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// What the API answers to a query.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Element {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Prometheus {
    /// Starts a server in a folder of its own in that of the run; it scrapes nobody yet.
    ///
    /// # Errors
    /// It isn't ready in time.
    pub(crate) async fn start(components: &Components, run: &Path) -> Result<Self> {
        let dir = run.join("prometheus");
        std::fs::create_dir(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": [RULES],
            "scrape_configs": [{
                "job_name": JOB,
                // As the shipped monitors do: the namespace of a series is the tenant's.
                "honor_labels": true,
                "file_sd_configs": [{ "files": [TARGETS], "refresh_interval": "1s" }],
            }],
        });
        // JSON is YAML too.
        std::fs::write(dir.join("prometheus.yaml"), config.to_string())?;
        std::fs::write(dir.join(TARGETS), "[]")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        let url = |port| format!("http://127.0.0.1:{port}");
        let spec = |[port]: [u16; 1]| {
            let program = components.path("prometheus")?;
            Ok(Spec::new("prometheus", program, &dir)
                .flag("config.file", dir.join("prometheus.yaml"))
                .flag("storage.tsdb.path", dir.join("data"))
                .flag("web.listen-address", format!("127.0.0.1:{port}"))
                .arg("--web.enable-lifecycle")
                .arg("--log.level=warn"))
        };
        let ready = |[port]: [u16; 1]| {
            let request = http.get(format!("{}/-/ready", url(port)));
            async move { Ok(request.send().await?.error_for_status()?) }
        };
        let (process, [port]) = start_on_free_ports(START, spec, ready).await?;
        Ok(Self {
            process,
            url: url(port),
            dir,
            http,
        })
    }

    /// Scrapes these from now on and nobody else; returns when each was scraped.
    ///
    /// # Errors
    /// One doesn't answer a scrape in time.
    pub async fn scrape(&self, targets: &[Target<'_>]) -> Result<()> {
        let groups: Vec<Value> = targets
            .iter()
            .map(|target| {
                json!({
                    "targets": [target.operator.metrics_address()],
                    "labels": { "namespace": target.namespace, "pod": target.pod },
                })
            })
            .collect();
        // Renamed, so that half a file is never read.
        let unfinished = self.dir.join("targets.new");
        std::fs::write(&unfinished, Value::from(groups).to_string())?;
        std::fs::rename(&unfinished, self.dir.join(TARGETS))?;
        wait_for("all targets to be scraped", START, || async {
            let up = self.query(&format!("up{{job=\"{JOB}\"}}")).await?;
            for target in targets {
                let scraped = |sample: &&Sample| {
                    sample.labels.get("instance") == Some(&target.operator.metrics_address())
                };
                let found = up.iter().find(scraped);
                ensure!(found.is_some_and(|sample| sample.value > 0.0), "{up:?}");
            }
            Ok(())
        })
        .await
    }

    /// Evaluates these rules (the text of a rule file) every second from now on.
    ///
    /// # Errors
    /// It refuses them.
    pub async fn rules(&self, groups: &str) -> Result<()> {
        std::fs::write(self.dir.join(RULES), groups)?;
        let answer = self.http.post(format!("{}/-/reload", self.url));
        let answer = answer.send().await?;
        let refused = answer.error_for_status_ref().err();
        let said = answer.text().await?;
        ensure!(refused.is_none(), "the rules are refused: {said}");
        Ok(())
    }

    /// The values that a label of a metric has had in the last minute, as Grafana's
    /// `label_values(metric, label)` asks for them.
    ///
    /// # Errors
    /// It refuses the question.
    pub async fn label_values(&self, metric: &str, label: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Values {
            data: Vec<String>,
        }
        let url = format!("{}/api/v1/label/{label}/values", self.url);
        let start = jiff::Timestamp::now().as_second() - 60;
        let asked = [("match[]", metric), ("start", &start.to_string())];
        let url = reqwest::Url::parse_with_params(&url, asked)?;
        let text = self.http.get(url).send().await?.text().await?;
        let values: Values = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok(values.data)
    }

    /// Evaluates an expression now; a scalar is one sample without labels.
    ///
    /// # Errors
    /// It refuses the expression, in its own words, or the answer is a range or a string.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let url = format!("{}/api/v1/query", self.url);
        let url = reqwest::Url::parse_with_params(&url, [("query", expression)])?;
        let text = self.http.get(url).send().await?.text().await?;
        let answer: Answer = serde_json::from_str(&text).with_context(|| text.clone())?;
        let data = answer
            .data
            .with_context(|| format!("{expression}: {}", answer.error))?;
        let read = |text: &str| text.parse::<f64>().with_context(|| text.to_owned());
        match data.result_type.as_str() {
            "scalar" => {
                let (_, value): (f64, String) = serde_json::from_value(data.result)?;
                Ok(vec![Sample {
                    labels: BTreeMap::new(),
                    value: read(&value)?,
                }])
            }
            "vector" => {
                let elements: Vec<Element> = serde_json::from_value(data.result)?;
                let samples = elements.into_iter().map(|element| {
                    Ok(Sample {
                        labels: element.metric,
                        value: read(&element.value.1)?,
                    })
                });
                samples.collect()
            }
            other => anyhow::bail!("{expression} gives a {other}"),
        }
    }
}

/// The Prometheus Operator's own definitions of the kinds that `kustomize/components` has objects of.
///
/// # Errors
/// Its Go module can't be downloaded.
pub fn operator_crds() -> Result<String> {
    let [module, version, sum] = OPERATOR;
    let folder = go_build::files(module, version, sum)?.join("example/prometheus-operator-crd");
    let mut all = String::new();
    for kind in ["podmonitors", "servicemonitors", "prometheusrules"] {
        let file = folder.join(format!("monitoring.coreos.com_{kind}.yaml"));
        let text = std::fs::read_to_string(&file);
        all += &text.with_context(|| format!("can't read {}", file.display()))?;
    }
    Ok(all)
}

/// What promtool prints on its two outputs, run with these arguments in a folder and with `input` as its standard input.
///
/// # Errors
/// It ends with anything but 0: with what it printed.
pub async fn promtool(
    components: &Components,
    dir: &Path,
    args: &[&str],
    input: &str,
) -> Result<String> {
    let mut child = Command::new(components.path("promtool")?)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("can't run promtool")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // One that doesn't read it has ended, and says why.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "promtool {args:?}: {said}");
    Ok(said)
}
