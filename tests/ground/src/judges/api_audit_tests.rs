#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A log that a test writes line by line, and the judge that reads it.
struct Setting {
    _folder: TempDir,
    path: PathBuf,
    audit: ApiAudit,
}

impl Setting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "").unwrap();
        let audit = ApiAudit::new(&path);
        Self {
            _folder: folder,
            path,
            audit,
        }
    }

    fn append(&self, text: &str) {
        let mut log = OpenOptions::new().append(true).open(&self.path).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    fn log(&self, events: &[Value]) {
        events
            .iter()
            .for_each(|event| self.append(&format!("{event}\n")));
    }
}

/// An event of the tenant's operator, as kube-apiserver writes it.
fn event(id: &str, verb: &str, resource: &str, code: u16) -> Value {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let decision = if code == 403 { "forbid" } else { "allow" };
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id,
        "stage": "ResponseComplete", "requestURI": format!("/api/v1/namespaces/t/{resource}/app?fieldManager=vto-1"),
        "verb": verb,
        "user": {"username": "system:serviceaccount:t:vto", "groups": ["system:serviceaccounts"]},
        "sourceIPs": ["127.0.0.1"], "userAgent": "vault-tenant-operator/0.1.0 (t)",
        "objectRef": {"resource": resource, "namespace": "t", "name": "app", "apiVersion": "v1", "subresource": subresource},
        "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.000001Z", "stageTimestamp": "2026-01-02T03:04:05.100001Z",
        "annotations": {"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": ""}
    })
}

