//! Getting and keeping a Lease: one round is at most one read and one write.
//! That another's has expired is judged by its resourceVersion standing still
//! on this process's own clock, never by comparing two machines' clocks. Whether
//! this process may still act is another question: see `tenure`.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::lease::{LeaseClient, Record};
use super::tenure::Moment;
use crate::problem::Problem;
use crate::reconcile::Succession;

/// How a Lease is kept.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long others leave it alone after a renewal.
    pub duration: Duration,
    /// How long this process trusts a renewal: less than `duration`, so that it
    /// stops before anybody else begins.
    pub valid: Duration,
    /// Between two renewals: `valid` leaves room for a second try.
    pub renew: Duration,
    /// Between two tries to get it.
    pub retry: Duration,
}

/// How a round ended.
#[derive(Debug)]
pub enum Round {
    /// It is held.
    Held {
        /// When the write that says so was sent.
        began: Moment,
        /// Whether somebody else may have held it since this process last did.
        succession: Succession,
    },
    /// It is another's.
    Other {
        /// Whose.
        holder: String,
    },
}

/// One who wants a Lease.
pub struct Elector {
    lease: LeaseClient,
    holder: String,
    timing: Timing,
    held: Option<Record>,
    /// Of the last term: its number of transitions.
    term: Option<i32>,
    rival: Option<Rival>,
    /// The last renewal by another, or by nobody, as found before our own first
    /// write: an answer of that write that was lost must not hide it.
    former: Option<Timestamp>,
}

/// A version of somebody else's Lease, and since when it has been seen unchanged.
struct Rival {
    version: String,
    since: Instant,
}

impl Elector {
    /// Wants `lease` for `holder`.
    pub fn new(lease: LeaseClient, holder: String, timing: Timing) -> Self {
        Self {
            lease,
            holder,
            timing,
            held: None,
            term: None,
            rival: None,
            former: None,
        }
    }

    /// `Lease namespace/name`, for messages.
    pub fn place(&self) -> &str {
        self.lease.place()
    }

    /// How it is kept.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Renews it, or looks whether it can be had and takes it.
    ///
    /// # Errors
    /// Rights and transport. A Lease that was held before may still be: only
    /// time ends it.
    pub async fn round(&mut self) -> Result<Round, Problem> {
        if let Some(held) = self.held.take() {
            match self.write(&held, held.transitions).await {
                Ok(round) => return Ok(round),
                // Somebody wrote to it: look.
                Err(Problem::Conflict { .. }) => {}
                Err(problem) => {
                    self.held = Some(held);
                    return Err(problem);
                }
            }
        }
        let Some(found) = self.lease.read().await? else {
            return self.create().await;
        };
        if found.holder == self.holder {
            return self.take(&found, found.transitions).await;
        }
        if found.holder.is_empty() || self.has_expired(&found, Instant::now()) {
            return self.take(&found, found.transitions.saturating_add(1)).await;
        }
        Ok(Round::Other {
            holder: found.holder,
        })
    }

    /// Gives it up at once, if it is held.
    pub async fn release(&mut self) {
        self.end(|record| {
            record.holder.clear();
            record.duration = Duration::from_secs(1);
        })
        .await;
    }

    /// Keeps it, but for so long only.
    pub async fn shorten(&mut self, to: Duration) {
        self.end(|record| record.duration = to).await;
    }

    async fn end(&mut self, change: impl FnOnce(&mut Record)) {
        let Some(mut record) = self.held.take() else {
            return;
        };
        let over = record.version.clone();
        record.renewed = Some(Timestamp::now());
        change(&mut record);
        if let Err(problem) = self.lease.write(&over, &record).await {
            tracing::info!(%problem, "a lease ends by itself");
        }
    }

    async fn create(&mut self) -> Result<Round, Problem> {
        let began = Moment::now();
        let now = Some(began.wall());
        let record = Record {
            version: String::new(),
            holder: self.holder.clone(),
            duration: self.timing.duration,
            renewed: now,
            acquired: now,
            transitions: 0,
        };
        let made = self.lease.create(&record).await?;
        self.term = Some(made.transitions);
        self.held = Some(made);
        let succession = Succession::After(None);
        Ok(Round::Held { began, succession })
    }

    /// Takes what was found; another's write in between is no error.
    async fn take(&mut self, found: &Record, transitions: i32) -> Result<Round, Problem> {
        match self.write(found, transitions).await {
            Err(Problem::Conflict { .. }) => Ok(Round::Other {
                holder: "an instance that was faster".to_owned(),
            }),
            other => other,
        }
    }

    async fn write(&mut self, over: &Record, transitions: i32) -> Result<Round, Problem> {
        let began = Moment::now();
        if over.holder != self.holder {
            self.former = over.renewed;
        }
        let same_term = self.term == Some(transitions) && over.holder == self.holder;
        let record = Record {
            version: String::new(),
            holder: self.holder.clone(),
            duration: self.timing.duration,
            renewed: Some(began.wall()),
            acquired: if over.holder == self.holder {
                over.acquired
            } else {
                Some(began.wall())
            },
            transitions,
        };
        self.held = Some(self.lease.write(&over.version, &record).await?);
        self.term = Some(transitions);
        self.rival = None;
        let succession = if same_term {
            Succession::Resumed
        } else {
            Succession::After(self.former)
        };
        Ok(Round::Held { began, succession })
    }

    fn has_expired(&mut self, found: &Record, now: Instant) -> bool {
        has_expired(&mut self.rival, found, now)
    }
}

/// Whether the Lease has stood still for its whole duration since it was first
/// seen like this.
fn has_expired(rival: &mut Option<Rival>, found: &Record, now: Instant) -> bool {
    match rival {
        Some(rival) if rival.version == found.version => {
            now.saturating_duration_since(rival.since) >= found.duration
        }
        _ => {
            *rival = Some(Rival {
                version: found.version.clone(),
                since: now,
            });
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_expires_by_standing_still_whatever_its_clock_says() {
        let mut rival = None;
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let mut found = Record {
            version: "1".to_owned(),
            holder: "other".to_owned(),
            duration: Duration::from_secs(15),
            // Long past by our clock: that proves nothing.
            renewed: Some(Timestamp::UNIX_EPOCH),
            ..Record::default()
        };
        assert!(!has_expired(&mut rival, &found, at(0)));
        assert!(!has_expired(&mut rival, &found, at(14)));
        // Renewed: the time begins anew, also when we were frozen meanwhile.
        found.version = "2".to_owned();
        assert!(!has_expired(&mut rival, &found, at(100)));
        assert!(!has_expired(&mut rival, &found, at(114)));
        assert!(has_expired(&mut rival, &found, at(115)));
    }
}
