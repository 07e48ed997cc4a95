//! From layers to one [`Config`]. Each value of each layer is judged by itself
//! before the layers are merged, so that all that is wrong is told at once, and
//! a bad value is told even where a later layer replaces it.

use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use figment::{Figment, Provider as _};

use super::keys::{self, Key, Shape};
use super::layers::{Layer, Override, insert};
use super::{Config, Finding, check};

/// What the layers came to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The validated configuration.
    pub config: Config,
    pub(super) figment: Figment,
    pub(super) layers: Vec<Layer>,
}

/// Merges `defaults < files < environment < overrides` and validates.
///
/// `environment` is the whole environment; only `VTO_*` is looked at.
///
/// # Errors
/// Everything that is wrong, in the order of the layers.
pub fn load(
    files: &[String],
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[Override],
) -> Result<Loaded, Vec<Finding>> {
    let keys = keys::all().map_err(|error| vec![internal(&error)])?;
    let mut findings = Vec::new();
    let mut layers = Vec::new();
    for path in files {
        match Layer::file(path) {
            Ok(layer) => layers.push(layer),
            Err(finding) => findings.push(finding),
        }
    }
    layers.push(Layer::environment(environment, &keys, &mut findings));
    layers.push(Layer::command_line(overrides, &keys));
    merge(layers, &keys, findings)
}

/// Judges and merges layers.
pub(super) fn merge(
    layers: Vec<Layer>,
    keys: &[Key],
    mut findings: Vec<Finding>,
) -> Result<Loaded, Vec<Finding>> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    let mut kept = Vec::new();
    for mut layer in layers {
        let mut values = Dict::new();
        for (path, value) in leaves("", &layer.values, keys) {
            match judge(&path, &value, keys) {
                Ok(Some(value)) => insert(&mut values, &path, value),
                Ok(None) => {}
                Err(all) => findings.extend(all.into_iter().map(|why| Finding {
                    place: layer.place(&path),
                    key: Some(path.clone()),
                    why,
                })),
            }
        }
        layer.values = values;
        figment = figment.merge(&layer);
        kept.push(layer);
    }
    let config: Config = match figment.extract() {
        Ok(config) => config,
        Err(error) => {
            findings.push(internal(&error));
            return Err(findings);
        }
    };
    let loaded = Loaded {
        config,
        figment,
        layers: kept,
    };
    findings.extend(
        check::together(&loaded.config)
            .into_iter()
            .map(|(key, why)| Finding {
                place: loaded.place(key),
                key: Some(key.to_owned()),
                why,
            }),
    );
    if findings.is_empty() {
        Ok(loaded)
    } else {
        Err(findings)
    }
}

impl Loaded {
    /// The layer that a value has its tag from; none for a default.
    fn layer_of(&self, value: &Value) -> Option<&Layer> {
        let name = &self.figment.get_metadata(value.tag())?.name;
        self.layers
            .iter()
            .rev()
            .find(|layer| layer.metadata().name == *name)
    }

    fn place(&self, key: &str) -> String {
        self.figment
            .find_value(key)
            .ok()
            .and_then(|value| self.layer_of(&value).map(|layer| layer.place(key)))
            .unwrap_or_else(|| "default".to_owned())
    }

    /// What set a value, as `config show` names it.
    pub(super) fn setter(&self, key: &str, value: &Value) -> String {
        self.layer_of(value)
            .map_or_else(|| "default".to_owned(), |layer| layer.setter(key))
    }
}

/// The values of a layer with their paths: down to known keys, and to whatever
/// is not known.
fn leaves(prefix: &str, dict: &Dict, keys: &[Key]) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (name, value) in dict {
        let path = keys::join(prefix, name);
        match value {
            Value::Dict(_, inner) if is_section(&path, keys) => {
                found.extend(leaves(&path, inner, keys));
            }
            _ => found.push((path, value.clone())),
        }
    }
    found
}

fn is_section(path: &str, keys: &[Key]) -> bool {
    keys.iter().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// One value by itself: what is to be merged, nothing (a key that is there but
/// empty means the default, as in manifests), or what is wrong with it.
fn judge(path: &str, value: &Value, keys: &[Key]) -> Result<Option<Value>, Vec<String>> {
    let empty = matches!(value, Value::Empty(..));
    let Some(key) = keys.iter().find(|key| key.path == path) else {
        return if !is_section(path, keys) {
            Err(vec![unknown(path, keys)])
        } else if empty {
            Ok(None)
        } else {
            Err(vec![
                "is a section: write its keys below it, indented".to_owned(),
            ])
        };
    };
    if empty {
        return Ok(None);
    }
    // The entries of a list one by one, so that each wrong one is told.
    let parts: Vec<Value> = match value {
        Value::Array(_, entries) if key.shape == Shape::List && entries.len() > 1 => entries
            .iter()
            .map(|entry| Value::from(vec![entry.clone()]))
            .chain([value.clone()])
            .collect(),
        _ => vec![value.clone()],
    };
    let mut wrong = Vec::new();
    for part in parts {
        if let Err(why) = alone(path, part) {
            for why in why {
                if !wrong.contains(&why) {
                    wrong.push(why);
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(Some(value.clone()))
    } else {
        Err(wrong)
    }
}

/// Whether the defaults with just this value are a configuration.
fn alone(path: &str, value: Value) -> Result<(), Vec<String>> {
    let mut dict = Dict::new();
    insert(&mut dict, path, value);
    let config: Config = Figment::from(Serialized::defaults(Config::default()))
        .merge(Serialized::defaults(dict))
        .extract()
        .map_err(|error| {
            error
                .into_iter()
                .map(|one| in_words(&one.kind))
                .collect::<Vec<_>>()
        })?;
    let wrong: Vec<String> = check::values(&config)
        .into_iter()
        .map(|(_, why)| why)
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn unknown(path: &str, keys: &[Key]) -> String {
    let known: Vec<&str> = keys.iter().map(|key| key.path.as_str()).collect();
    format!(
        "is no key of the configuration{}; `config show` prints all that there are",
        super::suggestion(path, &known)
    )
}

/// serde's words for people.
fn in_words(kind: &Kind) -> String {
    let wanted = |expected: &str| match expected {
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "names with values".to_owned(),
        "a string" => "text (in quotes, if it looks like a number)".to_owned(),
        other => other.to_owned(),
    };
    match kind {
        Kind::Message(text) => text.clone(),
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("is {actual}, and should be {}", wanted(expected))
        }
        other => other.to_string(),
    }
}

/// A defect: judged values that do not merge.
fn internal(error: &figment::Error) -> Finding {
    Finding {
        place: "configuration".to_owned(),
        key: None,
        why: format!("cannot be put together ({error}): please report this as a defect"),
    }
}
