//! What an account was granted, against what it needs.

use std::borrow::Cow;
use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::ResourceRule;
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::{Right, Rights};

const ANY: &str = "*";

/// What `system:basic-user` gives to every account: asking what one may do and
/// who one is. A SelfSubjectRulesReview lists it beside what Roles give.
const EVERYBODYS: [(&str, &str); 3] = [
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
];

/// A rule of a Role, or of the answer to a SelfSubjectRulesReview.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// API groups.
    pub groups: Vec<String>,
    /// Resources and `resource/subresource`.
    pub resources: Vec<String>,
    /// Names; none: all.
    pub names: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
}

impl From<&PolicyRule> for Granted {
    fn from(rule: &PolicyRule) -> Self {
        Self {
            groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            names: rule.resource_names.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
        }
    }
}

impl From<&ResourceRule> for Granted {
    fn from(rule: &ResourceRule) -> Self {
        Self {
            groups: rule.api_groups.clone().unwrap_or_default(),
            resources: rule.resources.clone().unwrap_or_default(),
            names: rule.resource_names.clone().unwrap_or_default(),
            verbs: rule.verbs.clone(),
        }
    }
}

impl Granted {
    /// The single rights of the rule; `*` stays as it is.
    fn rights(&self) -> impl Iterator<Item = Right> {
        let names: Vec<Option<&String>> = if self.names.is_empty() {
            vec![None]
        } else {
            self.names.iter().map(Some).collect()
        };
        let mut rights = Vec::new();
        for (group, resource) in self
            .groups
            .iter()
            .flat_map(|group| self.resources.iter().map(move |resource| (group, resource)))
        {
            for verb in &self.verbs {
                rights.extend(names.iter().map(|name| Right {
                    group: Cow::Owned(group.clone()),
                    resource: Cow::Owned(resource.clone()),
                    name: name.cloned(),
                    verb: Cow::Owned(verb.clone()),
                }));
            }
        }
        rights.into_iter()
    }
}

/// What separates what is granted in a namespace from what is needed there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Needed and not granted.
    pub missing: BTreeSet<Right>,
    /// Granted and not needed, or needed for fewer names or verbs than it is
    /// granted for.
    pub surplus: BTreeSet<Right>,
}

impl Difference {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty()
    }
}

/// Compares what rules grant in one namespace with what is needed there. What
/// every account has (`system:basic-user`) is no surplus.
#[must_use]
pub fn compare<'a>(needed: &Rights, granted: impl IntoIterator<Item = &'a Granted>) -> Difference {
    let granted: BTreeSet<Right> = granted.into_iter().flat_map(Granted::rights).collect();
    let wide: Vec<&Right> = granted.iter().filter(|right| is_wide(right)).collect();
    let of_all_names = |right: &Right| Right {
        name: None,
        ..right.clone()
    };
    let has = |right: &Right| {
        granted.contains(right)
            || granted.contains(&of_all_names(right))
            || wide.iter().any(|wide| covers(wide, right))
    };
    let wanted = |right: &Right| {
        needed.contains_key(right) || needed.contains_key(&of_all_names(right)) || {
            let place = (right.group.as_ref(), right.resource.as_ref());
            EVERYBODYS.contains(&place) && right.verb == "create"
        }
    };
    Difference {
        missing: needed.keys().filter(|right| !has(right)).cloned().collect(),
        surplus: granted
            .iter()
            .filter(|right| !wanted(right))
            .cloned()
            .collect(),
    }
}

/// Whether it says `*` anywhere but in a name, where it has no meaning.
fn is_wide(right: &Right) -> bool {
    right.group == ANY || right.verb == ANY || right.resource.starts_with(ANY)
}

/// Whether a right with `*` in it gives another one, by the rules of the API
/// server's RBAC authorizer: `*` as a resource takes in subresources, and
/// `*/status` is that subresource of everything.
fn covers(wide: &Right, right: &Right) -> bool {
    let any = |wide: &str, one: &str| wide == ANY || wide == one;
    let resource = any(&wide.resource, &right.resource)
        || match (
            wide.resource.strip_prefix("*/"),
            right.resource.split_once('/'),
        ) {
            (Some(every), Some((_, subresource))) => every == subresource,
            _ => false,
        };
    resource
        && any(&wide.group, &right.group)
        && any(&wide.verb, &right.verb)
        && (wide.name.is_none() || wide.name == right.name)
}
