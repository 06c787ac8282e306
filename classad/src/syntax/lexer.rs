//! Tokens. Follows `htcondor:src/classad/lexer.cpp` in what is accepted.

use std::borrow::Cow;

use super::Syntax;
use crate::error::{ParseError, ParseErrorKind};

/// A token and the offset at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind<'a>,
    pub(crate) start: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind<'a> {
    End,
    Integer(i64),
    Real(f64),
    String(Cow<'a, str>),
    /// A plain or a quoted name.
    Name(Cow<'a, str>),
    True,
    False,
    Undefined,
    ErrorWord,
    /// Punctuation and operators, `is` and `isnt` in their symbolic spelling.
    Mark(&'static str),
}

impl TokenKind<'_> {
    /// Whether a minus sign after this token subtracts (else it may begin a negative number).
    fn ends_operand(&self) -> bool {
        match self {
            Self::End => false,
            Self::Mark(mark) => matches!(*mark, "." | "]" | ")" | "}"),
            _ => true,
        }
    }
}

/// Cuts a text into tokens.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    syntax: Syntax,
    after_operand: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) const fn new(text: &'a str, syntax: Syntax) -> Self {
        Self {
            text,
            at: 0,
            syntax,
            after_operand: false,
        }
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text
            .as_bytes()
            .get(self.at + ahead)
            .copied()
            .unwrap_or(0)
    }

    /// The text that no token has taken yet.
    pub(crate) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fail<T>(&self, kind: ParseErrorKind) -> Result<T, ParseError> {
        Err(ParseError::new(kind, self.at.min(self.text.len())))
    }

    /// The next token; [`TokenKind::End`] again and again at the end.
    pub(crate) fn next(&mut self) -> Result<Token<'a>, ParseError> {
        self.skip_blanks()?;
        let start = self.at;
        let kind = if start >= self.text.len() {
            TokenKind::End
        } else {
            self.token()?
        };
        self.after_operand = kind.ends_operand();
        Ok(Token { kind, start })
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            let blanks = self.rest().bytes().take_while(|b| is_blank(*b)).count();
            self.at += blanks;
            if self.rest().starts_with("//") {
                self.at += self.rest().find('\n').unwrap_or_else(|| self.rest().len());
            } else if self.rest().starts_with("/*") {
                match self.rest().get(2..).and_then(|body| body.find("*/")) {
                    Some(length) => self.at += length + 4,
                    None => return self.fail(ParseErrorKind::UnterminatedComment),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<TokenKind<'a>, ParseError> {
        match self.byte(0) {
            b'"' => Ok(TokenKind::String(self.quoted('"')?)),
            b'\'' => self.quoted_name(),
            b'0'..=b'9' => self.number(),
            b'.' if self.byte(1).is_ascii_digit() => self.number(),
            b'-' if !self.after_operand
                && (self.byte(1).is_ascii_digit()
                    || (self.byte(1) == b'.' && self.byte(2).is_ascii_digit())) =>
            {
                self.number()
            }
            b if b.is_ascii_alphabetic() || b == b'_' => Ok(self.word()),
            _ => self.mark(),
        }
    }

    fn word(&mut self) -> TokenKind<'a> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|b| is_name_byte(*b)).count();
        self.at += length;
        let word = rest.get(..length).unwrap_or("");
        match reserved(word) {
            Some(kind) => kind,
            None => TokenKind::Name(Cow::Borrowed(word)),
        }
    }

    /// A decimal integer or a real, with an optional minus sign. Like HTCondor with the dialect its daemons use, it
    /// refuses an integer that begins with 0, and takes one beyond 64 bits for 0.
    fn number(&mut self) -> Result<TokenKind<'a>, ParseError> {
        let begin = self.at;
        if self.byte(0) == b'-' {
            self.at += 1;
        }
        let whole = self.digits();
        let mut real = false;
        if self.byte(0) == b'.' {
            real = true;
            self.at += 1;
            if self.digits() == 0 {
                return self.fail(ParseErrorKind::BadNumber);
            }
        }
        if self.byte(0).eq_ignore_ascii_case(&b'e') && (real || whole > 0) {
            real = true;
            self.at += 1;
            if matches!(self.byte(0), b'+' | b'-') {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail(ParseErrorKind::BadNumber);
            }
        }
        let text = self.text.get(begin..self.at).unwrap_or("");
        if real {
            return text.parse().map_or_else(
                |_| self.fail(ParseErrorKind::BadNumber),
                |r| Ok(TokenKind::Real(r)),
            );
        }
        if text.len() > 1 && text.starts_with('0') || self.byte(0).eq_ignore_ascii_case(&b'x') {
            return self.fail(ParseErrorKind::BadNumber);
        }
        Ok(TokenKind::Integer(text.parse().unwrap_or(0)))
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        count
    }

    /// A name cannot end with a backslash: in old syntax it could not be told from a quote inside the name.
    fn quoted_name(&mut self) -> Result<TokenKind<'a>, ParseError> {
        let start = self.at;
        let name = self.quoted('\'')?;
        if name.ends_with('\\') {
            return Err(ParseError::new(ParseErrorKind::BadName, start));
        }
        Ok(TokenKind::Name(name))
    }

    fn quoted(&mut self, delimiter: char) -> Result<Cow<'a, str>, ParseError> {
        let start = self.at;
        self.at += 1;
        let begin = self.at;
        let text = match self.syntax {
            Syntax::Old => self.quoted_old(delimiter),
            Syntax::New => self.quoted_new(delimiter),
        };
        // to HTCondor the text ends at a NUL
        let taken = self.text.as_bytes().get(begin..self.at).unwrap_or_default();
        if taken.contains(&0) {
            return Err(ParseError::new(ParseErrorKind::UnterminatedString, start));
        }
        text.map_err(|kind| ParseError::new(kind, start))
    }

    /// A backslash stands for itself, unless a quote and more text follow: then the quote belongs to the string. (To
    /// HTCondor a line feed is no more text, so that it cuts a string with a quote before a line feed short.)
    fn quoted_old(&mut self, delimiter: char) -> Result<Cow<'a, str>, ParseErrorKind> {
        let mut text = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let end = rest
                .find(delimiter)
                .ok_or(ParseErrorKind::UnterminatedString)?;
            let piece = rest.get(..end).unwrap_or("");
            self.at += end + 1;
            let more = self.at < self.text.len();
            match piece.strip_suffix('\\') {
                Some(before) if more => {
                    let owned = text.to_mut();
                    owned.push_str(before);
                    owned.push(delimiter);
                }
                _ if text.is_empty() => return Ok(Cow::Borrowed(piece)),
                _ => {
                    text.to_mut().push_str(piece);
                    return Ok(text);
                }
            }
        }
    }

    /// C-like escapes; strings with only blanks between them are joined.
    fn quoted_new(&mut self, delimiter: char) -> Result<Cow<'a, str>, ParseErrorKind> {
        let begin = self.at;
        let mut bytes: Option<Vec<u8>> = None;
        let mut piece_start = begin;
        loop {
            match self.byte(0) {
                _ if self.at >= self.text.len() => return Err(ParseErrorKind::UnterminatedString),
                b'\\' => {
                    let so_far = self
                        .text
                        .as_bytes()
                        .get(piece_start..self.at)
                        .unwrap_or_default();
                    let buffer = bytes.get_or_insert_default();
                    buffer.extend_from_slice(so_far);
                    let length = escape(self.rest().as_bytes(), buffer)?;
                    self.at += length;
                    piece_start = self.at;
                }
                b if char::from(b) == delimiter => {
                    let piece = self.text.get(piece_start..self.at).unwrap_or("");
                    self.at += 1;
                    let blanks = self.rest().bytes().take_while(|b| is_blank(*b)).count();
                    if char::from(self.byte(blanks)) == delimiter {
                        bytes
                            .get_or_insert_default()
                            .extend_from_slice(piece.as_bytes());
                        self.at += blanks + 1;
                        piece_start = self.at;
                        continue;
                    }
                    return Ok(match bytes {
                        None => Cow::Borrowed(piece),
                        Some(mut buffer) => {
                            buffer.extend_from_slice(piece.as_bytes());
                            Cow::Owned(text_of(buffer))
                        }
                    });
                }
                _ => self.at += 1,
            }
        }
    }

    fn mark(&mut self) -> Result<TokenKind<'a>, ParseError> {
        let mark = match (self.byte(0), self.byte(1), self.byte(2)) {
            (b'>', b'>', b'>') => ">>>",
            (b'=', b'?', b'=') => "=?=",
            (b'=', b'!', b'=') => "=!=",
            (b'<', b'<', _) => "<<",
            (b'>', b'>', _) => ">>",
            (b'<', b'=', _) => "<=",
            (b'>', b'=', _) => ">=",
            (b'=', b'=', _) => "==",
            (b'!', b'=', _) => "!=",
            (b'&', b'&', _) => "&&",
            (b'|', b'|', _) => "||",
            (b'<', ..) => "<",
            (b'>', ..) => ">",
            (b'=', ..) => "=",
            (b'!', ..) => "!",
            (b'&', ..) => "&",
            (b'|', ..) => "|",
            (b'^', ..) => "^",
            (b'~', ..) => "~",
            (b'+', ..) => "+",
            (b'-', ..) => "-",
            (b'*', ..) => "*",
            (b'/', ..) => "/",
            (b'%', ..) => "%",
            (b'?', ..) => "?",
            (b':', ..) => ":",
            (b';', ..) => ";",
            (b',', ..) => ",",
            (b'.', ..) => ".",
            (b'(', ..) => "(",
            (b')', ..) => ")",
            (b'[', ..) => "[",
            (b']', ..) => "]",
            (b'{', ..) => "{",
            (b'}', ..) => "}",
            _ => return self.fail(ParseErrorKind::BadCharacter),
        };
        self.at += mark.len();
        Ok(TokenKind::Mark(mark))
    }
}

