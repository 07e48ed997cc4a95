//! Holds one request back at a chosen place until it is let go: what happens meanwhile happens in between.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::http::{Answer, Hook, HttpProxy, Match, Record, RuleHandle};

/// A request that waits; it goes on when this is dropped, too.
pub struct Pause {
    rule: RuleHandle,
    reached: watch::Receiver<bool>,
    go: watch::Sender<bool>,
}

impl Pause {
    /// Holds the first such request back before it is forwarded: it has not taken effect yet.
    pub fn at_request(proxy: &HttpProxy, matcher: Match) -> Self {
        Self::set(proxy, matcher, Answer::run_and_forward)
    }

    /// Holds its answer back: it has taken effect, and who asked does not know yet.
    pub fn at_answer(proxy: &HttpProxy, matcher: Match) -> Self {
        Self::set(proxy, matcher, Answer::forward_and_run)
    }

    fn set(proxy: &HttpProxy, matcher: Match, answer: impl FnOnce(Hook) -> Answer) -> Self {
        let (tell, reached) = watch::channel(false);
        let (go, let_go) = watch::channel(false);
        let hook: Hook = Arc::new(move |_: Record| -> BoxFuture<'static, ()> {
            tell.send_replace(true);
            let mut let_go = let_go.clone();
            Box::pin(async move {
                // An error: nobody is left to say so.
                let _ = let_go.wait_for(|go| *go).await;
            })
        });
        Self {
            rule: proxy.on(matcher).once().answer(answer(hook)),
            reached,
            go,
        }
    }

    /// Waits until the request is there.
    ///
    /// # Errors
    /// None came within `deadline`; the next one passes, then.
    pub async fn reached(&mut self, deadline: Duration) -> Result<()> {
        let reached = self.reached.wait_for(|reached| *reached);
        let reached = tokio::time::timeout(deadline, reached).await;
        if reached.is_err() {
            self.rule.remove();
        }
        reached
            .with_context(|| format!("no request came to the pause within {deadline:?}"))?
            .context("the proxy of the pause was dropped")?;
        Ok(())
    }

    /// Lets it go on.
    pub fn go(self) {
        self.go.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::faults::test_pki::TestPki;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_request_waits_before_it_is_forwarded_and_an_answer_after() {
        let upstream = HttpProxy::builder().start().await.unwrap();
        upstream.on(Match::any()).answer(Answer::status(204));
        let proxy = HttpProxy::builder().upstream_plain(upstream.address());
        let proxy = proxy.start().await.unwrap();
        let client = TestPki::new().client();
        let forwarded = || upstream.count(&Match::any());
        let mut before = Pause::at_request(&proxy, Match::any());
        let asked = tokio::spawn(client.get(proxy.url()).send());
        before.reached(SOON).await.unwrap();
        assert_eq!(forwarded(), 0);
        before.go();
        assert_eq!(asked.await.unwrap().unwrap().status(), 204);
        let mut after = Pause::at_answer(&proxy, Match::any());
        let asked = tokio::spawn(client.get(proxy.url()).send());
        after.reached(SOON).await.unwrap();
        assert_eq!((forwarded(), asked.is_finished()), (2, false));
        drop(after);
        assert_eq!(asked.await.unwrap().unwrap().status(), 204);
        // It was for one request.
        assert_eq!(client.get(proxy.url()).send().await.unwrap().status(), 204);
    }
}
