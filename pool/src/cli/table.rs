//! Tables for a terminal.

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

    /// Adds a row; cells that are missing are empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, no line longer than `width` if columns may be cut that far.
    pub fn render(&self, _width: Option<usize>) -> String {
        todo!()
    }
}

/// Columns of the terminal that standard output is; `None` if it is none.
pub fn terminal_width() -> Option<usize> {
    todo!()
}
