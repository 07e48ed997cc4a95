//! Methods, accounts, audiences, mounts, roles and namespaces of logins.

use super::*;

/// The fields of the kubernetes method, to change one of them.
fn kubernetes(asked: &mut Resolved) -> (&mut String, &mut ObjectKey, &mut Vec<String>) {
    match &mut asked.login.method {
        LoginMethod::Kubernetes {
            role,
            service_account,
            audiences,
            ..
        } => (role, service_account, audiences),
        LoginMethod::NotServed(name) => panic!("{name}"),
    }
}

#[test]
fn methods_must_be_allowed_before_they_are_served() {
    for (yaml, method, wanted) in [
        ("", "jwt", "NotServedYet"),
        ("", "appRole", "NotServedYet"),
        ("", "aws", "NotServedYet"),
        ("", "gcp", "NotServedYet"),
        ("", "token", rule::ALLOWED_AUTH_METHODS),
        (
            "policy: {allowedAuthMethods: [aws, token]}",
            "token",
            "NotServedYet",
        ),
        (
            "policy: {allowedAuthMethods: [aws]}",
            "gcp",
            rule::ALLOWED_AUTH_METHODS,
        ),
        (
            "policy: {allowedAuthMethods: []}",
            "aws",
            rule::ALLOWED_AUTH_METHODS,
        ),
        ("", "ldap", INVALID),
        ("", "Kubernetes", INVALID),
        ("", "", INVALID),
    ] {
        let got = verdict(yaml, |asked| {
            asked.login.method = LoginMethod::NotServed(method.to_owned());
        });
        assert_eq!(got, wanted, "{yaml} {method:?}");
    }
    let only_aws = "policy: {allowedAuthMethods: [aws]}";
    assert_eq!(verdict(only_aws, |_| ()), rule::ALLOWED_AUTH_METHODS);
}

#[test]
fn accounts_are_the_tenants_and_never_the_operators() {
    for (yaml, namespace, name, wanted) in [
        ("", "team", "app", "ok"),
        ("", "team", "default", "ok"),
        ("", "team", "vault-tenant-operator", rule::OWN_ACCOUNT),
        (
            "policy: {serviceAccounts: ['*']}",
            "team",
            "vault-tenant-operator",
            rule::OWN_ACCOUNT,
        ),
        // No names: what the API server would take for another account.
        ("", "team", "vault-tenant-operator/token?", INVALID),
        ("", "team", "vault%2Dtenant%2Doperator", INVALID),
        ("", "team", "x/../vault-tenant-operator", INVALID),
        ("", "team", "vault-tenant-operator#", INVALID),
        (
            "policy: {serviceAccounts: ['*-app']}",
            "team",
            "victim/token?-app",
            INVALID,
        ),
        ("", "team", "Vault-Tenant-Operator", INVALID),
        ("", "other", "app", rule::FOREIGN_ACCOUNT),
        ("", "kube-system", "default", rule::FOREIGN_ACCOUNT),
        ("policy: {serviceAccounts: [app]}", "team", "app", "ok"),
        (
            "policy: {serviceAccounts: [app]}",
            "team",
            "app2",
            rule::SERVICE_ACCOUNTS,
        ),
        (
            "policy: {serviceAccounts: [app-*, x]}",
            "team",
            "app-1",
            "ok",
        ),
        (
            "policy: {serviceAccounts: [app-*]}",
            "team",
            "myapp-1",
            rule::SERVICE_ACCOUNTS,
        ),
    ] {
        let got = verdict(yaml, |asked| {
            *kubernetes(asked).1 = ObjectKey::new(namespace, name)
        });
        assert_eq!(got, wanted, "{yaml} {namespace}/{name}");
    }
    // Towards a listed address too.
    let got = verdict(
        "policy: {vaultAddresses: ['https://vault.example:8200']}",
        |asked| {
            *kubernetes(asked).1 = ObjectKey::new("team", "vault-tenant-operator");
        },
    );
    assert_eq!(got, rule::OWN_ACCOUNT);
}

#[test]
fn a_listed_vault_gets_tokens_as_the_manifest_says() {
    for audiences in [vec![], vec!["https://issuer.cluster.example".to_owned()]] {
        let got = verdict(
            "policy: {vaultAddresses: ['https://vault.example:8200']}",
            |asked| {
                *kubernetes(asked).2 = audiences.clone();
            },
        );
        assert_eq!(got, "ok", "{audiences:?}");
    }
}

#[test]
fn an_unlisted_vault_gets_no_token_for_more_than_an_hour() {
    let listed = "policy: {vaultAddresses: ['https://vault.example:8200']}";
    for (yaml, seconds, wanted) in [
        ("", 3600, "ok"),
        ("", 3601, rule::VAULT_ADDRESSES),
        ("", i64::MAX, rule::VAULT_ADDRESSES),
        (listed, 86_400, "ok"),
    ] {
        let got = verdict(yaml, |asked| match &mut asked.login.method {
            LoginMethod::Kubernetes {
                expiration_seconds, ..
            } => *expiration_seconds = seconds,
            LoginMethod::NotServed(name) => panic!("{name}"),
        });
        assert_eq!(got, wanted, "{yaml} {seconds}");
    }
}

