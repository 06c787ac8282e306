//! Whom a CA may certify (rule C14): `HASH.signing_policy` in the form of Globus, `HASH.namespaces`
//! in that of the IGTF. Both are read and judged as plain text over the spellings of names; files
//! are opened elsewhere.

use crate::expression::Expression;
use crate::name::{Name, modern_types};

/// The file cannot be understood near this line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) line: usize,
}

/// What the files of one CA say.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    ca: Ca,
    permits: bool,
    subject: Subject,
}

/// What a subject must look like.
#[derive(Debug)]
enum Subject {
    Glob(Pattern),
    Expression(Expression),
}

impl Subject {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Glob(pattern) => pattern.matches(name),
            Self::Expression(expression) => expression.matches(name),
        }
    }
}

#[derive(Debug)]
enum Ca {
    Named(String),
    /// The CA under whose hash the file is stored.
    Itself,
}

impl Namespace {
    /// Adds what a signing policy says.
    ///
    /// # Errors
    /// Any line that is not understood; then the file permits nothing.
    pub(crate) fn add_signing_policy(&mut self, text: &[u8]) -> Result<(), Malformed> {
        let text = ascii(text)?;
        let before = self.rules.len();
        let mut ca: Option<String> = None;
        let mut may_sign = false;
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            last = index + 1;
            let malformed = Malformed { line: last };
            let Some((keyword, rest)) = words(line) else {
                continue;
            };
            let (authority, value) = rest.split_once([' ', '\t']).ok_or(malformed)?;
            let value = value.trim();
            match (keyword, authority) {
                ("access_id_CA", "X509") => {
                    // A file may go on with the next CA once the one before is complete.
                    let name = unquoted(value).ok_or(malformed)?;
                    ca = Some(modern_types(name));
                    may_sign = false;
                }
                ("pos_rights", "globus") if ca.is_some() => {
                    may_sign |= unquoted(value).ok_or(malformed)? == "CA:sign";
                }
                ("cond_subjects", "globus") => {
                    let name = ca.as_ref().filter(|_| may_sign).ok_or(malformed)?;
                    for pattern in policy_patterns(value).ok_or(malformed)? {
                        self.rules.push(Rule {
                            ca: Ca::Named(name.clone()),
                            permits: true,
                            subject: Subject::Glob(Pattern::glob(&modern_types(pattern))),
                        });
                    }
                }
                _ => return Err(malformed),
            }
        }
        if self.rules.len() == before {
            return Err(Malformed { line: last });
        }
        Ok(())
    }

    /// Adds what a namespaces file says.
    ///
    /// # Errors
    /// Any statement that is not understood; then the file permits nothing.
    pub(crate) fn add_namespaces(&mut self, text: &[u8]) -> Result<(), Malformed> {
        let before = self.rules.len();
        let tokens = tokens(ascii(text)?)?;
        let mut statements = tokens.chunks_exact(6);
        for statement in &mut statements {
            let [to, issuer, ca, verb, subject, pattern] = statement else {
                continue;
            };
            let malformed = Malformed { line: to.line };
            if !(to.is_word("TO") && issuer.is_word("Issuer") && subject.is_word("Subject")) {
                return Err(malformed);
            }
            let permits = verb.is_word("PERMIT");
            if !(permits || verb.is_word("DENY")) {
                return Err(malformed);
            }
            let ca = match ca.quoted() {
                Some(name) => Ca::Named(modern_types(name)),
                None if ca.is_word("SELF") => Ca::Itself,
                None => return Err(malformed),
            };
            let expression = modern_types(pattern.quoted().ok_or(malformed)?);
            self.rules.push(Rule {
                ca,
                permits,
                subject: Expression::parse(&expression)
                    .map(Subject::Expression)
                    .ok_or(malformed)?,
            });
        }
        match statements.remainder() {
            [] if self.rules.len() > before => Ok(()),
            [first, ..] => Err(Malformed { line: first.line }),
            [] => Err(Malformed { line: 1 }),
        }
    }

    /// Whether `ca` may certify `subject`: some rule permits it, none denies it.
    pub(crate) fn permits(&self, ca: &Name, subject: &Name) -> bool {
        let (cas, subjects) = (ca.spellings(), subject.spellings());
        let mut permitted = false;
        for rule in &self.rules {
            let ours = match &rule.ca {
                Ca::Named(name) => cas.contains(name),
                Ca::Itself => true,
            };
            if ours && subjects.iter().any(|name| rule.subject.matches(name)) {
                if !rule.permits {
                    return false;
                }
                permitted = true;
            }
        }
        permitted
    }
}

