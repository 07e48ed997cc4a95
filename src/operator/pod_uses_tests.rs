#![allow(clippy::unwrap_used)]
use super::*;
use crate::operator::meta;
use crate::reconcile::view::WorkloadKind;
use serde_json::json;

fn uses_of(pod: &Value) -> Vec<(String, Vec<String>)> {
    let found = uses(pod).into_iter();
    found
        .map(|one| (one.secret, one.keys.into_iter().collect()))
        .collect()
}

#[test]
fn each_field_of_a_pod_that_names_a_secret_is_found() {
    let env = |optional: bool| {
        json!({ "env": [
        { "name": "PLAIN", "value": "app" },
        { "name": "FIELD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
        { "name": "MAP", "valueFrom": { "configMapKeyRef": { "name": "app", "key": "map" } } },
        { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "app", "key": "password", "optional": optional } } },
    ] })
    };
    let env_from = json!({ "envFrom": [{ "configMapRef": { "name": "map" } }, { "secretRef": { "name": "app" } }] });
    let items = json!([{ "key": "tls.key", "path": "k" }, { "key": "tls.crt", "path": "c" }]);
    let volume = |secret: Value| json!({ "volumes": [{ "name": "v", "secret": secret }, { "name": "e", "emptyDir": {} }] });
    let projected = |secret: Value| {
        let sources = json!([{ "serviceAccountToken": { "path": "token" } }, { "secret": secret }]);
        json!({ "volumes": [{ "name": "v", "projected": { "sources": sources } }] })
    };
    let rows: [(&str, Value, Option<&[&str]>); 16] = [
        (
            "env",
            json!({ "containers": [env(false)] }),
            Some(&["password"]),
        ),
        (
            "optional env",
            json!({ "containers": [env(true)] }),
            Some(&[]),
        ),
        ("envFrom", json!({ "containers": [env_from] }), Some(&[])),
        (
            "env of the second container",
            json!({ "containers": [{}, env(false)] }),
            Some(&["password"]),
        ),
        (
            "env of an init container",
            json!({ "initContainers": [env(false)], "containers": [{}] }),
            Some(&["password"]),
        ),
        (
            "envFrom of an init container",
            json!({ "initContainers": [env_from] }),
            Some(&[]),
        ),
        ("volume", volume(json!({ "secretName": "app" })), Some(&[])),
        (
            "items of a volume",
            volume(json!({ "secretName": "app", "items": items })),
            Some(&["tls.crt", "tls.key"]),
        ),
        (
            "optional items",
            volume(json!({ "secretName": "app", "items": items, "optional": true })),
            Some(&[]),
        ),
        ("projected", projected(json!({ "name": "app" })), Some(&[])),
        (
            "items of projected",
            projected(json!({ "name": "app", "items": items })),
            Some(&["tls.crt", "tls.key"]),
        ),
        (
            "optional items of projected",
            projected(json!({ "name": "app", "items": items, "optional": true })),
            Some(&[]),
        ),
        (
            "imagePullSecrets",
            json!({ "imagePullSecrets": [{ "name": "app" }] }),
            Some(&[PULL_KEY]),
        ),
        (
            "none",
            json!({ "containers": [{ "name": "app", "image": "app" }] }),
            None,
        ),
        (
            "a ConfigMap",
            json!({ "volumes": [{ "configMap": { "name": "app" } }] }),
            None,
        ),
        (
            "nothing but null",
            json!({ "containers": null, "volumes": [{ "secret": null, "projected": null }] }),
            None,
        ),
    ];
    for (row, pod, keys) in rows {
        let expected = keys.map(|keys| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            ("app".to_owned(), keys)
        });
        assert_eq!(uses_of(&pod), Vec::from_iter(expected), "{row}");
    }
}

#[test]
fn one_secret_is_one_entry_with_all_its_keys_and_names_come_in_order() {
    let key = |name: &str, key: &str| json!({ "valueFrom": { "secretKeyRef": { "name": name, "key": key } } });
    let pod = json!({
        "containers": [{ "env": [key("web", "b"), key("app", "z"), key("web", "a"), key("web", "b")] }],
        "volumes": [{ "secret": { "secretName": "web" } }],
        "imagePullSecrets": [{ "name": "images" }],
    });
    let all = uses_of(&pod);
    let found: Vec<String> = (all.iter())
        .map(|(name, keys)| format!("{name}: {}", keys.join(" ")))
        .collect();
    assert_eq!(found, ["app: z", "images: .dockerconfigjson", "web: a b"]);
}

#[test]
fn a_template_of_the_greatest_size_takes_little_memory() {
    let variable = |name: String, key: String| json!({ "valueFrom": { "secretKeyRef": { "name": name, "key": key } } });
    let of = |variables: Vec<Value>| uses_of(&json!({ "containers": [{ "env": variables }] }));
    let many = (0..5000).map(|at| variable(format!("s{at}"), "k".to_owned()));
    assert_eq!(of(many.collect()).len(), MOST);
    let keys = (0..5000).map(|at| variable("app".to_owned(), format!("k{at}")));
    assert_eq!(of(keys.collect())[0].1.len(), MOST);
    let both = (0..MOST * 10).map(|at| variable(format!("s{}", at % MOST), format!("k{at}")));
    let both = of(both.collect());
    let keys: usize = both.iter().map(|(_, keys)| keys.len()).sum();
    assert_eq!((both.len(), keys), (MOST, MOST_KEYS));
    let long = "n".repeat(NAME_LIMIT + 1);
    let odd = [
        variable(long.clone(), "k".to_owned()),
        variable(String::new(), "k".to_owned()),
        variable("app".to_owned(), long),
    ];
    assert_eq!(of(odd.into()), [("app".to_owned(), Vec::new())]);
}

#[test]
fn a_workload_is_cut_to_what_finds_it() {
    let of = |labels: usize| {
        let labels: BTreeMap<String, &str> =
            (0..labels).map(|at| (format!("k{at}"), "v")).collect();
        let spec = json!({ "template": { "spec": { "imagePullSecrets": [{ "name": "app" }], "terminationGracePeriodSeconds": 7 } } });
        let object = json!({ "metadata": { "name": "web", "labels": labels }, "spec": spec });
        meta::workload(
            serde_json::from_value(object).unwrap(),
            WorkloadKind::Deployment,
        )
    };
    let few = of(100);
    assert_eq!(few.labels.as_ref().map(BTreeMap::len), Some(100));
    assert_eq!((few.uses.len(), few.rollout.grace), (1, 7));
    assert_eq!(of(101).labels, None, "found by no selector");
    let mut other = few.clone();
    other.uses.clear();
    assert!(few.differs(&other) && few.differs(&of(101)), "news");
}
