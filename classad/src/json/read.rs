//! From JSON to ads.

use std::borrow::Cow;

use crate::error::{ParseError, ParseErrorKind};
use crate::expr::{Expr, Literal, Node};
use crate::{ClassAd, MAX_NESTING};

type Parsed<T> = Result<T, ParseError>;

impl ClassAd {
    /// Reads a JSON object. Of two members with the same name the later wins; integers beyond 64 bits become reals.
    ///
    /// # Errors
    /// The text is not exactly one object, or an expression in it does not parse (the offset is then that of the
    /// string).
    pub fn from_json(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader {
            text,
            at: 0,
            depth: 0,
        };
        reader.blanks();
        let ad = reader.ad()?;
        reader.blanks();
        if reader.at < text.len() {
            return reader.fail(ParseErrorKind::TrailingText);
        }
        Ok(ad)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn fail<T>(&self, kind: ParseErrorKind) -> Parsed<T> {
        Err(ParseError::new(kind, self.at))
    }

    fn blanks(&mut self) {
        let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().bytes().take_while(|b| blank(b)).count();
    }

    /// Takes a mark after blanks, if it is there.
    fn take(&mut self, mark: u8) -> bool {
        self.blanks();
        let there = self.byte() == Some(mark);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, mark: &'static str) -> Parsed<()> {
        match mark.bytes().next() {
            Some(byte) if self.take(byte) => Ok(()),
            _ => self.fail(ParseErrorKind::Expected(mark)),
        }
    }

    fn ad(&mut self) -> Parsed<ClassAd> {
        self.expect("{")?;
        let mut ad = ClassAd::new();
        if self.take(b'}') {
            return Ok(ad);
        }
        loop {
            self.blanks();
            let (name, _) = self.string()?;
            self.expect(":")?;
            let expr = self.value()?;
            ad.insert(&*name, expr);
            if self.take(b'}') {
                return Ok(ad);
            }
            self.expect(",")?;
        }
    }

    fn list(&mut self) -> Parsed<Expr> {
        self.expect("[")?;
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Expr::list(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(b']') {
                return Ok(Expr::list(items));
            }
            self.expect(",")?;
        }
    }

    fn value(&mut self) -> Parsed<Expr> {
        self.blanks();
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return self.fail(ParseErrorKind::TooDeep);
        }
        let start = self.at;
        let expr = match self.byte() {
            None => return self.fail(ParseErrorKind::UnexpectedEnd),
            Some(b'{') => Expr::from(self.ad()?),
            Some(b'[') => self.list()?,
            Some(b'"') => match self.string()? {
                (text, true) => expression(&text).map_err(|e| ParseError::new(e.kind(), start))?,
                (text, false) => Expr::from(&*text),
            },
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn word(&mut self) -> Parsed<Expr> {
        let words = [
            ("true", Literal::Boolean(true)),
            ("false", Literal::Boolean(false)),
            ("null", Literal::Undefined),
        ];
        for (word, literal) in words {
            if self
                .rest()
                .get(..word.len())
                .is_some_and(|s| s.eq_ignore_ascii_case(word))
            {
                self.at += word.len();
                return Ok(Expr::new(Node::Literal(literal)));
            }
        }
        self.fail(ParseErrorKind::ExpectedExpression)
    }

    fn number(&mut self) -> Parsed<Expr> {
        let length = self
            .rest()
            .bytes()
            .take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        let text = self.rest().get(..length).unwrap_or("");
        let digits = text.strip_prefix('-').unwrap_or(text);
        let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
        let bare_point = digits.starts_with('.') || digits.ends_with('.');
        if digits.is_empty() || leading_zero || bare_point {
            return self.fail(ParseErrorKind::BadNumber);
        }
        let expr = match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(integer), _) => Expr::from(integer),
            (Err(_), Ok(real)) => Expr::from(real),
            _ => return self.fail(ParseErrorKind::BadNumber),
        };
        self.at += length;
        Ok(expr)
    }

    /// A string, and whether it is written as `"\/...\/"`.
    fn string(&mut self) -> Parsed<(Cow<'a, str>, bool)> {
        if self.byte() != Some(b'"') {
            return self.fail(ParseErrorKind::Expected("\""));
        }
        self.at += 1;
        let begin = self.at;
        let mut text = String::new();
        let mut escaped = false;
        loop {
            let rest = self.rest();
            let Some(end) = rest.find(['"', '\\']) else {
                return self.fail(ParseErrorKind::UnterminatedString);
            };
            let piece = rest.get(..end).unwrap_or("");
            if piece.contains('\0') {
                return self.fail(ParseErrorKind::BadCharacter);
            }
            self.at += end;
            if self.byte() == Some(b'"') {
                let raw = self.text.get(begin..self.at).unwrap_or("");
                self.at += 1;
                if !escaped {
                    return Ok((Cow::Borrowed(piece), false));
                }
                text.push_str(piece);
                let marked = raw.len() >= 4 && raw.starts_with("\\/") && raw.ends_with("\\/");
                return Ok((Cow::Owned(text), marked));
            }
            escaped = true;
            text.push_str(piece);
            self.at += 1;
            self.escape(&mut text)?;
        }
    }

    /// What follows the backslash. HTCondor takes an unknown letter for itself.
    fn escape(&mut self, text: &mut String) -> Parsed<()> {
        let Some(letter) = self.rest().chars().next() else {
            return self.fail(ParseErrorKind::UnterminatedString);
        };
        self.at += letter.len_utf8();
        text.push(match letter {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.code_point()?,
            other => other,
        });
        Ok(())
    }

    /// `XXXX`, or a pair of them for a character beyond 16 bits. NUL cannot be in a string.
    fn code_point(&mut self) -> Parsed<char> {
        let first = self.four_digits()?;
        let number = if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            let second = self.four_digits()?;
            let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400);
            low.map_or(first, |low| 0x1_0000 + ((first - 0xd800) << 10) + low)
        } else {
            first
        };
        match char::from_u32(number) {
            Some('\0') => self.fail(ParseErrorKind::BadEscape),
            Some(c) => Ok(c),
            None => Ok(char::REPLACEMENT_CHARACTER),
        }
    }

    fn four_digits(&mut self) -> Parsed<u32> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.map(|d| u32::from_str_radix(d, 16)) {
            Some(Ok(number)) => {
                self.at += 4;
                Ok(number)
            }
            _ => self.fail(ParseErrorKind::BadEscape),
        }
    }
}

/// `/Expr(...)/`, or else the string itself.
fn expression(text: &str) -> Parsed<Expr> {
    let prefixed = text
        .get(..6)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("/Expr("));
    match text.get(6..).and_then(|rest| rest.strip_suffix(")/")) {
        Some(inner) if prefixed => Expr::parse_new(inner),
        _ => Ok(Expr::from(text)),
    }
}
