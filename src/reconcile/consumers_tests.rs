//! Which keys workloads need, and what is said when they would go.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;
use crate::reconcile::view::Use;

fn uses(secret: &str, keys: &[&str]) -> Use {
    Use {
        secret: secret.to_owned(),
        keys: keys.iter().map(ToString::to_string).collect(),
    }
}

/// A view with these workloads: namespace, kind, name, what it uses.
fn view(workloads: &[(&str, WorkloadKind, &str, &[Use])]) -> View {
    let mut view = View::default();
    for (namespace, kind, name, uses) in workloads {
        let key = WorkloadKey {
            kind: *kind,
            object: ObjectKey::new(*namespace, *name),
        };
        let meta = WorkloadMeta {
            uid: format!("{namespace}-{name}"),
            uses: uses.to_vec(),
            ..WorkloadMeta::default()
        };
        view.workloads.insert(key, meta);
    }
    view
}

/// The workload, the key and the number of others, where `gone` go from `team/app`.
fn told(view: &View, gone: &[&str]) -> Option<(String, String, usize)> {
    let app = ObjectKey::new("team", "app");
    let problem = broken(view, &app, |key| gone.contains(&key))?;
    let text = problem.to_string();
    assert_eq!(problem.reason(), REASON);
    match problem {
        Problem::WouldBreakConsumers {
            name,
            key,
            workload,
            more,
        } => {
            assert_eq!(name, "app");
            for word in [&key, &workload, "the Secret app", "allowKeyRemoval: true"] {
                assert!(text.contains(word), "{text} lacks {word}");
            }
            Some((workload, key, more))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn what_goes_breaks_those_alone_that_need_it() {
    use WorkloadKind::{DaemonSet, Deployment, StatefulSet};
    let app = || uses("app", &["password", "user"]);
    let web = |team, one: Use| view(&[(team, Deployment, "web", &[one])]);
    let is = |workload: &str, key: &str, more| Some((workload.to_owned(), key.to_owned(), more));
    for (row, view, gone, expected) in [
        (
            "a key that is needed",
            web("team", app()),
            &["user"][..],
            is("Deployment/web", "user", 0),
        ),
        (
            "several keys",
            web("team", app()),
            &["user", "password"],
            is("Deployment/web", "password", 1),
        ),
        ("another key", web("team", app()), &["port"], None),
        ("no key", web("team", app()), &[], None),
        (
            "whole Secrets need no key",
            web("team", uses("app", &[])),
            &["user"],
            None,
        ),
        (
            "another Secret",
            web("team", uses("api", &["user"])),
            &["user"],
            None,
        ),
        ("another namespace", web("other", app()), &["user"], None),
        (
            "further workloads are counted",
            view(&[
                ("team", StatefulSet, "db", &[uses("api", &["user"]), app()]),
                ("team", DaemonSet, "log", &[app()]),
                ("other", Deployment, "web", &[app()]),
            ]),
            &["user"],
            is("StatefulSet/db", "user", 1),
        ),
    ] {
        assert_eq!(told(&view, gone), expected, "{row}");
    }
}

#[test]
fn one_that_is_being_deleted_needs_nothing() {
    let mut view = view(&[(
        "team",
        WorkloadKind::Deployment,
        "web",
        &[uses("app", &["user"])],
    )]);
    assert!(told(&view, &["user"]).is_some());
    view.workloads
        .values_mut()
        .for_each(|one| one.deleting = true);
    assert_eq!(told(&view, &["user"]), None);
}

#[test]
fn a_name_that_is_no_key_is_told_as_what_it_is() {
    let odd = format!("user\u{202e}\n{}", "x".repeat(200));
    let key = Use {
        secret: "app".to_owned(),
        keys: BTreeSet::from([odd.clone()]),
    };
    let view = view(&[("team", WorkloadKind::Deployment, "web", &[key])]);
    let (_, key, _) = told(&view, &[&odd]).unwrap();
    assert!(
        key.starts_with("user xx") && key.chars().count() <= 100,
        "{key}"
    );
}
