//! What a refusal of the API server speaks of.

use std::borrow::Cow;

use super::Right;

/// The right that was lacking and the namespace, from the words of RBAC's
/// authorizer: `secrets "app" is forbidden: User "..." cannot get resource
/// "secrets" in API group "" in the namespace "team"`. `None` for other words.
#[must_use]
pub fn refused(words: &str) -> Option<(String, Right)> {
    let (object, rest) = words.split_once(" is forbidden: User ")?;
    let (verb, rest) = rest.split_once(" cannot ")?.1.split_once(" resource \"")?;
    let (resource, rest) = rest.split_once("\" in API group \"")?;
    let (group, rest) = rest.split_once("\" in the namespace \"")?;
    let (namespace, _) = rest.split_once('"')?;
    let name = object.split_once(" \"").map(|(_, name)| name);
    let owned = |text: &str| Cow::Owned(text.to_owned());
    let right = Right {
        group: owned(group),
        resource: owned(resource),
        name: name.map(|name| name.trim_end_matches('"').to_owned()),
        verb: owned(verb),
    };
    Some((namespace.to_owned(), right))
}
