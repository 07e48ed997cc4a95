#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;

use serde_json::{Value, json};

use super::*;

/// A line as Vault's file device writes it.
fn line(kind: &str, id: &str, operation: &str, path: &str, display_name: &str) -> Value {
    json!({
        "time": "2026-01-02T03:04:05.123456789Z", "type": kind,
        "auth": {"accessor": "hmac-sha256:1", "client_token": "hmac-sha256:2", "display_name": display_name,
            "entity_id": "e-1", "policies": ["default"], "token_type": "service"},
        "request": {"id": id, "client_id": "e-1", "operation": operation, "mount_point": "kv/", "mount_type": "kv",
            "namespace": {"id": "root"}, "path": path, "remote_address": "127.0.0.1", "remote_port": 41000, "headers": {"user-agent": ["vto (t)"]}}
    })
}

/// The first line of every log, and the four lines of a login and a read by its token.
fn login_and_read() -> Vec<Value> {
    let mut asked = line("request", "1", "update", "auth/kubernetes/login", "");
    asked.as_object_mut().unwrap().remove("auth");
    let mut granted = asked.clone();
    granted["type"] = json!("response");
    granted["response"] = json!({"auth": {"display_name": "kubernetes-t-app", "entity_id": "e-1"}});
    let device_test = json!({"time": "2026-01-02T03:04:05Z", "type": "request",
        "request": {"id": "0", "namespace": {"id": "root"}, "operation": "update", "path": "sys/audit/test"}});
    vec![
        device_test,
        asked,
        granted,
        line("request", "2", "read", "kv/data/app", "kubernetes-t-app"),
        line("response", "2", "read", "kv/data/app", "kubernetes-t-app"),
    ]
}

fn audit(lines: &[Value]) -> (tempfile::TempDir, VaultAudit) {
    let folder = tempfile::tempdir().unwrap();
    let audit = VaultAudit::new(folder.path().join("audit.log"));
    append(&audit, lines);
    (folder, audit)
}

fn append(audit: &VaultAudit, lines: &[Value]) {
    let mut text = std::fs::read_to_string(audit.path()).unwrap_or_default();
    lines
        .iter()
        .for_each(|line| writeln!(text, "{line}").unwrap());
    // Written in place: the same file goes on.
    std::fs::write(audit.path(), text).unwrap();
}

#[test]
fn joins_the_two_lines_of_a_request() {
    let (_folder, audit) = audit(&login_and_read());
    let requests = audit.requests(&VaultFilter::new()).unwrap();
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.answered && request.error.is_empty())
    );
    assert_eq!(
        requests[0].display_name, "kubernetes-t-app",
        "a login is its token's"
    );
    assert_eq!(
        (requests[1].remote_port, requests[1].entity.as_str()),
        (41000, "e-1")
    );
}

#[test]
fn filters_by_every_condition_and_finds_nothing_that_is_not_there() {
    let (_folder, audit) = audit(&login_and_read());
    let count = |filter: VaultFilter| audit.count(&filter).unwrap();
    assert_eq!(count(VaultFilter::new().path("auth/kubernetes/login")), 1);
    assert_eq!(
        count(VaultFilter::new().path_prefix("kv/data/").operation("read")),
        1
    );
    assert_eq!(count(VaultFilter::new().path_prefix("pki/")), 0);
    assert_eq!(count(VaultFilter::new().operation("delete")), 0);
    assert_eq!(count(VaultFilter::new().client_contains("-t-")), 2);
    assert_eq!(count(VaultFilter::new().client_contains("-u-")), 0);
    assert_eq!(count(VaultFilter::new().user_agent_contains("(t)")), 2);
    assert_eq!(count(VaultFilter::new().user_agent_contains("(u)")), 0);
    assert_eq!(count(VaultFilter::new().namespace("")), 2);
    assert_eq!(count(VaultFilter::new().namespace("team")), 0);
    assert_eq!(count(VaultFilter::new().failed(true)), 0);
}

#[test]
fn sees_a_planted_refusal_another_namespace_and_what_is_still_running() {
    let (_folder, audit) = audit(&login_and_read());
    let mark = audit.mark().unwrap();
    let mut refused = line("request", "3", "read", "kv/data/other", "kubernetes-t-app");
    refused["error"] = json!("permission denied");
    let mut elsewhere = line("request", "4", "list", "kv/metadata/", "root");
    elsewhere["request"]["namespace"] = json!({"id": "x", "path": "team/a/"});
    append(&audit, &[refused, elsewhere]);
    let failed = audit.requests(&VaultFilter::new().failed(true)).unwrap();
    assert_eq!(
        (failed.len(), failed[0].error.as_str()),
        (1, "permission denied")
    );
    let since = audit.requests(&VaultFilter::new().since(mark)).unwrap();
    assert_eq!(since.len(), 2);
    assert!(since.iter().all(|request| !request.answered));
    assert_eq!(
        audit
            .count(&VaultFilter::new().namespace("team/a"))
            .unwrap(),
        1
    );
}

#[test]
fn a_token_that_makes_another_is_named_by_its_own_name() {
    let mut made = line("response", "1", "update", "auth/token/create", "root");
    made["response"] = json!({"auth": {"display_name": "token-t", "entity_id": ""}});
    let (_folder, audit) = audit(&[made]);
    assert_eq!(
        audit.requests(&VaultFilter::new()).unwrap()[0].display_name,
        "root"
    );
}

#[tokio::test]
async fn waits_and_settles() {
    let (_folder, audit) = audit(&login_and_read());
    let (brief, soon) = (
        std::time::Duration::from_millis(40),
        std::time::Duration::from_secs(10),
    );
    assert_eq!(
        audit
            .wait_for(&VaultFilter::new(), 2, soon)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        audit
            .settle(&VaultFilter::new(), brief, soon)
            .await
            .unwrap()
            .len(),
        2
    );
    assert!(audit.wait_for(&VaultFilter::new(), 3, brief).await.is_err());
}

#[test]
fn tells_the_lease_of_an_answer_and_counts_by_path() {
    let mut lines = login_and_read();
    lines.push(line("request", "3", "read", "database/creds/app", "app"));
    let mut answer = line("response", "3", "read", "database/creds/app", "app");
    answer["response"] = json!({"secret": {"lease_id": "database/creds/app/one"}});
    lines.push(answer);
    let (_folder, audit) = audit(&lines);
    let leased = VaultFilter::new().path("database/creds/app");
    assert_eq!(
        audit.requests(&leased).unwrap()[0].lease,
        "database/creds/app/one"
    );
    let counts = audit.count_by_path(&VaultFilter::new()).unwrap();
    let counts: Vec<_> = counts.into_iter().collect();
    let once = |path: &str| (path.to_owned(), 1);
    let paths = ["auth/kubernetes/login", "database/creds/app", "kv/data/app"];
    assert_eq!(counts, paths.map(once));
}
