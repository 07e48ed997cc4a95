//! The progress display of the component builds: what, how far, how long, and about how long still.
//!
//! On a terminal one line that is written over every second; elsewhere a plain line at each component and, in a long
//! one, each minute. It only ever writes to standard error.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A display that lives until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    news: Option<Sender<News>>,
    painter: Option<JoinHandle<()>>,
}

enum News {
    Begin(String),
    Note(String),
}

impl Progress {
    /// Starts the display for these components, in this order, each with its estimated time.
    pub(crate) fn start(estimates: Vec<(String, Duration)>) -> Self {
        let (news, inbox) = channel();
        let painter = (!estimates.is_empty())
            .then(|| std::thread::spawn(move || paint(&Plan::new(estimates), &inbox)));
        Self {
            news: Some(news),
            painter,
        }
    }

    /// The build of this component begins, and that of the one before has ended.
    pub(crate) fn begin(&self, name: &str) {
        self.send(News::Begin(name.to_owned()));
    }

    /// Says something in a line of its own.
    pub(crate) fn note(&self, text: &str) {
        self.send(News::Note(text.to_owned()));
    }

    fn send(&self, news: News) {
        if let Some(sender) = &self.news {
            let _ = sender.send(news);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.news = None;
        if let Some(painter) = self.painter.take() {
            let _ = painter.join();
        }
    }
}

#[derive(Debug)]
struct Plan {
    estimates: Vec<(String, Duration)>,
}

impl Plan {
    fn new(estimates: Vec<(String, Duration)>) -> Self {
        Self { estimates }
    }

    /// The line for component `index`, `spent` into its build and `total` into all of them.
    fn line(&self, index: usize, spent: Duration, total: Duration) -> String {
        let Some((name, estimate)) = self.estimates.get(index) else {
            return String::new();
        };
        let later: Duration = self.estimates[index + 1..]
            .iter()
            .map(|(_, estimate)| *estimate)
            .sum();
        let still = estimate.saturating_sub(spent) + later;
        let of = self.estimates.len();
        format!(
            "building {name} ({} of {of}), {} so far, about {} still",
            index + 1,
            clock(total),
            clock(still)
        )
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn paint(plan: &Plan, inbox: &Receiver<News>) {
    let terminal = std::io::stderr().is_terminal();
    let pause = Duration::from_secs(if terminal { 1 } else { 60 });
    let (all, mut one, mut index) = (Instant::now(), Instant::now(), None);
    loop {
        match inbox.recv_timeout(pause) {
            Ok(News::Begin(name)) => {
                index = plan.estimates.iter().position(|(known, _)| *known == name);
                one = Instant::now();
            }
            Ok(News::Note(text)) => print(terminal, &text, true),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let Some(index) = index {
            print(
                terminal,
                &plan.line(index, one.elapsed(), all.elapsed()),
                false,
            );
        }
    }
    let (spent, of) = (clock(all.elapsed()), plan.estimates.len());
    let reached = index.map_or(0, |index| index + 1);
    if reached == of {
        print(terminal, &format!("components: {spent}"), true);
    } else {
        print(
            terminal,
            &format!("ended at {reached} of {of} components after {spent}"),
            true,
        );
    }
}

/// One line; on a terminal it replaces the one before, and is itself replaced unless `last`.
fn print(terminal: bool, line: &str, last: bool) {
    let mut out = std::io::stderr().lock();
    let _ = match (terminal, last) {
        (true, false) => write!(out, "\r\x1b[2K{line}"),
        (true, true) => writeln!(out, "\r\x1b[2K{line}"),
        (false, _) => writeln!(out, "{line}"),
    };
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_what_is_left_of_all_components() {
        let seconds = Duration::from_secs;
        let plan = Plan::new(vec![
            ("a".into(), seconds(30)),
            ("b".into(), seconds(100)),
            ("c".into(), seconds(20)),
        ]);
        assert_eq!(
            plan.line(1, seconds(40), seconds(65)),
            "building b (2 of 3), 1:05 so far, about 1:20 still"
        );
        assert_eq!(
            plan.line(1, seconds(400), seconds(425)),
            "building b (2 of 3), 7:05 so far, about 0:20 still"
        );
    }
}
