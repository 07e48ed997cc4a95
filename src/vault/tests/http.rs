//! The real port against a server on loopback: what goes over the wire, and
//! what each answer becomes.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::server::{Answer, Seen, Server, answer};
use super::{permitted, resolved};
use crate::key::Redacted;
use crate::policy::{Connection, Permitted, Resolved};
use crate::problem::Problem;
use crate::vault::{Endpoint, HttpVault, Limits, Reply, Token, TravelRules, Vault};

const DATA: &str = r#"{"request_id":"r","lease_id":"","lease_duration":0,"renewable":false,"data":{"data":{"b":1.50,"a":"x"}},"warnings":["careful\nnow"],"auth":null}"#;

pub type Told = Rc<RefCell<Vec<(&'static str, &'static str)>>>;

/// A port that may go anywhere, and what its observer was told.
pub fn port() -> (HttpVault, Told) {
    port_with(TravelRules {
        address: Arc::new(|_, _: &Connection| Ok(())),
        redirect: Arc::new(|_, _: &Connection| Err("it is not listed".to_owned())),
    })
}

pub fn port_with(rules: TravelRules) -> (HttpVault, Told) {
    let many = NonZeroU32::new(1000).unwrap();
    let limits = Limits {
        requests_per_second: many,
        burst: many,
    };
    let told = Told::default();
    let shared = Rc::clone(&told);
    let observer = Rc::new(move |operation, outcome, seconds| {
        assert!(seconds >= 0.0);
        shared.borrow_mut().push((operation, outcome));
    });
    (HttpVault::new("team", limits, rules, observer), told)
}

pub fn endpoint(permitted: &Permitted, server: &Server) -> Endpoint {
    Endpoint {
        connection: permitted.login().connection().clone(),
        ca_pem: Some(server.ca_pem.clone().into_bytes()),
    }
}

pub fn held() -> Token {
    Token {
        secret: Redacted::new("hvs.canary".to_owned()),
        accessor: String::new(),
        entity: String::new(),
        ttl: Duration::from_secs(3600),
        renewable: true,
    }
}

async fn read(server: &Server, resolved: Resolved) -> Result<Reply, Problem> {
    let permitted = Permitted::unchecked(resolved);
    let endpoint = endpoint(&permitted, server);
    port().0.read(&endpoint, &held(), permitted.read()).await
}

