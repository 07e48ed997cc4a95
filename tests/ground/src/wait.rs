//! Waiting: for a condition, with a deadline, and an error that shows the last state seen.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// The pause between two looks: short at first, since most conditions come true at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Looks again and again until `probe` answers `Ok`, and returns its answer.
///
/// The probe describes what it saw in its error (`ensure!(ready == 3, "{ready} of 3 ready")`); that, not only the fact
/// of the timeout, is what the error of this function shows. `what` completes the sentence "waited for ...".
///
/// # Errors
/// No look succeeded before the deadline; a look that hangs is cut off there.
pub async fn wait_for<T, F, Fut>(what: &str, within: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + within;
    let mut pause = PAUSES.0;
    let mut last = anyhow!("the first look has not come back");
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(state)) => last = state,
            Err(_) => break,
        }
        if Instant::now() + pause >= deadline {
            break;
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSES.1);
    }
    Err(last).with_context(|| format!("waited {within:?} for {what}; last state seen follows"))
}
