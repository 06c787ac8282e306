//! Tables for a terminal.

use std::os::fd::AsFd;

use super::sys;

/// Between two columns.
const GAP: &str = " ";

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Debug, Clone)]
pub struct Column {
    title: String,
    align: Align,
    least: Option<usize>,
}

impl Column {
    /// A column of words.
    pub fn left(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            align: Align::Left,
            least: None,
        }
    }

    /// A column of numbers.
    pub fn right(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            align: Align::Right,
            least: None,
        }
    }

    /// Lets the column be cut to no less than `least` characters when the terminal is too narrow.
    #[must_use]
    pub fn shrinks_to(mut self, least: usize) -> Self {
        self.least = Some(least);
        self
    }
}

/// Rows under titles, in columns as wide as they must be.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: Vec<Column>) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing are empty, cells without a column are left out.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, no line longer than `width` if columns may be cut that far. Control characters become `?`.
    pub fn render(&self, width: Option<usize>) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        let titles = self.columns.iter().map(|column| column.title.as_str());
        self.line(titles, &widths, &mut text);
        for row in &self.rows {
            self.line(row.iter().map(String::as_str), &widths, &mut text);
        }
        text
    }

    fn widths(&self, width: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .map(|column| column.title.chars().count())
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let Some(limit) = width else { return widths };
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        loop {
            let too_much = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
            // The widest of those that can still give something gives.
            let widest = self
                .columns
                .iter()
                .zip(&mut widths)
                .filter_map(|(column, width)| {
                    let spare = width.checked_sub(column.least?)?;
                    (spare > 0).then_some((spare, width))
                })
                .max_by_key(|(_, width)| **width);
            match widest {
                Some((spare, width)) if too_much > 0 => {
                    // In steps, so that two wide columns end about equal.
                    *width -= spare.min(too_much).min(1 + spare / 2);
                }
                _ => return widths,
            }
        }
    }

    fn line<'a>(
        &self,
        mut cells: impl Iterator<Item = &'a str>,
        widths: &[usize],
        text: &mut String,
    ) {
        let start = text.len();
        for (number, (column, &width)) in self.columns.iter().zip(widths).enumerate() {
            if number > 0 {
                text.push_str(GAP);
            }
            let cell: String = cells
                .next()
                .unwrap_or_default()
                .chars()
                .take(width)
                .map(|c| if c.is_control() { '?' } else { c })
                .collect();
            match column.align {
                Align::Left => text.push_str(&format!("{cell:<width$}")),
                Align::Right => text.push_str(&format!("{cell:>width$}")),
            }
        }
        let end = text.trim_end_matches(' ').len();
        text.truncate(end.max(start));
        text.push('\n');
    }
}

/// Columns of the terminal that standard output is; `None` if it is none.
pub fn terminal_width() -> Option<usize> {
    sys::terminal_columns(std::io::stdout().as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![
            Column::left("Name").shrinks_to(6),
            Column::left("State"),
            Column::right("Mem"),
        ]);
        table.row(vec![
            "slot1@a-long-host-name".into(),
            "Idle".into(),
            "12".into(),
        ]);
        table.row(vec![
            "s\u{1b}[2J".into(),
            "Busy".into(),
            "1024".into(),
            "no column".into(),
        ]);
        table.row(vec!["größer".into()]);
        table
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        assert_eq!(
            table().render(None),
            "Name                   State  Mem\n\
             slot1@a-long-host-name Idle    12\n\
             s?[2J                  Busy  1024\n\
             größer\n"
        );
    }

    #[test]
    fn what_may_be_cut_is_cut_to_the_terminal() {
        let widest = |width| {
            let text = table().render(Some(width));
            text.lines().map(|line| line.chars().count()).max().unwrap()
        };
        assert_eq!(widest(25), 25);
        assert_eq!(widest(3), 6 + 1 + 5 + 1 + 4);
        assert_eq!(widest(200), 33);
    }
}
