//! Figures beside their goals.

use std::io::Write as _;

use anyhow::Result;

/// What a figure is held against; a figure may be as much, and less is better.
#[derive(Clone, Copy)]
pub enum Bound {
    /// Nothing.
    None,
    /// What is aimed at.
    Goal(f64),
    /// What must not be passed: the benchmark fails then.
    Limit(f64),
}

impl Bound {
    /// A goal that counts only where the measurement has the size that the goal was set for.
    pub fn goal_if(of_that_size: bool, goal: f64) -> Self {
        if of_that_size {
            Self::Goal(goal)
        } else {
            Self::None
        }
    }
}

/// One figure, measured once or several times, with what it is held against in the same unit.
struct Row {
    what: String,
    unit: &'static str,
    measured: Vec<f64>,
    bound: Bound,
}

/// Figures in the order in which they were measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A figure that was measured once.
    pub fn one(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        measured: f64,
        bound: Bound,
    ) {
        self.several(what, unit, vec![measured], bound);
    }

    /// A figure that was measured in several rounds; its median is held against the bound.
    pub fn several(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        mut measured: Vec<f64>,
        bound: Bound,
    ) {
        measured.sort_by(f64::total_cmp);
        self.rows.push(Row {
            what: what.into(),
            unit,
            measured,
            bound,
        });
    }

    /// Takes over the figures of another table.
    pub fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
    }

    /// Writes the table to standard output; whether every limit holds.
    ///
    /// # Errors
    /// Nobody reads standard output any more.
    pub fn print(&self) -> Result<bool> {
        let mut out = std::io::stdout().lock();
        let mut holds = true;
        writeln!(
            out,
            "{:<56} {:>9} {:>9} {:>9} {:<5} {:>7}",
            "figure", "min", "median", "max", "unit", "goal"
        )?;
        for row in &self.rows {
            let (what, unit) = (&row.what, row.unit);
            let median = quantile(&row.measured, 0.5);
            let spread = match row.measured.as_slice() {
                [one] => format!("{:>9} {:>9} {:>9}", "", number(*one, unit), ""),
                all => {
                    let [min, median, max] =
                        [0.0, 0.5, 1.0].map(|part| number(quantile(all, part), unit));
                    format!("{min:>9} {median:>9} {max:>9}")
                }
            };
            let of = |most: f64| format!("{most:>7} {:>5.2} of it", median / most);
            let verdict = match row.bound {
                Bound::None => String::new(),
                // No ratio to nothing.
                Bound::Goal(0.0) if median <= 0.0 => format!("{:>7}", 0),
                Bound::Goal(most) | Bound::Limit(most) if median <= most => of(most),
                Bound::Goal(most) => of(most) + ": MISSED",
                Bound::Limit(most) => {
                    holds = false;
                    of(most) + ": OVER THE LIMIT"
                }
            };
            let line = format!("{what:<56} {spread} {unit:<5} {verdict}");
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(holds)
    }
}

/// A count as exact as it is (one read too many of ten thousand shows), all else with two decimals.
fn number(value: f64, unit: &str) -> String {
    if !unit.is_empty() {
        format!("{value:.2}")
    } else if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.4}")
    }
}

/// The value below which `part` (0 to 1) of the sorted values lie; not a number where there are none.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * part).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