#[test]
fn unknown_audiences_of_the_api_server_let_no_token_out() {
    let own = OwnIdentity {
        api_audiences: Vec::new(),
        ..own()
    };
    let got = permit(request(), &policy(""), &own).unwrap_err();
    assert_eq!(got.reason(), "PolicyDenied");
    assert!(got.to_string().contains("could not be read"), "{got}");
    let listed = policy("policy: {vaultAddresses: ['https://vault.example:8200']}");
    assert!(permit(request(), &listed, &own).is_ok());
}

#[test]
fn mounts_and_roles_are_plain_and_can_be_narrowed() {
    for (yaml, mount, role, wanted) in [
        ("", "kubernetes", "app", "ok"),
        ("", "team/kubernetes/", "app", "ok"),
        ("", "../sys/raw", "app", rule::PLAIN_PATHS),
        ("", "a//b", "app", rule::PLAIN_PATHS),
        ("", "a?x=", "app", rule::PLAIN_PATHS),
        ("", "a%2f..", "app", rule::PLAIN_PATHS),
        ("", "", "app", rule::PLAIN_PATHS),
        ("policy: {authMounts: [team-*]}", "team-k8s", "app", "ok"),
        (
            "policy: {authMounts: [team-*]}",
            "kubernetes",
            "app",
            rule::AUTH_MOUNTS,
        ),
        (
            "policy: {authMounts: [team-a]}",
            "team-ab",
            "app",
            rule::AUTH_MOUNTS,
        ),
        (
            "policy: {authMounts: [team-*]}",
            "TEAM-a",
            "app",
            rule::AUTH_MOUNTS,
        ),
        (
            "policy: {authMounts: [team-*]}",
            "ns/team-a",
            "app",
            rule::AUTH_MOUNTS,
        ),
        (
            "policy: {authMounts: [team-*]}",
            "team-a/../other",
            "app",
            rule::PLAIN_PATHS,
        ),
        ("policy: {vaultRoles: [app]}", "kubernetes", "app", "ok"),
        (
            "policy: {vaultRoles: [app]}",
            "kubernetes",
            "\u{430}pp",
            rule::VAULT_ROLES,
        ),
        (
            "policy: {vaultRoles: [app]}",
            "kubernetes",
            "admin",
            rule::VAULT_ROLES,
        ),
    ] {
        let got = verdict(yaml, |asked| {
            asked.login.mount = mount.to_owned();
            *kubernetes(asked).0 = role.to_owned();
        });
        assert_eq!(got, wanted, "{yaml} {mount:?} {role:?}");
    }
}

#[test]
fn vault_namespaces_can_be_narrowed_for_login_and_read() {
    let narrow = "policy: {vaultNamespaces: [team]}";
    let root = "policy: {vaultNamespaces: [root], secretPaths: [kv]}";
    for (yaml, login, read, wanted) in [
        ("", Some("any"), Some("any/"), "ok"),
        (narrow, Some("team"), Some("/team/"), "ok"),
        (narrow, Some("team/sub"), Some("team"), "ok"),
        (narrow, Some("team2"), Some("team"), rule::VAULT_NAMESPACES),
        (narrow, Some("team"), Some("other"), rule::VAULT_NAMESPACES),
        (narrow, Some("team"), None, rule::VAULT_NAMESPACES),
        (narrow, None, Some("team"), rule::VAULT_NAMESPACES),
        (narrow, Some("team"), Some("root"), rule::VAULT_NAMESPACES),
        (
            narrow,
            Some("team"),
            Some("team/../other"),
            rule::PLAIN_PATHS,
        ),
        (
            narrow,
            Some("team\r\nX-A: b"),
            Some("team"),
            rule::PLAIN_PATHS,
        ),
        ("", Some("ä"), None, "ok"),
        (root, None, None, "ok"),
        (root, None, Some("root"), "ok"),
        (root, None, Some("team"), rule::VAULT_NAMESPACES),
    ] {
        let got = verdict(yaml, |asked| {
            asked.login.vault_namespace = login.map(str::to_owned);
            asked.read.vault_namespace = read.map(str::to_owned);
        });
        assert_eq!(got, wanted, "{yaml} {login:?} {read:?}");
    }
}

#[test]
fn what_other_namespaces_may_be_used_from_can_be_narrowed() {
    let narrow = "policy: {referencedNamespaces: [shared]}";
    for (yaml, auth, connection, wanted) in [
        ("", "shared", "other", "ok"),
        (narrow, "team", "team", "ok"),
        (narrow, "shared", "shared", "ok"),
        (narrow, "team", "shared", "ok"),
        (narrow, "other", "other", rule::REFERENCED_NAMESPACES),
        (narrow, "team", "other", rule::REFERENCED_NAMESPACES),
        (narrow, "shared", "team", rule::REFERENCED_NAMESPACES),
        (narrow, "shared2", "shared", rule::REFERENCED_NAMESPACES),
    ] {
        let got = verdict(yaml, |asked| {
            asked.login.origin = Some(ObjectKey::new(auth, "app"));
            asked.connection.origin = Some(ObjectKey::new(connection, "vault"));
        });
        assert_eq!(got, wanted, "{yaml} {auth} {connection}");
    }
    // The configuration's own is nobody's.
    let got = verdict(narrow, |asked| asked.connection.origin = None);
    assert_eq!(got, "ok");
}