/// Appends the character an escape sequence stands for; returns the length of the sequence.
fn escape(text: &[u8], buffer: &mut Vec<u8>) -> Result<usize, ParseErrorKind> {
    let Some(&letter) = text.get(1) else {
        return Err(ParseErrorKind::UnterminatedString);
    };
    let plain = match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'0'..=b'7' => return octal(text, buffer),
        other => other,
    };
    buffer.push(plain);
    Ok(2)
}

/// `\o`, `\oo`, or `\ooo` up to `\377`.
fn octal(text: &[u8], buffer: &mut Vec<u8>) -> Result<usize, ParseErrorKind> {
    let mut number = 0_u8;
    let mut length = 1;
    while length < 4 && number < 0o40 {
        match text.get(length) {
            Some(digit @ b'0'..=b'7') => number = number * 8 + (digit - b'0'),
            _ => break,
        }
        length += 1;
    }
    if number == 0 {
        return Err(ParseErrorKind::BadEscape);
    }
    buffer.push(number);
    Ok(length)
}

/// Octal escapes can spell bytes that are no UTF-8; those become U+FFFD.
fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn reserved(word: &str) -> Option<TokenKind<'static>> {
    const WORDS: [(&str, TokenKind<'static>); 6] = [
        ("true", TokenKind::True),
        ("false", TokenKind::False),
        ("undefined", TokenKind::Undefined),
        ("error", TokenKind::ErrorWord),
        ("is", TokenKind::Mark("=?=")),
        ("isnt", TokenKind::Mark("=!=")),
    ];
    WORDS
        .into_iter()
        .find(|(text, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, kind)| kind)
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a name can be written without quotes.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let starts_well = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    starts_well && name.bytes().all(is_name_byte) && reserved(name).is_none()
}
