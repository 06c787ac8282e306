//! The lines of the file: sections, keys, values, and what is wrong with them.

use std::fmt;

use super::keys::{self, Known};

/// Largest configuration file, in bytes.
pub const MAX_CONFIG: usize = 64 * 1024;

/// What is wrong, and on which line (0: with the file as a whole).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) line: usize,
    pub(super) problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    NotText,
    TooLarge,
    UnknownSection(String),
    NoSection,
    NotAnAssignment,
    UnknownKey(String),
    Replaced(&'static str, &'static str),
    Duplicate(&'static str, usize),
    BadValue(&'static str, &'static str),
    Missing(&'static str),
    Conflict(String),
}

impl ConfigError {
    pub(super) fn new(line: usize, problem: Problem) -> Self {
        Self { line, problem }
    }

    /// The line, or 0.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}: ", self.line)?;
        } else {
            f.write_str(" ")?;
        }
        match &self.problem {
            Problem::NotText => {
                f.write_str("the file is not UTF-8 text, or holds control characters")
            }
            Problem::TooLarge => write!(f, "the file is larger than {MAX_CONFIG} bytes"),
            Problem::UnknownSection(name) => write!(
                f,
                "unknown section [{name}]; [glexec] and [switch] are known"
            ),
            Problem::NoSection => f.write_str("a key stands before the first section"),
            Problem::NotAnAssignment => {
                f.write_str("this is not a section and not \"key = value\"")
            }
            Problem::UnknownKey(key) => write!(f, "unknown key {key}"),
            Problem::Replaced(key, instead) => write!(f, "{key} is not used here: {instead}"),
            Problem::Duplicate(key, line) => write!(f, "{key} was given before, on line {line}"),
            Problem::BadValue(key, wanted) => write!(f, "{key} must be {wanted}"),
            Problem::Missing(key) => write!(f, "{key} is not set"),
            Problem::Conflict(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What the file says, and every complaint so far.
#[derive(Debug, Default)]
pub(super) struct Values<'a> {
    given: Vec<(&'static str, &'a str, usize)>,
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Values<'a> {
    /// Reads all lines; goes on behind mistakes, so that all of them are found.
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let mut values = Self::default();
        let whole = |problem| ConfigError::new(0, problem);
        if bytes.len() > MAX_CONFIG {
            values.errors.push(whole(Problem::TooLarge));
            return values;
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if !text.chars().any(is_foreign) => text,
            _ => {
                values.errors.push(whole(Problem::NotText));
                return values;
            }
        };
        let mut in_section = false;
        for (index, line) in text.lines().enumerate() {
            if let Err(problem) = values.line(line.trim(), index + 1, &mut in_section) {
                values.errors.push(ConfigError::new(index + 1, problem));
            }
        }
        values
    }

    fn line(&mut self, line: &'a str, number: usize, in_section: &mut bool) -> Result<(), Problem> {
        if line.is_empty() || line.starts_with(['#', ';']) {
            return Ok(());
        }
        let section = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'));
        if let Some(name) = section {
            *in_section = true;
            return match name.trim() {
                "glexec" | "switch" => Ok(()),
                other => Err(Problem::UnknownSection(other.to_owned())),
            };
        }
        let (key, value) = line.split_once('=').ok_or(Problem::NotAnAssignment)?;
        if !*in_section {
            return Err(Problem::NoSection);
        }
        let key = match keys::find(key.trim()) {
            Known::Key(key) => key,
            Known::Replaced(key, instead) => return Err(Problem::Replaced(key, instead)),
            Known::No => return Err(Problem::UnknownKey(key.trim().to_owned())),
        };
        if let Some((_, before)) = self.find(key) {
            return Err(Problem::Duplicate(key, before));
        }
        self.given.push((key, unquote(value.trim()), number));
        Ok(())
    }

    /// A value and its line.
    pub(super) fn find(&self, key: &str) -> Option<(&'a str, usize)> {
        self.given
            .iter()
            .find(|(known, ..)| *known == key)
            .map(|(_, value, line)| (*value, *line))
    }

    /// The line of a key, or 0.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.find(key).map_or(0, |(_, line)| line)
    }

    /// A value, if it is given and `parse` takes it.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (value, line) = self.find(key)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.complain(line, Problem::BadValue(key, wanted));
        }
        parsed
    }

    pub(super) fn complain(&mut self, line: usize, problem: Problem) {
        self.errors.push(ConfigError::new(line, problem));
    }
}

fn is_foreign(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}
