//! What the sandbox writes: calm lines on standard output, with a few colours and a line that is written over only on
//! a terminal. A reader that has gone (`| head`) is no failure, and nothing here decides anything.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The width that long lines are wrapped at.
const WIDTH: usize = 96;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// Standard output.
pub struct Screen {
    terminal: bool,
    colour: bool,
    /// What [`begin`](Self::begin) said and nobody has ended yet.
    pending: Mutex<Option<String>>,
}

impl Screen {
    /// Colours on a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    pub fn of_this_process() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let plain = set("NO_COLOR").is_some() || set("TERM").is_none_or(|term| term == "dumb");
        Self {
            terminal: terminal && !plain,
            colour: terminal && !plain,
            pending: Mutex::new(None),
        }
    }

    /// The first line.
    pub fn title(&self, text: &str) {
        self.line(&self.paint(BOLD, text));
    }

    /// A heading, with space above it.
    pub fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.paint(BOLD, text));
    }

    /// Something begins that takes a while; [`end`](Self::end) completes its line.
    pub fn begin(&self, text: &str) {
        if self.terminal {
            self.write(&format!("  {text} {}", self.paint(DIM, "...")));
        }
        *self.pending() = Some(text.to_owned());
    }

    /// What began has ended, after this time.
    pub fn end(&self, took: Duration) {
        if let Some(text) = self.pending().take() {
            let took = self.paint(DIM, &format!("{:>7}", seconds(took)));
            let over = if self.terminal { "\r\x1b[2K" } else { "" };
            self.line(&format!("{over}  {text:<width$}{took}", width = WIDTH - 10));
        }
    }

    /// A line that belongs to what is above it.
    pub fn note(&self, text: &str) {
        for line in wrap(text, WIDTH - 2) {
            self.line(&format!("  {line}"));
        }
    }

    /// One fact about a step, under its heading: `done  ...`; further lines stand below the first.
    pub fn fact(&self, label: &str, text: &str) {
        let mut label = self.paint(DIM, label);
        for line in wrap(text, WIDTH - 8) {
            self.line(&format!("  {label}  {line}"));
            label = " ".repeat(4);
        }
    }

    /// How long a step took.
    pub fn took(&self, took: Duration) {
        self.fact("took", &seconds(took));
    }

    /// That all went well.
    pub fn success(&self, text: &str) {
        self.line("");
        self.line(&self.paint(GREEN, text));
    }

    /// A command to type: as it is, never wrapped.
    pub fn command(&self, text: &str) {
        self.line(&format!("    {text}"));
    }

    /// Why the sandbox ends, on standard error.
    pub fn failure(&self, error: &anyhow::Error) {
        let red = std::io::stderr().is_terminal() && self.colour;
        let label = if red {
            format!("\x1b[{RED}mThe sandbox failed\x1b[0m")
        } else {
            "The sandbox failed".to_owned()
        };
        let _ = writeln!(std::io::stderr().lock(), "{label}: {error:#}");
    }

    /// Ends the line of what was begun, if any, when it will never be done.
    pub fn abandon(&self) {
        if self.pending().take().is_some() && self.terminal {
            self.line("");
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Lines of at most `width` characters, broken at spaces; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let length = lines[last].chars().count();
        if length > 0 && length + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if length > 0 {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}
