//! Addresses, headers, files and TLS options of a connection.

use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::policy::connection::check;

#[test]
fn without_a_list_only_https_names_that_are_nobodys_pass() {
    for (address, wanted) in [
        ("https://vault.example", "ok"),
        ("https://vault.example:8200/", "ok"),
        ("HTTPS://VAULT.example:8200", "ok"),
        ("https://vault.vault.svc:8200", "ok"),
        ("https://kubernetes-vault.example", "ok"),
        ("https://127.0.0.1.example", "ok"),
        ("http://vault.example:8200", rule::VAULT_ADDRESSES),
        ("https://10.0.0.1", rule::VAULT_ADDRESSES),
        ("https://127.0.0.1:8200", rule::VAULT_ADDRESSES),
        ("https://127.0.0.1.:8200", rule::VAULT_ADDRESSES),
        ("https://2130706433", rule::VAULT_ADDRESSES),
        ("https://0x7f000001", rule::VAULT_ADDRESSES),
        ("https://0177.0.0.1", rule::VAULT_ADDRESSES),
        ("https://127.1", rule::VAULT_ADDRESSES),
        ("https://\u{ff11}27.0.0.1", rule::VAULT_ADDRESSES),
        ("https://%31%32%37.0.0.1", rule::VAULT_ADDRESSES),
        ("https://169.254.169.254", rule::VAULT_ADDRESSES),
        ("https://[::1]:8200", rule::VAULT_ADDRESSES),
        ("https://[::ffff:169.254.169.254]", rule::VAULT_ADDRESSES),
        ("https://[fe80::1]", rule::VAULT_ADDRESSES),
        ("https://localhost:8200", rule::VAULT_ADDRESSES),
        ("https://localhost.", rule::VAULT_ADDRESSES),
        ("https://vault.localhost", rule::VAULT_ADDRESSES),
        ("https://metadata.google.internal", rule::VAULT_ADDRESSES),
        ("https://Metadata.Google.Internal.", rule::VAULT_ADDRESSES),
        ("https://kubernetes", rule::VAULT_ADDRESSES),
        ("https://kubernetes.default", rule::VAULT_ADDRESSES),
        ("https://KUBERNETES.default.svc", rule::VAULT_ADDRESSES),
        (
            "https://kubernetes.default.svc.cluster.local",
            rule::VAULT_ADDRESSES,
        ),
        (
            "https://kubernetes.default.svc.of.another.domain.",
            rule::VAULT_ADDRESSES,
        ),
        ("https://api.cluster.example", rule::VAULT_ADDRESSES),
        ("https://api.cluster.example:443", rule::VAULT_ADDRESSES),
        ("https://vault.example/v1/cubbyhole", rule::VAULT_ADDRESSES),
        ("", INVALID),
        ("vault.example:8200", INVALID),
        ("ftp://vault.example", INVALID),
        ("file:///etc/passwd", INVALID),
        ("unix:///run/x.sock", INVALID),
        ("https:vault.example", INVALID),
        ("https://", INVALID),
        ("https://vault.example?x=1", INVALID),
        ("https://vault.example#x", INVALID),
        ("https://user:pass@vault.example", INVALID),
        ("https://@vault.example", INVALID),
        ("https://vault.example\\@thief.example", INVALID),
        ("https://va\tult.example", INVALID),
        ("https://vault.example\n", INVALID),
        (" https://vault.example", INVALID),
        ("https://vault.example/a%2f..%2fb", INVALID),
        ("https://vault.example:99999", INVALID),
    ] {
        let got = verdict("", |asked| asked.connection.address = address.to_owned());
        assert_eq!(got, wanted, "{address:?}");
    }
}

