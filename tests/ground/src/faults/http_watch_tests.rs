#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Instant;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::faults::TcpProxy;
use crate::faults::test_pki::TestPki;

/// Longer than anything here takes when it works.
const SOON: Duration = Duration::from_secs(10);

/// An upstream that sends one event at once, and a second one and the end when told to.
async fn watch_server(next: Arc<Notify>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut watches = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let next = next.clone();
            watches.spawn(async move {
                assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
                let first =
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n";
                stream.write_all(first).await.unwrap();
                next.notified().await;
                let second = b"7\r\nsecond\n\r\n0\r\n\r\n";
                stream.write_all(second).await.unwrap();
            });
        }
    });
    (address, task)
}

#[tokio::test]
async fn streams_a_watch_event_by_event() {
    let next = Arc::new(Notify::new());
    let (upstream, _server) = watch_server(next.clone()).await;
    let proxy = HttpProxy::builder().upstream_plain(upstream);
    let proxy = proxy.start().await.unwrap();
    let watch = Match::any().query_contains("watch=true");

    let url = proxy.url() + "/pods?watch=true";
    let mut events = TestPki::new().client().get(url).send().await.unwrap();
    assert_eq!(events.chunk().await.unwrap().unwrap(), "first\n");
    let record = proxy.requests(&watch).remove(0);
    assert_eq!(record.outcome, Outcome::Running);
    assert_eq!(
        (record.received, record.status.unwrap()),
        (6, StatusCode::OK)
    );
    next.notify_one();
    assert_eq!(events.chunk().await.unwrap().unwrap(), "second\n");
    assert!(events.chunk().await.unwrap().is_none());
    let ended = proxy.wait_for_end(&watch, 1, SOON).await.unwrap();
    assert_eq!(ended[0].outcome, Outcome::Answered);
    assert!(
        ended[0].response_body.is_empty(),
        "bodies are kept only where asked for"
    );
}

#[tokio::test]
async fn a_watch_breaks_when_either_side_leaves() {
    let (upstream, _server) = watch_server(Arc::default()).await;
    let front = TcpProxy::start(upstream).await.unwrap();
    let proxy = HttpProxy::builder().upstream_plain(front.address());
    let proxy = proxy.start().await.unwrap();
    let client = TestPki::new().client();

    let mut left = client.get(proxy.url()).send().await.unwrap();
    left.chunk().await.unwrap();
    drop(left);
    let ended = proxy.wait_for_end(&Match::any(), 1, SOON).await.unwrap();
    assert_eq!(ended[0].outcome, Outcome::Broken);

    let mut cut = client.get(proxy.url()).send().await.unwrap();
    cut.chunk().await.unwrap();
    front.cut();
    cut.chunk().await.unwrap_err();
    let ended = proxy.wait_for_end(&Match::any(), 2, SOON).await.unwrap();
    assert_eq!(ended[1].outcome, Outcome::Broken);
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_a_broken_connection_and_one_that_comes_back_is_used() {
    let upstream = HttpProxy::builder().start().await.unwrap();
    upstream.on(Match::any()).answer(Answer::status(204));
    let front = TcpProxy::start(upstream.address()).await.unwrap();
    let proxy = HttpProxy::builder()
        .upstream_plain(front.address())
        .start()
        .await
        .unwrap();
    let client = TestPki::new().client();
    let get = || client.get(proxy.url()).send();
    assert_eq!(get().await.unwrap().status(), 204);
    front.refuse();
    get().await.unwrap_err();
    front.back_to_normal();
    let start = Instant::now();
    while let Err(error) = get().await {
        assert!(start.elapsed() < SOON, "{error:?}");
    }
    let broken = proxy
        .requests(&Match::any())
        .into_iter()
        .find(|record| record.outcome == Outcome::Broken);
    assert!(broken.is_some_and(|record| !record.reached_upstream()));
}
