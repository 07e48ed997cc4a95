//! What still deserializes although our definitions would not let it in.

use kube::core::DeserializeGuard;
use serde_json::json;

use crate::api::{
    AuthMethod, KvType, VaultAuth, VaultDynamicSecret, VaultStaticSecret, WorkloadKind,
};

#[test]
fn an_unknown_value_of_an_enumeration_is_kept_for_the_report() {
    let auth: VaultAuth = serde_json::from_value(json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1",
        "kind": "VaultAuth",
        "metadata": { "name": "a" },
        "spec": { "method": "ldap" },
    }))
    .unwrap();
    assert_eq!(
        auth.spec.method,
        Some(AuthMethod::Unknown("ldap".to_owned()))
    );
    assert_eq!(
        serde_json::to_value(&auth).unwrap()["spec"]["method"],
        "ldap"
    );
}

#[test]
fn a_known_value_is_never_taken_for_an_unknown_one() {
    for text in AuthMethod::ALLOWED {
        let method = AuthMethod::from(*text);
        assert_eq!(method.as_str(), *text);
        assert!(!matches!(method, AuthMethod::Unknown(_)));
    }
    assert_eq!(
        WorkloadKind::from("argo.Rollout"),
        WorkloadKind::ArgoRollout
    );
    assert_eq!(AuthMethod::AppRole.to_string(), "appRole");
}

#[test]
fn a_status_may_lack_what_it_should_have() {
    let secret: VaultDynamicSecret = serde_json::from_value(json!({
        "metadata": { "name": "d" },
        "spec": { "mount": "database", "path": "creds/app", "destination": { "name": "s" } },
        "status": { "secretLease": { "id": "database/creds/app/1" } },
    }))
    .unwrap();
    let status = secret.status.unwrap();
    assert_eq!(status.secret_lease.id, "database/creds/app/1");
    assert_eq!(status.secret_lease.duration, 0);
    assert_eq!(status.last_generation, 0);
}

#[test]
fn defaults_hold_even_where_no_schema_sets_them() {
    let secret: VaultStaticSecret = serde_json::from_value(json!({
        "metadata": { "name": "s" },
        "spec": { "mount": "kv", "path": "p", "type": "kv-v2", "destination": { "name": "s" } },
    }))
    .unwrap();
    assert_eq!(secret.spec.type_, KvType::V2);
    assert!(secret.spec.hmac_secret_data);
    assert!(!secret.spec.destination.create);
    let auth: VaultAuth = serde_json::from_value(json!({
        "metadata": { "name": "a" },
        "spec": { "kubernetes": { "role": "r" } },
    }))
    .unwrap();
    assert_eq!(auth.spec.kubernetes.unwrap().token_expiration_seconds, 600);
}

#[test]
fn what_fits_no_type_is_reported_by_the_guard_with_its_name() {
    let object = json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1",
        "kind": "VaultAuth",
        "metadata": { "name": "no-spec", "namespace": "team" },
    });
    let guard: DeserializeGuard<VaultAuth> = serde_json::from_value(object).unwrap();
    let invalid = guard.0.unwrap_err();
    assert_eq!(invalid.metadata.name.as_deref(), Some("no-spec"));
    assert!(
        invalid.error.to_string().contains("spec"),
        "{}",
        invalid.error
    );
}
