//! The rights of the operator as data: what it needs, each right with its
//! reason, and what a Role that it has lacks or gives beyond. Pure: the Roles of
//! `rbac/`, the operator's look at its own rights and the command
//! `kubectl-vto rbac` all go by this.

mod granted;
mod needed;
mod refusal;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use crate::config::Grade;
pub use granted::{Difference, Granted, compare};
pub use needed::{Needed, needed};
pub use refusal::refused;

use crate::key::ResourceKey;

/// One verb on one resource, of one name or of all, in a namespace that the
/// context gives. As a granted right each text may also be `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// Plural, with a subresource as RBAC spells it: `serviceaccounts/token`.
    pub resource: Cow<'static, str>,
    /// The only object that it is for; `None` for all of them.
    pub name: Option<String>,
    /// Verb of RBAC.
    pub verb: Cow<'static, str>,
}

/// With the resource as `kubectl auth can-i --list` names it:
/// `patch deployments.apps "web"`, `patch vaultauths.secrets.hashicorp.com/status`.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = self.resource.find('/').unwrap_or(self.resource.len());
        let (resource, subresource) = self.resource.split_at(slash);
        write!(f, "{} {resource}", self.verb)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        f.write_str(subresource)?;
        self.name
            .as_ref()
            .map_or(Ok(()), |name| write!(f, " {name:?}"))
    }
}

/// Why a right is needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// What the operator does with it.
    pub feature: &'static str,
    /// The resource that asks for that; `None` where every operator does it.
    pub resource: Option<ResourceKey>,
}

/// Rights of one namespace with their reasons.
pub type Rights = BTreeMap<Right, BTreeSet<Reason>>;

/// The order in which people expect verbs.
const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

/// Verbs in the order in which people expect them.
#[must_use]
pub fn in_order<'a>(verbs: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut verbs: Vec<&str> = verbs.collect();
    let place = |verb: &str| VERBS.iter().position(|known| *known == verb);
    verbs.sort_by_key(|verb| (place(verb).unwrap_or(VERBS.len()), *verb));
    verbs
}

/// Rights as rules of a Role, each on one line of YAML, to be read by people:
/// `{apiGroups: [""], resources: [secrets], resourceNames: ["app"], verbs: [get, list]}`.
#[must_use]
pub fn as_rules<'a>(rights: impl IntoIterator<Item = &'a Right>) -> String {
    let mut objects = BTreeMap::<_, Vec<&str>>::new();
    for right in rights {
        let object = (&right.group, &right.resource, &right.name);
        objects.entry(object).or_default().push(&right.verb);
    }
    let rules = objects.into_iter().map(|((group, resource, name), verbs)| {
        let group = if group.is_empty() { "\"\"" } else { group };
        let names = name
            .as_ref()
            .map(|name| format!(" resourceNames: [\"{name}\"],"));
        format!(
            "{{apiGroups: [{group}], resources: [{resource}],{} verbs: [{}]}}",
            names.unwrap_or_default(),
            in_order(verbs.into_iter()).join(", ")
        )
    });
    rules.collect::<Vec<_>>().join(", ")
}
