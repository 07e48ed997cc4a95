//! How the rollout of a StatefulSet is read of which pods are left to a person.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

/// Of ten pods, with this strategy.
fn set(strategy: &Value, updated: u32, ready: u32, observed: u32) -> Rollout {
    let object = json!({
        "metadata": { "uid": "u", "resourceVersion": "7", "generation": 3 },
        "spec": { "replicas": 10, "updateStrategy": strategy },
        "status": {
            "observedGeneration": observed, "replicas": 10, "updatedReplicas": updated,
            "readyReplicas": ready,
        },
    });
    let object = serde_json::from_value(object).unwrap();
    workload(object, WorkloadKind::StatefulSet).rollout
}

#[test]
fn above_a_partition_the_controller_replaces_pods() {
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 4 } });
    let by_hand = json!({ "type": "OnDelete" });
    let whole = json!({ "type": "RollingUpdate" });
    for (strategy, updated, ready, observed, under_way, awaits_hand) in [
        (&rolling, 10, 10, 3, false, true),
        (&rolling, 6, 10, 3, true, true),
        (&rolling, 6, 9, 3, true, false),
        (&rolling, 5, 10, 3, true, false),
        (&rolling, 10, 10, 2, true, false),
        (&by_hand, 0, 9, 2, true, true),
        (&whole, 9, 10, 3, true, false),
        (&whole, 10, 10, 3, false, false),
    ] {
        let rollout = set(strategy, updated, ready, observed);
        assert_eq!(
            (rollout.under_way, rollout.awaits_hand()),
            (under_way, awaits_hand),
            "{strategy} {updated} {ready} {observed}"
        );
    }
}

#[test]
fn pods_of_the_template_before_are_none_of_the_new_one() {
    let whole = json!({ "type": "RollingUpdate" });
    assert_eq!(set(&whole, 10, 10, 2).updated, 0, "it is not seen yet");
    assert_eq!(set(&whole, 4, 9, 3).updated, 4);
    assert_eq!(set(&whole, 10, 10, 3).updated, 0, "it is over");
}

#[test]
fn a_template_is_known_by_all_that_is_in_it() {
    let digest = |label: &str, annotation: &str, image: &str, replicas: u32| {
        let object = json!({
            "metadata": { "uid": "u", "resourceVersion": "7", "generation": replicas },
            "spec": { "replicas": replicas, "template": {
                "metadata": { "labels": { "app": label }, "annotations": { "team.example/a": annotation } },
                "spec": { "containers": [{ "name": "app", "image": image, "ports": [1.5, null] }] },
            } },
        });
        let object = serde_json::from_value(object).unwrap();
        workload(object, WorkloadKind::DaemonSet).pod_template
    };
    let first = digest("l", "a", "app:1", 2);
    assert_eq!(digest("l", "a", "app:1", 3), first, "it was scaled");
    assert_ne!(digest("m", "a", "app:1", 2), first);
    assert_ne!(digest("l", "b", "app:1", 2), first);
    assert_ne!(digest("l", "a", "app:2", 2), first);
}
