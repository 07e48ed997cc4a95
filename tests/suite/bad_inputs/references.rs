//! A VaultAuth or VaultConnection that cannot be used, with what it refers to
//! in the cluster and in Vault.

use serde_json::{Value, json};

use super::scene::{NO_NAME, NOBODY, Scene};
use super::{CANARY, Case, Wrong, refused, told};

pub fn cases(scene: &Scene) -> Vec<Case> {
    [logins(), connections(scene)]
        .into_iter()
        .flatten()
        .collect()
}

fn logins() -> Vec<Case> {
    let auth = Wrong::Auth;
    let block = |patch| auth(json!({ "kubernetes": patch }));
    vec![
        refused(
            "method-unknown",
            auth(json!({ "method": "ldap" })),
            &["spec.method", "supported values"],
        ),
        refused(
            "token-life-too-short",
            block(json!({ "tokenExpirationSeconds": 5 })),
            &["tokenExpirationSeconds", "greater than or equal to 600"],
        ),
        told(
            "method-left-out",
            auth(json!({ "method": null })),
            "InvalidConfiguration",
            &["spec.method", "is missing", "kubernetes"],
        ),
        told(
            "method-not-allowed",
            auth(json!({ "method": "aws" })),
            "PolicyDenied",
            &["aws", "policy.allowedAuthMethods", "platform team"],
        ),
        told(
            "method-not-served",
            auth(json!({ "method": "jwt", "jwt": { "role": "x" } })),
            "NotServedYet",
            &["the auth method jwt"],
        ),
        told(
            "block-left-out",
            auth(json!({ "kubernetes": null })),
            "InvalidConfiguration",
            &["spec.kubernetes", "give role and serviceAccount"],
        ),
        told(
            "role-left-out",
            block(json!({ "role": null })),
            "InvalidConfiguration",
            &["spec.kubernetes.role", "give the role"],
        ),
        told(
            "account-left-out",
            block(json!({ "serviceAccount": null })),
            "InvalidConfiguration",
            &["spec.kubernetes.serviceAccount", "give the account"],
        ),
        told(
            "auth-mount-left-out",
            auth(json!({ "mount": null })),
            "InvalidConfiguration",
            &["spec.mount", "give the auth mount"],
        ),
        told(
            "auth-mount-that-climbs",
            auth(json!({ "mount": "../kubernetes" })),
            "PolicyDenied",
            &["spec.mount", "..", "change the resource"],
        ),
        told(
            "connection-not-there",
            auth(json!({ "vaultConnectionRef": "nobody" })),
            "InvalidResourceRef",
            &[
                "VaultConnection",
                "/nobody",
                "spec.vaultConnectionRef",
                "create it",
            ],
        ),
        told(
            "global-not-served",
            auth(json!({ "vaultAuthGlobalRef": { "name": "g" } })),
            "NotServedYet",
            &["spec.vaultAuthGlobalRef"],
        ),
        told(
            "header-reserved",
            auth(json!({ "headers": { "X-Vault-Token": "x" } })),
            "PolicyDenied",
            &["X-Vault-Token", "change the resource"],
        ),
        // What only Vault or Kubernetes can refuse shows at the first use.
        told(
            "role-not-there",
            block(json!({ "role": "not-a-role" })),
            "VaultLoginFailed",
            &[
                "not-a-role",
                "check spec.mount, spec.namespace and the role's name",
            ],
        ),
        told(
            "auth-mount-of-nobody",
            auth(json!({ "mount": "not-mounted" })),
            "VaultLoginFailed",
            &["auth/not-mounted/login", "check spec.mount"],
        ),
        told(
            "account-not-there",
            block(json!({ "serviceAccount": "nobody" })),
            "VaultClientConfigError",
            &["nobody", "create it", "serviceAccount"],
        )
        .naming_others(),
        told(
            "account-with-capitals",
            block(json!({ "serviceAccount": "No_Name" })),
            "InvalidConfiguration",
            &["spec.kubernetes.serviceAccount", "lower-case"],
        ),
        told(
            "account-of-another-role",
            block(json!({ "serviceAccount": "app" })),
            "VaultLoginFailed",
            &["service account", "bound service accounts"],
        )
        .naming_others(),
        told(
            "audience-wrong",
            block(json!({ "audiences": ["another"] })),
            "VaultLoginFailed",
            &["audience", "audience in Vault"],
        ),
        told(
            "account-deleted",
            Wrong::Account,
            "VaultClientConfigError",
            &["account-deleted", "create it"],
        ),
        told(
            "role-of-another-account",
            Wrong::Role(json!({ "bound_service_account_names": ["another"] })),
            "VaultLoginFailed",
            &["bound service accounts"],
        ),
        told(
            "role-of-another-namespace",
            Wrong::Role(json!({ "bound_service_account_namespaces": ["another"] })),
            "VaultLoginFailed",
            &["namespace", "bound service accounts, namespaces"],
        ),
        told(
            "role-of-another-audience",
            Wrong::Role(json!({ "audience": "another" })),
            "VaultLoginFailed",
            &["audience"],
        ),
    ]
}

