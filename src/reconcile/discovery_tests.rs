#![allow(clippy::unwrap_used)]
use std::time::Instant;

use super::*;
use crate::api::VaultStaticSecret;
use crate::key::Kind;
use crate::reconcile::kept::Kept as _;
use crate::reconcile::view::Use;
use proptest::prelude::*;
use serde_json::{Value, json};

fn resource(namespace: &str, name: &str, more: &Value) -> Rc<VaultStaticSecret> {
    let mut spec = json!({
        "mount": "kv", "path": "app", "type": "kv-v2", "destination": { "name": name },
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let metadata = json!({ "name": name, "namespace": namespace });
    Rc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
}

fn put(view: &mut View, namespace: &str, name: &str, more: &Value) {
    let new = resource(namespace, name, more);
    VaultStaticSecret::put(view, &ObjectKey::new(namespace, name), Some(new));
}

fn key(namespace: &str, name: &str) -> ResourceKey {
    ResourceKey {
        kind: Kind::VaultStaticSecret,
        object: ObjectKey::new(namespace, name),
    }
}

fn workload(kind: WorkloadKind, namespace: &str, name: &str) -> WorkloadKey {
    WorkloadKey {
        kind,
        object: ObjectKey::new(namespace, name),
    }
}

/// Of this label `app`, and of what uses these Secrets.
fn meta(app: Option<&str>, uses: &[String]) -> WorkloadMeta {
    let labels = app.map(|app| ("app".to_owned(), app.to_owned()));
    WorkloadMeta {
        labels: Some(labels.into_iter().collect()),
        uses: uses
            .iter()
            .map(|secret| Use {
                secret: secret.clone(),
                ..Use::default()
            })
            .collect(),
        ..WorkloadMeta::default()
    }
}

fn targets(view: &View, namespace: &str, name: &str) -> Vec<String> {
    let resource = view.writer(&key(namespace, name)).unwrap();
    let targets = view.targets_of(&*resource).into_iter();
    targets.map(|target| target.to_string()).collect()
}

use WorkloadKind::{DaemonSet, Deployment, StatefulSet};

#[test]
fn named_ones_come_first_as_they_are_named_and_each_once() {
    let mut view = View::default();
    let uses = ["app".to_owned()];
    for (kind, name) in [
        (DaemonSet, "a"),
        (StatefulSet, "b"),
        (Deployment, "z"),
        (Deployment, "a"),
    ] {
        view.put_workload(&workload(kind, "team", name), meta(None, &uses));
    }
    view.put_workload(&workload(Deployment, "other", "a"), meta(None, &uses));
    let named = json!([
        { "kind": "StatefulSet", "name": "b" }, { "kind": "Deployment", "name": "gone" },
        { "kind": "StatefulSet", "name": "b" },
    ]);
    let more = json!({ "rollout": { "auto": true }, "rolloutRestartTargets": named });
    put(&mut view, "team", "app", &more);
    let expected = [
        "StatefulSet/b",
        "Deployment/gone",
        "Deployment/a",
        "Deployment/z",
        "DaemonSet/a",
    ];
    assert_eq!(targets(&view, "team", "app"), expected);
    for target in view.targets_of(&*view.writer(&key("team", "app")).unwrap()) {
        let by: Vec<&ResourceKey> = view.resources_of_workload(&target).collect();
        assert_eq!(by, [&key("team", "app")], "{target}");
    }
}

#[test]
fn it_follows_what_comes_changes_and_goes() {
    let mut view = View::default();
    let selects = json!({ "rollout": { "selector": { "matchLabels": { "app": "web" } } } });
    put(
        &mut view,
        "team",
        "app",
        &json!({ "rollout": { "auto": true } }),
    );
    put(&mut view, "team", "labels", &selects);
    let web = workload(Deployment, "team", "web");
    let uses = ["app".to_owned()];
    let both = vec![key("team", "app"), key("team", "labels")];
    let of = |view: &View| ["app", "labels"].map(|name| !targets(view, "team", name).is_empty());
    assert_eq!(view.put_workload(&web, meta(Some("web"), &uses)), both);
    assert_eq!(of(&view), [true, true]);
    let same = view.put_workload(&web, meta(Some("web"), &uses));
    assert!(same.is_empty(), "no news: {same:?}");
    let unlabelled = view.put_workload(&web, meta(None, &uses));
    assert_eq!(
        (unlabelled, of(&view)),
        (vec![key("team", "labels")], [true, false])
    );
    let unused = view.put_workload(&web, meta(Some("web"), &[]));
    assert_eq!((unused.len(), of(&view)), (2, [false, true]));
    // Another destination is another Secret that is used.
    view.put_workload(&web, meta(None, &["new".to_owned()]));
    let moved = json!({ "rollout": { "auto": true }, "destination": { "name": "new" } });
    put(&mut view, "team", "app", &moved);
    assert_eq!(of(&view), [true, false]);
    put(&mut view, "team", "app", &json!({}));
    assert_eq!(of(&view), [false, false]);
    put(&mut view, "team", "app", &moved);
    assert_eq!(view.remove_workload(&web), [key("team", "app")]);
    assert_eq!(of(&view), [false, false]);
    for name in ["app", "labels"] {
        VaultStaticSecret::put(&mut view, &ObjectKey::new("team", name), None);
    }
    let Discovery {
        finders,
        by_labels,
        found_by,
        ..
    } = &view.discovery;
    assert!(finders.is_empty() && by_labels.is_empty() && found_by.is_empty());
}

#[test]
fn by_names_alone_nothing_is_found() {
    let mut view = View::of_names_only(true);
    let named = json!([{ "kind": "Deployment", "name": "web" }]);
    let more = json!({ "rollout": { "auto": true }, "rolloutRestartTargets": named });
    put(&mut view, "team", "app", &more);
    for name in ["web", "seen-for-another"] {
        let moved = view.put_workload(
            &workload(Deployment, "team", name),
            meta(None, &["app".to_owned()]),
        );
        assert!(moved.is_empty(), "{moved:?}");
    }
    assert_eq!(targets(&view, "team", "app"), ["Deployment/web"]);
}

#[test]
fn many_of_both_stay_cheap() {
    let many = 500;
    let mut view = View::default();
    let web = |at: usize| workload(Deployment, "team", &format!("w{at}"));
    let values: Vec<String> = (0..100).map(|at| format!("v{at}")).collect();
    let greatest = json!({ "rollout": { "auto": true, "selector": { "matchExpressions": [
        { "key": "app", "operator": "NotIn", "values": values },
    ] } } });
    let began = Instant::now();
    for at in 0..many {
        put(&mut view, "team", &format!("s{at}"), &greatest);
    }
    for at in 0..many {
        let uses: Vec<String> = (0..200)
            .map(|one| format!("s{}", (at + one) % many))
            .collect();
        view.put_workload(&web(at), meta(Some("web"), &uses));
    }
    // A status that changes is no reason to look at anything again.
    for _ in 0..20 {
        for at in 0..many {
            put(&mut view, "team", &format!("s{at}"), &greatest);
        }
    }
    let took = began.elapsed();
    assert_eq!(view.resources_of_workload(&web(0)).count(), many);
    assert_eq!(targets(&view, "team", "s0").len(), many);
    // Seconds where something is looked at for each pair and each status.
    assert!(took.as_secs() < 10, "{took:?}");
}

fn rollouts() -> impl Strategy<Value = Value> {
    let selector = |app: &str| json!({ "matchLabels": { "app": app } });
    prop_oneof![
        Just(json!({})),
        Just(json!({ "rollout": { "auto": true } })),
        Just(json!({ "rollout": { "selector": selector("a") } })),
        Just(json!({ "rollout": { "auto": true, "selector": selector("b") } })),
        Just(json!({ "rollout": { "selector": {} } })),
        Just(json!({ "rollout": { "auto": true }, "destination": { "name": "s1" } })),
        Just(
            json!({ "rollout": { "auto": true }, "rolloutRestartTargets": [{ "kind": "Deployment", "name": "w0" }] })
        ),
    ]
}

/// A resource or a workload that comes, becomes another or goes.
#[derive(Clone, Debug)]
enum Event {
    Resource(usize, Option<Value>),
    Workload(usize, Option<(Option<&'static str>, Vec<String>)>),
}

fn events() -> impl Strategy<Value = Event> {
    let app = prop::option::of(prop_oneof![Just("a"), Just("b")]);
    let uses = prop::collection::btree_set(0..3_usize, 0..3).prop_map(|all| {
        let names = all.into_iter().map(|at| format!("s{at}"));
        names.collect::<Vec<_>>()
    });
    prop_oneof![
        (0..4_usize, prop::option::weighted(0.8, rollouts()))
            .prop_map(|(at, what)| Event::Resource(at, what)),
        (0..4_usize, prop::option::weighted(0.8, (app, uses)))
            .prop_map(|(at, what)| Event::Workload(at, what)),
    ]
}

proptest! {
    /// Whatever happens in whatever order, it knows what a look at everything would find,
    /// and tells of each resource that has other targets than before.
    #[test]
    fn it_is_always_what_a_look_at_everything_finds(events in prop::collection::vec(events(), 0..40)) {
        let mut view = View::default();
        // The fourth of each is in another namespace.
        let place = |at: usize| if at == 3 { "other" } else { "team" };
        for event in events {
            let before = pairs(&view);
            match event {
                Event::Resource(at, what) => {
                    let name = format!("s{at}");
                    let new = what.map(|more| resource(place(at), &name, &more));
                    VaultStaticSecret::put(&mut view, &ObjectKey::new(place(at), name), new);
                }
                Event::Workload(at, what) => {
                    let key = workload(Deployment, place(at), &format!("w{at}"));
                    let moved = match what {
                        Some((app, uses)) => view.put_workload(&key, meta(app, &uses)),
                        None => view.remove_workload(&key),
                    };
                    let after = pairs(&view);
                    let told = before.symmetric_difference(&after).map(|(resource, _)| resource);
                    prop_assert_eq!(
                        told.collect::<BTreeSet<_>>(),
                        moved.iter().collect::<BTreeSet<_>>()
                    );
                }
            }
            for resource in view.writers() {
                let query = query_of(resource).ok().flatten();
                let there = view.workloads.iter().filter(|(key, meta)| {
                    let namespace = resource.metadata().namespace.as_deref();
                    namespace == Some(&*key.object.namespace)
                        && query.as_ref().is_some_and(|query| query.finds(meta))
                });
                let found: Vec<&WorkloadKey> = there.map(|(key, _)| key).collect();
                let me = key_of(resource);
                prop_assert_eq!(&view.found_by(&me).collect::<Vec<_>>(), &found);
                for target in view.targets_of(resource) {
                    let by: Vec<&ResourceKey> = view.resources_of_workload(&target).collect();
                    prop_assert_eq!(by.iter().filter(|one| ***one == me).count(), 1);
                }
            }
        }
    }
}

/// Who finds what.
fn pairs(view: &View) -> BTreeSet<(ResourceKey, WorkloadKey)> {
    let found = view.writers().flat_map(|resource| {
        let key = key_of(resource);
        let found = view.found_by(&key).cloned().collect::<Vec<_>>();
        found.into_iter().map(move |one| (key.clone(), one))
    });
    found.collect()
}
