//! Rights as Roles in YAML: the fewest rules, each with what needs it. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::operator::CONTROLLER;
use crate::rights::{Grade, Reason, Right, Rights, in_order};

/// The longest line before a list is broken into one item a line.
const WIDTH: usize = 100;

/// A Role and a RoleBinding for each namespace, bound to the ServiceAccount
/// `account` (namespace and name).
pub fn yaml(grade: Grade, account: (&str, &str), namespaces: &BTreeMap<String, Rights>) -> String {
    let mut text = format!(
        "# The least rights of grade {grade}, by `kubectl vto rbac`: make this anew when resources or the\n\
         # configuration change.\n"
    );
    for (index, (namespace, rights)) in namespaces.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        head(&mut text, "Role", namespace);
        text.push_str("rules:\n");
        for (index, rule) in rules(rights).iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            rule.write(&mut text);
        }
        text.push_str("---\n");
        head(&mut text, "RoleBinding", namespace);
        let (home, name) = account;
        let _ = write!(
            text,
            "roleRef:\n  apiGroup: rbac.authorization.k8s.io\n  kind: Role\n  name: {CONTROLLER}\n\
             subjects:\n  - kind: ServiceAccount\n    name: {}\n    namespace: {}\n",
            scalar(name),
            scalar(home)
        );
    }
    text
}

fn head(text: &mut String, kind: &str, namespace: &str) {
    let _ = write!(
        text,
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {CONTROLLER}\n  namespace: {}\n",
        scalar(namespace)
    );
}

/// What a reason says in one line.
pub fn reason(reason: &Reason) -> String {
    match &reason.resource {
        Some(by) => format!("{} {}, {}", by.kind, by.object.name, reason.feature),
        None => reason.feature.to_owned(),
    }
}

/// A rule of a Role, and what it is for.
struct Rule<'a> {
    group: &'a str,
    resources: Vec<&'a str>,
    /// Each name with the resources that need it.
    names: BTreeMap<&'a str, BTreeSet<String>>,
    verbs: Vec<&'a str>,
    features: BTreeSet<&'static str>,
}

/// The rights of one object, or of all of a resource.
#[derive(Default)]
struct Held<'a> {
    verbs: Vec<&'a str>,
    features: BTreeSet<&'static str>,
    by: BTreeSet<String>,
}

/// Rights with the same verbs for the same features become one rule: of several
/// resources where they go by no name, of several names of one resource else.
/// All rights of one name stand together; those of no name by their features.
fn rules(rights: &Rights) -> Vec<Rule<'_>> {
    let mut objects = BTreeMap::<_, Held>::new();
    for (right, reasons) in rights {
        let Right {
            group,
            resource,
            name,
            verb,
        } = right;
        let features: BTreeSet<&str> = reasons.iter().map(|reason| reason.feature).collect();
        let by = reasons.iter().filter_map(|reason| reason.resource.as_ref());
        let apart = name.is_none().then(|| features.clone());
        let object = (group.as_ref(), resource.as_ref(), name.as_deref(), apart);
        let held = objects.entry(object).or_default();
        held.verbs.push(verb.as_ref());
        held.features.extend(features);
        held.by
            .extend(by.map(|by| format!("{} {}", by.kind, scalar(&by.object.name))));
    }
    let mut rules = Vec::<Rule>::new();
    for ((group, resource, name, _), held) in objects {
        let verbs = in_order(held.verbs.into_iter());
        let fits = |rule: &&mut Rule| {
            rule.group == group
                && rule.verbs == verbs
                && rule.features == held.features
                && rule.names.is_empty() == name.is_none()
                && (name.is_none() || rule.resources == [resource])
        };
        if let Some(rule) = rules.iter_mut().find(fits) {
            match name {
                Some(name) => drop(rule.names.insert(name, held.by)),
                None => rule.resources.push(resource),
            }
        } else {
            rules.push(Rule {
                group,
                resources: vec![resource],
                names: name.map(|name| (name, held.by)).into_iter().collect(),
                verbs,
                features: held.features,
            });
        }
    }
    rules
}

impl Rule<'_> {
    fn write(&self, text: &mut String) {
        for feature in &self.features {
            let _ = writeln!(text, "  # {feature}");
        }
        for (name, by) in self.names.iter().filter(|(_, by)| !by.is_empty()) {
            let by: Vec<&str> = by.iter().map(String::as_str).collect();
            wrapped(text, &format!("  #   {}:", scalar(name)), &by);
        }
        list(text, "  - apiGroups", [self.group].into_iter());
        list(text, "    resources", self.resources.iter().copied());
        if !self.names.is_empty() {
            list(text, "    resourceNames", self.names.keys().copied());
        }
        list(text, "    verbs", self.verbs.iter().copied());
    }
}

