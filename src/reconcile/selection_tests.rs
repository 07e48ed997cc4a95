#![allow(clippy::panic, clippy::unwrap_used)]
use std::collections::BTreeMap;

use super::*;
use crate::api::VaultStaticSecret;
use crate::reconcile::view::Use;
use serde_json::{Value, json};

fn resource(rollout: &Value) -> VaultStaticSecret {
    let resource = json!({
        "metadata": { "name": "app", "namespace": "team" },
        "spec": {
            "mount": "kv", "path": "app", "type": "kv-v2", "destination": { "name": "app" },
            "rollout": rollout,
        },
    });
    serde_json::from_value(resource).unwrap()
}

fn workload(labels: &[(&str, &str)], uses: &[&str]) -> WorkloadMeta {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let uses = uses.iter().map(|secret| Use {
        secret: (*secret).to_owned(),
        ..Use::default()
    });
    WorkloadMeta {
        labels: Some(labels.collect()),
        uses: uses.collect(),
        ..WorkloadMeta::default()
    }
}

fn finds(rollout: &Value, workload: &WorkloadMeta) -> bool {
    query_of(&resource(rollout))
        .unwrap()
        .is_some_and(|query| query.finds(workload))
}

#[test]
fn it_finds_what_uses_its_secret_or_has_its_labels() {
    let labels = |labels: Value| json!({ "selector": { "matchLabels": labels } });
    let one = |key: &str, operator: &str, values: &[&str]| {
        let mut one = json!({ "key": key, "operator": operator });
        if !values.is_empty() {
            one["values"] = json!(values);
        }
        json!({ "selector": { "matchExpressions": [one] } })
    };
    let both = json!({ "selector": { "matchLabels": { "app": "web" }, "matchExpressions": [{ "key": "tier", "operator": "Exists" }] } });
    let web = workload(&[("app", "web"), ("tier", "front")], &["other"]);
    let jobs = workload(&[("app", "jobs")], &["app", "other"]);
    let bare = workload(&[], &[]);
    let rows = [
        (json!(null), "what says nothing", [false, false, false]),
        (json!({}), "what is empty", [false, false, false]),
        (json!({ "auto": false }), "not auto", [false, false, false]),
        (json!({ "auto": true }), "auto", [false, true, false]),
        (
            labels(json!({ "app": "web" })),
            "a label",
            [true, false, false],
        ),
        (
            labels(json!({ "app": "web", "tier": "back" })),
            "two labels",
            [false, false, false],
        ),
        (
            one("app", "In", &["web", "jobs"]),
            "In",
            [true, true, false],
        ),
        (one("app", "NotIn", &["web"]), "NotIn", [false, true, true]),
        (one("tier", "Exists", &[]), "Exists", [true, false, false]),
        (
            one("tier", "DoesNotExist", &[]),
            "DoesNotExist",
            [false, true, true],
        ),
        (both, "both", [true, false, false]),
        (
            json!({ "auto": true, "selector": { "matchLabels": { "app": "web" } } }),
            "auto or a label",
            [true, true, false],
        ),
    ];
    for (rollout, row, expected) in rows {
        let found = [&web, &jobs, &bare].map(|workload| finds(&rollout, workload));
        assert_eq!(found, expected, "{row}");
    }
    let unread = WorkloadMeta {
        labels: None,
        ..web
    };
    assert!(!finds(&one("app", "DoesNotExist", &[]), &unread));
}

#[test]
fn what_is_no_selector_is_refused_with_its_place() {
    let of = |requirement: Value| json!({ "matchExpressions": [{ "key": "app", "operator": "Exists" }, requirement] });
    let many: Vec<Value> = (0..=MOST)
        .map(|at| json!({ "key": format!("k{at}"), "operator": "Exists" }))
        .collect();
    let labels: BTreeMap<String, &str> = (0..=MOST).map(|at| (format!("k{at}"), "v")).collect();
    let values: Vec<String> = (0..=MOST).map(|at| format!("v{at}")).collect();
    let rows = [
        (json!({}), "spec.rollout.selector", "every workload"),
        (
            json!({ "matchLabels": {}, "matchExpressions": [] }),
            "spec.rollout.selector",
            "every workload",
        ),
        (
            of(json!({ "key": "app", "operator": "in", "values": ["web"] })),
            "spec.rollout.selector.matchExpressions[1].operator",
            "\"in\" is neither In",
        ),
        (
            of(json!({ "key": "app", "operator": "In" })),
            "spec.rollout.selector.matchExpressions[1].values",
            "at least one",
        ),
        (
            of(json!({ "key": "app", "operator": "NotIn", "values": [] })),
            "spec.rollout.selector.matchExpressions[1].values",
            "at least one",
        ),
        (
            of(json!({ "key": "app", "operator": "Exists", "values": ["web"] })),
            "spec.rollout.selector.matchExpressions[1].values",
            "leave them out",
        ),
        (
            of(json!({ "key": "a pp", "operator": "Exists" })),
            "spec.rollout.selector.matchExpressions[1].key",
            "no name of a label",
        ),
        (
            of(json!({ "key": "", "operator": "DoesNotExist" })),
            "spec.rollout.selector.matchExpressions[1].key",
            "no name of a label",
        ),
        (
            of(json!({ "key": "app", "operator": "In", "values": ["web", "a b"] })),
            "spec.rollout.selector.matchExpressions[1].values",
            "no value of a label",
        ),
        (
            json!({ "matchLabels": { "app/": "web" } }),
            "spec.rollout.selector.matchLabels",
            "no name of a label",
        ),
        (
            json!({ "matchLabels": { "app": "w\u{f6}b" } }),
            "spec.rollout.selector.matchLabels",
            "no value of a label",
        ),
        (
            json!({ "matchExpressions": many }),
            "spec.rollout.selector",
            "more than 100",
        ),
        (
            json!({ "matchLabels": labels }),
            "spec.rollout.selector",
            "more than 100",
        ),
        (
            json!({ "matchExpressions": [{ "key": "app", "operator": "NotIn", "values": values }] }),
            "spec.rollout.selector",
            "more than 100",
        ),
    ];
    for (selector, place, words) in rows {
        let problem = query_of(&resource(&json!({ "selector": selector }))).unwrap_err();
        let Problem::InvalidSpec { field, why } = &problem else {
            panic!("{problem}");
        };
        assert_eq!(field, place, "{why}");
        assert!(why.contains(words), "{field}: {why}");
    }
}
