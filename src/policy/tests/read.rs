//! Paths at Vault, as they go out.

use super::*;

fn at(yaml: &str, namespace: Option<&str>, mount: &str, path: &str) -> String {
    verdict(yaml, |asked| {
        asked.login.vault_namespace = namespace.map(str::to_owned);
        asked.read.mount = mount.to_owned();
        asked.read.path = path.to_owned();
    })
}

#[test]
fn paths_are_spelled_in_the_one_way_that_all_read_alike() {
    for (mount, path, wanted) in [
        ("kv", "kv/data/app/db", "ok"),
        ("/team/kv/", "team/kv/data/app", "ok"),
        ("kv", "kv/data/a b/\u{fc}/x.y/*.example", "ok"),
        ("kv", "kv/data/..hidden/...", "ok"),
        ("kv", "kv/data/../../sys/raw", rule::PLAIN_PATHS),
        ("kv", "kv/data/./x", rule::PLAIN_PATHS),
        ("kv", "kv//data/x", rule::PLAIN_PATHS),
        ("kv", "/kv/data/x", rule::PLAIN_PATHS),
        ("kv", "kv/data/x/", rule::PLAIN_PATHS),
        ("kv", "kv/data/x?version=1", rule::PLAIN_PATHS),
        ("kv", "kv/data/x#y", rule::PLAIN_PATHS),
        ("kv", "kv/data/%2e%2e/x", rule::PLAIN_PATHS),
        ("kv", "kv/data/..\\x", rule::PLAIN_PATHS),
        ("kv", "kv/data/x\n", rule::PLAIN_PATHS),
        ("kv", "kv/data/x\0", rule::PLAIN_PATHS),
        ("kv", "kv/data/%252e%252e/x", rule::PLAIN_PATHS),
        ("kv", "kv/data/x%2fy", rule::PLAIN_PATHS),
        ("../sys", "../sys/raw", rule::PLAIN_PATHS),
        ("kv", "kv2/data/x", INVALID),
        ("kv", "kv", INVALID),
        ("", "kv/data/x", INVALID),
        ("kv", "", rule::PLAIN_PATHS),
    ] {
        assert_eq!(at("", None, mount, path), wanted, "{mount:?} {path:?}");
    }
}

#[test]
fn vaults_own_api_is_no_secret() {
    for (namespace, mount, path, wanted) in [
        // At the front, in whatever case.
        (None, "sys", "sys/health", rule::SYSTEM_PATHS),
        (None, "SYS", "SYS/health", rule::SYSTEM_PATHS),
        (
            None,
            "auth/token",
            "auth/token/lookup-self",
            rule::SYSTEM_PATHS,
        ),
        (None, "auth", "auth/kubernetes/config", rule::SYSTEM_PATHS),
        (None, "identity", "identity/entity/id/x", rule::SYSTEM_PATHS),
        (None, "cubbyhole", "cubbyhole/x", rule::SYSTEM_PATHS),
        // Behind a namespace in the path, wherever the mount is cut.
        (None, "ns1/sys", "ns1/sys/mounts", rule::SYSTEM_PATHS),
        (None, "ns1", "ns1/sys/mounts", rule::SYSTEM_PATHS),
        (None, "a", "a/b/c/sys/mounts", rule::SYSTEM_PATHS),
        (None, "a", "a/data/sys/mounts", rule::SYSTEM_PATHS),
        (
            None,
            "ns1",
            "ns1/auth/token/lookup-self",
            rule::SYSTEM_PATHS,
        ),
        (
            None,
            "a",
            "a/data/b/auth/token/lookup-self",
            rule::SYSTEM_PATHS,
        ),
        (None, "a", "a/b/cubbyhole/x", rule::SYSTEM_PATHS),
        (None, "a", "a/identity/oidc/token/x", rule::SYSTEM_PATHS),
        (None, "ns1/auth/x", "ns1/auth/x/role/y", rule::SYSTEM_PATHS),
        // Behind the token's own namespace, spelled out.
        (
            Some("ns1"),
            "ns1",
            "ns1/auth/kubernetes/config",
            rule::SYSTEM_PATHS,
        ),
        (Some("a/data"), "a", "a/data/identity/x", rule::SYSTEM_PATHS),
        // Secrets of services that are called so.
        (None, "kv", "kv/data/auth/db", "ok"),
        (None, "kv", "kv/data/identity", "ok"),
        (None, "kv", "kv/data/team/auth", "ok"),
        (None, "kv", "kv/auth/db", "ok"),
        (Some("ns1"), "kv", "kv/data/auth/db", "ok"),
        (None, "kv", "kv/data/system/authority/sys-info", "ok"),
    ] {
        assert_eq!(
            at("", namespace, mount, path),
            wanted,
            "{namespace:?} {mount} {path}"
        );
    }
}

