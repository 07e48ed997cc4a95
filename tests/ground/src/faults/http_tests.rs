#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::faults::test_pki::TestPki;

/// Longer than anything here takes when it works.
const SOON: Duration = Duration::from_secs(10);

/// An upstream that answers `{"from": "upstream"}`, the proxy under test before it, and a client: TLS on both ways.
struct Setting {
    upstream: HttpProxy,
    proxy: HttpProxy,
    client: reqwest::Client,
}

impl Setting {
    async fn new() -> Self {
        let pki = TestPki::new();
        let upstream = HttpProxy::builder()
            .tls(&pki.cert, &pki.key)
            .capture_bodies();
        let upstream = upstream.start().await.unwrap();
        upstream
            .on(Match::any())
            .answer(Answer::json(200, &json!({"from": "upstream"})));
        let proxy = HttpProxy::builder()
            .tls(&pki.cert, &pki.key)
            .capture_bodies();
        let proxy = proxy.upstream_tls(upstream.address(), &pki.ca);
        let proxy = proxy.start().await.unwrap();
        Self {
            upstream,
            proxy,
            client: pki.client(),
        }
    }

    async fn get(&self, path: &str) -> reqwest::Result<reqwest::Response> {
        self.client.get(self.proxy.url() + path).send().await
    }

    async fn status(&self, path: &str) -> u16 {
        self.get(path).await.unwrap().status().as_u16()
    }

    fn forwarded(&self) -> usize {
        self.upstream.count(&Match::any())
    }
}

#[tokio::test]
async fn passes_everything_through_and_records_it() {
    let setting = Setting::new().await;
    let url = setting.proxy.url() + "/api/v1/secrets/a%20b?fieldManager=vto&force=true";
    let request = setting
        .client
        .patch(url)
        .bearer_auth("the-token")
        .body("what is sent");
    let response = request.send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "headers come back"
    );
    assert_eq!(response.text().await.unwrap(), r#"{"from":"upstream"}"#);

    let any = Match::any();
    let record = setting
        .proxy
        .wait_for_end(&any, 1, SOON)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (record.method.as_str(), record.path.as_str()),
        ("PATCH", "/api/v1/secrets/a%20b")
    );
    assert_eq!(record.query, "fieldManager=vto&force=true");
    assert_eq!(record.user_agent(), Some("the-client/1"));
    assert!(record.has_header("Authorization") && !record.has_header("Cookie"));
    assert_eq!(record.status.unwrap(), 200);
    assert!(record.reached_upstream() && record.duration.is_some());
    assert_eq!(record.outcome, Outcome::Answered);
    assert_eq!(
        (record.request_body.as_slice(), record.sent),
        (&b"what is sent"[..], 12)
    );
    assert_eq!(record.response_body, br#"{"from":"upstream"}"#);
    let shown = format!("{record:?}");
    assert!(
        shown.contains("authorization")
            && !shown.contains("the-token")
            && !shown.contains("what is sent")
    );

    let there = setting.upstream.requests(&any).remove(0);
    assert_eq!(there.headers["authorization"], "Bearer the-token");
    assert_eq!(there.request_body, b"what is sent");
    assert_eq!((there.path, there.query), (record.path, record.query));
}

#[tokio::test]
async fn counts_marks_and_keeps_connections() {
    let setting = Setting::new().await;
    setting.get("/a").await.unwrap().bytes().await.unwrap();
    let mark = setting.proxy.mark();
    for _ in 0..3 {
        setting.get("/b").await.unwrap().bytes().await.unwrap();
    }
    assert_eq!(setting.proxy.count(&Match::any()), 4);
    assert_eq!(
        setting
            .proxy
            .requests_since(mark, &Match::method("GET"))
            .len(),
        3
    );
    assert_eq!(setting.proxy.count(&Match::method("PUT")), 0);
    assert_eq!(setting.proxy.requests(&Match::any().nth(2))[0].index, 1);
    assert_eq!(setting.proxy.connections(), 1);
    assert_eq!(setting.upstream.connections(), 1);
    let (put, brief) = (Match::method("PUT"), Duration::from_millis(20));
    let error = setting.proxy.wait_for(&put, 1, brief).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("GET /b -> 200"),
        "the last requests are shown: {error}"
    );
}

#[tokio::test]
async fn rules_follow_each_other_and_run_out() {
    let setting = Setting::new().await;
    let (proxy, reads) = (&setting.proxy, Match::method("GET").path_prefix("/v1/"));
    let busy = Answer::vault_error(429, &["too many requests"]).header("Retry-After", "7");
    let first = proxy.on(reads.clone()).once().answer(busy);
    let second = proxy.on(reads).times(2).answer(Answer::status(503));

    let response = setting.get("/v1/a").await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["retry-after"]
        ),
        (429, &"7".parse().unwrap())
    );
    assert_eq!(
        response.text().await.unwrap(),
        r#"{"errors":["too many requests"]}"#
    );
    assert_eq!(setting.status("/other").await, 200, "other paths pass");
    assert_eq!(
        [setting.status("/v1/b").await, setting.status("/v1/c").await],
        [503; 2]
    );
    assert_eq!(setting.status("/v1/d").await, 200, "all rules are used up");
    second.hit(2, SOON).await.unwrap();
    assert_eq!(
        (first.hits(), second.hits(), setting.forwarded()),
        (1, 2, 2)
    );
    assert_eq!(
        proxy.requests(&Match::any().path("/v1/b"))[0].upstream_status,
        None
    );
    assert!(second.hit(3, Duration::from_millis(20)).await.is_err());
}

