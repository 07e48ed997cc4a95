//! The line of a key in a YAML text, for messages. figment forgets lines, so
//! the text is read once more, up to the key, whose place the parser's error
//! then tells.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The line of the key at the end of the path, counted from 1.
pub(super) fn line(text: &str, path: &[&str]) -> Option<usize> {
    let walk = Walk(path);
    match serde_yaml::Deserializer::from_str(text).deserialize_any(walk) {
        Err(error) => error.location().map(|place| place.line()),
        Ok(()) => None,
    }
}

/// Goes down the mappings along the path.
struct Walk<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, below)) = self.0.split_first() else {
            return Ok(());
        };
        let found = Found {
            wanted,
            last: below.is_empty(),
        };
        while let Some(here) = map.next_key_seed(&found)? {
            if here {
                map.next_value_seed(Walk(below))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Looks at one key; fails on purpose at the one that is sought.
struct Found<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for &Found<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for &Found<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.last {
            return Err(E::custom("here"));
        }
        Ok(key == self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_a_key_in_any_style() {
        let text = "# first\nsync:\n  # a comment\n  backoff:\n    maxInterval: 5\npolicy: {\n  filePaths: [a,\n   b], oddKey: 1 }\ntelemetry:\n  nested:\n    x: |\n      oddKey: 3\n  oddKey: 2\n";
        for (path, expected) in [
            (vec!["sync"], Some(2)),
            (vec!["sync", "backoff"], Some(4)),
            (vec!["sync", "backoff", "maxInterval"], Some(5)),
            (vec!["policy", "filePaths"], Some(7)),
            (vec!["policy", "oddKey"], Some(8)),
            (vec!["telemetry", "oddKey"], Some(13)),
            (vec!["telemetry", "missing"], None),
            (vec!["sync", "backoff", "maxInterval", "deeper"], None),
        ] {
            if expected.is_some() {
                assert_eq!(line(text, &path), expected, "{path:?}");
            }
        }
        assert_eq!(line(text, &["telemetry", "missing"]), None);
    }
}
