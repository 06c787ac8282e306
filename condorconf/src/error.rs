//! What can be wrong with a configuration.

use std::fmt;

use crate::files::FileError;
use crate::origin::Origin;

/// One mistake: what is wrong, with which knob, and where that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

/// Boxed, because a `Result` should be small where all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    knob: Option<String>,
    origin: Option<Origin>,
    kind: ErrorKind,
}

impl Error {
    /// A mistake of which neither knob nor place is known yet.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            knob: None,
            origin: None,
            kind,
        }))
    }

    /// Says which knob has the mistake; an earlier answer stays.
    #[must_use]
    pub fn with_knob(mut self, knob: &str) -> Self {
        self.0.knob.get_or_insert_with(|| knob.to_owned());
        self
    }

    /// Says where the mistake is; an earlier answer stays.
    #[must_use]
    pub fn with_origin(mut self, origin: Option<Origin>) -> Self {
        self.0.origin = self.0.origin.or(origin);
        self
    }

    /// The knob, if the mistake is about one.
    #[must_use]
    pub fn knob(&self) -> Option<&str> {
        self.0.knob.as_deref()
    }

    /// Where the mistake was made.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.0.origin {
            write!(f, "{origin}: ")?;
        }
        if let Some(knob) = &self.0.knob {
            write!(f, "{knob}: ")?;
        }
        self.0.kind.fmt(f)
    }
}

impl std::error::Error for Error {}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    // -- files
    /// A file, directory or command could not be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The file, directory or command.
        path: String,
        /// Why.
        cause: FileError,
    },
    /// The file holds bytes that are not UTF-8, or a NUL.
    #[error("not a text file (NUL byte or not UTF-8)")]
    NotText,
    /// Includes or templates are nested deeper than 20.
    #[error("includes or templates are nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A limit of [`crate::Limits`] was reached.
    #[error("{what} exceeds the limit of {limit}")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// The limit.
        limit: usize,
    },

    // -- statements
    /// A line that is no assignment and no statement.
    #[error(
        "not a statement: expected NAME = value, use, include, if, error or warning, got {text:?}"
    )]
    NotAStatement {
        /// The start of the line.
        text: String,
    },
    /// The name before `=` has other characters than letters, digits, `_`, `.` and `/`.
    #[error("{name:?} is not a valid name (letters, digits, '_', '.' and '/' only)")]
    BadName {
        /// The name.
        name: String,
    },
    /// `NAME : value` after `#opt:strict`.
    #[error("':' is not accepted in place of '=' after #opt:strict")]
    ColonAssignment,
    /// A here-document has no end.
    #[error("the here-document of {name} has no closing line @{tag}")]
    OpenHereDocument {
        /// The knob.
        name: String,
        /// Its tag.
        tag: String,
    },
    /// Words between `include` and `:` that mean nothing.
    #[error("unknown words {words:?} between include and ':'")]
    BadInclude {
        /// The words.
        words: String,
    },
    /// `include ... into`.
    #[error("'include command into' is not supported: reading a configuration writes no file")]
    IncludeInto,
    /// A statement `error : text`.
    #[error("the configuration says: {message}")]
    Stated {
        /// The text.
        message: String,
    },

    // -- conditions
    /// The expression after `if` or `elif` cannot be evaluated.
    #[error("{text:?} is not a valid condition: {why}")]
    BadCondition {
        /// The expression.
        text: String,
        /// Why.
        why: &'static str,
    },
    /// `elif`, `else` or `endif` where none may stand.
    #[error("{word} without a matching if, or after else")]
    UnexpectedBranch {
        /// The word.
        word: &'static str,
    },
    /// The file ends within `if`.
    #[error("the file ends within an if that begins in line {line}")]
    OpenIf {
        /// Line of the `if`.
        line: u32,
    },
    /// `if` nested too deep.
    #[error("if is nested deeper than {limit}")]
    IfTooDeep {
        /// The limit.
        limit: usize,
    },

    // -- templates
    /// `use` names a category HTCondor does not have.
    #[error("use {category}: no such category (ROLE, SECURITY, FEATURE, POLICY)")]
    UnknownCategory {
        /// The category.
        category: String,
    },
    /// `use` names a template that HTCondor does not have, or that this program does not support.
    #[error("use {category}:{name}: this template is not supported here (supported: {known})")]
    UnknownTemplate {
        /// The category.
        category: String,
        /// The template.
        name: String,
        /// The templates of the category that are.
        known: String,
    },

    // -- values
    /// Macros refer to each other without end.
    #[error("the value refers to itself without end, or is too costly to expand (at $({at}))")]
    Endless {
        /// The reference at which the limit was reached.
        at: String,
    },
    /// A macro function got arguments it cannot use.
    #[error("{function}: {why}")]
    BadFunction {
        /// `$INT` and so on.
        function: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A regular expression does not compile.
    #[error("{text:?} is not a valid regular expression")]
    BadPattern {
        /// The expression.
        text: String,
    },
    /// The value is not of the knob's type.
    #[error("expected {expected}, got {text:?}")]
    WrongType {
        /// In words.
        expected: String,
        /// The expanded value.
        text: String,
    },
    /// The value is outside the knob's range.
    #[error("expected {expected}, got {text}, which is {side}")]
    OutOfRange {
        /// The range in words.
        expected: String,
        /// The expanded value.
        text: String,
        /// "too small" or "too large".
        side: &'static str,
    },
    /// A knob that must be set is not.
    #[error("is not set")]
    Missing,
}

/// All mistakes found in one configuration, in the order in which they were met. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// `None` when there are no mistakes.
    #[must_use]
    pub fn from_vec(errors: Vec<Error>) -> Option<Self> {
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.0.iter()
    }

    /// The mistakes, owned.
    #[must_use]
    pub fn into_vec(self) -> Vec<Error> {
        self.0
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
