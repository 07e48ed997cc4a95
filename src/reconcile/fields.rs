//! Managed fields, reduced to a digest of names: equal digests mean that a
//! manager owns just what we applied.
//!
//! Source of the format: Kubernetes API conventions, "Server-Side Apply",
//! FieldsV1 (`f:<name>` members, `k:{…}` list items, `.` for the item itself).

use serde_json::Value;

use crate::render::fingerprint;

/// Digest of the data keys, labels and annotations that a FieldsV1 owns.
#[must_use]
pub fn digest_of_managed(fields: &Value) -> String {
    let names = |path: &[&str]| -> Vec<String> {
        let node = path.iter().try_fold(fields, |node, name| node.get(*name));
        node.and_then(Value::as_object)
            .into_iter()
            .flat_map(|members| members.keys())
            .filter_map(|name| name.strip_prefix("f:").map(str::to_owned))
            .collect()
    };
    digest(
        names(&["f:data"]),
        names(&["f:metadata", "f:labels"]),
        names(&["f:metadata", "f:annotations"]),
    )
}

/// Whether a FieldsV1 owns this key of a Secret's data.
#[must_use]
pub fn owns_data(fields: &Value, key: &str) -> bool {
    let data = fields.get("f:data").and_then(Value::as_object);
    data.is_some_and(|members| {
        members
            .keys()
            .any(|name| name.strip_prefix("f:") == Some(key))
    })
}

/// Digest of what an apply with these names will own.
#[must_use]
pub fn digest(
    mut data: Vec<String>,
    mut labels: Vec<String>,
    mut annotations: Vec<String>,
) -> String {
    for names in [&mut data, &mut labels, &mut annotations] {
        names.sort_unstable();
    }
    let parts = [
        ("data", data),
        ("labels", labels),
        ("annotations", annotations),
    ];
    fingerprint(
        parts.iter().flat_map(|(group, names)| {
            std::iter::once(*group).chain(names.iter().map(String::as_str))
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_applied_and_what_is_managed_agree() {
        let managed = json!({
            "f:data": {".": {}, "f:b": {}, "f:a.txt": {}},
            "f:metadata": {
                "f:annotations": {".": {}, "f:vault-tenant-operator.io/state-1": {}},
                "f:labels": {"f:app": {}},
                "f:ownerReferences": {"k:{\"uid\":\"1\"}": {}},
            },
            "f:type": {},
        });
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let applied = digest(
            own(&["a.txt", "b"]),
            own(&["app"]),
            own(&["vault-tenant-operator.io/state-1"]),
        );
        assert_eq!(digest_of_managed(&managed), applied);
        assert!(owns_data(&managed, "a.txt") && !owns_data(&managed, "app"));
        assert!(!owns_data(&json!({}), "a.txt"));
        assert_ne!(digest(own(&["a.txt"]), own(&["app"]), own(&[])), applied);
        assert_ne!(
            digest(own(&["a"]), own(&[]), own(&[])),
            digest(own(&[]), own(&["a"]), own(&[]))
        );
        assert_eq!(
            digest_of_managed(&json!({})),
            digest(vec![], vec![], vec![])
        );
    }
}
