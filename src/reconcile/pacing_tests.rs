//! What the status of resources says of a rollout that another process of the operator has seen.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::api::VaultStaticSecret;
use crate::key::ObjectKey;
use crate::reconcile::kept::Kept as _;
use crate::reconcile::view::WorkloadKind;

#[test]
fn a_status_tells_how_the_last_restart_ended() {
    use RolloutState::{Failed, Pending, Rolled, Rolling};
    use WorkloadKind::{DaemonSet, Deployment, StatefulSet};
    // Restarted in the middle of a second, as status has it.
    let restart = Timestamp::from_millisecond(1_000_400).unwrap();
    let this = "1970-01-01T00:16:40Z";
    let workload = WorkloadMeta {
        annotations: [(RESTARTED_AT.to_owned(), restart.to_string())].into(),
        ..WorkloadMeta::default()
    };
    let told = |kind: WorkloadKind, rows: &[(RolloutState, &str)]| {
        let target = WorkloadKey {
            kind,
            object: ObjectKey::new("team", "db"),
        };
        let mut view = View::default();
        for (number, (state, at)) in rows.iter().enumerate() {
            let named = json!({ "kind": kind.as_str(), "name": "db" });
            let mut row = named.clone();
            (row["state"], row["restartedAt"]) = (json!(state), json!(at));
            let name = format!("app-{number}");
            let resource: VaultStaticSecret = serde_json::from_value(json!({
                "metadata": { "name": name, "namespace": "team" },
                "spec": {
                    "mount": "kv", "path": "app", "type": "kv-v2", "destination": { "name": name },
                    "rolloutRestartTargets": [named],
                },
                "status": { "lastGeneration": 1, "rolloutTargets": [row] },
            }))
            .unwrap();
            let key = ObjectKey::new("team", name);
            VaultStaticSecret::put(&mut view, &key, Some(Rc::new(resource)));
        }
        told_before(
            &target,
            &workload,
            &view,
            later(restart, Duration::from_secs(9_000)),
        )
    };
    for kind in [StatefulSet, DaemonSet] {
        assert_eq!(told(kind, &[(Failed, this)]), Some(Failed));
    }
    // Its controller says so itself.
    assert_eq!(told(Deployment, &[(Failed, this)]), None);
    assert_eq!(told(Deployment, &[(Rolled, this)]), Some(Rolled));
    // One of several may have been written before it was through.
    let both = [(Failed, this), (Rolled, this)];
    assert_eq!(told(StatefulSet, &both), Some(Rolled));
    assert_eq!(told(StatefulSet, &[(Rolling, this)]), None);
    assert_eq!(told(StatefulSet, &[(Pending, this)]), None);
    assert_eq!(told(StatefulSet, &[(Failed, "1970-01-01T00:16:41Z")]), None);
    assert_eq!(told(StatefulSet, &[]), None);
}