#[tokio::test]
async fn rules_can_be_for_the_nth_for_a_time_and_be_removed() {
    let setting = Setting::new().await;
    let proxy = &setting.proxy;
    proxy
        .on(Match::any().path_contains("nth").nth(2))
        .answer(Answer::status(500));
    let agent = Match::any()
        .path_contains("agent")
        .header_contains("user-agent", "the-client");
    let by_agent = proxy.on(agent).answer(Answer::status(403));

    let nth = [
        setting.status("/nth").await,
        setting.status("/nth").await,
        setting.status("/nth").await,
    ];
    assert_eq!(nth, [200, 500, 200]);
    assert_eq!(setting.status("/agent").await, 403);
    by_agent.remove();
    assert_eq!(setting.status("/agent").await, 200);

    let lasts = Duration::from_millis(500);
    let short = proxy.on(Match::any().path("/short")).during(lasts);
    let start = Instant::now();
    short.answer(Answer::status(503));
    let mut refused = 0;
    while setting.status("/short").await == 503 {
        refused += 1;
    }
    assert!(refused > 0 && start.elapsed() >= lasts);

    proxy.on(Match::any()).answer(Answer::status(500));
    assert_eq!(setting.status("/x").await, 500);
    proxy.back_to_normal();
    assert_eq!(setting.status("/x").await, 200);
}

#[tokio::test]
async fn drops_before_and_after_the_request_takes_effect() {
    let setting = Setting::new().await;
    let put = |path: &str| {
        setting
            .client
            .put(setting.proxy.url() + path)
            .body("x")
            .send()
    };
    setting
        .proxy
        .on(Match::any().path("/before"))
        .answer(Answer::drop_before());
    setting
        .proxy
        .on(Match::any().path("/after"))
        .answer(Answer::drop_after());

    put("/before").await.unwrap_err();
    assert!(
        setting
            .upstream
            .requests(&Match::any().path("/before"))
            .is_empty()
    );
    put("/after").await.unwrap_err();
    assert_eq!(setting.upstream.count(&Match::any().path("/after")), 1);

    let records = setting.proxy.requests(&Match::any());
    assert!(
        records
            .iter()
            .all(|record| record.status.is_none() && record.outcome == Outcome::Dropped)
    );
    let lost = records
        .iter()
        .find(|record| record.path == "/after")
        .unwrap();
    assert!(lost.reached_upstream());
    assert_eq!(lost.request_body, b"x");
}

#[tokio::test]
async fn answers_that_a_client_can_make_nothing_of() {
    let setting = Setting::new().await;
    let proxy = &setting.proxy;
    proxy
        .on(Match::any().path("/garbage"))
        .answer(Answer::garbage());
    proxy
        .on(Match::any().path("/not-http"))
        .answer(Answer::not_http());
    proxy.on(Match::any().path("/huge")).answer(Answer::huge(3));
    proxy.on(Match::any().path("/hang")).answer(Answer::hang());
    proxy
        .on(Match::any().path("/slow"))
        .answer(Answer::delay(Duration::from_millis(100)));

    let garbage = setting.get("/garbage").await.unwrap();
    assert_eq!(garbage.status(), 200);
    assert!(serde_json::from_slice::<serde_json::Value>(&garbage.bytes().await.unwrap()).is_err());
    let error = setting.get("/not-http").await.unwrap_err();
    assert!(!error.is_timeout(), "{error:?}");
    let huge = setting.get("/huge").await.unwrap();
    assert_eq!(huge.content_length(), None);
    let huge = huge.bytes().await.unwrap();
    assert!(huge.len() > 3 * 1024 * 1024);
    serde_json::from_slice::<serde_json::Value>(&huge).unwrap();

    proxy.on(Match::any().path("/cut")).answer(Answer::cut("{"));
    let cut = setting.get("/cut").await.unwrap();
    assert_eq!(cut.status(), 200);
    assert!(cut.bytes().await.is_err());
    let hang = setting.client.get(proxy.url() + "/hang");
    let error = hang.timeout(Duration::from_millis(150)).send().await;
    assert!(error.unwrap_err().is_timeout());
    let start = Instant::now();
    assert_eq!(setting.status("/slow").await, 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!(setting.forwarded(), 1, "only the slow one was forwarded");
}

#[tokio::test]
async fn refuses_unusable_certificates_with_a_sentence() {
    let pki = TestPki::new();
    let no_cert = HttpProxy::builder().tls("nonsense", &pki.key).start().await;
    assert!(format!("{:#}", no_cert.err().unwrap()).contains("no certificate in the PEM text"));
    let other = TestPki::new();
    let mixed = HttpProxy::builder()
        .tls(&pki.cert, &other.key)
        .start()
        .await;
    assert!(format!("{:#}", mixed.err().unwrap()).contains("don't fit"));
}
