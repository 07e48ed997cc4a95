#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::operator::bodies;
use crate::operator::meta;
use crate::reconcile::ports::WorkloadPatch;
use crate::reconcile::view::{WorkloadKind, WorkloadMeta};

const RESTARTED: &str = "2026-01-02T03:04:05.25Z";
const ASKED: &str = "2026-01-02T03:04:06Z";
const EARLIER: &str = "2026-01-01T00:00:00Z";

/// A Rollout of two pods that the operator restarted, with these members of spec and status; null: without.
fn rollout(spec: &Value, status: &Value) -> WorkloadMeta {
    let mut object = json!({
        "metadata": {
            "uid": "u", "resourceVersion": "7", "generation": 3, "creationTimestamp": EARLIER,
            "annotations": {
                "vault-tenant-operator.io/restarted-at": RESTARTED,
                "vault-tenant-operator.io/base-tag": "hash",
                "vault-tenant-operator.io/c-tag": "hash",
                "somebody.example.com/c-tag": "theirs",
            },
        },
        "spec": {
            "replicas": 2, "restartAt": ASKED,
            "template": { "metadata": { "annotations": { "vault-tenant-operator.io/c-tag": "theirs" } } },
        },
        "status": {
            "observedGeneration": "3", "phase": "Healthy", "availableReplicas": 2, "restartedAt": ASKED,
            "stableRS": "a", "currentPodHash": "a",
        },
    });
    for (part, more) in [("spec", spec), ("status", status)] {
        let part = object[part].as_object_mut().unwrap();
        for (name, value) in more.as_object().unwrap() {
            match value {
                Value::Null => drop(part.remove(name)),
                value => drop(part.insert(name.clone(), value.clone())),
            }
        }
    }
    meta::workload(
        serde_json::from_value(object).unwrap(),
        WorkloadKind::ArgoRollout,
    )
}

#[test]
fn its_status_tells_how_the_restart_stands() {
    const NONE: [bool; 3] = [false; 3];
    const UNDER_WAY: [bool; 3] = [true, false, false];
    let exceeded = json!([{ "type": "Progressing", "reason": "ProgressDeadlineExceeded" }]);
    let paused = json!({ "phase": "Paused", "currentPodHash": "b" });
    let paused_before = json!({ "phase": "Paused", "currentPodHash": "b", "restartedAt": EARLIER });
    let given_up = json!({ "phase": "Degraded", "currentPodHash": "b" });
    let stuck = json!({ "phase": "Degraded", "conditions": exceeded });
    let not_yet = json!({ "restartedAt": null });
    let earlier = json!({ "restartedAt": EARLIER });
    for (spec, status, [under_way, failing, undone]) in [
        (json!({}), json!({}), NONE),
        (json!({}), not_yet.clone(), UNDER_WAY),
        (json!({}), earlier.clone(), UNDER_WAY),
        (json!({}), json!({ "phase": "Progressing" }), UNDER_WAY),
        (json!({}), json!({ "availableReplicas": 1 }), UNDER_WAY),
        (json!({}), json!({ "observedGeneration": "2" }), UNDER_WAY),
        // A hash, of an old controller.
        (json!({}), json!({ "observedGeneration": "7f9c" }), NONE),
        (
            json!({ "replicas": 0 }),
            json!({ "availableReplicas": 0 }),
            NONE,
        ),
        // A step of a canary; a restart is through there or not, and the update may have begun in the middle of it.
        (json!({}), paused, NONE),
        (json!({}), paused_before, UNDER_WAY),
        // By hand, and nothing is being updated.
        (
            json!({ "paused": true }),
            json!({ "phase": "Paused" }),
            NONE,
        ),
        (json!({}), given_up, NONE),
        (json!({}), stuck, [true, true, false]),
        // Somebody plans another one, before ours is through or after it.
        (
            json!({ "restartAt": "2099-01-01T00:00:00Z" }),
            json!({}),
            NONE,
        ),
        (
            json!({ "restartAt": "2099-01-01T00:00:00Z" }),
            earlier.clone(),
            UNDER_WAY,
        ),
        // And takes ours back, before it is through or after it.
        (
            json!({ "restartAt": null }),
            earlier.clone(),
            [true, false, true],
        ),
        (
            json!({ "restartAt": EARLIER }),
            not_yet,
            [true, false, true],
        ),
        (
            json!({ "restartAt": "when?" }),
            earlier,
            [true, false, true],
        ),
        (json!({ "restartAt": null }), json!({}), NONE),
    ] {
        let found = rollout(&spec, &status);
        let told = found.rollout;
        assert_eq!(
            [told.under_way, told.failing, told.undone],
            [under_way, failing, undone],
            "{spec} {status}"
        );
        // What its pods run stands on itself, unless they were not all replaced.
        let runs: Vec<_> = found.template.values().map(String::as_str).collect();
        assert_eq!(runs == ["hash"], !undone, "{spec} {status}: {runs:?}");
        assert_eq!(found.paused, spec["paused"] == true);
    }
}

#[test]
fn a_copy_of_a_restarted_one_waits_for_no_restart() {
    let seen = Seen {
        created: Some("2026-02-01T00:00:00Z".parse().unwrap()),
        restarted: Some(RESTARTED.parse().unwrap()),
        ..Seen::default()
    };
    assert_eq!(seen.standing(), Standing::default());
}

#[test]
fn numbers_that_no_rule_holds_in_bounds_do_no_harm() {
    let odd = json!({ "progressDeadlineSeconds": -1, "template": { "spec": { "terminationGracePeriodSeconds": 1_u64 << 40 } } });
    let told = rollout(&odd, &json!({})).rollout;
    assert_eq!((told.deadline, told.grace), (0, u32::MAX));
    let told = rollout(&json!({ "template": null }), &json!({})).rollout;
    assert_eq!((told.deadline, told.grace), (600, 30));
}

#[test]
fn a_restart_is_one_patch_that_leaves_the_template_alone() {
    let entry = |name: &str, value: &str| {
        let name = format!("vault-tenant-operator.io/{name}");
        (name, value.to_owned())
    };
    let mut patch = WorkloadPatch {
        uid: "u".to_owned(),
        resource_version: "7".to_owned(),
        annotations: [entry("base-tag", "new"), entry("restarted-at", RESTARTED)].into(),
        template: [entry("c-tag", "new")].into(),
    };
    let restart = bodies::workload(WorkloadKind::ArgoRollout, &patch);
    let expected = json!({
        "metadata": {
            "uid": "u", "resourceVersion": "7",
            "annotations": {
                "vault-tenant-operator.io/base-tag": "new",
                "vault-tenant-operator.io/c-tag": "new",
                "vault-tenant-operator.io/restarted-at": RESTARTED,
            },
        },
        "spec": { "restartAt": ASKED },
    });
    assert_eq!(restart, expected);
    let of_template = bodies::workload(WorkloadKind::Deployment, &patch);
    let annotations = json!({ "vault-tenant-operator.io/c-tag": "new" });
    assert_eq!(
        of_template["spec"],
        json!({ "template": { "metadata": { "annotations": annotations } } })
    );
    patch.template.clear();
    let baseline = bodies::workload(WorkloadKind::ArgoRollout, &patch);
    assert!(baseline.get("spec").is_none(), "{baseline}");
    // On the second there is nothing to add.
    assert_eq!(restart_at(ASKED.parse().unwrap()).to_string(), ASKED);
}
