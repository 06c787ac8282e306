//! From text to logical lines: continuation and comments.
//!
//! Rules of `htcondor:src/condor_utils/config.cpp` (`getline_implementation`): a backslash at the end of a line joins
//! the next one, without its indentation. A line that begins with `#` is never continued. A line that begins with `#`
//! within a continuation is skipped.

/// A line with everything that is joined to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogicalLine {
    /// The text; nothing is left of the line ends.
    pub(crate) text: String,
    /// Number of its last physical line, from 1.
    pub(crate) number: u32,
}

/// How comments and continuation act on each other; `#opt:oldcomment` and `#opt:newcomment` change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommentStyle {
    /// A comment is continued like any other line, and a `#` within a continued line is text.
    Old,
    /// As described above.
    New,
}

/// Takes a text apart.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    rest: &'a str,
    number: u32,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            number: 0,
        }
    }

    /// The next logical line.
    pub(crate) fn next(&mut self, style: CommentStyle) -> Option<LogicalLine> {
        if self.rest.is_empty() {
            return None;
        }
        let mut text = String::new();
        while !self.rest.is_empty() {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            self.rest = rest;
            self.number = self.number.saturating_add(1);
            let line = line.trim_matches(is_space);
            let first = text.is_empty();
            let comment = line.starts_with('#');
            if comment && !first && style == CommentStyle::New {
                // HTCondor keeps the last character of such a comment; see `tail`.
                match tail(line) {
                    "\\" => continue,
                    kept => {
                        text.push_str(kept);
                        break;
                    }
                }
            }
            match line.strip_suffix('\\') {
                Some(head) => {
                    text.push_str(head);
                    if comment && style == CommentStyle::New {
                        break;
                    }
                }
                None => {
                    text.push_str(line);
                    break;
                }
            }
        }
        Some(LogicalLine {
            text,
            number: self.number,
        })
    }
}

/// The last character of a line: what stays of a comment within a continuation.
fn tail(line: &str) -> &str {
    line.char_indices()
        .next_back()
        .and_then(|(at, _)| line.get(at..))
        .unwrap_or("")
}

/// What C's `isspace` accepts.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}
