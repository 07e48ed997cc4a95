//! What is needed agrees with what is shipped, and a comparison finds exactly
//! what was taken away or added.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::rc::Rc;

use k8s_openapi::api::authorization::v1::ResourceRule;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::{Value, json};

use super::*;
use crate::config::{self, Config};
use crate::key::ObjectKey;
use crate::policy::OwnIdentity;
use crate::reconcile::kept::Kept;
use crate::reconcile::view::View;

const ROLE: &str = include_str!("../../rbac/role.yaml");
const LEADERSHIP: &str = include_str!("../../rbac/leadership/role.yaml");
const OWN_NAMESPACE: &str = include_str!("../../rbac/own-namespace/role.yaml");

fn own(namespace: &str) -> OwnIdentity {
    OwnIdentity {
        namespace: namespace.to_owned(),
        service_account: "vault-tenant-operator".to_owned(),
        api_server: Vec::new(),
        api_audiences: vec!["https://kubernetes.default.svc".to_owned()],
        secret_names: crate::operator::secret_names(),
    }
}

fn rules(role: &str) -> Vec<Granted> {
    let role: Role = serde_yaml::from_str(role).unwrap();
    let rules = role.rules.unwrap();
    rules.iter().map(Granted::from).collect()
}

fn put<T: Kept + serde::de::DeserializeOwned>(view: &mut View, name: &str, spec: Value) {
    let object = json!({ "metadata": { "name": name, "namespace": "team" }, "spec": spec });
    let object: T = serde_json::from_value(object).unwrap();
    T::put(view, &ObjectKey::new("team", name), Some(Rc::new(object)));
}

/// A tenant with a connection, a login and two Secrets of one workload.
fn tenant() -> View {
    let mut view = View::default();
    let connection = json!({ "address": "https://vault.example", "caCertSecretRef": "vault-ca" });
    put::<crate::api::VaultConnection>(&mut view, "default", connection);
    let auth = json!({
        "method": "kubernetes", "mount": "kubernetes",
        "kubernetes": { "role": "app", "serviceAccount": "app", "audiences": ["vault"] },
    });
    put::<crate::api::VaultAuth>(&mut view, "default", auth);
    static_secret(&mut view, "one", json!({}));
    static_secret(
        &mut view,
        "two",
        json!({ "destination": { "name": "foreign" } }),
    );
    view
}

/// One with the destination of its own name that restarts the Deployment `web`.
fn static_secret(view: &mut View, name: &str, change: Value) {
    let mut spec = json!({
        "mount": "kv", "type": "kv-v2", "path": name,
        "destination": { "name": name, "create": true },
        "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }],
    });
    for (field, value) in change.as_object().unwrap() {
        spec[field] = value.clone();
    }
    put::<crate::api::VaultStaticSecret>(view, name, spec);
}

fn team(grade: Grade, yaml: &str, view: &View) -> (Rights, Needed) {
    let config = config::from_yaml(yaml).unwrap();
    let mut needed = needed(grade, &config, &own("team"), view);
    (needed.namespaces.remove("team").unwrap(), needed)
}

/// The rights that go by names, as `resource "name"` with the verbs.
fn by_name(rights: &Rights) -> BTreeMap<String, Vec<&str>> {
    let mut found = BTreeMap::<String, Vec<&str>>::new();
    for right in rights.keys().filter(|right| right.name.is_some()) {
        let text = right.to_string();
        let (_, object) = text.split_once(' ').unwrap();
        found
            .entry(object.to_owned())
            .or_default()
            .push(&right.verb);
    }
    found
}

fn as_granted(right: &Right) -> Granted {
    Granted {
        groups: vec![right.group.to_string()],
        resources: vec![right.resource.to_string()],
        names: right.name.iter().cloned().collect(),
        verbs: vec![right.verb.to_string()],
    }
}

