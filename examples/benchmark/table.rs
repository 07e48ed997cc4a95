//! Figures beside their limits.

use std::io::Write as _;

use anyhow::Result;

/// One figure and the most that it may be, in the same unit.
struct Row {
    what: &'static str,
    unit: &'static str,
    measured: f64,
    limit: Option<f64>,
}

/// Figures in the order in which they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A figure that has no limit of its own.
    pub fn figure(&mut self, what: &'static str, unit: &'static str, measured: f64) {
        self.rows.push(Row {
            what,
            unit,
            measured,
            limit: None,
        });
    }

    /// A figure that must not be over `limit`.
    pub fn limited(&mut self, what: &'static str, unit: &'static str, measured: f64, limit: f64) {
        self.rows.push(Row {
            what,
            unit,
            measured,
            limit: Some(limit),
        });
    }

    /// Writes the table to standard output; whether every limit holds.
    ///
    /// # Errors
    /// Nobody reads standard output any more.
    pub fn print(&self) -> Result<bool> {
        let mut out = std::io::stdout().lock();
        let mut holds = true;
        for row in &self.rows {
            let Row {
                what,
                unit,
                measured,
                limit,
            } = row;
            let verdict = match limit {
                None => String::new(),
                Some(limit) if measured <= limit => format!("   at most {limit} {unit}"),
                Some(limit) => {
                    holds = false;
                    format!("   OVER the limit of {limit} {unit}")
                }
            };
            writeln!(out, "{what:<48} {measured:>9.2} {unit:<3}{verdict}")?;
        }
        Ok(holds)
    }
}
