//! What may be written.

use super::*;

#[test]
fn types_that_give_power_are_refused() {
    for (type_, wanted) in [
        ("", "ok"),
        ("Opaque", "ok"),
        ("kubernetes.io/tls", "ok"),
        ("kubernetes.io/dockerconfigjson", "ok"),
        ("kubernetes.io/dockercfg", "ok"),
        ("kubernetes.io/basic-auth", "ok"),
        ("kubernetes.io/ssh-auth", "ok"),
        ("team.example/thing", "ok"),
        ("nothelm.sh/x", "ok"),
        (
            "kubernetes.io/service-account-token",
            rule::DESTINATION_TYPES,
        ),
        (
            "KUBERNETES.io/service-account-token",
            rule::DESTINATION_TYPES,
        ),
        ("bootstrap.kubernetes.io/token", rule::DESTINATION_TYPES),
        ("kubernetes.io/anything", rule::DESTINATION_TYPES),
        ("x.k8s.io/y", rule::DESTINATION_TYPES),
        ("cluster.x-k8s.io/secret", rule::DESTINATION_TYPES),
        ("helm.sh/release.v1", rule::DESTINATION_TYPES),
    ] {
        let got = verdict("", |asked| asked.destination.type_ = type_.to_owned());
        assert_eq!(got, wanted, "{type_:?}");
    }
}

#[test]
fn labels_and_annotations_of_the_cluster_and_of_ours_are_refused() {
    for (key, wanted) in [
        ("app.kubernetes.io/name", "ok"),
        ("team.example/vault-tenant-operator.io", "ok"),
        (
            "kubernetes.io/service-account.name",
            rule::DESTINATION_METADATA,
        ),
        (
            "kubernetes.io/service-account.uid",
            rule::DESTINATION_METADATA,
        ),
        (
            "Kubernetes.io/Service-Account.name",
            rule::DESTINATION_METADATA,
        ),
        (
            "vault-tenant-operator.io/state-0123456789abcdef",
            rule::DESTINATION_METADATA,
        ),
        (
            "vault-tenant-operator.io/orphaned-at",
            rule::DESTINATION_METADATA,
        ),
    ] {
        let map = BTreeMap::from([(key.to_owned(), String::new())]);
        assert_eq!(
            verdict("", |asked| asked.destination.labels = map.clone()),
            wanted,
            "{key}"
        );
        assert_eq!(
            verdict("", |asked| asked.destination.annotations = map),
            wanted,
            "{key}"
        );
    }
}

#[test]
fn what_helm_would_take_for_a_release_is_refused() {
    for (name, owner, wanted) in [
        ("sh.helm.release.v1.app.v2", "team", rule::DESTINATION_TYPES),
        ("app", "helm", rule::DESTINATION_TYPES),
        ("app", "team", "ok"),
    ] {
        let got = verdict("", |asked| {
            asked.destination.secret = ObjectKey::new("team", name);
            asked.destination.labels = [("owner".to_owned(), owner.to_owned())].into();
        });
        assert_eq!(got, wanted, "{name} {owner}");
    }
}

#[test]
fn secrets_are_the_tenants_and_never_the_operators() {
    for (yaml, namespace, name, wanted) in [
        ("", "team", "db", "ok"),
        ("", "team", "vto-key", rule::OWN_SECRETS),
        (
            "policy: {destinationNames: ['*']}",
            "team",
            "vto-key",
            rule::OWN_SECRETS,
        ),
        ("", "team", "vto%2Dkey", INVALID),
        ("", "team", "db/../vto-key", INVALID),
        ("", "team", "vto-key?", INVALID),
        ("", "team", "", INVALID),
        ("", "other", "db", rule::FOREIGN_DESTINATION),
        (
            "policy: {destinationNames: [app-*-tls]}",
            "team",
            "app-a-tls",
            "ok",
        ),
        (
            "policy: {destinationNames: [app-*-tls]}",
            "team",
            "app-tls",
            rule::DESTINATION_NAMES,
        ),
    ] {
        let got = verdict(yaml, |asked| {
            asked.destination.secret = ObjectKey::new(namespace, name)
        });
        assert_eq!(got, wanted, "{yaml} {namespace}/{name}");
    }
}
