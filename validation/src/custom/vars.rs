//! `condor_vars.lst`: which entries of the dashboard become configuration, attributes of the slot, and variables of
//! jobs.
//!
//! Seven columns a line, between blanks or tabs; a backslash takes the meaning from the character after it.

use thiserror::Error;

/// Largest file that is read, bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// How a value is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `S`: text.
    Text,
    /// `I`: a whole number.
    Integer,
    /// `C`, and what nobody has a meaning for: an expression or a bare word.
    Expression,
}

/// Under which name a job sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobName {
    /// `-`: it does not.
    Hidden,
    /// `+`: the name in the dashboard.
    Own,
    /// `@`: the name in the configuration.
    Configured,
}

/// A piece of a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The value of an entry that was handled earlier.
    Earlier(String),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key in the dashboard.
    pub name: String,
    /// How its value is meant.
    pub kind: Type,
    /// What counts without a value.
    pub default: Option<Vec<Piece>>,
    /// Its name in the configuration, and in the slot ad.
    pub configured: String,
    /// Without a value the pilot is not to start.
    pub required: bool,
    /// Whether it is an attribute of the slot.
    pub published: bool,
    /// Whether jobs see it.
    pub job: JobName,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {what}: {text:?}")]
pub struct LineError {
    /// Counted from 1.
    pub line: usize,
    /// Why not.
    pub what: &'static str,
    /// The line, or as much as can be shown.
    pub text: String,
}

/// Reads a file: the entries, and the lines that cannot be used.
#[must_use]
pub fn parse(text: &str) -> (Vec<Entry>, Vec<LineError>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(None) => {}
            Ok(Some(entry)) => entries.push(entry),
            Err(what) => errors.push(LineError {
                line: index + 1,
                what,
                text: line.chars().take(120).collect(),
            }),
        }
    }
    (entries, errors)
}

/// The key that a line is about, as it stands there; nothing for comments and empty lines.
#[must_use]
pub fn name_of(line: &str) -> Option<&str> {
    line.split_ascii_whitespace()
        .next()
        .filter(|word| !word.starts_with('#'))
}

fn parse_line(line: &str) -> Result<Option<Entry>, &'static str> {
    if name_of(line).is_none() {
        return Ok(None);
    }
    let columns = columns(line);
    let mut columns = columns.iter();
    let mut plain = || columns.next().map(|column| plain(column));
    let name = plain().unwrap_or_default();
    let kind = match plain().as_deref() {
        Some("S") => Type::Text,
        Some("I") => Type::Integer,
        Some(_) => Type::Expression,
        None => return Err("the type (S, I or C) is missing"),
    };
    let default = columns.next().ok_or("the default (or -) is missing")?;
    let default = (!is_dash(default)).then(|| pieces(default));
    let mut plain = || columns.next().map(|column| self::plain(column));
    let configured = match plain() {
        None => return Err("the name in the configuration (or +) is missing"),
        Some(word) if word == "+" => name.clone(),
        Some(word) => word,
    };
    if !is_name(&name) || !is_name(&configured) {
        return Err("names have letters, digits, _ and dots only, and do not begin with a digit");
    }
    let required = plain().as_deref() == Some("Y");
    let published = plain().as_deref() == Some("Y");
    let job = match plain().as_deref() {
        Some("+") => JobName::Own,
        Some("@") => JobName::Configured,
        _ => JobName::Hidden,
    };
    Ok(Some(Entry {
        name,
        kind,
        default,
        configured,
        required,
        published,
        job,
    }))
}

/// Names of HTCondor's configuration; a dot is for `STARTD.NAME`.
#[must_use]
pub fn is_name(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

/// A character, and whether a backslash stood before it.
type Marked = (char, bool);

fn columns(line: &str) -> Vec<Vec<Marked>> {
    let mut columns: Vec<Vec<Marked>> = Vec::new();
    let mut column = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' {
            // The field writes one or two of them, by how often a shell will read the line.
            while chars.peek() == Some(&'\\') {
                chars.next();
            }
            column.extend(chars.next().map(|c| (c, true)));
        } else if c.is_ascii_whitespace() {
            if !column.is_empty() {
                columns.push(std::mem::take(&mut column));
            }
        } else {
            column.push((c, false));
        }
    }
    if !column.is_empty() {
        columns.push(column);
    }
    columns
}

fn plain(column: &[Marked]) -> String {
    column.iter().map(|(c, _)| c).collect()
}

fn is_dash(column: &[Marked]) -> bool {
    column == [('-', false)]
}

/// Tells `$NAME` apart from the rest; `$(NAME)` and `$INT(...)` are HTCondor's.
fn pieces(column: &[Marked]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = column;
    while let Some(((c, marked), after)) = rest.split_first() {
        rest = after;
        if *c == '$' && !marked {
            let length = after
                .iter()
                .take_while(|(c, marked)| !marked && (c.is_ascii_alphanumeric() || *c == '_'))
                .count();
            let (name, next) = after.split_at_checked(length).unwrap_or((&[], after));
            let call = next.first() == Some(&('(', false)) || next.first() == Some(&('(', true));
            if length > 0 && !call {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Earlier(plain(name)));
                rest = next;
                continue;
            }
        }
        text.push(*c);
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Entry {
        let (mut entries, errors) = parse(line);
        assert_eq!(errors, []);
        entries.remove(0)
    }

    fn text(text: &str) -> Option<Vec<Piece>> {
        Some(vec![Piece::Text(text.to_owned())])
    }

    #[test]
    fn columns_say_what_becomes_of_a_key() {
        let entry = one("GLIDEIN_Collector\tC\t-\tHEAD_NODE  Y N  -");
        assert_eq!(entry.configured, "HEAD_NODE");
        assert!(entry.required && !entry.published && entry.default.is_none());
        let entry = one("GLIDEIN_Name S - + Y Y @");
        assert_eq!(
            (entry.configured.as_str(), entry.job),
            ("GLIDEIN_Name", JobName::Configured)
        );
        assert_eq!(entry.kind, Type::Text);
    }

    #[test]
    fn backslashes_protect_once_however_many_there_are() {
        let twice = one(r"A C \\$\\(HAS_X\\:False\\) + N N -");
        assert_eq!(twice.default, text("$(HAS_X:False)"));
        assert_eq!(one(r"A C \$\(HAS_X\:False\) + N N -"), twice);
        assert_eq!(one(r"A S two\ words + N N -").default, text("two words"));
        assert_eq!(one(r"A S \- + N N -").default, text("-"));
    }

    #[test]
    fn a_default_refers_to_what_was_handled_earlier() {
        assert_eq!(
            one("A S x$B-y$(C)$INT(D) + N N -").default,
            Some(vec![
                Piece::Text("x".to_owned()),
                Piece::Earlier("B".to_owned()),
                Piece::Text("-y$(C)$INT(D)".to_owned()),
            ])
        );
    }

    #[test]
    fn comments_are_skipped_and_short_lines_are_told() {
        let (entries, errors) =
            parse("# a comment\n\n  \nA\nB C\nC C -\n1D C - + N N -\nE X - + N N\n");
        assert_eq!(entries.len(), 1);
        assert_eq!(
            errors.iter().map(|error| error.line).collect::<Vec<_>>(),
            [4, 5, 6, 7]
        );
        assert_eq!(
            entries.first().map(|entry| entry.kind),
            Some(Type::Expression)
        );
    }
}
