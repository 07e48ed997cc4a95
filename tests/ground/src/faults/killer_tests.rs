#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use super::*;
use crate::faults::test_pki::TestPki;

/// Longer than anything here takes when it works.
const SOON: Duration = Duration::from_secs(10);

struct Setting {
    upstream: HttpProxy,
    proxy: HttpProxy,
    client: reqwest::Client,
    victim: Child,
}

impl Setting {
    async fn new() -> Self {
        let upstream = HttpProxy::builder().start().await.unwrap();
        let proxy = HttpProxy::builder().upstream_plain(upstream.address());
        Self {
            proxy: proxy.start().await.unwrap(),
            upstream,
            client: TestPki::new().client(),
            victim: Command::new("sleep").arg("60").spawn().unwrap(),
        }
    }

    fn died(&mut self) -> bool {
        let status = self.victim.try_wait().unwrap();
        status.is_some_and(|status| status.signal() == Some(9))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.victim.kill().ok();
        self.victim.wait().ok();
    }
}

#[tokio::test]
async fn kills_at_the_chosen_request_before_it_is_forwarded() {
    let mut setting = Setting::new().await;
    let pid = setting.victim.id();
    let second = Match::method("PATCH").path_contains("/secrets/").nth(2);
    let point = KillPoint::at_request(&setting.proxy, second, move || pid);
    let patch = |path: &str| setting.client.patch(setting.proxy.url() + path).send();
    patch("/secrets/a").await.unwrap();
    assert!(
        setting.victim.try_wait().unwrap().is_none(),
        "not at the first"
    );
    let patch = |path: &str| setting.client.patch(setting.proxy.url() + path).send();
    patch("/secrets/b").await.unwrap_err();
    let struck = point.killed(SOON).await.unwrap();
    assert_eq!(
        (struck.path.as_str(), struck.reached_upstream()),
        ("/secrets/b", false)
    );
    assert!(setting.died());
    assert_eq!(setting.upstream.count(&Match::any()), 1);
}

#[tokio::test]
async fn kills_at_the_answer_after_the_upstream_gave_it() {
    let mut setting = Setting::new().await;
    let pid = setting.victim.id();
    let point = KillPoint::at_answer(&setting.proxy, Match::any(), move || pid);
    setting
        .client
        .post(setting.proxy.url())
        .send()
        .await
        .unwrap_err();
    let struck = point.killed(SOON).await.unwrap();
    assert!(struck.reached_upstream() && struck.status.is_none());
    assert!(setting.died());
    assert_eq!(setting.upstream.count(&Match::any()), 1);
    setting
        .client
        .get(setting.proxy.url())
        .send()
        .await
        .expect("the point is used up");
}

#[tokio::test]
async fn says_when_it_did_not_strike_or_had_nothing_to_kill() {
    let mut setting = Setting::new().await;
    let pid = setting.victim.id();
    let never = KillPoint::at_request(&setting.proxy, Match::method("PUT"), move || pid);
    assert!(
        never
            .killed(Duration::from_millis(20))
            .await
            .unwrap_err()
            .to_string()
            .contains("no request came")
    );
    setting
        .client
        .put(setting.proxy.url())
        .send()
        .await
        .expect("the point was taken away");
    KillPoint::at_request(&setting.proxy, Match::any(), move || pid).disarm();
    let nobody = KillPoint::at_request(&setting.proxy, Match::any(), || 0);
    setting
        .client
        .get(setting.proxy.url())
        .send()
        .await
        .unwrap_err();
    assert!(
        nobody
            .killed(SOON)
            .await
            .unwrap_err()
            .to_string()
            .contains("no process to kill")
    );
    assert!(setting.victim.try_wait().unwrap().is_none());
}