#[test]
fn with_a_list_only_what_it_names_passes() {
    let yaml = "policy: {vaultAddresses: ['https://vault.example:8200', 'https://*.team.example', 'http://10.0.0.7:8200', 'https://gate.example/vault/']}";
    for (address, wanted) in [
        ("https://vault.example:8200", "ok"),
        ("https://VAULT.example.:8200/", "ok"),
        ("https://a.team.example", "ok"),
        ("https://a.team.example:443", "ok"),
        ("https://v\u{430}ult.example:8200", rule::VAULT_ADDRESSES),
        ("https://vault.example:8200//", INVALID),
        ("https://vault%2eexample:8200", "ok"),
        ("http://10.0.0.7:8200", "ok"),
        ("http://0xa000007:8200", "ok"),
        ("https://gate.example/vault", "ok"),
        ("https://gate.example", rule::VAULT_ADDRESSES),
        ("https://gate.example/vault/v1/sys", rule::VAULT_ADDRESSES),
        ("https://gate.example/vault/../x", rule::VAULT_ADDRESSES),
        (
            "https://vault.example:8200/v1/cubbyhole",
            rule::VAULT_ADDRESSES,
        ),
        ("https://vault.example", rule::VAULT_ADDRESSES),
        ("http://vault.example:8200", rule::VAULT_ADDRESSES),
        ("https://team.example", rule::VAULT_ADDRESSES),
        ("https://a.b.team.example", rule::VAULT_ADDRESSES),
        ("https://.team.example", rule::VAULT_ADDRESSES),
        ("https://thief-team.example", rule::VAULT_ADDRESSES),
        (
            "https://a.team.example.thief.example",
            rule::VAULT_ADDRESSES,
        ),
        ("https://a.team.example:8443", rule::VAULT_ADDRESSES),
        ("https://other.example", rule::VAULT_ADDRESSES),
        ("http://u@10.0.0.7:8200", INVALID),
    ] {
        let got = verdict(yaml, |asked| asked.connection.address = address.to_owned());
        assert_eq!(got, wanted, "{address:?}");
    }
}

#[test]
fn the_platforms_own_address_counts_as_listed() {
    let yaml = "connection: {address: 'http://127.0.0.1:8200'}";
    let at = |address: &str| verdict(yaml, |asked| asked.connection.address = address.to_owned());
    assert_eq!(at("http://127.0.0.1:8200"), "ok");
    assert_eq!(at("https://vault.example:8200"), rule::VAULT_ADDRESSES);
    assert!(policy(yaml).lists("http://127.0.0.1:8200/"));
}

#[test]
fn what_is_permitted_is_the_canonical_address() {
    let mut connection = request().connection;
    connection.address = "HTTPS://VAULT.Example:443/".to_owned();
    let permitted = permit_connection(connection, &policy(""), &own()).unwrap();
    assert_eq!(permitted.get().address, "https://vault.example");
}

#[test]
fn reserved_headers_are_refused_in_any_case_on_connection_and_login() {
    for (name, value, wanted) in [
        ("X-Team", "a", "ok"),
        ("X-Vault-Index", "a", "ok"),
        ("X-Vault-Token", "a", rule::HEADERS),
        ("x-vault-token", "a", rule::HEADERS),
        ("X-VAULT-NAMESPACE", "a", rule::HEADERS),
        ("x-Vault-Wrap-TTL", "a", rule::HEADERS),
        ("AUTHORIZATION", "a", rule::HEADERS),
        ("hOST", "a", rule::HEADERS),
        ("Cookie", "a", rule::HEADERS),
        ("X_Vault_Token", "a", rule::HEADERS),
        ("x-vault_namespace", "a", rule::HEADERS),
        ("X-Forwarded-For", "10.0.0.1", rule::HEADERS),
        ("Content-Length", "0", rule::HEADERS),
        ("Transfer-Encoding", "chunked", rule::HEADERS),
        ("Connection", "x-vault-request", rule::HEADERS),
        ("X-Vault-Token ", "a", INVALID),
        ("X-Vault-Token:", "a", INVALID),
        ("X-A\r\nX-Vault-Token", "a", INVALID),
        ("", "a", INVALID),
        ("X-Ä", "a", INVALID),
        ("X-A", "a\r\nX-Vault-Token: b", INVALID),
        ("X-A", "a\0", INVALID),
    ] {
        let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let got = verdict("", |asked| asked.connection.headers = headers.clone());
        assert_eq!(got, wanted, "connection {name:?}: {value:?}");
        let got = verdict("", |asked| asked.login.headers = headers);
        assert_eq!(got, wanted, "login {name:?}: {value:?}");
    }
}

