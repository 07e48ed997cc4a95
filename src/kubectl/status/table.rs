//! Rows as lines of a table, with times as kubectl has them: how long ago, or in
//! how long. Pure.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use jiff::Timestamp;

use super::row::{Rollout, Row, State};

/// What stands in a cell that has nothing to say.
const NOTHING: &str = "-";

/// Between two columns.
const GAP: usize = 3;

/// Which columns a table has, and whether they have colours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// Whether rows are of several namespaces.
    pub namespaces: bool,
    /// Whether the Secret's name and the message of `Ready` are shown too.
    pub wide: bool,
    /// Whether what is well, what is not and what passes have colours.
    pub colours: bool,
}

/// How good what a cell says is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Passing,
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        let colour = match self {
            Tone::Plain => return Style::new(),
            Tone::Good => AnsiColor::Green,
            Tone::Passing => AnsiColor::Yellow,
            Tone::Bad => AnsiColor::Red,
        };
        colour.on_default()
    }
}

/// Text of a cell, and how good that is.
type Cell = (String, Tone);

fn plain(text: impl Into<String>) -> Cell {
    let text = text.into();
    let text = if text.is_empty() {
        NOTHING.to_owned()
    } else {
        text
    };
    (text, Tone::Plain)
}

/// A column: its header, and what it says of a row at a time.
type Column = (&'static str, fn(&Row, Timestamp) -> Cell);

const NAMESPACE: Column = ("NAMESPACE", |row, _| plain(&row.key.namespace));

const COLUMNS: [Column; 8] = [
    ("NAME", |row, _| plain(row.key.short())),
    ("STATE", |row, _| state(row)),
    ("SOURCE", |row, _| plain(&row.source)),
    ("AGE", |row, now| {
        plain(row.created.map_or_else(String::new, |at| apart(at, now)))
    }),
    ("NEXT DUE", |row, now| {
        time(row.next_due(now), now, Tone::Passing)
    }),
    ("EXPIRY", |row, now| time(row.expiry, now, Tone::Bad)),
    ("SURVIVES UNTIL", |row, now| {
        time(row.survives_until, now, Tone::Bad)
    }),
    ("ROLLOUT", |row, now| rollout(row, now)),
];

const WIDE: [Column; 2] = [
    ("SECRET", |row, _| plain(&row.destination)),
    ("MESSAGE", |row, _| plain(&row.message)),
];

/// A table that is printed at once, or line by line with the widths of before.
pub struct Table {
    layout: Layout,
    columns: Vec<Column>,
    widths: Vec<usize>,
    has_header: bool,
}

impl Table {
    /// A table of which nothing is printed yet.
    pub fn new(layout: Layout) -> Self {
        let first = layout.namespaces.then_some(NAMESPACE);
        let last = WIDE.into_iter().filter(|_| layout.wide);
        let columns: Vec<Column> = first.into_iter().chain(COLUMNS).chain(last).collect();
        Self {
            layout,
            widths: vec![0; columns.len()],
            columns,
            has_header: false,
        }
    }

    /// Lines for these rows, the header before the first ones.
    pub fn lines<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>, now: Timestamp) -> String {
        let of_row = |row: &Row| -> Vec<Cell> {
            let columns = self.columns.iter();
            columns.map(|(_, cell)| cell(row, now)).collect()
        };
        let mut lines: Vec<Vec<Cell>> = rows.into_iter().map(of_row).collect();
        if !lines.is_empty() && !self.has_header {
            let header = self.columns.iter().map(|(header, _)| plain(*header));
            lines.insert(0, header.collect());
            self.has_header = true;
        }
        for line in &lines {
            for ((text, _), width) in line.iter().zip(&mut self.widths) {
                *width = text.chars().count().max(*width);
            }
        }
        let mut all = String::new();
        for line in &lines {
            self.write(&mut all, line);
        }
        all
    }

    fn write(&self, into: &mut String, line: &[Cell]) {
        for (index, ((text, tone), width)) in line.iter().zip(&self.widths).enumerate() {
            let style = if self.layout.colours {
                tone.style()
            } else {
                Style::new()
            };
            let _ = write!(into, "{style}{text}{style:#}");
            if index + 1 < line.len() {
                let pad = width.saturating_sub(text.chars().count()) + GAP;
                into.extend(std::iter::repeat_n(' ', pad));
            }
        }
        into.push('\n');
    }
}

/// `Ready`, `Ready (Rotating)`, `NotReady (SecretNotFound)`.
fn state(row: &Row) -> Cell {
    let (word, tone, more) = match row.state {
        State::Ready => match row.phase.as_str() {
            "" | "Held" => ("Ready", Tone::Good, ""),
            phase => ("Ready", Tone::Good, phase),
        },
        State::NotReady => ("NotReady", Tone::Bad, row.reason.as_str()),
        State::Pending => ("Pending", Tone::Passing, ""),
        State::Unknown => ("Unknown", Tone::Passing, row.reason.as_str()),
        State::Terminating => ("Terminating", Tone::Passing, ""),
        State::Deleted => ("Deleted", Tone::Passing, ""),
    };
    (with(word, more), tone)
}

/// A word, and what explains it.
fn with(word: &str, more: &str) -> String {
    if more.is_empty() {
        word.to_owned()
    } else {
        format!("{word} ({more})")
    }
}

fn rollout(row: &Row, now: Timestamp) -> Cell {
    let Rollout {
        state,
        reason,
        until,
    } = &row.rollout;
    let tone = match state.as_str() {
        "Current" | "Rolled" => Tone::Good,
        "Pending" | "Rolling" => Tone::Passing,
        "Failed" => Tone::Bad,
        _ => Tone::Plain,
    };
    let until = until.filter(|until| *until > now);
    let more = match until {
        Some(until) => format!("{reason}, in {}", apart(now, until)),
        None => reason.clone(),
    };
    (plain(with(state, &more)).0, tone)
}

/// A time that should not have passed yet.
fn time(at: Option<Timestamp>, now: Timestamp, passed: Tone) -> Cell {
    match at {
        None => plain(""),
        Some(at) if at > now => plain(format!("in {}", apart(now, at))),
        Some(at) => (format!("{} ago", apart(at, now)), passed),
    }
}

/// A unit of time: its seconds and its letter.
type Unit = (i64, char);

/// How long it is between two times in words of kubectl's kind: the longer, the
/// rougher.
fn apart(from: Timestamp, to: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    /// Below so many seconds: the unit, and the finer one that is told too.
    const STEPS: [(i64, Unit, Option<Unit>); 8] = [
        (2 * MINUTE, (1, 's'), None),
        (10 * MINUTE, (MINUTE, 'm'), Some((1, 's'))),
        (3 * HOUR, (MINUTE, 'm'), None),
        (8 * HOUR, (HOUR, 'h'), Some((MINUTE, 'm'))),
        (2 * DAY, (HOUR, 'h'), None),
        (8 * DAY, (DAY, 'd'), Some((HOUR, 'h'))),
        (2 * YEAR, (DAY, 'd'), None),
        (8 * YEAR, (YEAR, 'y'), Some((DAY, 'd'))),
    ];
    let seconds = to.duration_since(from).as_secs().max(0);
    let step = STEPS.into_iter().find(|(below, _, _)| seconds < *below);
    let ((size, unit), finer) = step.map_or(((YEAR, 'y'), None), |(_, unit, finer)| (unit, finer));
    let mut text = format!("{}{unit}", seconds / size);
    if let Some((finer, unit)) = finer {
        let rest = seconds % size / finer;
        if rest > 0 {
            let _ = write!(text, "{rest}{unit}");
        }
    }
    text
}
