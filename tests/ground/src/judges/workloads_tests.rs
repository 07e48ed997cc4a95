#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::faults::{Answer, HttpProxy, Match};

/// An API server that knows one namespace `t` with these answers, and a client of it.
async fn cluster(answers: &[(&str, Value)]) -> (HttpProxy, Client) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = HttpProxy::builder().start().await.unwrap();
    for (path, body) in answers {
        let path = format!("/apis/apps/v1/namespaces/t/{path}");
        server
            .on(Match::method("GET").path(path))
            .answer(Answer::json(200, body));
    }
    let missing = Answer::kubernetes_error(404, "NotFound", "there is no such object");
    server.on(Match::any()).answer(missing);
    let client = Client::try_from(kube::Config::new(server.url().parse().unwrap())).unwrap();
    (server, client)
}

fn workload(kind: &str, limit: usize) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "t", "uid": "u-web"},
        "spec": {"revisionHistoryLimit": limit, "serviceName": "web", "selector": {}, "template": {}}})
}

fn owned_by(uid: &str, name: &str, labels: &Value) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "X", "name": "web", "uid": uid, "controller": true});
    json!({"metadata": {"name": name, "namespace": "t", "labels": labels, "ownerReferences": [owner]},
        "revision": 1, "spec": {"selector": {}}})
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {}, "items": items})
}

fn replica_set(uid: &str, hash: &str) -> Value {
    owned_by(
        uid,
        &format!("web-{hash}"),
        &json!({ "pod-template-hash": hash }),
    )
}

async fn restarts(answers: &[(&str, Value)], kind: Kind) -> Result<usize> {
    let (_server, client) = cluster(answers).await;
    Ok(Templates::of(&client, kind, "t", "web").await?.restarts())
}

#[tokio::test]
async fn counts_the_replica_sets_of_a_deployment_and_of_no_other() {
    let sets = |sets: &[Value]| list("ReplicaSetList", sets);
    let deployment = ("deployments/web", workload("Deployment", 10));
    let fresh = sets(&[replica_set("u-web", "a"), replica_set("u-other", "b")]);
    let answers = [deployment.clone(), ("replicasets", fresh)];
    assert_eq!(restarts(&answers, Kind::Deployment).await.unwrap(), 0);
    let rolled = sets(&[
        replica_set("u-web", "a"),
        replica_set("u-web", "b"),
        replica_set("u-web", "c"),
    ]);
    let answers = [deployment, ("replicasets", rolled)];
    assert_eq!(restarts(&answers, Kind::Deployment).await.unwrap(), 2);
}

#[tokio::test]
async fn counts_the_revisions_of_a_stateful_set_and_a_daemon_set() {
    let revisions = [
        owned_by("u-web", "web-1", &json!({})),
        owned_by("u-web", "web-2", &json!({})),
    ];
    let revisions = (
        "controllerrevisions",
        list("ControllerRevisionList", &revisions),
    );
    let stateful = [
        ("statefulsets/web", workload("StatefulSet", 10)),
        revisions.clone(),
    ];
    assert_eq!(restarts(&stateful, Kind::StatefulSet).await.unwrap(), 1);
    let daemon = [("daemonsets/web", workload("DaemonSet", 10)), revisions];
    assert_eq!(restarts(&daemon, Kind::DaemonSet).await.unwrap(), 1);
}

#[tokio::test]
async fn what_cannot_be_counted_is_an_error() {
    let error = |answers: Vec<(&'static str, Value)>| async move {
        format!(
            "{:#}",
            restarts(&answers, Kind::Deployment).await.unwrap_err()
        )
    };
    assert!(
        error(vec![])
            .await
            .contains("the restarts of Deployment t/web: ")
    );
    let none = list("ReplicaSetList", &[]);
    let answers = vec![
        ("deployments/web", workload("Deployment", 10)),
        ("replicasets", none),
    ];
    assert!(
        error(answers)
            .await
            .contains("no ReplicaSet or ControllerRevision yet")
    );
    let full = list(
        "ReplicaSetList",
        &[replica_set("u-web", "a"), replica_set("u-web", "b")],
    );
    let answers = vec![
        ("deployments/web", workload("Deployment", 1)),
        ("replicasets", full),
    ];
    assert!(error(answers).await.contains("raise revisionHistoryLimit"));
}