fn connections(scene: &Scene) -> Vec<Case> {
    let connection = Wrong::Connection;
    let address = |address: &str| connection(json!({ "address": address }));
    let own = &scene.tenant.vault_address;
    let host = own.trim_start_matches("https://");
    let ca = |content: &str| Wrong::Authority(json!({ "ca.crt": content }));
    let damaged = format!("-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----\n");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    vec![
        refused(
            "timeout-of-words",
            connection(json!({ "timeout": "long" })),
            &["spec.timeout", "should match"],
        ),
        told(
            "timeout-zero",
            connection(json!({ "timeout": "0s" })),
            "InvalidConfiguration",
            &["spec.timeout", "give a duration"],
        ),
        told(
            "address-empty",
            address(""),
            "InvalidConfiguration",
            &["spec.address", "https://vault.example"],
        ),
        told(
            "address-without-scheme",
            address(host),
            "InvalidConfiguration",
            &["spec.address", "begin with https://"],
        ),
        told(
            "address-of-words",
            address("no address"),
            "InvalidConfiguration",
            &["spec.address", "white space", "https://vault.example"],
        ),
        told(
            "address-with-user",
            address(&format!("https://me:{}@{host}", "x".repeat(12))),
            "InvalidConfiguration",
            &["spec.address", "user info", "remove it"],
        ),
        told(
            "address-with-query",
            address(&format!("{own}?a=b")),
            "InvalidConfiguration",
            &["spec.address", "query", "https://vault.example"],
        ),
        told(
            "address-with-path",
            address(&format!("{own}/prefix")),
            "PolicyDenied",
            &["/prefix", "policy.vaultAddresses", "platform team"],
        ),
        told(
            "address-not-listed",
            address("https://vault.attacker.example"),
            "PolicyDenied",
            &[
                "vault.attacker.example",
                "policy.vaultAddresses",
                "platform team",
            ],
        ),
        told(
            "address-of-nobody",
            address(NOBODY),
            "VaultUnreachable",
            &["Connection refused", "check the address"],
        ),
        told(
            "address-without-a-host",
            address(NO_NAME),
            "VaultUnreachable",
            &["vault.invalid", "check the address"],
        ),
        told(
            "certificate-expired",
            address(&scene.expired.url()),
            "VaultUnreachable",
            &["not valid at this time", "renew the certificate"],
        ),
        told(
            "ca-of-the-system",
            connection(json!({ "caCertSecretRef": null })),
            "VaultUnreachable",
            &[
                "not signed by the system's CA certificates",
                "give the connection the CA",
            ],
        ),
        told(
            "server-name-wrong",
            connection(json!({ "tlsServerName": "other.example" })),
            "VaultUnreachable",
            &["other.example", "set tlsServerName"],
        ),
        told(
            "server-name-of-words",
            connection(json!({ "tlsServerName": "no name" })),
            "InvalidConfiguration",
            &["spec.tlsServerName", "vault.example"],
        ),
        told(
            "header-of-words",
            connection(json!({ "headers": { "no name": "x" } })),
            "InvalidConfiguration",
            &["spec.headers", "no name", "letters, digits and hyphens"],
        ),
        told(
            "ca-twice",
            connection(json!({ "caCertPath": "/ca.crt" })),
            "InvalidConfiguration",
            &["spec.caCertPath", "spec.caCertSecretRef", "keep one"],
        ),
        told(
            "ca-in-a-file",
            connection(json!({ "caCertSecretRef": null, "caCertPath": "/etc/ca.crt" })),
            "PolicyDenied",
            &["/etc/ca.crt", "policy.filePaths"],
        ),
        told(
            "tls-not-verified",
            connection(json!({ "skipTLSVerify": true })),
            "PolicyDenied",
            &["skipTLSVerify", "policy.allowSkipTLSVerify"],
        ),
        told(
            "ca-of-another-name",
            connection(json!({ "caCertSecretRef": "nobody" })),
            "VaultClientConfigError",
            &["nobody", "does not exist", "create it with the key ca.crt"],
        )
        .naming_others(),
        told(
            "ca-deleted",
            Wrong::Authority(Value::Null),
            "VaultClientConfigError",
            &[
                "ca-deleted-ca",
                "does not exist",
                "create it with the key ca.crt",
            ],
        ),
        told(
            "ca-without-its-key",
            Wrong::Authority(json!({ "tls.crt": CANARY })),
            "VaultClientConfigError",
            &["has no key ca.crt", "add it"],
        ),
        told(
            "ca-empty",
            ca(""),
            "VaultClientConfigError",
            &["no certificate in it", "-----BEGIN CERTIFICATE-----"],
        ),
        told(
            "ca-of-words",
            ca(CANARY),
            "VaultClientConfigError",
            &["no certificate in it", "-----BEGIN CERTIFICATE-----"],
        ),
        told(
            "ca-damaged",
            ca(&damaged),
            "VaultClientConfigError",
            &["damaged", "-----BEGIN CERTIFICATE-----"],
        ),
        told(
            "ca-of-four-bytes",
            ca(no_certificate),
            "VaultClientConfigError",
            &["cannot be used", "correct it"],
        ),
        told(
            "ca-of-another-server",
            ca(&scene.other_ca),
            "VaultUnreachable",
            &[
                "not signed by the CA certificates of key ca.crt",
                "give the connection the CA",
            ],
        ),
    ]
}
