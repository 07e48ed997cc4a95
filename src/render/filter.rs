//! Which source keys reach the Secret: excludes first, then includes, both
//! regular expressions that match anywhere in the key (compatibility.md 9.1).

use regex::{Regex, RegexBuilder};

use crate::problem::Problem;

/// A pattern from a user may not compile to more than this many bytes.
const PATTERN_SIZE_LIMIT: usize = 1 << 20;

/// Compiled excludes and includes of a destination.
#[derive(Debug, Default)]
pub struct Filter {
    excludes: Vec<Regex>,
    includes: Vec<Regex>,
}

impl Filter {
    /// Compiles the patterns. Done before anything is asked of Vault, so that a
    /// bad pattern costs no request.
    ///
    /// # Errors
    /// [`Problem::InvalidSpec`] naming the field and pattern.
    pub fn new(excludes: &[String], includes: &[String]) -> Result<Self, Problem> {
        Ok(Self {
            excludes: compile(excludes, "spec.destination.transformation.excludes")?,
            includes: compile(includes, "spec.destination.transformation.includes")?,
        })
    }

    /// Whether a source key stays.
    #[must_use]
    pub fn keeps(&self, key: &str) -> bool {
        if self.excludes.iter().any(|pattern| pattern.is_match(key)) {
            return false;
        }
        self.includes.is_empty() || self.includes.iter().any(|pattern| pattern.is_match(key))
    }
}

fn compile(patterns: &[String], field: &str) -> Result<Vec<Regex>, Problem> {
    patterns
        .iter()
        .enumerate()
        .map(|(index, pattern)| {
            RegexBuilder::new(pattern)
                .size_limit(PATTERN_SIZE_LIMIT)
                .build()
                .map_err(|error| {
                    let why = crate::problem::printable(&error.to_string(), 200);
                    Problem::InvalidSpec {
                        field: format!("{field}[{index}]"),
                        why: format!(
                            "not a regular expression: {why}; correct it, in the syntax of RE2"
                        ),
                    }
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kept(excludes: &[&str], includes: &[&str], keys: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let filter = Filter::new(&own(excludes), &own(includes)).unwrap();
        own(keys)
            .into_iter()
            .filter(|key| filter.keeps(key))
            .collect()
    }

    #[test]
    fn excludes_come_before_includes_and_match_anywhere() {
        let keys = ["user", "password", "password_old", "host"];
        assert_eq!(kept(&[], &[], &keys), keys);
        assert_eq!(kept(&["pass"], &[], &keys), ["user", "host"]);
        assert_eq!(kept(&[], &["^pass"], &keys), ["password", "password_old"]);
        assert_eq!(kept(&["_old$"], &["^pass"], &keys), ["password"]);
    }

    #[test]
    fn a_bad_pattern_names_field_and_cause() {
        let problem = Filter::new(&["ok".into(), "(".into()], &[]).unwrap_err();
        let text = problem.to_string();
        assert!(
            text.starts_with("spec.destination.transformation.excludes[1]"),
            "{text}"
        );
        let problem = Filter::new(&[], &["(a{1000}){1000}".into()]).unwrap_err();
        assert!(problem.to_string().contains("size limit"), "{problem}");
    }
}