fn right(group: &str, resource: &str, verb: &str, name: Option<&str>) -> Right {
    Right {
        group: group.to_owned().into(),
        resource: resource.to_owned().into(),
        name: name.map(str::to_owned),
        verb: verb.to_owned().into(),
    }
}

#[test]
fn the_shipped_roles_are_what_is_needed() {
    let view = View::default();
    let equal = |needed: &Rights, roles: &[&str]| {
        let granted: Vec<Granted> = roles.iter().flat_map(|role| rules(role)).collect();
        assert_eq!(compare(needed, &granted), Difference::default());
    };
    let inside = needed(Grade::Namespace, &Config::default(), &own("team"), &view);
    assert_eq!(inside.namespaces.len(), 1);
    equal(&inside.namespaces["team"], &[ROLE, LEADERSHIP]);
    let config = config::from_yaml("watchNamespaces: [team]").unwrap();
    let beside = needed(Grade::Namespace, &config, &own("home"), &view);
    assert_eq!(beside.namespaces.len(), 2);
    equal(&beside.namespaces["team"], &[ROLE]);
    equal(&beside.namespaces["home"], &[OWN_NAMESPACE, LEADERSHIP]);
}

#[test]
fn the_grade_of_names_asks_for_what_resources_name() {
    let (rights, rest) = team(Grade::Named, "", &tenant());
    assert!(rest.unserved.is_empty(), "{:?}", rest.unserved);
    let keep = ["create", "get", "patch"].as_slice();
    let expected: [(&str, &[&str]); 10] = [
        (
            "secrets \"one\"",
            &["create", "delete", "get", "list", "patch", "watch"],
        ),
        ("secrets \"foreign\"", &["get", "list", "patch", "watch"]),
        ("secrets \"vault-ca\"", &["get", "list", "watch"]),
        ("secrets \"vault-tenant-operator-key\"", keep),
        ("secrets \"vault-tenant-operator-ledger-0\"", keep),
        ("secrets \"vault-tenant-operator-ledger-1\"", keep),
        ("serviceaccounts/token \"app\"", &["create"]),
        ("deployments.apps \"web\"", &["list", "patch", "watch"]),
        (
            "leases.coordination.k8s.io \"vault-tenant-operator-claim\"",
            keep,
        ),
        (
            "leases.coordination.k8s.io \"vault-tenant-operator-leader\"",
            keep,
        ),
    ];
    let expected = expected.map(|(object, verbs)| (object.to_owned(), verbs.to_vec()));
    assert_eq!(by_name(&rights), expected.into());
    let why = &rights[&right("apps", "deployments", "patch", Some("web"))];
    let by: Vec<String> = why
        .iter()
        .filter_map(|reason| reason.resource.as_ref())
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        by,
        ["VaultStaticSecret team/one", "VaultStaticSecret team/two"]
    );
}

#[test]
fn what_is_not_served_or_allowed_needs_nothing() {
    let (without, _) = team(Grade::Named, "", &View::default());
    let nothing = by_name(&without);
    let reason_of = |yaml: &str, change: Value| {
        let mut view = tenant();
        crate::api::VaultStaticSecret::put(&mut view, &ObjectKey::new("team", "two"), None);
        view.connections.clear();
        let connection = json!({ "address": "https://vault.example" });
        put::<crate::api::VaultConnection>(&mut view, "default", connection);
        static_secret(&mut view, "one", change);
        let (rights, rest) = team(Grade::Named, yaml, &view);
        assert_eq!(by_name(&rights), nothing, "{yaml}");
        let unserved: Vec<_> = rest.unserved.into_iter().collect();
        let [(key, problem)] = unserved.as_slice() else {
            panic!("{unserved:?}");
        };
        assert_eq!(key.to_string(), "VaultStaticSecret team/one");
        problem.reason()
    };
    let templates =
        json!({ "name": "one", "transformation": { "templates": { "a": { "text": "" } } } });
    for (yaml, change, reason) in [
        ("", json!({ "vaultAuthRef": "other" }), "InvalidResourceRef"),
        ("", json!({ "destination": templates }), "NotServedYet"),
        (
            "",
            json!({ "destination": { "name": "" } }),
            "InvalidConfiguration",
        ),
        (
            "",
            json!({ "destination": { "name": "vault-tenant-operator-key", "create": true } }),
            "PolicyDenied",
        ),
        (
            "",
            json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "" }] }),
            "InvalidConfiguration",
        ),
        (
            "",
            json!({ "destination": { "name": "a\nb", "create": true } }),
            "InvalidConfiguration",
        ),
        (
            "policy: { destinationNames: [vault-*] }",
            json!({}),
            "PolicyDenied",
        ),
        (
            "policy: { serviceAccounts: [web] }",
            json!({}),
            "PolicyDenied",
        ),
        (
            "policy: { allowedAuthMethods: [jwt] }",
            json!({}),
            "PolicyDenied",
        ),
    ] {
        assert_eq!(reason_of(yaml, change.clone()), reason, "{yaml} {change}");
    }
}

