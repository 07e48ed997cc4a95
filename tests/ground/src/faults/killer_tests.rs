#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use super::*;
use crate::faults::http::Outcome;
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
        Self::with(|_| {
            let mut sleep = Command::new("sleep");
            sleep.arg("60");
            sleep
        })
        .await
    }

    async fn with(victim: impl FnOnce(String) -> Command) -> Self {
        let upstream = HttpProxy::builder().start().await.unwrap();
        let proxy = HttpProxy::builder().upstream_plain(upstream.address());
        let proxy = proxy.start().await.unwrap();
        Self {
            victim: victim(proxy.url()).spawn().unwrap(),
            proxy,
            upstream,
            client: TestPki::new().client(),
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

/// A client in one process, without children: asks for `/` again and again.
const CLIENT: &str = r#"while :; do
  exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
  printf 'GET / HTTP/1.1\r\nHost: it\r\n\r\n' >&3
  read -r line <&3
done"#;

#[tokio::test]
async fn kills_the_client_itself_and_says_so() {
    for at_answer in [false, true] {
        let mut setting = Setting::with(|url| {
            let port = url.rsplit(':').next().unwrap();
            let mut client = Command::new("bash");
            client.args(["-c", CLIENT, port.trim_end_matches('/')]);
            client
        })
        .await;
        let pid = setting.victim.id();
        let third = Match::any().nth(3);
        let point = match at_answer {
            false => KillPoint::at_request(&setting.proxy, third, move || pid),
            true => KillPoint::at_answer(&setting.proxy, third, move || pid),
        };
        let struck = point.killed(SOON).await.unwrap();
        assert_eq!(
            (struck.reached_upstream(), struck.outcome),
            (at_answer, Outcome::Dropped)
        );
        assert!(setting.died());
        let counted = setting.proxy.requests(&Match::any());
        assert_eq!(counted.len(), struck.index + 1, "it was the last one");
        assert_eq!(
            setting.upstream.count(&Match::any()),
            struck.index + usize::from(at_answer)
        );
    }
}
