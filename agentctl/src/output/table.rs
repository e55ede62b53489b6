//! Tables: columns side by side, two spaces between them, no lines. In a pipe nothing is cut or wrapped; on a terminal
//! that is too narrow, cells wrap within their columns.
//!
//! Cells are shown without control characters: a reason may quote what a guest or a tool printed.

use std::io::{self, Write};

use agentd_api::{ColumnDef, KindDef};
use comfy_table::{ColumnConstraint, ContentArrangement};

/// The columns that a kind's table shows.
pub fn columns(def: &'static KindDef, wide: bool) -> Vec<&'static ColumnDef> {
    def.columns.iter().filter(|column| wide || !column.wide).collect()
}

/// A column up to this wide is never wrapped: a name or a state in two lines is no table any more.
const SHORT: usize = 18;
/// What a column that is wrapped needs at least.
const WRAPPED: usize = 12;

/// Whether the columns that may be wrapped have room for it; where they have none, lines run on as in a pipe.
fn can_wrap(widths: &[usize], limit: usize) -> bool {
    let least = |width: &usize| if *width <= SHORT { width + 2 } else { WRAPPED + 2 };
    widths.iter().any(|width| *width > SHORT) && widths.iter().map(least).sum::<usize>() <= limit
}

pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[&'static ColumnDef], rows: Vec<Vec<String>>) -> Self {
        Self::with_headings(columns.iter().map(|c| c.heading).collect(), rows)
    }
    pub fn with_headings(headings: Vec<&'static str>, mut rows: Vec<Vec<String>>) -> Self {
        for cell in rows.iter_mut().flatten() {
            if cell.chars().any(char::is_control) {
                *cell = plain(cell);
            }
        }
        Self { headings, rows }
    }

    /// As wide as it comes, or as the terminal is where stdout is one.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let terminal = comfy_table::Table::new().width().map(usize::from);
        self.write_within(out, terminal)
    }

    fn write_within(&self, out: &mut impl Write, limit: Option<usize>) -> io::Result<()> {
        let widths = self.widths();
        let total = widths.iter().map(|w| w + 2).sum::<usize>().saturating_sub(2);
        match limit {
            Some(limit) if total > limit && can_wrap(&widths, limit) => {
                writeln!(out, "{}", self.wrapped(&widths, limit))
            }
            _ => {
                line(out, &widths, self.headings.iter().copied())?;
                self.rows.iter().try_for_each(|row| line(out, &widths, row.iter().map(String::as_str)))
            }
        }
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|h| width(h)).collect();
        for row in &self.rows {
            for (column, cell) in widths.iter_mut().zip(row) {
                *column = (*column).max(width(cell));
            }
        }
        widths
    }

    fn wrapped(&self, widths: &[usize], limit: usize) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(limit).unwrap_or(u16::MAX));
        table.set_header(&self.headings);
        table.add_rows(&self.rows);
        let columns = table.column_count();
        for (n, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if n + 1 == columns { 0 } else { 2 }));
            if widths.get(n).is_some_and(|width| *width <= SHORT) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

fn line<'a>(out: &mut impl Write, widths: &[usize], cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    const BLANKS: &[u8] = &[b' '; 64];
    let last = widths.len().saturating_sub(1);
    for (n, (cell, column)) in cells.zip(widths).enumerate() {
        out.write_all(cell.as_bytes())?;
        // By hand, because the formatter's padding was a fifth of what a list of thousands cost.
        let mut blanks = if n == last { 0 } else { column.saturating_sub(width(cell)) + 2 };
        while blanks > 0 {
            let some = blanks.min(BLANKS.len());
            out.write_all(&BLANKS[..some])?;
            blanks -= some;
        }
    }
    out.write_all(b"\n")
}

fn width(cell: &str) -> usize {
    if cell.is_ascii() { cell.len() } else { cell.chars().count() }
}

/// Text that cannot move the cursor, change colours or break a row.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if matches!(c, '\n' | '\t' | '\r') {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