#[test]
fn credentials_and_certificates_need_what_static_secrets_need() {
    let mut view = tenant();
    let key = ObjectKey::new("team", "two");
    crate::api::VaultStaticSecret::put(&mut view, &key, None);
    let (of_static, _) = team(Grade::Named, "", &view);
    let mut credentials = tenant();
    for name in ["one", "two"] {
        let key = ObjectKey::new("team", name);
        crate::api::VaultStaticSecret::put(&mut credentials, &key, None);
    }
    let one = view.statics[&ObjectKey::new("team", "one")].spec.clone();
    let spec = json!({
        "mount": "db", "path": "creds/app", "destination": one.destination,
        "rolloutRestartTargets": one.rollout_restart_targets,
    });
    put::<crate::api::VaultDynamicSecret>(&mut credentials, "one", spec.clone());
    let (of_dynamic, _) = team(Grade::Named, "", &credentials);
    assert_eq!(by_name(&of_dynamic), by_name(&of_static));
    let key = ObjectKey::new("team", "one");
    crate::api::VaultDynamicSecret::put(&mut credentials, &key, None);
    let mut spec = spec;
    spec["role"] = json!("web");
    put::<crate::api::VaultPKISecret>(&mut credentials, "one", spec);
    let (of_pki, _) = team(Grade::Named, "", &credentials);
    assert_eq!(by_name(&of_pki), by_name(&of_static));
}

#[test]
fn the_configuration_takes_rights_away() {
    let restarts = |yaml: &str, grade| {
        let (rights, _) = team(grade, yaml, &tenant());
        let apps = rights.keys().filter(|right| right.group == "apps");
        apps.map(|right| right.resource.to_string())
            .collect::<BTreeSet<_>>()
    };
    for grade in [Grade::Namespace, Grade::Named] {
        assert!(restarts("rollout: { enabled: false }", grade).is_empty());
        assert!(!restarts("rollout: { kinds: [Deployment] }", grade).contains("daemonsets"));
        let (rights, _) = team(grade, "leaderElect: false", &View::default());
        let leases = rights.keys().filter(|right| right.resource == "leases");
        assert!(leases.clone().count() > 0);
        for lease in leases {
            assert_eq!(lease.name.as_deref(), Some(crate::operator::CLAIM_LEASE));
        }
    }
    assert!(restarts("rollout: { kinds: [StatefulSet] }", Grade::Named).is_empty());
    let (_, rest) = team(Grade::Named, "watchNamespaces: [team, other]", &tenant());
    let other = &rest.namespaces["other"];
    assert_eq!(by_name(other).len(), 1, "the claim alone: {other:?}");
}