/// What a read becomes when Vault answers so.
async fn read_of(
    script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> Result<Reply, Problem> {
    let server = Server::start(&["localhost"], script).await;
    let resolved = resolved(&server.address("localhost"), "secret/data/app");
    read(&server, resolved).await
}

#[tokio::test]
async fn a_read_carries_what_vault_needs_and_keeps_the_data_as_spelled() {
    let server = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let mut resolved = resolved(&server.address("localhost"), "secret/data/app");
    resolved.read.vault_namespace = Some("tenant".to_owned());
    resolved.read.query = vec![("version".to_owned(), "3".to_owned())];
    resolved.connection.headers = [
        ("X-Extra".to_owned(), "1".to_owned()),
        ("x-vault-token".to_owned(), "stolen".to_owned()),
    ]
    .into();
    resolved.login.headers = [("X-Login".to_owned(), "1".to_owned())].into();
    let reply = read(&server, resolved).await.unwrap();
    assert_eq!(reply.status, 200);
    let data = reply.data.unwrap().into_exposed();
    assert_eq!(data.get(), r#"{"data":{"b":1.50,"a":"x"}}"#);
    assert_eq!(reply.warnings, ["careful now"]);
    let seen = &server.requests()[0];
    assert_eq!(seen.line, "GET /v1/secret/data/app?version=3");
    assert_eq!(seen.header("x-vault-token"), ["hvs.canary"]);
    assert_eq!(seen.header("x-vault-namespace"), ["tenant"]);
    assert_eq!(seen.header("x-vault-request"), ["true"]);
    assert_eq!(seen.header("x-extra"), ["1"]);
    assert!(seen.header("x-login").is_empty());
    assert_eq!(seen.header("host"), [format!("localhost:{}", server.port)]);
    let agent = seen.header("user-agent")[0];
    assert!(agent.starts_with("vault-tenant-operator/") && agent.ends_with(" (team)"));
}

#[tokio::test]
async fn a_login_sends_role_jwt_params_and_its_headers() {
    let body = r#"{"auth":{"client_token":"hvs.new","accessor":"acc","policies":null,"lease_duration":900,"renewable":true}}"#;
    let server = Server::start(&["localhost"], move |_| answer(200, body)).await;
    let mut resolved = resolved(&server.address("localhost"), "secret/data/app");
    resolved.login.mount = "k8s/team".to_owned();
    resolved.login.vault_namespace = Some("tenant".to_owned());
    resolved.login.params = [
        ("extra".to_owned(), "1".to_owned()),
        ("role".to_owned(), "other".to_owned()),
    ]
    .into();
    resolved.connection.headers = [("X-Both".to_owned(), "connection".to_owned())].into();
    resolved.login.headers = [("x-both".to_owned(), "login".to_owned())].into();
    let permitted = Permitted::unchecked(resolved);
    let endpoint = endpoint(&permitted, &server);
    let (port, told) = port();
    let jwt = Redacted::new("a.b.c".to_owned());
    let token = port
        .login(&endpoint, permitted.login(), &jwt)
        .await
        .unwrap();
    assert_eq!(token.secret.expose(), "hvs.new");
    assert_eq!((token.ttl.as_secs(), token.renewable), (900, true));
    let renewed = port.renew_self(&endpoint, permitted.login(), &token).await;
    assert_eq!(renewed.unwrap().accessor, "acc");
    let seen = server.requests();
    assert_eq!(seen[0].line, "POST /v1/auth/k8s/team/login");
    let sent: serde_json::Value = serde_json::from_str(&seen[0].body).unwrap();
    let expected = serde_json::json!({"role": "team", "jwt": "a.b.c", "extra": "1"});
    assert_eq!(sent, expected);
    assert_eq!(seen[0].header("x-both"), ["login"]);
    assert_eq!(seen[0].header("x-vault-namespace"), ["tenant"]);
    assert!(seen[0].header("x-vault-token").is_empty());
    assert_eq!(seen[1].line, "POST /v1/auth/token/renew-self");
    assert_eq!(seen[1].header("x-vault-token"), ["hvs.new"]);
    assert_eq!(seen[1].header("x-both"), ["connection"]);
    assert_eq!(server.connections(), 1);
    assert_eq!(*told.borrow(), [("login", "ok"), ("renew", "ok")]);
}

#[tokio::test]
async fn paths_arrive_as_they_are_meant() {
    let server = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    for (path, sent) in [
        ("secret/data/two words", "/v1/secret/data/two%20words"),
        ("secret/data/grün/鍵", "/v1/secret/data/gr%C3%BCn/%E9%8D%B5"),
        ("secret/data/a+b", "/v1/secret/data/a+b"),
        ("secret/data/100%", "/v1/secret/data/100%25"),
        ("secret/data/a%2Fb", "/v1/secret/data/a%252Fb"),
        ("secret/data/a?b#c", "/v1/secret/data/a%3Fb%23c"),
        ("secret/data/%2e%2e", "/v1/secret/data/%252e%252e"),
        ("secret/data/a\\b", "/v1/secret/data/a%5Cb"),
        (
            "secret/data/~.-_!$&'()*,;=:@|",
            "/v1/secret/data/~.-_!$&'()*,;=:@|",
        ),
    ] {
        let resolved = resolved(&server.address("localhost"), path);
        read(&server, resolved).await.unwrap();
        let seen = server.requests().pop().unwrap();
        assert_eq!(seen.line, format!("GET {sent}"), "{path}");
    }
    let before = server.requests().len();
    for path in ["", "a//b", "a/../b", "a/.", "a/", "/a", "a\nb"] {
        let resolved = resolved(&server.address("localhost"), path);
        let problem = read(&server, resolved).await.unwrap_err();
        assert!(matches!(problem, Problem::InvalidSpec { .. }), "{problem}");
    }
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn an_address_with_a_path_keeps_it() {
    let server = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let address = format!("{}/behind/proxy/", server.address("localhost"));
    read(&server, resolved(&address, "secret/data/app"))
        .await
        .unwrap();
    assert_eq!(
        server.requests()[0].line,
        "GET /behind/proxy/v1/secret/data/app"
    );
}

#[tokio::test]
async fn the_tls_server_name_is_sent_and_verified_and_the_host_stays() {
    let server = Server::start(&["vault.internal"], |_| answer(200, DATA)).await;
    for host in ["localhost", "127.0.0.1"] {
        let mut resolved = resolved(&server.address(host), "secret/data/app");
        resolved.connection.tls_server_name = Some("Vault.Internal".to_owned());
        read(&server, resolved).await.unwrap();
        let seen = server.requests().pop().unwrap();
        assert_eq!(seen.sni.as_deref(), Some("vault.internal"));
        assert_eq!(seen.header("host"), [format!("{host}:{}", server.port)]);
    }
    let before = server.requests().len();
    let mut wrong = resolved(&server.address("localhost"), "secret/data/app");
    wrong.connection.tls_server_name = Some("other.internal".to_owned());
    let problem = read(&server, wrong).await.unwrap_err();
    assert!(
        problem.to_string().contains("for another name"),
        "{problem}"
    );
    for bad in ["127.0.0.1", "0x7f.1", "a b", "a/b", "::1", ""] {
        let mut wrong = resolved(&server.address("localhost"), "secret/data/app");
        wrong.connection.tls_server_name = Some(bad.to_owned());
        let problem = read(&server, wrong).await.unwrap_err();
        assert!(
            matches!(problem, Problem::InvalidSpec { .. }),
            "{bad}: {problem}"
        );
    }
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_naming_the_ca() {
    let server = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let other = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let permitted = permitted(&server.address("localhost"), "secret/data/app");
    let (port, told) = port();
    let wrong = endpoint(&permitted, &other);
    let problem = port
        .read(&wrong, &held(), permitted.read())
        .await
        .unwrap_err();
    let Problem::VaultUnreachable { why, .. } = &problem else {
        panic!("{problem}")
    };
    assert!(
        why.contains("not signed by the CA certificates of key ca.crt in Secret team/vault-ca"),
        "{why}"
    );
    assert_eq!(server.requests().len(), 0);
    assert_eq!(*told.borrow(), [("read", "VaultUnreachable")]);
    let right = endpoint(&permitted, &server);
    port.read(&right, &held(), permitted.read()).await.unwrap();
    let mut unverified = resolved(&server.address("localhost"), "secret/data/app");
    unverified.connection.skip_tls_verify = true;
    read(&other, unverified).await.unwrap();
}

#[tokio::test]
async fn nothing_there_and_deleted_are_replies_but_a_strangers_404_is_not() {
    let reply = read_of(|_| answer(404, r#"{"errors":[]}"#)).await.unwrap();
    assert!(reply.status == 404 && reply.data.is_none() && reply.errors.is_empty());
    let deleted = r#"{"data":{"data":null,"metadata":{"deletion_time":"t"}}}"#;
    let reply = read_of(move |_| answer(404, deleted)).await.unwrap();
    assert!(reply.status == 404 && reply.data.is_some());
    let other_engine = r#"{"data":null,"warnings":["Invalid path for a versioned engine"]}"#;
    let reply = read_of(move |_| answer(404, other_engine)).await.unwrap();
    assert!(reply.status == 404 && reply.warnings.len() == 1);
    for body in ["<html>not found</html>", "{}", ""] {
        let problem = read_of(move |_| answer(404, body)).await.unwrap_err();
        assert!(
            matches!(problem, Problem::VaultAnswerUnusable { .. }),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn each_refusal_becomes_its_problem() {
    let words = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
    for (status, reason) in [
        (400, "VaultPermissionDenied"),
        (403, "VaultPermissionDenied"),
        (405, "VaultClientError"),
        (412, "VaultUnavailable"),
        (429, "VaultRateLimited"),
        (472, "VaultUnavailable"),
        (473, "VaultUnavailable"),
        (500, "VaultUnavailable"),
        (501, "VaultUnavailable"),
        (503, "VaultUnavailable"),
        (301, "VaultClientError"),
        (307, "VaultClientError"),
    ] {
        let problem = read_of(move |_| answer(status, words)).await.unwrap_err();
        assert_eq!(problem.reason(), reason, "{status}: {problem}");
        if status == 403 {
            assert!(
                problem
                    .to_string()
                    .contains("1 error occurred: * permission denied")
            );
        }
    }
    for status in [429, 503] {
        let problem = read_of(move |_| answer(status, words).with("Retry-After", "7")).await;
        let Problem::VaultRateLimited { retry_after, .. } = problem.unwrap_err() else {
            panic!("{status}")
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn a_login_is_refused_or_unusable() {
    for (status, body, reason) in [
        (
            400,
            r#"{"errors":["invalid role name \"x\""]}"#,
            "VaultLoginFailed",
        ),
        (
            403,
            r#"{"errors":["permission denied"]}"#,
            "VaultLoginFailed",
        ),
        (
            404,
            r#"{"errors":["no handler for route"]}"#,
            "VaultLoginFailed",
        ),
        (503, r#"{"errors":["Vault is sealed"]}"#, "VaultUnavailable"),
        (200, r#"{"data":{}}"#, "VaultClientError"),
        (200, r#"{"auth":{"client_token":""}}"#, "VaultClientError"),
        (204, "", "VaultClientError"),
    ] {
        let server = Server::start(&["localhost"], move |_| answer(status, body)).await;
        let permitted = permitted(&server.address("localhost"), "secret/data/app");
        let jwt = Redacted::new("a.b.c".to_owned());
        let endpoint = endpoint(&permitted, &server);
        let login = port().0.login(&endpoint, permitted.login(), &jwt).await;
        assert_eq!(login.unwrap_err().reason(), reason, "{status} {body}");
    }
}

#[tokio::test]
async fn garbage_and_long_answers_are_unusable_and_not_quoted() {
    let problem = read_of(|_| answer(200, "hunter2 is no JSON"))
        .await
        .unwrap_err();
    assert_eq!(problem.reason(), "VaultClientError");
    assert!(!problem.to_string().contains("hunter2"), "{problem}");
    for chunked in [true, false] {
        let long = read_of(move |_| Answer {
            chunked,
            ..answer(200, vec![b' '; 4 * 1024 * 1024 + 1])
        });
        let problem = long.await.unwrap_err();
        assert!(
            problem.to_string().contains("longer than 4 MiB"),
            "{problem}"
        );
    }
    let most = read_of(|_| {
        let mut body = DATA.as_bytes().to_vec();
        body.resize(4 * 1024 * 1024, b' ');
        answer(200, body)
    });
    assert_eq!(most.await.unwrap().status, 200);
}

#[tokio::test]
async fn what_no_header_can_carry_is_a_problem_not_a_panic() {
    let server = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let mut namespace = resolved(&server.address("localhost"), "a");
    namespace.read.vault_namespace = Some("a\nb".to_owned());
    let mut header = resolved(&server.address("localhost"), "a");
    header.connection.headers = [("X-A".to_owned(), "a\r\nb".to_owned())].into();
    let mut name = resolved(&server.address("localhost"), "a");
    name.connection.headers = [("X A".to_owned(), "a".to_owned())].into();
    for resolved in [namespace, header, name] {
        let problem = read(&server, resolved).await.unwrap_err();
        assert!(matches!(problem, Problem::InvalidSpec { .. }), "{problem}");
    }
    let permitted = permitted(&server.address("localhost"), "a");
    let token = Token {
        secret: Redacted::new("a\nb".to_owned()),
        ..held()
    };
    let endpoint = endpoint(&permitted, &server);
    let problem = port().0.read(&endpoint, &token, permitted.read()).await;
    assert_eq!(problem.unwrap_err().reason(), "VaultClientError");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn no_answer_in_time_and_no_listener_are_unreachable() {
    let server = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = resolved(
        &format!("https://localhost:{}", silent.local_addr().unwrap().port()),
        "a",
    );
    slow.connection.timeout = Duration::from_millis(300);
    let problem = read(&server, slow).await.unwrap_err();
    assert!(
        problem.to_string().contains("within the timeout of 0.3 s"),
        "{problem}"
    );
    drop(silent);
    let problem = read(&server, resolved("https://127.0.0.1:1", "a"))
        .await
        .unwrap_err();
    assert!(problem.to_string().contains("refused"), "{problem}");
}

#[tokio::test]
async fn health_asks_without_a_token_and_takes_standbys() {
    let server = Server::start(&["localhost"], |_| answer(200, r#"{"initialized":true}"#)).await;
    let permitted_of = |server: &Server| permitted(&server.address("localhost"), "a");
    let permitted = permitted_of(&server);
    port()
        .0
        .health(&endpoint(&permitted, &server))
        .await
        .unwrap();
    let seen = &server.requests()[0];
    assert_eq!(
        seen.line,
        "GET /v1/sys/health?standbyok=true&perfstandbyok=true"
    );
    assert!(seen.header("x-vault-token").is_empty());
    for (status, body, says) in [
        (503, r#"{"initialized":true,"sealed":true}"#, "sealed"),
        (
            501,
            r#"{"initialized":false,"sealed":true}"#,
            "not initialized",
        ),
    ] {
        let server = Server::start(&["localhost"], move |_| answer(status, body)).await;
        let permitted = permitted_of(&server);
        let health = port().0.health(&endpoint(&permitted, &server)).await;
        let problem = health.unwrap_err();
        assert_eq!(problem.reason(), "VaultUnavailable");
        assert!(problem.to_string().contains(says), "{problem}");
    }
}

#[tokio::test]
async fn idle_connections_close_after_five_seconds() {
    let server = Server::start(&["localhost"], |_| answer(200, DATA)).await;
    let permitted = permitted(&server.address("localhost"), "a");
    let endpoint = endpoint(&permitted, &server);
    let (port, _) = port();
    for (wait, connections) in [(0, 1), (1, 1), (6, 2)] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        port.read(&endpoint, &held(), permitted.read())
            .await
            .unwrap();
        assert_eq!(server.connections(), connections);
    }
}
