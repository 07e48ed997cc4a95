//! What is shown while it changes: a table that is drawn again in place, and stays
//! as it was at the end; or a line for each change. Ends on Ctrl-C or SIGTERM, or when
//! nobody reads any more.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use crate::cli::still_read;
use jiff::Timestamp;
use terminal_size::{Height, terminal_size};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::board::{Board, News};
use super::outcome;
use super::row::Row;
use super::table::{Layout, Table};
use crate::kubectl::Outcome;

/// How often a table on a terminal is drawn again, since its times go on.
const TICK: Duration = Duration::from_secs(1);

/// The terminal's other screen and back (xterm's private mode 1049): what was there
/// before comes again. There a line that is too long ends at the edge (DECAWM), so that each
/// takes one row.
const ENTER: &str = "\x1b[?1049h\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?1049l";

/// To the upper left corner (ECMA-48, CUP).
const HOME: &str = "\x1b[H";

/// Takes away what stands to the right on the line (EL), and what stands below (ED).
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// How it is shown.
pub enum View {
    /// In place, on a terminal.
    Screen(Layout),
    /// A line for each row that is new or other than before.
    Lines(Table),
    /// The same, as JSON.
    Json,
}

/// Shows the board and each change of it until the end.
///
/// # Errors
/// A sentence, where it cannot be written.
pub async fn run(
    mut board: Board,
    mut news: mpsc::Receiver<News>,
    mut view: View,
) -> Result<Outcome, String> {
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut ticks = tokio::time::interval(TICK);
    let mut changed: Vec<Row> = board.rows().cloned().collect();
    let mut told = BTreeSet::new();
    if matches!(view, View::Screen(_)) {
        still_read(ENTER)?;
    }
    if let (View::Lines(_), Some(nothing)) = (&view, board.nothing()) {
        eprintln!("{nothing}");
    }
    loop {
        if !matches!(view, View::Screen(_)) {
            let troubles: BTreeSet<String> = board.troubles().map(str::to_owned).collect();
            for trouble in troubles.difference(&told) {
                eprintln!("{trouble}");
            }
            told = troubles;
        }
        let text = view.text(&board, &changed, Timestamp::now())?;
        if !text.is_empty() && !still_read(&text)? {
            break;
        }
        changed.clear();
        tokio::select! {
            _ = &mut interrupted => break,
            _ = terminated.recv() => break,
            Some(event) = news.recv() => changed.extend(board.take(event)),
            _ = ticks.tick(), if matches!(view, View::Screen(_)) => {}
            else => break,
        }
        while let Ok(event) = news.try_recv() {
            changed.extend(board.take(event));
        }
    }
    if let View::Screen(layout) = view {
        let last = lines(&board, layout, Timestamp::now());
        still_read(&format!("{LEAVE}{}\n", last.join("\n")))?;
    }
    Ok(outcome(&board))
}

impl View {
    /// What is to be written; nothing where nothing has changed.
    fn text(&mut self, board: &Board, changed: &[Row], now: Timestamp) -> Result<String, String> {
        Ok(match self {
            View::Screen(layout) => {
                let rows = terminal_size().map(|(_, Height(rows))| usize::from(rows));
                frame(&lines(board, *layout, now), rows)
            }
            View::Lines(table) => table.lines(changed, now),
            View::Json => {
                let row = |row: &Row| serde_json::to_string(&row.as_json(now));
                let lines: Result<Vec<String>, _> = changed.iter().map(row).collect();
                let lines = lines.map_err(|error| error.to_string())?;
                lines.into_iter().map(|line| line + "\n").collect()
            }
        })
    }
}

/// The table, and below it what cannot be seen.
fn lines(board: &Board, layout: Layout, now: Timestamp) -> Vec<String> {
    let table = Table::new(layout).lines(board.rows(), now);
    let nothing = board.nothing();
    let lines = table.lines().chain(nothing.as_deref());
    lines.chain(board.troubles()).map(str::to_owned).collect()
}

/// The same over the ones of before, as many as the terminal has rows for.
pub(super) fn frame(lines: &[String], rows: Option<usize>) -> String {
    // The cursor comes to stand below the last, and the table must not roll.
    let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(1));
    let mut shown = lines.to_vec();
    if shown.len() > room {
        shown.truncate(room.saturating_sub(1));
        let left = lines.len() - shown.len();
        shown.push(format!(
            "({left} more: without --watch, or in a higher window)"
        ));
    }
    let shown = shown
        .iter()
        .map(|line| format!("{line}{CLEAR_LINE}\n"))
        .collect::<String>();
    format!("{HOME}{shown}{CLEAR_BELOW}")
}
