//! The layers above the defaults, each turned into the same nested form: a
//! YAML file, the `VTO_*` environment, the command line. Values are not judged
//! here, only found.

use std::fmt;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::Finding;
use super::keys::Key;
use super::locate;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file of `--config`.
    File(String),
    /// `VTO_*` variables.
    Environment,
    /// Flags.
    CommandLine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "file {path}"),
            Source::Environment => f.write_str("environment"),
            Source::CommandLine => f.write_str("command line"),
        }
    }
}

/// A flag that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key that it sets, `sync.maxConcurrentReconciles`.
    pub key: &'static str,
    /// As it is typed, `--max-concurrent-reconciles`.
    pub flag: &'static str,
    /// Its text; the values of a list joined by commas.
    pub value: String,
}

/// One layer.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub source: Source,
    pub values: Dict,
    /// Text of the file, to find lines in.
    text: String,
    /// Keys and flags of the command line.
    flags: Vec<(&'static str, &'static str)>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Layer {
    /// Reads a YAML file.
    pub(super) fn file(path: &str) -> Result<Self, Finding> {
        let source = Source::File(path.to_owned());
        let text = std::fs::read_to_string(path).map_err(|error| Finding {
            place: source.to_string(),
            key: None,
            why: format!("cannot be read ({error}): correct the path or the file's mode"),
        })?;
        Self::yaml(source, text)
    }

    /// Reads YAML; split from [`Layer::file`] for what is not in a file.
    pub(super) fn yaml(source: Source, text: String) -> Result<Self, Finding> {
        let finding = |why: String, line: Option<usize>| Finding {
            place: match line {
                Some(line) => format!("{source}, line {line}"),
                None => source.to_string(),
            },
            key: None,
            why,
        };
        // serde_yaml's own value refuses keys that are there twice.
        let parsed: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|error| {
            let line = error.location().map(|place| place.line());
            finding(format!("is no valid YAML ({error})"), line)
        })?;
        let values = match parsed {
            serde_yaml::Value::Null => Dict::new(),
            serde_yaml::Value::Mapping(_) => Value::serialize(&parsed)
                .ok()
                .and_then(Value::into_dict)
                .ok_or_else(|| {
                    finding(
                        "has a key that is no text: write all keys as text".to_owned(),
                        None,
                    )
                })?,
            _ => {
                return Err(finding(
                    "is no YAML mapping: write keys with values, as `config show` prints them"
                        .to_owned(),
                    Some(1),
                ));
            }
        };
        Ok(Self {
            source,
            values,
            text,
            flags: Vec::new(),
        })
    }

    /// Takes what is ours from the environment.
    pub(super) fn environment(
        variables: impl IntoIterator<Item = (String, String)>,
        keys: &[Key],
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut values = Dict::new();
        for (name, text) in variables {
            if !name.starts_with("VTO_") {
                continue;
            }
            if let Some(key) = keys.iter().find(|key| key.variable == name) {
                insert(&mut values, &key.path, key.shape.read(&text));
            } else if !is_service_link(&name, keys) {
                let known: Vec<&str> = keys.iter().map(|key| key.variable.as_str()).collect();
                findings.push(Finding {
                    place: format!("environment variable {name}"),
                    key: None,
                    why: format!(
                        "sets no key of the configuration{}; unset it",
                        super::suggestion(&name, &known)
                    ),
                });
            }
        }
        Self {
            source: Source::Environment,
            values,
            text: String::new(),
            flags: Vec::new(),
        }
    }

    /// Takes the flags.
    pub(super) fn command_line(overrides: &[Override], keys: &[Key]) -> Self {
        let mut values = Dict::new();
        let mut flags = Vec::new();
        for given in overrides {
            if let Some(key) = keys.iter().find(|key| key.path == given.key) {
                insert(&mut values, given.key, key.shape.read(&given.value));
                flags.push((given.key, given.flag));
            }
        }
        Self {
            source: Source::CommandLine,
            values,
            text: String::new(),
            flags,
        }
    }

    /// Where the layer sets a key, for people.
    pub(super) fn place(&self, key: &str) -> String {
        match &self.source {
            Source::File(_) => {
                let path: Vec<&str> = key.split('.').collect();
                match locate::line(&self.text, &path) {
                    Some(line) => format!("{}, line {line}", self.source),
                    None => self.source.to_string(),
                }
            }
            Source::Environment => {
                format!("environment variable {}", super::keys::variable(key))
            }
            Source::CommandLine => format!("command line {}", self.flag(key)),
        }
    }

    /// What set a key in this layer, as `config show` names it.
    pub(super) fn setter(&self, key: &str) -> String {
        match &self.source {
            Source::File(path) => format!("file {path}"),
            Source::Environment => format!("environment {}", super::keys::variable(key)),
            Source::CommandLine => self.place(key),
        }
    }

    fn flag<'a>(&'a self, key: &'a str) -> &'a str {
        self.flags
            .iter()
            .find(|(set, _)| *set == key)
            .map_or(key, |(_, flag)| flag)
    }
}

/// Puts a value at a dotted path.
pub(super) fn insert(dict: &mut Dict, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            dict.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = dict
                .entry(section.to_owned())
                .or_insert_with(|| Dict::new().into());
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Whether Kubernetes put the variable into the pod for a Service whose name
/// begins with `vto-`. A variable of one of our sections is not taken for one.
fn is_service_link(name: &str, keys: &[Key]) -> bool {
    let section = name.split_once("__").map(|(section, _)| section);
    let ours = section.is_some_and(|section| {
        keys.iter()
            .any(|key| key.variable.split_once("__").map(|(ours, _)| ours) == Some(section))
    });
    if ours {
        return false;
    }
    let port = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(|p| p.parse::<u16>().is_ok())
            && parts
                .next()
                .is_some_and(|p| matches!(p, "TCP" | "UDP" | "SCTP"))
            && parts
                .next()
                .is_none_or(|p| matches!(p, "PROTO" | "PORT" | "ADDR"))
            && parts.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT_")
        || name
            .rsplit_once("_PORT_")
            .is_some_and(|(_, rest)| port(rest))
    // `.._PORT_443_TCP_PORT` ends in `_PORT` and is covered above.
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn services_called_vto_do_not_stop_the_start() {
        let keys = keys::all().unwrap();
        for name in [
            "VTO_SERVICE_HOST",
            "VTO_PORT",
            "VTO_METRICS_SERVICE_HOST",
            "VTO_METRICS_SERVICE_PORT",
            "VTO_METRICS_SERVICE_PORT_HTTP",
            "VTO_METRICS_PORT",
            "VTO_METRICS_PORT_8080_TCP",
            "VTO_METRICS_PORT_8080_TCP_PROTO",
            "VTO_METRICS_PORT_8080_TCP_PORT",
            "VTO_METRICS_PORT_8080_TCP_ADDR",
            "VTO_A__B_PORT_53_UDP",
        ] {
            assert!(is_service_link(name, &keys), "{name}");
        }
        for name in [
            "VTO_METRICS",
            "VTO_POST",
            "VTO_TELEMETRY__METRICS_PORT",
            "VTO_X_PORT_ABC_TCP",
        ] {
            assert!(!is_service_link(name, &keys), "{name}");
        }
        for key in &keys {
            assert!(!is_service_link(&key.variable, &keys), "{}", key.variable);
        }
    }
}
