//! Which ServiceAccounts were ever bound in which namespace, from the API server's audit log: it holds each written
//! RoleBinding as answered, so also those that were changed or deleted since.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::api_audit::service_account;

/// A user and a namespace in which it was bound by a RoleBinding.
pub type Bound = BTreeSet<(String, String)>;

/// All that were bound so far.
///
/// # Errors
/// The log can't be read, or holds something else.
pub fn bound(audit_log: &Path) -> Result<Bound> {
    let log = std::fs::File::open(audit_log)
        .with_context(|| format!("can't open {}", audit_log.display()))?;
    let mut bound = Bound::new();
    for line in BufReader::new(log).lines() {
        let line = line?;
        // A line that is still being written has no end yet.
        if line.contains("\"rolebindings\"") && line.ends_with('}') {
            bound.extend(of_line(&line)?);
        }
    }
    Ok(bound)
}

fn of_line(line: &str) -> Result<Bound> {
    let event: Event = serde_json::from_str(line).context("no audit event")?;
    let written = event.response_object.unwrap_or_default();
    let subjects = written.subjects.unwrap_or_default().into_iter();
    Ok(subjects
        .filter(|subject| subject.kind == "ServiceAccount")
        .map(|subject| {
            let user = service_account(&subject.namespace, &subject.name);
            (user, event.object_ref.namespace.clone())
        })
        .collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    object_ref: ObjectRef,
    response_object: Option<Written>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    namespace: String,
}

/// A RoleBinding, or a status that says why there is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Written {
    subjects: Option<Vec<Subject>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_and_refusals_are_none() {
        let line = |object: &str| {
            format!(
                "{{\"verb\":\"patch\",\"objectRef\":{{\"resource\":\"rolebindings\",\"namespace\":\"team\"}}{object}}}"
            )
        };
        let written = line(
            r#","responseObject":{"kind":"RoleBinding","subjects":[{"kind":"ServiceAccount","name":"operator","namespace":"home"},{"kind":"User","name":"admin"}]}"#,
        );
        let user = "system:serviceaccount:home:operator".to_owned();
        assert_eq!(
            of_line(&written).unwrap(),
            Bound::from([(user, "team".to_owned())])
        );
        let refused = line(r#","responseObject":{"kind":"Status","code":403}"#);
        for none in [refused, line("")] {
            assert!(of_line(&none).unwrap().is_empty(), "{none}");
        }
    }
}