#[test]
fn the_platform_can_allow_system_paths_and_narrow_the_rest() {
    let system = "policy: {systemPaths: [sys/health, auth/x/]}";
    assert_eq!(at(system, None, "sys", "sys/health"), "ok");
    assert_eq!(at(system, None, "sys", "sys/healthy"), rule::SYSTEM_PATHS);
    assert_eq!(at(system, None, "sys", "sys/raw/x"), rule::SYSTEM_PATHS);
    assert_eq!(at(system, None, "ns1", "ns1/sys/health"), "ok");
    let narrow = "policy: {secretPaths: [kv/data/team, /other/]}";
    assert_eq!(at(narrow, None, "kv", "kv/data/team/x"), "ok");
    assert_eq!(at(narrow, None, "kv", "kv/data/team"), "ok");
    assert_eq!(at(narrow, None, "other", "other/x"), "ok");
    assert_eq!(
        at(narrow, None, "kv", "kv/data/team2/x"),
        rule::SECRET_PATHS
    );
    assert_eq!(
        at(narrow, None, "ns/kv", "ns/kv/data/team/x"),
        rule::SECRET_PATHS
    );
}

/// Whatever a tenant writes into mount and path, a list holds at segments, in
/// its own case and letters.
#[test]
fn no_spelling_gets_round_a_list() {
    let narrow = "policy: {secretPaths: [kv/data/team-a, team-one]}";
    for (mount, path, wanted) in [
        ("kv", "kv/data/team-a/db", "ok"),
        ("kv/data", "kv/data/team-a/db", "ok"),
        ("team-one", "team-one/data/x", "ok"),
        // Version 1 asked for a path of version 2: the same request.
        ("kv", "kv/data/team-a", "ok"),
        ("kv", "kv/data/team-ab/db", rule::SECRET_PATHS),
        ("kv", "kv/data/team/db", rule::SECRET_PATHS),
        ("kv", "kv/metadata/team-a/db", rule::SECRET_PATHS),
        ("kv", "kv/team-a/db", rule::SECRET_PATHS),
        ("team-one2", "team-one2/x", rule::SECRET_PATHS),
        ("kv", "kv/data/team-a/../team-b/db", rule::PLAIN_PATHS),
        ("kv", "kv/data/team-a/%2e%2e/team-b", rule::PLAIN_PATHS),
        ("kv", "kv/data/team-a//../team-b", rule::PLAIN_PATHS),
        ("kv", "kv/data//team-a/db", rule::PLAIN_PATHS),
        ("kv", "kv/data/TEAM-A/db", rule::SECRET_PATHS),
        ("KV", "KV/data/team-a/db", rule::SECRET_PATHS),
        // A Cyrillic letter, a full-width hyphen, a joiner, a slash that is none.
        ("kv", "kv/data/t\u{435}am-a/db", rule::SECRET_PATHS),
        ("kv", "kv/data/team\u{ff0d}a/db", rule::SECRET_PATHS),
        ("kv", "kv/data/team-a\u{200d}/db", rule::SECRET_PATHS),
        ("kv", "kv/data/team-a\u{2215}db", rule::SECRET_PATHS),
        ("kv", "kv/data/\u{ff0e}\u{ff0e}/x", rule::SECRET_PATHS),
        // A Vault namespace in front, or in the mount.
        ("ns/kv", "ns/kv/data/team-a/db", rule::SECRET_PATHS),
        ("root/kv", "root/kv/data/team-a/db", rule::SECRET_PATHS),
    ] {
        assert_eq!(at(narrow, None, mount, path), wanted, "{mount} {path}");
    }
    let namespaces = "policy: {vaultNamespaces: [ns1]}";
    for (namespace, path, wanted) in [
        // What is in the path is below what the header says.
        (Some("ns1"), "ns2/kv/data/x", "ok"),
        (Some("ns1/ns2"), "kv/data/x", "ok"),
        (None, "ns1/kv/data/x", rule::VAULT_NAMESPACES),
        (Some(" ns1"), "kv/data/x", rule::PLAIN_PATHS),
        (Some("ns1\u{a0}"), "kv/data/x", rule::PLAIN_PATHS),
        (Some("NS1"), "kv/data/x", rule::VAULT_NAMESPACES),
        (Some("ns1/../ns2"), "kv/data/x", rule::PLAIN_PATHS),
        (Some("ns1%2f..%2fns2"), "kv/data/x", rule::PLAIN_PATHS),
        (Some("ns12"), "kv/data/x", rule::VAULT_NAMESPACES),
    ] {
        let got = verdict(namespaces, |asked| {
            asked.login.vault_namespace = Some("ns1".to_owned());
            asked.read.vault_namespace = namespace.map(str::to_owned);
            let mount = path.split('/').next().unwrap_or_default();
            asked.read.mount = mount.to_owned();
            asked.read.path = path.to_owned();
        });
        assert_eq!(got, wanted, "{namespace:?} {path}");
    }
}