#[test]
fn rollouts_take_rights_only_where_the_configuration_has_them() {
    let mut view = tenant();
    let targets = json!([{ "kind": "argo.Rollout", "name": "web" }]);
    static_secret(
        &mut view,
        "argo",
        json!({ "rolloutRestartTargets": targets }),
    );
    for (grade, name) in [(Grade::Namespace, None), (Grade::Named, Some("web"))] {
        let of_argo = |yaml: &str| {
            let (rights, _) = team(grade, yaml, &view);
            let rights = rights.into_keys();
            let of_argo = rights.filter(|right| right.group == "argoproj.io");
            of_argo.collect::<Vec<_>>()
        };
        assert!(of_argo("").is_empty());
        let rights = of_argo("rollout: { kinds: [argo.Rollout] }");
        let verbs: BTreeSet<&str> = rights.iter().map(|right| &*right.verb).collect();
        assert_eq!(verbs, ["list", "patch", "watch"].into());
        assert!(
            rights
                .iter()
                .all(|right| right.resource == "rollouts" && right.name.as_deref() == name),
            "{rights:?}"
        );
    }
}

/// Over all combinations of what a tenant may or may not have.
fn combinations() -> impl Iterator<Item = (Rights, Rights)> {
    (0..64_u32).map(|bits| {
        let is = |bit: u32| bits & (1 << bit) != 0;
        let mut view = if is(0) { tenant() } else { View::default() };
        if is(1) {
            static_secret(&mut view, "three", json!({ "rolloutRestartTargets": [] }));
        }
        if is(2) {
            let connection = json!({ "address": "https://two.example", "caCertSecretRef": "one" });
            put::<crate::api::VaultConnection>(&mut view, "second", connection);
        }
        let own = own(if is(3) { "team" } else { "home" });
        let yaml = format!(
            "watchNamespaces: [team]\nleaderElect: {}\nrollout: {{ enabled: {} }}",
            is(4),
            is(5)
        );
        let config = config::from_yaml(&yaml).unwrap();
        let of = |grade| {
            let mut needed = needed(grade, &config, &own, &view);
            needed.namespaces.remove("team").unwrap()
        };
        (of(Grade::Named), of(Grade::Namespace))
    })
}

#[test]
fn names_need_no_more_than_the_namespace_and_nothing_without_a_name() {
    for (named, namespace) in combinations() {
        let granted: Vec<Granted> = namespace.keys().map(as_granted).collect();
        assert!(compare(&named, &granted).missing.is_empty());
        for right in named.keys() {
            let by_name = ["secrets", "serviceaccounts/token"].contains(&right.resource.as_ref())
                || right.group == "apps";
            assert!(right.name.is_some() || !by_name, "{right}");
            for text in [&right.group, &right.resource, &right.verb] {
                assert!(!text.contains('*'), "{right}");
            }
        }
    }
}

#[test]
fn a_comparison_finds_what_was_taken_and_what_was_added() {
    for (named, namespace) in combinations() {
        for needed in [named, namespace] {
            let all: Vec<Granted> = needed.keys().map(as_granted).collect();
            assert!(compare(&needed, &all).is_empty());
            for (index, taken) in needed.keys().enumerate() {
                let mut less = all.clone();
                less.remove(index);
                let found = compare(&needed, &less);
                assert_eq!(found.missing, [taken.clone()].into());
                assert!(found.surplus.is_empty());
            }
            for added in [
                right("", "secrets", "update", None),
                right("", "secrets", "get", Some("of-nobody")),
                right("", "*", "get", None),
                right("*", "deployments", "list", None),
                right("", "secrets", "*", None),
                right("", "pods", "list", None),
            ] {
                if added.name.is_some() && needed.contains_key(&right("", "secrets", "get", None)) {
                    continue;
                }
                let mut more = all.clone();
                more.push(as_granted(&added));
                let found = compare(&needed, &more);
                assert_eq!(found.surplus, [added].into());
                assert!(found.missing.is_empty());
            }
        }
    }
}

