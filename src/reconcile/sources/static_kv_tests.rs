//! Answers as Vault 1.21 gives them.
#![allow(clippy::unwrap_used)]

use super::*;

fn spec(type_: &str, version: Option<i64>) -> VaultStaticSecretSpec {
    let mut spec: VaultStaticSecretSpec = serde_json::from_value(serde_json::json!({
        "mount": "/kv/", "path": "/app/db/", "type": type_, "destination": {"name": "app"},
    }))
    .unwrap();
    spec.version = version;
    spec
}

fn reply(status: u16, data: Option<&str>) -> Reply {
    Reply {
        status,
        data: data.map(|text| Redacted::new(serde_json::from_str(text).unwrap())),
        ..Reply::default()
    }
}

fn answer(type_: &str, reply: Reply) -> Result<Material, Problem> {
    let spec = spec(type_, None);
    material(&spec, &request(&spec, None).unwrap(), reply)
}

#[test]
fn paths_and_versions() {
    let read = |type_, version| request(&spec(type_, version), None).unwrap();
    assert_eq!(read("kv-v1", Some(3)).path, "kv/app/db");
    assert!(read("kv-v1", Some(3)).query.is_empty());
    assert_eq!(read("kv-v2", None).path, "kv/data/app/db");
    assert!(read("kv-v2", Some(0)).query.is_empty());
    assert_eq!(
        read("kv-v2", Some(3)).query,
        [("version".to_owned(), "3".to_owned())]
    );
    assert!(
        request(&spec("kv-v3", None), None)
            .unwrap_err()
            .to_string()
            .contains("kv-v3")
    );
}

#[test]
fn a_version_with_data() {
    let got = answer("kv-v2", reply(200, Some(r#"{"data":{"a":"b"},"metadata":{"version":7,"deletion_time":"","destroyed":false}}"#))).unwrap();
    assert_eq!((got.version.as_str(), got.content.fields.len()), ("7", 1));
    assert!(got.raw.expose().get().contains("metadata"));
    let got = answer("kv-v1", reply(200, Some(r#"{"a":"b"}"#))).unwrap();
    assert_eq!((got.version.as_str(), got.content.fields.len()), ("", 1));
}

#[test]
fn what_is_gone_says_which_version_and_when() {
    let deleted = r#"{"data":null,"metadata":{"version":2,"deletion_time":"2026-01-02T03:04:05Z","destroyed":false}}"#;
    let text = answer("kv-v2", reply(404, Some(deleted)))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("version 2 was deleted at 2026-01-02T03:04:05Z"),
        "{text}"
    );
    let destroyed = r#"{"data":null,"metadata":{"version":2,"deletion_time":"","destroyed":true}}"#;
    let text = answer("kv-v2", reply(404, Some(destroyed)))
        .unwrap_err()
        .to_string();
    assert!(text.contains("version 2 was destroyed"), "{text}");
    assert!(matches!(
        answer("kv-v2", reply(404, None)),
        Err(Problem::SourceMissing { .. })
    ));
    assert!(matches!(
        answer("kv-v1", reply(404, None)),
        Err(Problem::SourceMissing { .. })
    ));
    assert!(matches!(
        answer("kv-v1", reply(204, None)),
        Err(Problem::VaultAnswerUnusable { .. })
    ));
}

#[test]
fn another_engine_is_recognised_without_quoting_data() {
    let text = answer("kv-v2", reply(200, Some(r#"{"password":"hunter2"}"#)))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("spec.type") && !text.contains("hunter2"),
        "{text}"
    );
    // What is no object is no answer, even if the parser could make one of it.
    let list = r#"[{"password":"hunter2"},{"version":7}]"#;
    assert!(answer("kv-v2", reply(200, Some(list))).is_err());
    let text = answer("kv-v2", reply(200, Some(r#"{"data":"hunter2"}"#)))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("column") && !text.contains("hunter2"),
        "{text}"
    );
}
