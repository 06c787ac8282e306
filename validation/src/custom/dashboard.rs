//! The dashboard: the text file `glidein_config`, through which checks tell each other and the pilot what they found.
//!
//! One `KEY VALUE` a line; the key ends at the first blank, everything after that blank is the value, blanks included.
//! Bytes are kept as they are: scripts write paths and messages in any encoding.

use std::fmt;

use thiserror::Error;

/// A name in the dashboard: not empty, no blank, no line feed, does not begin a comment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

/// Why a word cannot be a key of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing there.
    #[error("a name in the dashboard cannot be empty")]
    Empty,
    /// It would be read as something else.
    #[error("{0:?} cannot be a name in the dashboard: no blanks, no line feeds, no # at its start")]
    Unreadable(String),
}

impl Key {
    /// Checks a word.
    ///
    /// # Errors
    /// Empty, or not readable again after it was written.
    pub fn new(word: impl Into<Vec<u8>>) -> Result<Self, KeyError> {
        let word = word.into();
        if word.is_empty() {
            return Err(KeyError::Empty);
        }
        if word.starts_with(b"#")
            || word
                .iter()
                .any(|&byte| matches!(byte, b' ' | b'\n' | b'\r' | 0))
        {
            return Err(KeyError::Unreadable(
                String::from_utf8_lossy(&word).into_owned(),
            ));
        }
        Ok(Self(word))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// What stands behind a key: one line of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line(Vec<u8>);

impl Line {
    /// The first line of a text, and whether anything had to be left out: a value cannot have a second line, its tail
    /// would be read as entries of its own.
    #[must_use]
    pub fn first_of(text: &[u8]) -> (Self, bool) {
        let end = text
            .iter()
            .position(|&byte| matches!(byte, b'\n' | 0))
            .unwrap_or(text.len());
        let (line, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
        let lost = rest.iter().any(|&byte| !matches!(byte, b'\n' | b'\r' | 0));
        (Self(line.to_vec()), lost)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::first_of(text.as_bytes()).0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Row {
    /// Key and value, as in the file.
    Entry(Key, Line),
    /// A comment, an empty line, or something that no reader takes for an entry.
    Other(Vec<u8>),
}

/// The content of a dashboard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dashboard {
    rows: Vec<Row>,
}

impl Dashboard {
    /// Longest file that is read, in bytes. A full one of the field has some 300 lines.
    pub const MAX_BYTES: usize = 16 << 20;

    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the text of a file. Never fails: what is no entry is kept as it is.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let body = text.strip_suffix(b"\n").unwrap_or(text);
        if body.is_empty() {
            return Self::default();
        }
        let rows = body.split(|&byte| byte == b'\n').map(Row::parse).collect();
        Self { rows }
    }

    /// The text of the file.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for row in &self.rows {
            match row {
                Row::Entry(key, value) => {
                    text.extend_from_slice(&key.0);
                    text.push(b' ');
                    text.extend_from_slice(&value.0);
                }
                Row::Other(other) => text.extend_from_slice(other),
            }
            text.push(b'\n');
        }
        text
    }

    /// The value of the last line with exactly this key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.find(|known| known == key)
    }

    /// The value of the last line whose key differs at most in the case of its letters.
    #[must_use]
    pub fn get_any_case(&self, key: &[u8]) -> Option<&[u8]> {
        self.find(|known| known.eq_ignore_ascii_case(key))
    }

    /// The value as text; bytes that are no UTF-8 are replaced. Without value, as without key, nothing.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key.as_bytes())
            .filter(|value| !value.is_empty())
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Puts a value in, in the place of all earlier lines of that key.
    pub fn set(&mut self, key: Key, value: Line) {
        // Where the last one stood, so that files compare well before and after.
        let place = self
            .rows
            .iter()
            .rposition(|row| matches!(row, Row::Entry(known, _) if *known == key));
        match place {
            Some(place) => {
                if let Some(row) = self.rows.get_mut(place) {
                    *row = Row::Entry(key.clone(), value);
                }
                let mut index = 0;
                self.rows.retain(|row| {
                    let keep =
                        index >= place || !matches!(row, Row::Entry(known, _) if *known == key);
                    index += 1;
                    keep
                });
            }
            None => self.rows.push(Row::Entry(key, value)),
        }
    }

    /// Leaves only the last line of each key.
    pub fn trim(&mut self) {
        let mut seen = std::collections::HashSet::new();
        let mut kept: Vec<Row> = Vec::with_capacity(self.rows.len());
        for row in self.rows.drain(..).rev() {
            let new = match &row {
                Row::Entry(key, _) => seen.insert(key.clone()),
                Row::Other(_) => true,
            };
            if new {
                kept.push(row);
            }
        }
        kept.reverse();
        self.rows = kept;
    }

    /// Keys and values, the last line of each key, in the order of these lines.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        let last: std::collections::HashMap<&Key, usize> = self
            .rows
            .iter()
            .enumerate()
            .filter_map(|(index, row)| match row {
                Row::Entry(key, _) => Some((key, index)),
                Row::Other(_) => None,
            })
            .collect();
        self.rows
            .iter()
            .enumerate()
            .filter_map(move |(index, row)| match row {
                Row::Entry(key, value) if last.get(key) == Some(&index) => {
                    Some((key, value.0.as_slice()))
                }
                _ => None,
            })
    }

    fn find(&self, matches: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        self.rows.iter().rev().find_map(|row| match row {
            Row::Entry(key, value) if matches(&key.0) => Some(value.0.as_slice()),
            _ => None,
        })
    }
}

