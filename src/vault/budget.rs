//! The budget of requests to one Vault: a token bucket on tokio's clock.
//! Waiters are served in the order in which they came, and one that gives up
//! takes nothing with it.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// How many requests one Vault address gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second in the long run.
    pub requests_per_second: NonZeroU32,
    /// Requests that may go out at once after a pause.
    pub burst: NonZeroU32,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    counted_at: Instant,
}

impl Budget {
    /// A full bucket.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            bucket: Mutex::new(Bucket {
                tokens: f64::from(limits.burst.get()),
                counted_at: Instant::now(),
            }),
        }
    }

    /// Returns when one more request may go out.
    ///
    /// Holding the fair lock while it sleeps is what keeps the order; dropping
    /// the future gives the place to the next.
    pub(super) async fn take(&self) {
        let mut bucket = self.bucket.lock().await;
        bucket.fill(self.limits);
        if bucket.tokens < 1.0 {
            let rate = f64::from(self.limits.requests_per_second.get());
            let missing = (1.0 - bucket.tokens) / rate;
            sleep_until(Instant::now() + Duration::from_secs_f64(missing)).await;
            bucket.fill(self.limits);
        }
        // The clock's grain may leave a hair's breadth missing.
        bucket.tokens = (bucket.tokens - 1.0).max(0.0);
    }
}

impl Bucket {
    fn fill(&mut self, limits: Limits) {
        let now = Instant::now();
        let earned = now.duration_since(self.counted_at).as_secs_f64()
            * f64::from(limits.requests_per_second.get());
        self.tokens = (self.tokens + earned).min(f64::from(limits.burst.get()));
        self.counted_at = now;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::rc::Rc;

    use futures::future::join_all;

    use super::*;

    fn budget(rate: u32, burst: u32) -> Budget {
        Budget::new(Limits {
            requests_per_second: NonZeroU32::new(rate).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_the_rest_waits_its_turn() {
        let budget = budget(10, 5);
        let start = Instant::now();
        for _ in 0..5 {
            budget.take().await;
        }
        assert!(start.elapsed() < Duration::from_millis(5));
        join_all((0..20).map(|_| budget.take())).await;
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(1990) && took < Duration::from_millis(2100),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_earns_no_more_than_the_burst() {
        let budget = budget(100, 3);
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..4 {
            budget.take().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(9));
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_nothing() {
        let budget = Rc::new(budget(1, 1));
        budget.take().await;
        for _ in 0..50 {
            let gave_up = tokio::time::timeout(Duration::from_millis(1), budget.take()).await;
            assert!(gave_up.is_err());
        }
        let start = Instant::now();
        budget.take().await;
        assert!(start.elapsed() <= Duration::from_secs(1));
    }
}
