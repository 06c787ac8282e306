//! The lines of map files and ban lists: blank, a comment (`#` first), or words, of which the first
//! may stand in double quotes.
//!
//! In quotes `\"` stands for a quote and `\\` for a backslash; any other backslash stays, because
//! identities themselves are written with `\/`, `\+` and `\xHH`. A line that is not understood makes
//! the whole file unusable: skipping it could let a later line match instead.

use std::fmt;

/// Largest policy file, in bytes.
pub(crate) const MAX_FILE: usize = 16 * 1024 * 1024;

/// Which line is not understood, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    pub(crate) line: usize,
    pub(crate) problem: &'static str,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.problem)
    }
}

impl std::error::Error for LineError {}

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
}

impl Line<'_> {
    pub(crate) fn fail(&self, problem: &'static str) -> LineError {
        LineError {
            line: self.number,
            problem,
        }
    }
}

/// The lines that are neither blank nor comments.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = Result<Line<'_>, LineError>> {
    text.split(|byte| *byte == b'\n')
        .enumerate()
        .filter_map(|(index, bytes)| {
            let fail = |problem| LineError {
                line: index + 1,
                problem,
            };
            let text = match std::str::from_utf8(bytes) {
                Ok(text) => text.trim(),
                Err(_) => return Some(Err(fail("it is not UTF-8 text"))),
            };
            if text.is_empty() || text.starts_with('#') {
                return None;
            }
            if text.chars().any(|c| c.is_control() && c != '\t') {
                return Some(Err(fail("it holds control characters")));
            }
            Some(Ok(Line {
                number: index + 1,
                text,
            }))
        })
}

/// Splits off the first word, unescaped if it is quoted; `None`: the closing quote is missing.
pub(crate) fn first_word(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        return Some((word.to_owned(), rest.trim_start()));
    };
    let mut word = String::new();
    let mut chars = quoted.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Some((word, quoted.get(place + 1..)?.trim_start())),
            '\\' => match chars.next()? {
                (_, c @ ('"' | '\\')) => word.push(c),
                (_, c) => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
    None
}

/// A subject and the one word behind it, of whose comma-separated parts the first counts.
pub(crate) fn entry<'a>(line: &Line<'a>) -> Result<(String, &'a str), LineError> {
    let (subject, rest) =
        first_word(line.text).ok_or_else(|| line.fail("the closing quote is missing"))?;
    let mut words = rest.split_ascii_whitespace();
    let target = words
        .next()
        .ok_or_else(|| line.fail("nothing stands behind the name"))?;
    if words.next().is_some() {
        return Err(line.fail("there is more than a name and what it is mapped to"));
    }
    Ok((subject, target.split(',').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(first_word("a b c"), Some(("a".into(), "b c")));
        assert_eq!(
            first_word(r#""a \"b\" \/ \\" c"#),
            Some((r#"a "b" \/ \"#.into(), "c"))
        );
        assert_eq!(first_word("\"a"), None);
        assert_eq!(first_word("\"a\\"), None);
    }

    #[test]
    fn m2_a_line_that_is_not_understood_is_an_error() {
        for bad in [
            "\"/CN=x alice",
            "\"/CN=x\"",
            "\"/CN=x\" a b",
            "\u{1b}[2J x",
            "x",
        ] {
            let line = lines(bad.as_bytes()).next().expect("a line");
            assert!(
                line.and_then(|line| entry(&line).map(drop)).is_err(),
                "{bad}"
            );
        }
        assert!(lines(b"\xff x\n").next().expect("a line").is_err());
        assert_eq!(lines(b"# x\n\n  \t\n").count(), 0);
    }
}