/// Names appear in these files as printable ASCII; comments may have anything.
fn ascii(text: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(text).map_err(|error| {
        let good = text.get(..error.valid_up_to()).unwrap_or_default();
        Malformed {
            line: good.iter().filter(|byte| **byte == b'\n').count() + 1,
        }
    })
}

/// The first word of a line and the rest; `None` for blank lines and comments.
fn words(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    Some((first, rest.trim()))
}

/// `'text'`, `"text"`, or one word.
fn unquoted(value: &str) -> Option<&str> {
    for quote in ['\'', '"'] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest
                .strip_suffix(quote)
                .filter(|inner| !inner.is_empty() && !inner.contains(quote));
        }
    }
    let is_one_word = !value.is_empty() && !value.contains([' ', '\t', '\'', '"']);
    is_one_word.then_some(value)
}

/// `'"pattern" "pattern"'`, `'pattern'` or `"pattern"`.
fn policy_patterns(value: &str) -> Option<Vec<&str>> {
    let inner = unquoted(value)?.trim();
    if !inner.contains('"') {
        return Some(vec![inner]).filter(|_| !inner.is_empty());
    }
    let mut found = Vec::new();
    let mut rest = inner;
    while !rest.is_empty() {
        let (pattern, after) = rest.strip_prefix('"')?.split_once('"')?;
        if pattern.is_empty() {
            return None;
        }
        found.push(pattern);
        rest = after.trim_start();
    }
    Some(found)
}

struct Token<'a> {
    line: usize,
    text: &'a str,
    is_quoted: bool,
}

impl<'a> Token<'a> {
    fn is_word(&self, word: &str) -> bool {
        !self.is_quoted && self.text.eq_ignore_ascii_case(word)
    }

    fn quoted(&self) -> Option<&'a str> {
        (self.is_quoted && !self.text.is_empty()).then_some(self.text)
    }
}

/// Words and quoted texts; a backslash at the end of a line is white space.
fn tokens(text: &str) -> Result<Vec<Token<'_>>, Malformed> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let malformed = Malformed { line: number };
        let mut rest = line.trim();
        if let Some(before) = rest.strip_suffix('\\') {
            rest = before.trim_end();
        }
        while !rest.is_empty() && !rest.starts_with('#') {
            let (token, is_quoted, after) = match rest.strip_prefix('"') {
                Some(inner) => {
                    let (token, after) = inner.split_once('"').ok_or(malformed)?;
                    (token, true, after)
                }
                None => {
                    let end = rest.find([' ', '\t']).unwrap_or(rest.len());
                    let (token, after) = rest.split_at(end);
                    (token, false, after)
                }
            };
            found.push(Token {
                line: number,
                text: token,
                is_quoted,
            });
            rest = after.trim_start();
        }
    }
    Ok(found)
}

/// What a subject must look like: as many bytes as there are, any one byte, or any run of them.
#[derive(Debug)]
struct Pattern(Vec<Piece>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    Any,
    Run,
}

impl Pattern {
    /// `*` and `?` as in a shell, but `*` crosses slashes.
    fn glob(text: &str) -> Self {
        let piece = |byte| match byte {
            b'*' => Piece::Run,
            b'?' => Piece::Any,
            byte => Piece::Byte(byte),
        };
        Self(text.bytes().map(piece).collect())
    }

    fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_slice(), text.as_bytes());
        let (mut at, mut place) = (0, 0);
        // Where to go on when what follows the last run does not fit.
        let mut retry: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(place) {
            match pattern.get(at) {
                Some(Piece::Run) => {
                    at += 1;
                    retry = Some((at, place));
                }
                Some(Piece::Any) => (at, place) = (at + 1, place + 1),
                Some(Piece::Byte(wanted)) if wanted == byte => (at, place) = (at + 1, place + 1),
                _ => match retry {
                    Some((after_run, from)) => {
                        (at, place) = (after_run, from + 1);
                        retry = Some((after_run, from + 1));
                    }
                    None => return false,
                },
            }
        }
        pattern
            .get(at..)
            .is_some_and(|rest| rest.iter().all(|piece| *piece == Piece::Run))
    }
}

#[cfg(test)]
#[path = "namespace_tests.rs"]
mod tests;
