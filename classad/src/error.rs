//! Errors of the parsers and the limits of evaluation.

/// Why a text could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct ParseError {
    kind: ParseErrorKind,
    offset: usize,
}

impl ParseError {
    pub(crate) const fn new(kind: ParseErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// The same error in a text where this one begins at `start`.
    pub(crate) const fn shifted(self, start: usize) -> Self {
        Self {
            kind: self.kind,
            offset: self.offset + start,
        }
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> ParseErrorKind {
        self.kind
    }

    /// Byte offset in the parsed text at which it was noticed.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

/// The kinds of [`ParseError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// The text ended inside an expression or before it began.
    #[error("the text ends where an expression is expected")]
    UnexpectedEnd,
    /// An operand (name, literal, parenthesis, list, ad) was expected.
    #[error("an expression is expected")]
    ExpectedExpression,
    /// A certain punctuation mark was expected.
    #[error("`{0}` is expected")]
    Expected(&'static str),
    /// The expression is complete, but text follows.
    #[error("unexpected text after the expression")]
    TrailingText,
    /// A string or quoted name has no end.
    #[error("the string has no closing quote")]
    UnterminatedString,
    /// A `/*` comment has no end.
    #[error("the comment has no end")]
    UnterminatedComment,
    /// A number is malformed.
    #[error("malformed number")]
    BadNumber,
    /// An escape sequence is malformed or stands for the character NUL.
    #[error("malformed escape sequence")]
    BadEscape,
    /// A character that begins no token.
    #[error("unexpected character")]
    BadCharacter,
    /// An attribute name is empty or has characters that a name cannot have.
    #[error("malformed attribute name")]
    BadName,
    /// The text inside `absTime("...")` or `relTime("...")` is no time.
    #[error("malformed time")]
    BadTime,
    /// Parentheses, lists, ads or operators are nested more than [`crate::MAX_NESTING`] deep.
    #[error("nested too deeply")]
    TooDeep,
}

/// A limit that stopped an evaluation, see [`crate::Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// More expressions were visited than allowed.
    #[error("the evaluation takes too many steps")]
    Steps,
    /// Expressions refer to each other too deeply; attributes that refer to each other in a circle end here.
    #[error("the evaluation refers to itself or is nested too deeply")]
    Depth,
    /// Strings and lists made on the way are larger than allowed.
    #[error("the evaluation makes too much text")]
    Memory,
}
