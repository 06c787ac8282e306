//! From text to expressions.

mod ad;
mod lexer;
mod parser;

pub(crate) use ad::is_line_name;
pub use ad::parse_assignment_old;
pub(crate) use lexer::is_plain_name;

/// Which of the two spellings a text is in.
///
/// They differ in strings (old syntax knows the escape `\"` only, `htcondor:src/classad/lexer.cpp`) and in how an ad
/// is written. Everything else is accepted in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// Lines `Name = expression`; the form on the wire and in files.
    Old,
    /// `[ name = expression; ... ]` with C-like escapes in strings.
    New,
}
