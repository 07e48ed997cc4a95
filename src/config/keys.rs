//! Every key of the configuration with its path, its environment variable and
//! its shape, read off the defaults: there is no second list to keep in step.

use figment::value::{Dict, Value};

use super::Config;

/// What the text of an environment variable or a flag becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string, and whatever is written as one.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Split at commas.
    List,
    /// Split at commas, each `name=value`.
    Map,
}

/// A key that the configuration has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Path as in YAML: `sync.backoff.maxInterval`.
    pub path: String,
    /// `VTO_SYNC__BACKOFF__MAX_INTERVAL`.
    pub variable: String,
    /// Shape of its value.
    pub shape: Shape,
}

/// Every key.
pub(super) fn all() -> Result<Vec<Key>, Box<figment::Error>> {
    let mut keys = Vec::new();
    if let Value::Dict(_, defaults) = Value::serialize(Config::default()).map_err(Box::new)? {
        collect("", &defaults, &mut keys);
    }
    Ok(keys)
}

fn collect(prefix: &str, dict: &Dict, keys: &mut Vec<Key>) {
    for (name, value) in dict {
        let path = join(prefix, name);
        let shape = match value {
            // A map without entries is a value, one with entries a section.
            Value::Dict(_, section) if !section.is_empty() => {
                collect(&path, section, keys);
                continue;
            }
            Value::Dict(..) => Shape::Map,
            Value::Array(..) => Shape::List,
            Value::Num(..) => Shape::Number,
            Value::Bool(..) => Shape::Switch,
            _ => Shape::Text,
        };
        keys.push(Key {
            variable: variable(&path),
            path,
            shape,
        });
    }
}

/// A key below another one.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// The environment variable of a key: camelCase becomes `CAMEL_CASE`, an
/// acronym stays one word, a dot becomes `__`.
pub(super) fn variable(path: &str) -> String {
    let mut name = String::from("VTO_");
    let chars: Vec<char> = path.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at));
        let after = chars.get(at + 1);
        let begins_word = c.is_ascii_uppercase()
            && (before.is_some_and(char::is_ascii_lowercase)
                || (before.is_some_and(char::is_ascii_uppercase)
                    && after.is_some_and(char::is_ascii_lowercase)));
        if begins_word {
            name.push('_');
        }
        match c {
            '.' => name.push_str("__"),
            _ => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

impl Shape {
    /// The value of a text. What does not fit stays a string, so that the type
    /// of the key refuses it in its own words.
    pub(super) fn read(self, text: &str) -> Value {
        let parts = || {
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
        };
        match self {
            Shape::Text => Value::from(text),
            Shape::Number => text
                .trim()
                .parse::<u64>()
                .map_or_else(|_| text.into(), Value::from),
            Shape::Switch => text
                .trim()
                .parse::<bool>()
                .map_or_else(|_| text.into(), Value::from),
            Shape::List => Value::from(parts().map(Value::from).collect::<Vec<_>>()),
            Shape::Map => {
                let mut map = Dict::new();
                for part in parts() {
                    let Some((name, value)) = part.split_once('=') else {
                        return text.into();
                    };
                    map.insert(name.trim().to_owned(), value.trim().into());
                }
                map.into()
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_spelled_by_words() {
        for (path, name) in [
            ("watchNamespaces", "VTO_WATCH_NAMESPACES"),
            (
                "connection.skipTLSVerify",
                "VTO_CONNECTION__SKIP_TLS_VERIFY",
            ),
            (
                "connection.tlsServerName",
                "VTO_CONNECTION__TLS_SERVER_NAME",
            ),
            ("connection.caCertPath", "VTO_CONNECTION__CA_CERT_PATH"),
            (
                "policy.allowSkipTLSVerify",
                "VTO_POLICY__ALLOW_SKIP_TLS_VERIFY",
            ),
            (
                "sync.backoff.maxInterval",
                "VTO_SYNC__BACKOFF__MAX_INTERVAL",
            ),
        ] {
            assert_eq!(variable(path), name);
        }
    }

    #[test]
    fn every_key_has_a_variable_of_its_own_and_a_shape() {
        let keys = all().unwrap();
        let mut names: Vec<_> = keys.iter().map(|key| &key.variable).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), keys.len());
        let shape = |path: &str| keys.iter().find(|key| key.path == path).unwrap().shape;
        assert_eq!(shape("connection.headers"), Shape::Map);
        assert_eq!(shape("connection.address"), Shape::Text);
        assert_eq!(shape("connection.timeout"), Shape::Text);
        assert_eq!(shape("policy.vaultAddresses"), Shape::List);
        assert_eq!(shape("policy.allowedAuthMethods"), Shape::List);
        assert_eq!(shape("rollout.enabled"), Shape::Switch);
        assert_eq!(shape("sync.vaultRequestsBurst"), Shape::Number);
    }
}