impl Row {
    fn parse(line: &[u8]) -> Self {
        let mut parts = line.splitn(2, |&byte| byte == b' ');
        let key = parts.next().unwrap_or_default();
        match Key::new(key) {
            // A key alone is written with the blank that the format asks for.
            Ok(key) => Self::Entry(key, Line(parts.next().unwrap_or_default().to_vec())),
            Err(_) => Self::Other(line.to_vec()),
        }
    }
}

/// What the field takes for true: `true`, `t`, `yes`, `y` in any case, or a positive whole number.
#[must_use]
pub fn is_true(value: &[u8]) -> bool {
    let word: Vec<u8> = value
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(u8::to_ascii_lowercase)
        .collect();
    match word.as_slice() {
        b"true" | b"t" | b"yes" | b"y" => true,
        digits => {
            !digits.is_empty()
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().any(|&digit| digit != b'0')
        }
    }
}

/// A value without the blanks and quote characters around it.
#[must_use]
pub fn trimmed(value: &[u8]) -> &[u8] {
    let outer = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
    let start = value.iter().position(|byte| !outer(byte));
    let end = value.iter().rposition(|byte| !outer(byte));
    match (start, end) {
        (Some(start), Some(end)) => value.get(start..=end).unwrap_or_default(),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(word: &str) -> Key {
        Key::new(word).unwrap()
    }

    #[test]
    fn the_last_line_of_a_key_counts() {
        let board = Dashboard::parse(b"\n# note\nA 1\nAB 2\nA 3\nA.C x\n");
        assert_eq!(board.get(b"A"), Some(&b"3"[..]));
        assert_eq!(board.get(b"AB"), Some(&b"2"[..]));
        assert_eq!(board.get(b"a"), None);
        assert_eq!(board.get_any_case(b"ab"), Some(&b"2"[..]));
        assert_eq!(board.get(b"#"), None);
        assert_eq!(
            board
                .entries()
                .map(|(key, _)| key.to_string())
                .collect::<Vec<_>>(),
            ["AB", "A", "A.C"]
        );
    }

    #[test]
    fn blanks_of_a_value_are_kept() {
        let board = Dashboard::parse(b"A   two  blanks \nB\n");
        assert_eq!(board.get(b"A"), Some(&b"  two  blanks "[..]));
        assert_eq!(board.get(b"B"), Some(&b""[..]));
        assert_eq!(board.text("B"), None);
    }

    #[test]
    fn setting_leaves_one_line_of_the_key_and_all_others() {
        let mut board = Dashboard::parse(b"\nVER 1x2\nA 1\nVER 1.2\n# VER 9\nABC keep\n");
        board.set(key("VER"), "1.2".into());
        board.set(key("A.C"), "new".into());
        assert_eq!(
            board.render(),
            b"\nA 1\nVER 1.2\n# VER 9\nABC keep\nA.C new\n"
        );
    }

    #[test]
    fn an_older_line_of_the_same_value_does_not_hide_a_newer_one() {
        let mut board = Dashboard::parse(b"K one\nK two\n");
        board.set(key("K"), "one".into());
        assert_eq!(board.get(b"K"), Some(&b"one"[..]));
        assert_eq!(board.render(), b"K one\n");
    }

    #[test]
    fn trimming_leaves_the_last_of_each() {
        let mut board = Dashboard::parse(b"A 1\nB 1\n\nA 2\n");
        board.trim();
        assert_eq!(board.render(), b"B 1\n\nA 2\n");
    }

    #[test]
    fn only_the_first_line_of_a_value_is_taken() {
        let (line, lost) = Line::first_of(b"one\nEVIL 1");
        assert_eq!((line.as_bytes(), lost), (&b"one"[..], true));
        let (line, lost) = Line::first_of(b"one\n");
        assert_eq!((line.as_bytes(), lost), (&b"one"[..], false));
    }

    #[test]
    fn truth_is_what_the_field_takes_for_it() {
        for yes in ["true", "T", "Yes", " y ", "1", "12", "007"] {
            assert!(is_true(yes.as_bytes()), "{yes}");
        }
        for no in ["", "0", "000", "-1", "false", "on", "1.0", "yess"] {
            assert!(!is_true(no.as_bytes()), "{no}");
        }
        assert_eq!(trimmed(b" \t\"'a b' \""), b"a b");
        assert_eq!(trimmed(b" \"\" "), b"");
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_and_nothing_else_changes(
            text in "([A-C]{1,2} ?[a-c ]{0,3}\n|#[a-c ]{0,3}\n|\n){0,8}",
            word in "[A-C]{1,2}",
            value in "[a-c ]{0,4}",
        ) {
            let before = Dashboard::parse(text.as_bytes());
            let mut after = before.clone();
            after.set(key(&word), value.as_str().into());
            prop_assert_eq!(after.get(word.as_bytes()), Some(value.as_bytes()));
            for (known, old) in before.entries() {
                if known.as_bytes() != word.as_bytes() {
                    prop_assert_eq!(after.get(known.as_bytes()), Some(old));
                }
            }
            prop_assert_eq!(Dashboard::parse(&after.render()), after);
        }
    }
}