#[test]
fn a_right_for_all_names_serves_one_name_and_is_too_much() {
    let (needed, _) = team(Grade::Named, "", &tenant());
    let mut granted: Vec<Granted> = needed
        .keys()
        .filter(|right| right.resource != "secrets")
        .map(as_granted)
        .collect();
    let all = ["get", "list", "watch", "create", "patch", "delete"];
    granted.extend(all.map(|verb| as_granted(&right("", "secrets", verb, None))));
    let found = compare(&needed, &granted);
    assert!(found.missing.is_empty(), "{:?}", found.missing);
    assert_eq!(
        found.surplus,
        all.map(|verb| right("", "secrets", verb, None)).into()
    );
}

#[test]
fn wildcards_grant_what_the_api_server_takes_them_for() {
    let needed: Rights = [
        (right("", "secrets", "get", Some("a")), BTreeSet::new()),
        (right("x", "things/status", "patch", None), BTreeSet::new()),
    ]
    .into();
    let missing = |rights: &[Right]| {
        let granted: Vec<Granted> = rights.iter().map(as_granted).collect();
        compare(&needed, &granted).missing.len()
    };
    assert_eq!(missing(&[right("*", "*", "*", None)]), 0);
    assert_eq!(missing(&[right("", "*", "get", Some("a"))]), 1);
    assert_eq!(missing(&[right("", "*", "get", Some("b"))]), 2);
    assert_eq!(missing(&[right("x", "*/status", "patch", None)]), 1);
    assert_eq!(missing(&[right("x", "*/scale", "*", None)]), 2);
    assert_eq!(missing(&[right("x", "things", "*", None)]), 2);
    assert_eq!(missing(&[right("", "*/status", "*", None)]), 2);
}

#[test]
fn what_every_account_may_is_not_too_much() {
    let rule = ResourceRule {
        api_groups: Some(vec!["authorization.k8s.io".to_owned()]),
        resources: Some(vec![
            "selfsubjectaccessreviews".to_owned(),
            "selfsubjectrulesreviews".to_owned(),
        ]),
        resource_names: None,
        verbs: vec!["create".to_owned()],
    };
    let needed = Rights::new();
    assert!(compare(&needed, &[Granted::from(&rule)]).is_empty());
    let more = ResourceRule {
        verbs: vec!["delete".to_owned()],
        ..rule
    };
    assert_eq!(compare(&needed, &[Granted::from(&more)]).surplus.len(), 2);
}

#[test]
fn a_refusal_names_the_right_and_a_rule_gives_it() {
    let words = |object: &str, rest: &str| {
        format!(
            "{object} is forbidden: User \"system:serviceaccount:team:vto\" cannot {rest} in the namespace \"team\""
        )
    };
    for (object, rest, expected, rule) in [
        (
            "secrets \"app\"",
            "list resource \"secrets\" in API group \"\"",
            right("", "secrets", "list", Some("app")),
            "{apiGroups: [\"\"], resources: [secrets], resourceNames: [\"app\"], verbs: [list]}",
        ),
        (
            "serviceaccounts \"app\"",
            "create resource \"serviceaccounts/token\" in API group \"\"",
            right("", "serviceaccounts/token", "create", Some("app")),
            "{apiGroups: [\"\"], resources: [serviceaccounts/token], resourceNames: [\"app\"], verbs: [create]}",
        ),
        (
            "deployments.apps",
            "watch resource \"deployments\" in API group \"apps\"",
            right("apps", "deployments", "watch", None),
            "{apiGroups: [apps], resources: [deployments], verbs: [watch]}",
        ),
    ] {
        let found = refused(&words(object, rest));
        assert_eq!(found, Some(("team".to_owned(), expected.clone())));
        assert_eq!(as_rules([&expected]), rule);
    }
    for other in [
        "secrets \"b\" is forbidden: exceeded quota: few",
        "Unauthorized",
        "",
    ] {
        assert_eq!(refused(other), None, "{other}");
    }
    let verbs = ["patch", "get", "delete", "list"].map(|verb| right("", "secrets", verb, None));
    assert!(as_rules(&verbs).ends_with("verbs: [get, list, patch, delete]}"));
}
