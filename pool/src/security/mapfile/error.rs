//! What can be wrong with a map file.

use std::fmt;

/// Every mistake in a map file and the files it includes; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapErrors(pub Vec<MapError>);

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapError {
    /// The file.
    pub file: String,
    /// The line, from 1; `None`: the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: MapProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapProblem {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(condorconf::FileError),
    /// It is not UTF-8.
    #[error("is not UTF-8")]
    NotText,
    /// There are too many lines, in all files together.
    #[error("there are more than {0} lines in all")]
    TooLong(usize),
    /// Not three fields.
    #[error("expected METHOD PRINCIPAL CANONICAL; {0} is missing")]
    Missing(&'static str),
    /// More than three fields.
    #[error("{0:?} behind the three fields; put a field with blanks in double quotes")]
    Extra(String),
    /// The quote or slash that ends a field is missing.
    #[error("the {0} that ends the field is missing")]
    Open(char),
    /// A pattern the engine refuses. Look-around and back-references are among them.
    #[error(
        "{pattern:?} is not a regular expression that can be used here (look-around and back-references cannot): {reason}"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        reason: String,
    },
    /// An included file includes another.
    #[error("a file that is included cannot include others")]
    Nested,
    /// `@include` without a name.
    #[error("@include needs the name of a file or directory")]
    NoName,
    /// `@` and a word that is no directive.
    #[error("{0} is no directive; there is only @include")]
    Directive(String),
}

impl fmt::Display for MapErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl std::error::Error for MapErrors {}
