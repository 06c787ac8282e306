//! Whole ads, and the public parse functions.

use super::Syntax;
use super::lexer::{Lexer, TokenKind, is_plain_name};
use super::parser::{Parser, parse_full};
use crate::error::{ParseError, ParseErrorKind};
use crate::{AttrName, ClassAd, Expr};

impl Expr {
    /// Parses an expression in old syntax: in a string only `\"` is an escape, a backslash is else literal.
    ///
    /// # Errors
    /// The text is not exactly one expression.
    pub fn parse_old(text: &str) -> Result<Self, ParseError> {
        parse_full(text.trim_end(), Syntax::Old)
    }

    /// Parses an expression in new syntax, with C-like escapes in strings.
    ///
    /// # Errors
    /// The text is not exactly one expression.
    pub fn parse_new(text: &str) -> Result<Self, ParseError> {
        parse_full(text, Syntax::New)
    }
}

impl ClassAd {
    /// Parses lines `Name = expression` in old syntax. Blank lines and lines that begin with `#` are skipped; of two
    /// lines with the same name the later wins.
    ///
    /// # Errors
    /// A line does not parse; the offset counts from the beginning of `text`.
    pub fn parse_old(text: &str) -> Result<Self, ParseError> {
        let mut ad = Self::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let trimmed = line.trim();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                let (name, expr) = parse_assignment_old(line).map_err(|e| e.shifted(start))?;
                ad.insert(name, expr);
            }
            start += line.len();
        }
        Ok(ad)
    }

    /// Parses `[ name = expression; ... ]`.
    ///
    /// # Errors
    /// The text is not exactly one ad.
    pub fn parse_new(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser::new(text, Syntax::New)?;
        let ad = parser.ad()?;
        parser.expect_end()?;
        Ok(ad)
    }
}

/// Parses one line `Name = expression` in old syntax, as ads travel on the wire
/// (`htcondor:src/condor_utils/classad_oldnew.cpp`): the separator is the first `=`, blanks around both sides are
/// optional, in strings only `\"` is an escape.
///
/// # Errors
/// No `=`, a name with blanks or other characters a name cannot have, or an expression that does not parse.
pub fn parse_assignment_old(line: &str) -> Result<(AttrName, Expr), ParseError> {
    let lead = line.len() - line.trim_start().len();
    if line.get(lead..).is_some_and(|l| l.starts_with('\'')) {
        return parse_quoted_assignment(line);
    }
    let Some((name, text)) = line.split_once('=') else {
        return Err(ParseError::new(ParseErrorKind::Expected("="), line.len()));
    };
    let start = name.len() + 1;
    let name = name.trim();
    if !is_line_name(name) {
        return Err(ParseError::new(ParseErrorKind::BadName, lead));
    }
    let expr = Expr::parse_old(text).map_err(|e| e.shifted(start))?;
    Ok((AttrName::from(name), expr))
}

/// `'odd name' = expression`: the spelling we print for names that could not be told apart otherwise.
fn parse_quoted_assignment(line: &str) -> Result<(AttrName, Expr), ParseError> {
    let mut lexer = Lexer::new(line, Syntax::New);
    let TokenKind::Name(name) = lexer.next()?.kind else {
        return Err(ParseError::new(ParseErrorKind::BadName, 0));
    };
    let Some(text) = lexer.rest().trim_start().strip_prefix('=') else {
        return Err(ParseError::new(
            ParseErrorKind::Expected("="),
            line.len() - lexer.rest().len(),
        ));
    };
    let start = line.len() - text.len();
    let expr = Expr::parse_old(text).map_err(|e| e.shifted(start))?;
    Ok((AttrName::from(&*name), expr))
}

/// Whether a name can stand in front of the `=` of a line. HTCondor takes almost anything; we refuse what could not
/// be read back.
pub(crate) fn is_line_name(name: &str) -> bool {
    is_plain_name(name)
        || (!name.is_empty()
            && !name.starts_with(['\'', '#'])
            && !name.ends_with('\\')
            && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '='))
}