#[test]
fn certificates_are_checked_unless_the_platform_says_otherwise() {
    let skip = |asked: &mut Resolved| asked.connection.skip_tls_verify = true;
    assert_eq!(verdict("", skip), rule::ALLOW_SKIP_TLS_VERIFY);
    assert_eq!(verdict("policy: {allowSkipTLSVerify: true}", skip), "ok");
    for (name, wanted) in [
        ("vault.internal", "ok"),
        ("10.0.0.1", "ok"),
        ("", INVALID),
        ("a b", INVALID),
    ] {
        let got = verdict("", |asked| {
            asked.connection.tls_server_name = Some(name.to_owned())
        });
        assert_eq!(got, wanted, "{name:?}");
    }
}

#[test]
fn a_ca_is_named_by_a_name() {
    for (name, wanted) in [
        ("vault-ca", "ok"),
        ("vto%2Dkey", INVALID),
        ("vault-ca/../vto-key", INVALID),
        ("a?b", INVALID),
    ] {
        let got = verdict("", |asked| {
            asked.connection.ca = CaSource::Secret {
                secret: ObjectKey::new("team", name),
                revision: String::new(),
            };
        });
        assert_eq!(got, wanted, "{name}");
    }
}

/// Links of a pretended file system; everything else is where it seems.
fn links(path: &Path) -> io::Result<PathBuf> {
    let path: PathBuf = path.components().collect();
    let real = match path.to_str().unwrap() {
        "/etc/vault/missing" => return Err(io::ErrorKind::NotFound.into()),
        "/var/run/secrets" => "/run/secrets",
        "/etc/vault/token" => "/run/secrets/kubernetes.io/serviceaccount/token",
        "/etc/vault/environ" => "/proc/1/environ",
        "/etc/vault/out" => "/etc/shadow",
        "/etc/vault/ca.crt" => "/etc/vault/..data_1/ca.crt",
        "/linked" => "/elsewhere",
        "/linked/ca.crt" => "/elsewhere/ca.crt",
        same => same,
    };
    Ok(real.into())
}

#[test]
fn files_are_read_only_where_the_platform_allows_and_never_credentials() {
    let yaml = "connection: {address: 'https://vault.example:8200', caCertPath: /etc/own/ca.crt}\npolicy: {filePaths: [/etc/vault, /linked/, /proc/self, /var/run]}";
    for (path, wanted) in [
        ("/etc/vault/plain.crt", "/etc/vault/plain.crt"),
        ("/etc/vault/ca.crt", "/etc/vault/..data_1/ca.crt"),
        ("/linked/ca.crt", "/elsewhere/ca.crt"),
        ("/etc/own/ca.crt", "/etc/own/ca.crt"),
        ("/etc/vault2/ca.crt", rule::FILE_PATHS),
        ("/etc/passwd", rule::FILE_PATHS),
        ("/elsewhere/ca.crt", rule::FILE_PATHS),
        ("/etc/vault/out", rule::FILE_PATHS),
        ("/etc/vault/token", rule::PROTECTED_FILES),
        ("/etc/vault/environ", rule::PROTECTED_FILES),
        ("/proc/self/environ", rule::PROTECTED_FILES),
        ("//proc/self/environ", rule::PROTECTED_FILES),
        ("/sys/kernel", rule::PROTECTED_FILES),
        (
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            rule::PROTECTED_FILES,
        ),
        (
            "/run/secrets/kubernetes.io/serviceaccount/token",
            rule::PROTECTED_FILES,
        ),
        ("/etc/vault/missing", "VaultClientConfigError"),
        ("/etc/vault/../shadow", rule::PLAIN_PATHS),
        ("/etc/vault/./ca.crt", rule::PLAIN_PATHS),
        ("ca.crt", INVALID),
        ("", INVALID),
        ("/etc/vault/a\0b", INVALID),
    ] {
        let mut connection = request().connection;
        connection.ca = CaSource::File(path.to_owned());
        let got = match check(connection, &policy(yaml), &own(), links) {
            Ok(Connection {
                ca: CaSource::File(real),
                ..
            }) => real,
            Ok(other) => panic!("{other:?}"),
            Err(Problem::PolicyDenied { rule, .. }) => rule.to_owned(),
            Err(problem) => problem.reason().to_owned(),
        };
        assert_eq!(got, wanted, "{path:?}");
    }
    assert_eq!(
        verdict("", |asked| asked.connection.ca =
            CaSource::File("/etc/vault/missing".to_owned())),
        rule::FILE_PATHS,
        "whether a file exists is nobody's business"
    );
}
