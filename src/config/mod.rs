//! The operator's own configuration: `defaults < files < VTO_* environment <
//! command line` become one validated [`Config`], or the list of all that is
//! wrong with layer, file and key. Nothing else in the operator reads an
//! environment variable or a configuration file.

pub mod address;
mod check;
pub mod duration;
mod keys;
mod layers;
mod load;
mod locate;
mod sections;
mod show;
#[cfg(test)]
mod tests;
mod values;
pub mod window;

use std::fmt;

pub use layers::Override;
pub use load::{Loaded, load};
pub use sections::{
    Backoff, Config, ConnectionDefaults, PolicyRules, Rollout, Rotation, Sync, Telemetry,
};
pub use values::{
    AuthMethod, BindAddress, Grade, LogFormat, LogLevel, NamePattern, PathPrefix, RolloutKey,
    RotationStrategy, WorkloadKind, canonical_path, vault_namespace,
};

/// One thing that is wrong with the configuration. `Display` is one line: where
/// it is, which key, and a sentence with the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Layer, with file and line, variable or flag where there is one.
    pub place: String,
    /// The key, if it is about one.
    pub key: Option<String>,
    /// What is wrong and what would be right.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.place, self.why),
            None => write!(f, "{}: {}", self.place, self.why),
        }
    }
}

/// All findings as one text for people, each on a line of its own.
#[must_use]
pub fn refused(findings: &[Finding]) -> String {
    let mut text = match findings.len() {
        1 => "the configuration is refused:".to_owned(),
        count => format!("the configuration is refused for {count} reasons:"),
    };
    for finding in findings {
        text.push_str("\n  ");
        text.push_str(&finding.to_string());
    }
    text
}

/// A configuration of one file's text, for tests of those who use one.
#[cfg(test)]
pub(crate) fn from_yaml(text: &str) -> Result<Config, Vec<Finding>> {
    let keys = keys::all().unwrap_or_default();
    let source = layers::Source::File("test".to_owned());
    let layer = layers::Layer::yaml(source, text.to_owned()).map_err(|finding| vec![finding])?;
    load::merge(vec![layer], &keys, Vec::new()).map(|loaded| loaded.config)
}

/// Whether the configuration has the key.
#[cfg(test)]
pub(crate) fn is_key(path: &str) -> bool {
    keys::all().is_ok_and(|keys| keys.iter().any(|key| key.path == path))
}

/// `, did you mean X?` for the nearest known name; nothing if none is near.
fn suggestion(name: &str, known: &[&str]) -> String {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', '.'], "");
    let last = |text: &str| plain(text.rsplit('.').next().unwrap_or(text));
    known
        .iter()
        .map(|candidate| {
            // A key at the wrong level is as near as a misspelt one.
            let whole = distance(&plain(name), &plain(candidate));
            (
                whole.min(distance(&last(name), &last(candidate)) + 1),
                candidate,
            )
        })
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 8)
        .map_or_else(String::new, |(_, candidate)| {
            format!(", did you mean {candidate}?")
        })
}

/// Edit distance (Levenshtein) of two short ASCII names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