/// A comment over as many lines as it takes.
fn wrapped(text: &mut String, start: &str, words: &[&str]) {
    let mut line = start.to_owned();
    for (index, word) in words.iter().enumerate() {
        let comma = if index + 1 < words.len() { "," } else { "" };
        if line.len() + word.len() + 2 > WIDTH && line != start {
            let _ = writeln!(text, "{line}");
            "  #    ".clone_into(&mut line);
        }
        let _ = write!(line, " {word}{comma}");
    }
    let _ = writeln!(text, "{line}");
}

fn list<'a>(text: &mut String, key: &str, items: impl Iterator<Item = &'a str>) {
    let items: Vec<Cow<'_, str>> = items.map(scalar).collect();
    let line = format!("{key}: [{}]", items.join(", "));
    if line.len() <= WIDTH {
        let _ = writeln!(text, "{line}");
        return;
    }
    let _ = writeln!(text, "{key}:");
    for item in items {
        let _ = writeln!(text, "      - {item}");
    }
}

/// A text as YAML: plain where it can only be read as that text.
fn scalar(text: &str) -> Cow<'_, str> {
    let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-./".contains(c);
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(safe)
        && !["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&text);
    if plain {
        Cow::Borrowed(text)
    } else {
        // Every JSON text is one of YAML.
        Cow::Owned(serde_json::Value::from(text).to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::key::{Kind, ObjectKey, ResourceKey};
    use crate::rights::{Granted, compare};
    use k8s_openapi::api::rbac::v1::Role;
    use serde::Deserialize as _;

    fn rights(names: &[Option<&str>], verbs: &[&'static str]) -> Rights {
        let mut rights = Rights::new();
        for name in names {
            for verb in verbs {
                let right = Right {
                    group: "apps".into(),
                    resource: "deployments".into(),
                    name: name.map(str::to_owned),
                    verb: (*verb).into(),
                };
                let by = ResourceKey {
                    kind: Kind::VaultStaticSecret,
                    object: ObjectKey::new("team", name.unwrap_or("all")),
                };
                let reason = Reason {
                    feature: "restarts",
                    resource: Some(by),
                };
                rights.insert(right, [reason].into());
            }
        }
        rights
    }

    fn role(rights: &Rights) -> (String, Vec<Granted>) {
        let namespaces = [("team".to_owned(), rights.clone())].into();
        let text = yaml(Grade::Named, ("team", "operator"), &namespaces);
        let first = serde_yaml::Deserializer::from_str(&text).next().unwrap();
        let role = Role::deserialize(first).unwrap();
        let granted = role.rules.iter().flatten().map(Granted::from).collect();
        (text, granted)
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same_rights() {
        let many: Vec<String> = (0..200).map(|number| format!("app-{number}")).collect();
        let many: Vec<Option<&str>> = many.iter().map(|name| Some(name.as_str())).collect();
        // Names that YAML would take for something else.
        let odd = [
            "1", "1e3", "true", "no", "null", "a.b", "~", "a: b", "*", "a\nb",
        ]
        .map(Some);
        for names in [&many[..], &odd[..], &[None]] {
            let rights = rights(names, &["watch", "patch", "list"]);
            let (text, granted) = role(&rights);
            assert!(compare(&rights, &granted).is_empty(), "{text}");
            assert_eq!(granted.len(), 1, "{text}");
            assert!(text.contains("verbs: [list, watch, patch]"), "{text}");
        }
    }

    #[test]
    fn each_name_says_what_needs_it() {
        let (text, _) = role(&rights(&[Some("web"), Some("api")], &["patch"]));
        for line in [
            "  # restarts\n",
            "  #   api: VaultStaticSecret api\n",
            "  #   web: VaultStaticSecret web\n",
            "    resourceNames: [api, web]\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.lines().all(|line| line.len() <= WIDTH + 20), "{text}");
    }

    #[test]
    fn rights_of_different_verbs_are_different_rules() {
        let mut all = rights(&[Some("web")], &["patch"]);
        all.extend(rights(&[Some("api")], &["list"]));
        let (text, granted) = role(&all);
        assert_eq!(granted.len(), 2, "{text}");
        assert!(compare(&all, &granted).is_empty(), "{text}");
    }
}
