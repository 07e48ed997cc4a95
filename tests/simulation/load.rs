//! The load at Vault: how many requests were sent to it within a second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What was sent within the last second, and what may be.
#[derive(Debug, Default)]
pub struct Load {
    recent: VecDeque<Instant>,
    /// The most so far.
    pub most: usize,
    /// The most that a second may see; `None` where that is not looked at.
    pub limit: Option<usize>,
}

impl Load {
    /// One more.
    pub fn add(&mut self, now: Instant) {
        self.recent.push_back(now);
        while let Some(first) = self.recent.front()
            && now.duration_since(*first) >= Duration::from_secs(1)
        {
            self.recent.pop_front();
        }
        self.most = self.most.max(self.recent.len());
    }
}
