#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use tokio::time::timeout;

use super::*;

/// Longer than anything here takes when it works.
const SOON: Duration = Duration::from_secs(10);
/// How long silence must last to count as silence.
const SILENCE: Duration = Duration::from_millis(150);

async fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    });
    (address, task)
}

async fn proxied() -> (TcpProxy, TcpStream, JoinHandle<()>) {
    let (upstream, server) = echo().await;
    let proxy = TcpProxy::start(upstream).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client, server)
}

async fn say(client: &mut TcpStream, text: &[u8]) {
    client.write_all(text).await.unwrap();
    hear(client, text).await;
}

async fn hear(client: &mut TcpStream, text: &[u8]) {
    let mut heard = vec![0; text.len()];
    timeout(SOON, client.read_exact(&mut heard))
        .await
        .expect("an echo in time")
        .unwrap();
    assert_eq!(heard, text);
}

async fn hears_nothing(client: &mut TcpStream) {
    let mut byte = [0];
    assert!(
        timeout(SILENCE, client.read(&mut byte)).await.is_err(),
        "something came through"
    );
}

async fn is_reset(client: &mut TcpStream) {
    let mut byte = [0];
    let error = timeout(SOON, client.read(&mut byte))
        .await
        .expect("a reset in time")
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn carries_and_counts() {
    let (proxy, mut client, _server) = proxied().await;
    say(&mut client, b"hello").await;
    let big = vec![7; 3 * PIECE + 1];
    let (mut from, mut to) = client.split();
    let mut heard = vec![0; big.len()];
    let (wrote, read) = tokio::join!(to.write_all(&big), from.read_exact(&mut heard));
    wrote.unwrap();
    read.unwrap();
    assert_eq!(heard, big);
    to.shutdown().await.unwrap();
    assert_eq!(
        timeout(SOON, from.read(&mut [0])).await.unwrap().unwrap(),
        0,
        "an orderly end passes through"
    );
    let total = 5 + big.len() as u64;
    let traffic = proxy.traffic();
    assert_eq!(
        (traffic.accepted, traffic.sent, traffic.received),
        (1, total, total)
    );
}

#[tokio::test]
async fn delays_a_live_connection_and_stops_delaying_it() {
    let (proxy, mut client, _server) = proxied().await;
    say(&mut client, b"a").await;
    let delay = Duration::from_millis(60);
    proxy.delay(delay);
    let start = Instant::now();
    say(&mut client, b"b").await;
    assert!(start.elapsed() >= 2 * delay);

    proxy.delay(Duration::from_secs(3600));
    client.write_all(b"c").await.unwrap();
    hears_nothing(&mut client).await;
    proxy.back_to_normal();
    hear(&mut client, b"c").await;
}

#[tokio::test]
async fn cut_resets_live_connections_and_serves_new_ones() {
    let (proxy, mut client, _server) = proxied().await;
    say(&mut client, b"a").await;
    proxy.cut();
    is_reset(&mut client).await;
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut again, b"b").await;
    assert_eq!((proxy.traffic().accepted, proxy.traffic().live), (2, 1));
}

#[tokio::test]
async fn blackhole_freezes_live_connections_and_answers_new_ones_nothing() {
    let (proxy, mut client, _server) = proxied().await;
    say(&mut client, b"a").await;
    proxy.blackhole(true);
    client.write_all(b"b").await.unwrap();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    new.write_all(b"c").await.unwrap();
    hears_nothing(&mut client).await;
    hears_nothing(&mut new).await;
    proxy.blackhole(false);
    hear(&mut client, b"b").await;
    hear(&mut new, b"c").await;
}

#[tokio::test]
async fn cut_reaches_frozen_connections() {
    let (proxy, mut client, _server) = proxied().await;
    say(&mut client, b"a").await;
    proxy.blackhole(true);
    proxy.cut();
    is_reset(&mut client).await;
}

#[tokio::test]
async fn refuses_and_listens_again_on_the_same_port() {
    let (proxy, mut client, _server) = proxied().await;
    say(&mut client, b"a").await;
    proxy.refuse();
    is_reset(&mut client).await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    proxy.back_to_normal();
    let mut again = timeout(SOON, async {
        loop {
            if let Ok(stream) = TcpStream::connect(proxy.address()).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    say(&mut again, b"b").await;
}

#[tokio::test]
async fn a_missing_upstream_is_a_reset() {
    let reserved = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = reserved.local_addr().unwrap();
    drop(reserved);
    let proxy = TcpProxy::start(nobody).await.unwrap();
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    is_reset(&mut client).await;
}
