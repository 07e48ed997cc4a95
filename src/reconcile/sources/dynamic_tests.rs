#![allow(clippy::unwrap_used)]
use super::*;
use crate::key::Redacted;
use crate::vault::Lease;

fn resource(spec: Value) -> VaultDynamicSecret {
    let mut whole = json!({
        "metadata": { "name": "app", "namespace": "team" },
        "spec": { "mount": "db", "path": "creds/app", "destination": { "name": "app" } },
    });
    for (name, value) in spec.as_object().into_iter().flatten() {
        whole["spec"][name] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn request(spec: Value) -> Result<Read, Problem> {
    resource(spec).request(None)
}

fn answer(reply: Reply) -> Result<Material, Problem> {
    let resource = resource(json!({}));
    let read = resource.request(None).unwrap();
    resource.material(&read, reply, Timestamp::UNIX_EPOCH)
}

fn reply(data: &str) -> Reply {
    Reply {
        status: 200,
        data: Some(Redacted::new(serde_json::from_str(data).unwrap())),
        ..Reply::default()
    }
}

#[test]
fn params_are_always_written_and_a_method_alone_writes_nothing_in_particular() {
    let body = |spec| request(spec).unwrap().body.map(Value::Object);
    assert_eq!(body(json!({})), None);
    assert_eq!(body(json!({ "requestHTTPMethod": "GET" })), None);
    assert_eq!(body(json!({ "requestHTTPMethod": "PUT" })), Some(json!({})));
    assert_eq!(
        body(json!({ "requestHTTPMethod": "POST" })),
        Some(json!({}))
    );
    let params = json!({ "params": { "ttl": "1h" }, "requestHTTPMethod": "GET" });
    assert_eq!(body(params), Some(json!({ "ttl": "1h" })));
    let read = request(json!({ "mount": "/db/", "path": "/creds/app/" })).unwrap();
    assert_eq!((read.path.as_str(), read.mints), ("db/creds/app", true));
    for wrong in [
        json!({ "mount": "/" }),
        json!({ "path": "" }),
        json!({ "requestHTTPMethod": "LIST" }),
    ] {
        assert!(matches!(request(wrong), Err(Problem::InvalidSpec { .. })));
    }
}

#[test]
fn an_answer_is_kept_with_its_lease() {
    let lease = Lease {
        id: "db/creds/app/x".into(),
        duration: Duration::from_secs(60),
        renewable: true,
    };
    let found = answer(Reply {
        lease,
        ..reply(r#"{"username":"u","password":"p"}"#)
    });
    let found = found.unwrap();
    assert_eq!(found.content.fields.len(), 2);
    let grant = found.grant.unwrap();
    assert_eq!(
        (grant.lease.as_str(), grant.seconds, grant.renewable),
        ("db/creds/app/x", 60, true)
    );
}

#[test]
fn what_vault_rotates_by_itself_is_read_and_told() {
    let mut rotated = resource(json!({ "allowStaticCreds": true }));
    let read = rotated.request(None).unwrap();
    assert!(!read.mints, "it is only read");
    let answer = |data: &str| rotated.material(&read, reply(data), Timestamp::UNIX_EPOCH);
    let found = answer(
        r#"{"username":"u","password":"p","ttl":20,"rotation_period":30,
            "last_vault_rotation":"1970-01-01T00:00:10.5Z"}"#,
    );
    let found = found.unwrap();
    assert!(found.volatile.contains(&"ttl") && !found.volatile.contains(&"password"));
    let grant = found.grant.unwrap();
    assert_eq!((grant.lease.as_str(), grant.seconds), ("", 20));
    let held = Held {
        grant,
        renewed: None,
    };
    let told = json!({ "lastVaultRotation": 10, "rotationPeriod": 30, "ttl": 20 });
    let fields = rotated.status_fields(Some(&held), None);
    assert_eq!(fields["staticCredsMetaData"], told);
    for other in [r#"{"username":"u"}"#, r#"{"ttl":20,"rotation_period":30}"#] {
        let text = answer(other).unwrap_err().to_string();
        assert!(text.contains("spec.allowStaticCreds"), "{text}");
    }
    rotated.spec.allow_static_creds = Some(false);
    assert!(rotated.request(None).unwrap().mints);
}

#[test]
fn what_holds_no_credentials_is_refused_with_the_mend() {
    let wrapped = Reply {
        wrapped: true,
        ..reply("{}")
    };
    let missing = Reply {
        status: 404,
        errors: vec!["no handler for route".into()],
        ..Reply::default()
    };
    let empty = Reply {
        status: 204,
        ..Reply::default()
    };
    for (reply, words) in [
        (wrapped, "wrapped"),
        (missing, "spec.requestHTTPMethod"),
        (empty, "HTTP 204"),
        (reply("[1]"), "not an object"),
    ] {
        let text = answer(reply).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn status_says_what_is_held_and_keeps_what_it_said_where_nothing_is() {
    let mut resource = resource(json!({}));
    let held = Held {
        grant: Grant {
            lease: "db/creds/app/x".into(),
            since: Timestamp::from_second(100).unwrap(),
            seconds: 60,
            renewable: true,
            ..Grant::default()
        },
        renewed: None,
    };
    let fields = resource.status_fields(Some(&held), None);
    assert_eq!(fields["lastRenewalTime"], 100);
    let lease =
        json!({ "id": "db/creds/app/x", "duration": 60, "renewable": true, "requestID": "" });
    assert_eq!(fields["secretLease"], lease);
    let mut status = fields.clone();
    status["conditions"] = json!([]);
    resource.status = serde_json::from_value(status).unwrap();
    assert_eq!(resource.status_fields(None, None), fields);
    let told = resource.told().renewed.unwrap();
    assert_eq!((told.at.as_second(), told.duration.as_secs()), (100, 60));
}
