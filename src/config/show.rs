//! The effective configuration as YAML that could be a file again, each value
//! with what set it and the variable that would.

use std::fmt::Write as _;

use figment::value::{Dict, Value};

use super::keys;
use super::load::Loaded;

impl Loaded {
    /// The text of `config show`.
    ///
    /// # Errors
    /// A sentence, if a value cannot be written; only a defect does that.
    pub fn show(&self) -> Result<String, String> {
        let defect = |error: &dyn std::fmt::Display| {
            format!("the configuration cannot be printed ({error}): please report this as a defect")
        };
        let effective = serde_yaml::to_value(&self.config).map_err(|error| defect(&error))?;
        let serde_yaml::Value::Mapping(sections) = effective else {
            return Err(defect(&"it is no mapping"));
        };
        let mut text = String::new();
        self.section(&mut text, "", &sections)
            .map_err(|error| defect(&error))?;
        Ok(text)
    }

    /// Writes a section; the order is that of the types.
    fn section(
        &self,
        text: &mut String,
        prefix: &str,
        section: &serde_yaml::Mapping,
    ) -> Result<(), std::fmt::Error> {
        let indent = "  ".repeat(match prefix {
            "" => 0,
            _ => prefix.split('.').count(),
        });
        for (name, value) in section {
            let name = name.as_str().unwrap_or_default();
            let path = keys::join(prefix, name);
            let is_map = self.known_map(&path);
            match value {
                serde_yaml::Value::Mapping(inner) if !is_map => {
                    writeln!(text, "{indent}{name}:")?;
                    self.section(text, &path, inner)?;
                }
                serde_yaml::Value::Mapping(inner) if !inner.is_empty() => {
                    writeln!(text, "{indent}{name}: # {}", keys::variable(&path))?;
                    self.entries(text, &indent, &path, inner)?;
                }
                serde_yaml::Value::Sequence(entries) if !entries.is_empty() => {
                    writeln!(text, "{indent}{name}: # {}", self.note(&path))?;
                    for entry in entries {
                        writeln!(text, "{indent}- {}", scalar(entry))?;
                    }
                }
                _ => writeln!(
                    text,
                    "{indent}{name}: {} # {}",
                    scalar(value),
                    self.note(&path)
                )?,
            }
        }
        Ok(())
    }

    /// Writes the entries of a map, whose sources may differ.
    fn entries(
        &self,
        text: &mut String,
        indent: &str,
        path: &str,
        entries: &serde_yaml::Mapping,
    ) -> Result<(), std::fmt::Error> {
        let set: Dict = self
            .figment
            .find_value(path)
            .ok()
            .and_then(Value::into_dict)
            .unwrap_or_default();
        for (name, value) in entries {
            let source = name
                .as_str()
                .and_then(|name| set.get(name))
                .map_or_else(|| "default".to_owned(), |value| self.setter(path, value));
            writeln!(
                text,
                "{indent}  {}: {} # {source}",
                scalar(name),
                scalar(value)
            )?;
        }
        Ok(())
    }

    /// Whether the key is a map of the user's names rather than a section.
    fn known_map(&self, path: &str) -> bool {
        keys::all().is_ok_and(|keys| keys.iter().any(|key| key.path == path))
    }

    /// What set the key, and its variable.
    fn note(&self, path: &str) -> String {
        let variable = keys::variable(path);
        let setter = self
            .figment
            .find_value(path)
            .map_or_else(|_| "default".to_owned(), |value| self.setter(path, &value));
        if setter.ends_with(&variable) {
            setter
        } else {
            format!("{setter} ({variable})")
        }
    }
}

/// A value on one line. JSON is YAML, and its quotes are needed often.
fn scalar(value: &serde_yaml::Value) -> String {
    match value {
        serde_yaml::Value::Null => "null".to_owned(),
        serde_yaml::Value::String(text) if is_plain(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

/// Words that older readers of YAML take for true and false.
const SWITCHES: [&str; 6] = ["on", "off", "yes", "no", "y", "n"];

/// Whether text needs no quotes in YAML, in doubt not.
fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-:".contains(c))
        && !text.ends_with(':')
        && !SWITCHES.contains(&text.to_ascii_lowercase().as_str())
        && serde_yaml::from_str::<serde_yaml::Value>(text)
            .is_ok_and(|read| read.as_str() == Some(text))
}
