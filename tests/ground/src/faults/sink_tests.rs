#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::*;
use crate::faults::test_pki::TestPki;

#[tokio::test]
async fn sees_nothing_when_nobody_comes_and_a_connection_that_says_nothing() {
    let sink = Sink::plain().await.unwrap();
    assert_eq!((sink.connections(), sink.requests().len()), (0, 0));
    let _silent = TcpStream::connect(sink.server().address()).await.unwrap();
    let start = Instant::now();
    while sink.connections() == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "the connection isn't counted"
        );
        tokio::task::yield_now().await;
    }
    assert_eq!((sink.connections(), sink.requests().len()), (1, 0));
}

#[tokio::test]
async fn keeps_what_a_client_gives_away() {
    let pki = TestPki::new();
    for sink in [
        Sink::plain().await.unwrap(),
        Sink::tls(&pki.cert, &pki.key).await.unwrap(),
    ] {
        let login = pki.client().post(sink.url() + "/v1/auth/kubernetes/login");
        let answer = login.body(r#"{"jwt":"the-token"}"#).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "{}");
        let request = sink.requests().remove(0);
        assert_eq!(request.path, "/v1/auth/kubernetes/login");
        assert_eq!(request.request_body, br#"{"jwt":"the-token"}"#);
        assert_eq!(sink.connections(), 1);
    }
}

#[tokio::test]
async fn counts_a_client_that_does_not_trust_it() {
    let pki = TestPki::new();
    let sink = Sink::tls(&pki.cert, &pki.key).await.unwrap();
    TestPki::new()
        .client()
        .get(sink.url())
        .send()
        .await
        .unwrap_err();
    assert_eq!((sink.connections(), sink.requests().len()), (1, 0));
}

#[tokio::test]
async fn sends_clients_elsewhere() {
    let target = Sink::plain().await.unwrap();
    let redirecting = Sink::start(HttpProxy::builder(), Answer::redirect(target.url()))
        .await
        .unwrap();
    let url = redirecting.url() + "/v1/secret?version=1";
    let answer = TestPki::new().client().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(
        answer.headers()["location"],
        format!("{}/v1/secret?version=1", target.url())
    );
    assert_eq!(target.connections(), 0, "only the client may follow");
}
