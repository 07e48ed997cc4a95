//! Errors of the Kubernetes client, classified once (Kubernetes API
//! conventions, "Response Status Kind").

use kube::core::Status;

use crate::problem::{FOREIGN_TEXT_LIMIT, Problem, printable};

/// Classifies an error of a request that was to `what` ("apply Secret a/b").
#[must_use]
pub fn classify(what: impl Into<String>, error: &kube::Error) -> Problem {
    let what = what.into();
    match error {
        kube::Error::Api(status) => of_status(what, status),
        other => Problem::KubernetesUnavailable {
            what,
            why: printable(&with_causes(other), FOREIGN_TEXT_LIMIT),
        },
    }
}

fn of_status(what: String, status: &Status) -> Problem {
    let why = printable(&status.message, FOREIGN_TEXT_LIMIT);
    if let Some(namespace) = terminating_namespace(status) {
        return Problem::NamespaceTerminating { namespace };
    }
    match status.code {
        // RBAC says who cannot do what; quotas and admission rules say something else.
        401 => Problem::KubernetesForbidden { what, why },
        403 if why.contains(" cannot ") => Problem::KubernetesForbidden { what, why },
        404 | 409 => Problem::Conflict { what, why },
        422 if why.contains("metadata.uid") => Problem::Conflict { what, why },
        422 if why.contains("field is immutable") => Problem::DestinationImmutable { what, why },
        429 | 500..=599 => Problem::KubernetesUnavailable { what, why },
        _ => Problem::KubernetesRefused { what, why },
    }
}

/// The namespace that takes no new objects because it is being deleted: the
/// cause says `namespace NAME is being terminated`.
fn terminating_namespace(status: &Status) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let cause = causes
        .iter()
        .find(|cause| cause.reason == "NamespaceTerminating")?;
    let name = cause.message.strip_prefix("namespace ").unwrap_or_default();
    let name = name.split(' ').next().unwrap_or_default();
    Some(printable(name, FOREIGN_TEXT_LIMIT))
}

/// A 404 that is about no object: the kind is not served (any more).
#[must_use]
pub fn unknown_kind(what: String) -> Problem {
    unknown(what, "apply kustomize/crds")
}

/// The same of Rollouts, whose definition is not ours.
#[must_use]
pub fn unknown_rollouts(what: String) -> Problem {
    unknown(
        what,
        "install Argo Rollouts in the cluster, or take argo.Rollout out of the operator's configuration (rollout.kinds)",
    )
}

fn unknown(what: String, mend: &str) -> Problem {
    Problem::KubernetesRefused {
        what,
        why: format!("the API server does not know the kind; {mend}"),
    }
}

/// Whether an answer says that the object of this name is not there: a 404 for
/// a kind that is not served (yet) names none.
#[must_use]
pub fn names_the_missing(status: &Status, name: &str) -> bool {
    status.code == 404
        && status
            .details
            .as_ref()
            .is_some_and(|details| details.name == name)
}

/// An error with all that caused it: transports hide the reason at the end.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reason(code: u16, message: &str) -> &'static str {
        let status = Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        };
        classify("apply Secret a/b", &kube::Error::Api(Box::new(status))).reason()
    }

    #[test]
    fn only_an_answer_about_the_name_says_that_it_is_gone() {
        let status = |code, name: Option<&str>| Status {
            code,
            details: name.map(|name| kube::core::response::StatusDetails {
                name: name.to_owned(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                causes: Vec::new(),
                retry_after_seconds: 0,
            }),
            ..Status::default()
        };
        assert!(names_the_missing(&status(404, Some("app")), "app"));
        for other in [
            status(404, None),
            status(404, Some("other")),
            status(403, Some("app")),
        ] {
            assert!(!names_the_missing(&other, "app"), "{other:?}");
        }
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let rbac = r#"secrets "b" is forbidden: User "system:serviceaccount:a:o" cannot patch resource "secrets" in API group "" in the namespace "a""#;
        let quota = r#"secrets "b" is forbidden: exceeded quota: few, requested: secrets=1"#;
        for (code, message, expected) in [
            (403, rbac, "KubernetesForbidden"),
            (403, quota, "KubernetesRefused"),
            (409, "the object has been modified", "Conflict"),
            (404, "not found", "Conflict"),
            (422, "metadata.uid: Invalid value", "Conflict"),
            (422, "type: field is immutable", "DestinationImmutable"),
            (422, "data: Required value", "KubernetesRefused"),
            (429, "too many requests", "KubernetesUnavailable"),
            (
                500,
                "etcdserver: request timed out",
                "KubernetesUnavailable",
            ),
        ] {
            assert_eq!(reason(code, message), expected, "{message}");
        }
    }

    #[test]
    fn a_namespace_that_is_being_deleted_is_named() {
        let answer = serde_json::json!({
            "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "secrets \"b\" is forbidden: unable to create new content in namespace a because it is being terminated",
            "details": { "name": "b", "kind": "secrets", "causes": [{
                "reason": "NamespaceTerminating", "field": "metadata.namespace",
                "message": "namespace a is being terminated",
            }] },
        });
        let status: Status = serde_json::from_value(answer).unwrap();
        let problem = classify("apply Secret a/b", &kube::Error::Api(Box::new(status)));
        let expected = Problem::NamespaceTerminating {
            namespace: "a".to_owned(),
        };
        assert_eq!(problem, expected);
    }
}
