#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use super::*;

fn rules() -> Vec<PolicyRule> {
    serde_json::from_value(json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"], "resourceNames": ["app", "web"]},
        {"apiGroups": ["secrets.hashicorp.com"], "resources": ["vaultauths", "vaultauths/status"], "verbs": ["patch"]},
        {"nonResourceURLs": ["/version"], "verbs": ["get"]}
    ]))
    .unwrap()
}

fn request(verb: &str, group: &str, resource: &str, name: &str, code: u16) -> ApiRequest {
    ApiRequest {
        id: String::new(),
        user: "system:serviceaccount:t:vto".to_owned(),
        verb: verb.to_owned(),
        uri: String::new(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        namespace: "t".to_owned(),
        name: name.to_owned(),
        code: Some(code),
        decision: String::new(),
        user_agent: String::new(),
        received: jiff::Timestamp::UNIX_EPOCH,
        last_stage: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn unused(requests: &[ApiRequest]) -> Vec<String> {
    RoleUse::of(&rules(), requests)
        .unused
        .iter()
        .map(Right::to_string)
        .collect()
}

#[test]
fn names_every_right_that_nothing_used() {
    let all = unused(&[]);
    assert_eq!(all.len(), 7);
    let requests = [
        request("get", "", "secrets", "a", 404),
        request("patch", "", "secrets", "a", 200),
        request("create", "", "serviceaccounts/token", "app", 201),
        request(
            "patch",
            "secrets.hashicorp.com",
            "vaultauths/status",
            "x",
            200,
        ),
    ];
    let expected = [
        "create secrets",
        "create serviceaccounts/token \"web\"",
        "patch vaultauths.secrets.hashicorp.com",
    ];
    assert_eq!(unused(&requests), expected);
}

#[test]
fn an_apply_that_creates_uses_create() {
    let requests = [request("patch", "", "secrets", "a", 201)];
    let left = unused(&requests);
    assert!(
        !left.contains(&"create secrets".to_owned()) && !left.contains(&"patch secrets".to_owned())
    );
    assert!(left.contains(&"get secrets".to_owned()));
}

#[test]
fn a_refused_request_uses_nothing_and_is_reported() {
    let refused = request("get", "", "secrets", "a", 403);
    let verdict = RoleUse::of(&rules(), std::slice::from_ref(&refused));
    assert_eq!(verdict.forbidden, [refused]);
    assert_eq!(verdict.unused.len(), 7);
}

#[test]
fn a_used_up_role_without_refusals_is_clean() {
    let rules: Vec<PolicyRule> = serde_json::from_value(json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    ]))
    .unwrap();
    assert_eq!(
        RoleUse::of(&rules, &[request("get", "", "secrets", "a", 200)]),
        RoleUse::default()
    );
}