#[test]
fn filters_by_every_condition_and_finds_nothing_that_is_not_there() {
    let setting = Setting::new();
    let mut other = event("4", "get", "deployments", 200);
    other["user"]["username"] = json!("system:serviceaccount:u:vto");
    other["objectRef"] =
        json!({"resource": "deployments", "namespace": "u", "name": "web", "apiGroup": "apps"});
    let mut version = event("5", "get", "x", 200);
    version["objectRef"] = Value::Null;
    version.as_object_mut().unwrap().remove("objectRef");
    version["requestURI"] = json!("/version");
    setting.log(&[
        event("1", "patch", "secrets", 201),
        event("2", "patch", "vaultauths/status", 200),
        event("3", "get", "vaultauths", 200),
        other,
        version,
    ]);
    let count = |filter: ApiFilter| setting.audit.count(&filter).unwrap();
    let tenant = || ApiFilter::service_account("t", "vto");
    assert_eq!(count(ApiFilter::new()), 5);
    assert_eq!(count(tenant()), 4);
    assert_eq!(count(ApiFilter::service_account("nobody", "vto")), 0);
    assert_eq!(count(tenant().writes()), 2);
    assert_eq!(count(tenant().verb("get").verb("list")), 2);
    assert_eq!(
        count(
            ApiFilter::new()
                .group("apps")
                .resource("deployments")
                .namespace("u")
                .name("web")
        ),
        1
    );
    assert_eq!(count(tenant().resource("vaultauths")), 1);
    assert_eq!(count(tenant().resource("vaultauths/status")), 1);
    assert_eq!(count(tenant().resource("vaultauths/*")), 2);
    assert_eq!(count(tenant().code(201)), 1);
    assert_eq!(
        count(
            tenant()
                .user_agent_contains("(t)")
                .uri_contains("fieldManager=vto-1")
        ),
        3
    );
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let second = (at("2026-01-02T03:04:05Z"), at("2026-01-02T03:04:06Z"));
    assert_eq!(count(tenant().received_within(second.0, second.1)), 4);
    assert_eq!(count(tenant().received_within(second.1, second.1)), 0);

    let created = &setting
        .audit
        .requests(&tenant().resource("secrets"))
        .unwrap()[0];
    assert!(created.created() && created.decision == "allow" && created.name == "app");
    let counts = setting.audit.counts(&tenant()).unwrap();
    let counts: Vec<_> = counts.iter().map(|(what, n)| (what.as_str(), *n)).collect();
    let expected = [
        ("get /version", 1),
        ("get vaultauths", 1),
        ("patch secrets", 1),
        ("patch vaultauths/status", 1),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn sees_a_planted_403_and_none_in_a_clean_log() {
    let setting = Setting::new();
    setting.log(&[event("1", "get", "secrets", 200)]);
    assert_eq!(setting.audit.forbidden(&ApiFilter::new()).unwrap(), []);
    setting.log(&[event("2", "list", "configmaps", 403)]);
    let forbidden = setting.audit.forbidden(&ApiFilter::new()).unwrap();
    assert_eq!(forbidden.len(), 1);
    assert_eq!(
        (
            forbidden[0].resource.as_str(),
            forbidden[0].decision.as_str()
        ),
        ("configmaps", "forbid")
    );
}

#[test]
fn a_watch_is_one_request_from_its_start_to_its_end() {
    let setting = Setting::new();
    let mut started = event("1", "watch", "secrets", 200);
    started["stage"] = json!("ResponseStarted");
    setting.log(&[started]);
    let mark = setting.audit.mark().unwrap();
    let mut ended = event("1", "watch", "secrets", 200);
    ended["stageTimestamp"] = json!("2026-01-02T03:09:05Z");
    setting.log(&[ended]);
    let watches = setting
        .audit
        .requests(&ApiFilter::new().verb("watch"))
        .unwrap();
    assert_eq!(watches.len(), 1);
    assert_eq!(
        watches[0].last_stage,
        "2026-01-02T03:09:05Z".parse().unwrap()
    );
    assert_eq!(
        setting.audit.count(&ApiFilter::new().since(mark)).unwrap(),
        0
    );
}

#[test]
fn a_half_last_line_waits_for_its_end() {
    let setting = Setting::new();
    let text = event("2", "get", "secrets", 200).to_string();
    let (half, rest) = text.split_at(text.len() / 2);
    setting.log(&[event("1", "get", "secrets", 200)]);
    setting.append(half);
    assert_eq!(setting.audit.count(&ApiFilter::new()).unwrap(), 1);
    let mark = setting.audit.mark().unwrap();
    setting.append(rest);
    assert_eq!(setting.audit.count(&ApiFilter::new()).unwrap(), 1);
    setting.append("\n\n");
    let since = setting
        .audit
        .requests(&ApiFilter::new().since(mark))
        .unwrap();
    assert_eq!(
        since
            .iter()
            .map(|request| request.id.as_str())
            .collect::<Vec<_>>(),
        ["2"]
    );
}

#[test]
fn a_log_that_cannot_be_trusted_is_an_error() {
    let setting = Setting::new();
    let says = |part: &str| {
        let error = format!("{:#}", setting.audit.count(&ApiFilter::new()).unwrap_err());
        assert!(error.contains(part), "{error}");
    };
    setting.append("\n{\"kind\": \"Event\"}\n");
    says("line 2 can't be read: no audit event");

    std::fs::write(&setting.path, "").unwrap();
    setting
        .audit
        .count(&ApiFilter::new())
        .expect_err("the bad line's log is gone, and with it its requests");
    let missing = ApiAudit::new("/nowhere/audit.log")
        .count(&ApiFilter::new())
        .unwrap_err();
    assert!(format!("{missing:#}").contains("is the server that writes it started?"));

    let setting = Setting::new();
    setting.log(&[event("1", "get", "secrets", 200)]);
    setting.audit.mark().unwrap();
    std::fs::rename(&setting.path, setting.path.with_extension("1")).unwrap();
    std::fs::write(
        &setting.path,
        format!("{0}\n{0}\n", event("2", "get", "secrets", 200)),
    )
    .unwrap();
    let error = setting.audit.count(&ApiFilter::new()).unwrap_err();
    assert!(format!("{error:#}").contains("was rotated or cut"));
}

#[tokio::test]
async fn waits_for_the_nth_and_for_rest() {
    let setting = Setting::new();
    let gets = ApiFilter::new().verb("get");
    let brief = Duration::from_millis(50);
    let error = setting.audit.wait_for(&gets, 1, brief).await.unwrap_err();
    assert!(error.to_string().contains("0 of the 1 requests"), "{error}");
    assert!(
        setting
            .audit
            .settle(&gets, brief, SOON)
            .await
            .unwrap()
            .is_empty()
    );

    let write = async {
        setting.log(&[event("1", "get", "secrets", 200)]);
        tokio::time::sleep(brief).await;
        setting.log(&[event("2", "get", "secrets", 200)]);
    };
    let (found, ()) = tokio::join!(setting.audit.wait_for(&gets, 2, SOON), write);
    assert_eq!(found.unwrap().len(), 2);
    let grow = async {
        for id in 0.. {
            setting.log(&[event(&format!("g{id}"), "get", "secrets", 200)]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let settle = setting.audit.settle(
        &gets,
        Duration::from_millis(200),
        Duration::from_millis(400),
    );
    let error =
        tokio::select! { settled = settle => settled.unwrap_err(), () = grow => unreachable!() };
    assert!(error.to_string().contains("still growing"), "{error}");
}
