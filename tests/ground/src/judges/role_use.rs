//! Which rights of a Role were used, and which were lacking.
//!
//! Counted per API group, resource, verb and, where a rule has `resourceNames`, name. A server-side apply that makes an
//! object is authorized as `create` inside the PATCH, while the log shows only `patch`: an answer 201 counts as both.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::api_audit::ApiRequest;

/// One right of a Role: one verb on one resource, of one name or of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// The API group; empty for the core group, `*` for all.
    pub group: String,
    /// The resource as RBAC spells it, `*` for all.
    pub resource: String,
    /// The verb, `*` for all.
    pub verb: String,
    /// The only name that it is for; none: all names.
    pub name: Option<String>,
}

impl Right {
    /// Whether a granted request needed it.
    pub fn covers(&self, request: &ApiRequest) -> bool {
        let is = |right: &str, value: &str| right == "*" || right == value;
        let verb = is(&self.verb, &request.verb)
            || (self.verb == "create" && request.verb == "patch" && request.created());
        verb && is(&self.group, &request.group)
            && is(&self.resource, &request.resource)
            && self.name.as_ref().is_none_or(|name| *name == request.name)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        self.name
            .as_ref()
            .map_or(Ok(()), |name| write!(f, " {name:?}"))
    }
}

/// The verdict over a Role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleUse {
    /// Rights that no granted request needed.
    pub unused: BTreeSet<Right>,
    /// Requests answered 403.
    pub forbidden: Vec<ApiRequest>,
}

impl RoleUse {
    /// Judges the rules of a Role by the requests of those bound to it (an [`super::ApiFilter`] picks them).
    pub fn of(rules: &[PolicyRule], requests: &[ApiRequest]) -> Self {
        let (forbidden, granted): (Vec<_>, Vec<_>) = requests
            .iter()
            .partition(|request| request.code == Some(403));
        let mut unused = rights(rules);
        unused.retain(|right| !granted.iter().any(|request| right.covers(request)));
        Self {
            unused,
            forbidden: forbidden.into_iter().cloned().collect(),
        }
    }
}

/// All rights that rules about resources give.
pub fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        let names = rule.resource_names.as_deref().unwrap_or_default();
        let names: Vec<_> = if names.is_empty() {
            vec![None]
        } else {
            names.iter().map(Some).collect()
        };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    for name in &names {
                        rights.insert(Right {
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                            name: name.cloned(),
                        });
                    }
                }
            }
        }
    }
    rights
}

#[cfg(test)]
#[path = "role_use_tests.rs"]
mod tests;
