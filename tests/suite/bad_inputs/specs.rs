//! A VaultStaticSecret that asks for what cannot be.

use serde_json::json;

use super::scene::{OF_OTHERS, Scene};
use super::{Case, Wrong, refused, told};

pub fn cases(scene: &Scene) -> Vec<Case> {
    let tenant = &scene.tenant;
    let spec = Wrong::Spec;
    let destination = |patch| spec(json!({ "destination": patch }));
    let filter = |patch| destination(json!({ "transformation": patch }));
    let targets = |list| spec(json!({ "rolloutRestartTargets": list }));
    vec![
        // Refused where it is applied, by the definition.
        refused(
            "duration-of-words",
            spec(json!({ "refreshAfter": "soon" })),
            &["spec.refreshAfter", "should match"],
        ),
        refused(
            "duration-without-unit",
            spec(json!({ "refreshAfter": "30" })),
            &["spec.refreshAfter", "should match"],
        ),
        refused(
            "duration-below-zero",
            spec(json!({ "refreshAfter": "-5s" })),
            &["spec.refreshAfter", "should match"],
        ),
        refused(
            "engine-unknown",
            spec(json!({ "type": "kv-v3" })),
            &["spec.type", "supported values"],
        ),
        refused(
            "version-below-zero",
            spec(json!({ "version": -1 })),
            &["spec.version", "greater than or equal to 0"],
        ),
        refused(
            "version-of-words",
            spec(json!({ "version": "latest" })),
            &["spec.version", "expected numeric"],
        ),
        refused(
            "hmac-of-words",
            spec(json!({ "hmacSecretData": "sometimes" })),
            &["spec.hmacSecretData", "expected boolean"],
        ),
        refused(
            "mount-left-out",
            spec(json!({ "mount": null })),
            &["spec.mount", "Required"],
        ),
        refused(
            "field-unknown",
            spec(json!({ "refreshEvery": "5s" })),
            &["spec.refreshEvery"],
        ),
        refused(
            "target-of-unknown-kind",
            targets(json!([{ "kind": "CronJob", "name": "x" }])),
            &["rolloutRestartTargets[0].kind", "supported values"],
        ),
        refused(
            "target-without-name",
            targets(json!([{ "kind": "Deployment" }])),
            &["rolloutRestartTargets[0].name", "Required"],
        ),
        // References.
        told(
            "auth-not-there",
            spec(json!({ "vaultAuthRef": "nobody" })),
            "InvalidResourceRef",
            &["VaultAuth", "/nobody", "spec.vaultAuthRef", "create it"],
        ),
        told(
            "auth-of-three-parts",
            spec(json!({ "vaultAuthRef": "a/b/c" })),
            "InvalidConfiguration",
            &["spec.vaultAuthRef", "a/b/c", "namespace/name"],
        ),
        told(
            "auth-elsewhere",
            spec(json!({ "vaultAuthRef": "elsewhere/a" })),
            "InvalidResourceRef",
            &["spec.vaultAuthRef", "namespaces that this operator watches"],
        ),
        // Where the source is.
        told(
            "duration-too-long",
            spec(json!({ "refreshAfter": "999999999999h" })),
            "InvalidConfiguration",
            &["spec.refreshAfter", "999999999999h", "292 years"],
        ),
        told(
            "duration-of-forty-digits",
            spec(json!({ "refreshAfter": "1234567890123456789012345678901234567890s" })),
            "InvalidConfiguration",
            &["spec.refreshAfter", "292 years"],
        ),
        told(
            "mount-empty",
            spec(json!({ "mount": "" })),
            "InvalidConfiguration",
            &["spec.mount", "is empty", "give the mount"],
        ),
        told(
            "mount-of-slashes",
            spec(json!({ "mount": "//" })),
            "InvalidConfiguration",
            &["spec.mount", "is empty", "give the mount"],
        ),
        told(
            "mount-with-two-slashes",
            spec(json!({ "mount": format!("{}//data", tenant.kv2) })),
            "PolicyDenied",
            &["spec.path", "//data", "change the resource"],
        ),
        told(
            "mount-that-climbs",
            spec(json!({ "mount": format!("x/../{}", tenant.kv2) })),
            "PolicyDenied",
            &["spec.path", "..", "change the resource"],
        ),
        told(
            "mount-of-vaults-own",
            spec(json!({ "mount": "sys" })),
            "PolicyDenied",
            &["Vault's own API", "policy.systemPaths", "platform team"],
        ),
        told(
            "mount-of-nobody",
            spec(json!({ "mount": "not-mounted" })),
            "VaultPermissionDenied",
            &["not-mounted/data/", "policy of the login's role"],
        ),
        told(
            "path-empty",
            spec(json!({ "path": "" })),
            "InvalidConfiguration",
            &["spec.path", "is empty", "give the path"],
        ),
        told(
            "path-with-a-query",
            spec(json!({ "path": "app?version=1" })),
            "PolicyDenied",
            &["spec.path", "app?version=1", "change the resource"],
        ),
        told(
            "path-escaped",
            spec(json!({ "path": "a%2Fb" })),
            "PolicyDenied",
            &["spec.path", "a%2Fb", "change the resource"],
        ),
        told(
            "path-of-nothing",
            spec(json!({ "path": "nowhere" })),
            "SecretNotFound",
            &["nowhere", "write it", "spec.path"],
        ),
        told(
            "version-not-there",
            spec(json!({ "version": 99999 })),
            "SecretNotFound",
            &["no such version", "spec.version"],
        ),
        told(
            "v1-named-v2",
            spec(json!({ "type": "kv-v2" })),
            "SecretNotFound",
            &["write it", "spec.type"],
        )
        .always(json!({ "mount": tenant.kv1, "type": "kv-v1" })),
        told(
            "v2-named-v1",
            spec(json!({ "type": "kv-v1" })),
            "SecretNotFound",
            &[
                "Invalid path for a versioned K/V secrets engine",
                "spec.type",
            ],
        ),
        told(
            "vault-namespace-that-climbs",
            spec(json!({ "namespace": "a/../b" })),
            "PolicyDenied",
            &["spec.namespace", "change the resource"],
        ),
        // The destination.
        told(
            "name-empty",
            destination(json!({ "name": "" })),
            "InvalidConfiguration",
            &["spec.destination.name", "lower-case"],
        ),
        told(
            "name-with-capitals",
            destination(json!({ "name": "Not_a_name" })),
            "InvalidConfiguration",
            &["spec.destination.name", "Not_a_name", "lower-case"],
        ),
        told(
            "name-of-others",
            destination(json!({ "name": OF_OTHERS })),
            "DestinationNotOwned",
            &[OF_OTHERS, "ground", "overwrite: true"],
        )
        .naming_others(),
        told(
            "name-of-another-case",
            destination(json!({ "name": "path-empty" })),
            "DestinationConflict",
            &["VaultStaticSecret", "path-empty", "share"],
        ),
        told(
            "name-of-a-secret-not-there",
            destination(json!({ "name": "not-there", "create": false })),
            "InexistentDestination",
            &["not-there", "create"],
        )
        .naming_others(),
        told(
            "type-without-its-keys",
            destination(json!({ "type": "kubernetes.io/tls" })),
            "DestinationInvalid",
            &["tls.crt", "correct the source"],
        ),
        told(
            "type-of-power",
            destination(json!({ "type": "kubernetes.io/service-account-token" })),
            "PolicyDenied",
            &["service-account-token", "change the resource"],
        ),
        told(
            "label-value-invalid",
            destination(json!({ "labels": { "team": "not a value!" } })),
            "InvalidConfiguration",
            &["spec.destination.labels", "team", "63"],
        ),
        told(
            "label-key-invalid",
            destination(json!({ "labels": { "a/b/c": "x" } })),
            "InvalidConfiguration",
            &["spec.destination.labels", "a/b/c", "63"],
        ),
        told(
            "annotation-key-invalid",
            destination(json!({ "annotations": { "not a key": "x" } })),
            "InvalidConfiguration",
            &["spec.destination.annotations", "not a key", "63"],
        ),
        told(
            "annotation-of-ours",
            destination(json!({ "annotations": { "vault-tenant-operator.io/state": "x" } })),
            "PolicyDenied",
            &["vault-tenant-operator.io/state", "change the resource"],
        ),
        // Filters.
        told(
            "filter-unclosed",
            filter(json!({ "excludes": ["("] })),
            "InvalidConfiguration",
            &[
                "spec.destination.transformation.excludes[0]",
                "unclosed group",
                "correct it",
            ],
        ),
        told(
            "filter-with-lookahead",
            filter(json!({ "includes": ["ok", "(?=x)"] })),
            "InvalidConfiguration",
            &[
                "spec.destination.transformation.includes[1]",
                "look-around",
                "correct it",
            ],
        ),
        told(
            "filter-too-large",
            filter(json!({ "includes": ["(a{1000}){1000}"] })),
            "InvalidConfiguration",
            &[
                "spec.destination.transformation.includes[0]",
                "size limit",
                "correct it",
            ],
        ),
        told(
            "filter-of-all",
            filter(json!({ "excludes": ["."] })),
            "SecretDeleted",
            &["holds no data that the filters keep", "correct"],
        ),
        // Restarts.
        told(
            "target-not-there",
            targets(json!([{ "kind": "Deployment", "name": "nobody" }])),
            "TargetMissing",
            &["Deployment/nobody", "create it"],
        )
        .naming_others()
        .beside_ready("RolloutRestart"),
        told(
            "target-without-a-name",
            targets(json!([{ "kind": "Deployment", "name": "" }])),
            "TargetMissing",
            &["Deployment", "correct spec.rolloutRestartTargets"],
        )
        .beside_ready("RolloutRestart"),
        told(
            "target-not-restarted",
            targets(json!([{ "kind": "argo.Rollout", "name": "x" }])),
            "RolloutDisabled",
            &["argo.Rollout/x", "rollout.kinds"],
        )
        .beside_ready("RolloutRestart"),
        // What is not served yet.
        told(
            "templates-not-served",
            filter(json!({ "templates": { "a": { "text": "x" } } })),
            "NotServedYet",
            &["spec.destination.transformation.templates"],
        ),
        told(
            "refs-not-served",
            filter(json!({ "transformationRefs": [{ "name": "x" }] })),
            "NotServedYet",
            &["spec.destination.transformation.transformationRefs"],
        ),
        told(
            "events-not-served",
            spec(json!({ "syncConfig": { "instantUpdates": true } })),
            "NotServedYet",
            &["spec.syncConfig.instantUpdates"],
        ),
    ]
}
