//! The map file: `"DN" account`, first match wins (requirement M2).
//!
//! In quotes `\"` stands for a quote and `\\` for a backslash; any other backslash stays, because
//! identities themselves are written with `\/`, `\+` and `\xHH`. A name without blanks needs no quotes.
//! Of several accounts on a line the first counts. A line that is not understood makes the whole
//! file unusable: skipping it could let a later line match instead.

use std::fmt;

use crate::config::is_account_name;

/// Largest map file, in bytes.
pub const MAX_GRIDMAP: u64 = 16 * 1024 * 1024;

/// Which line is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridmapError {
    line: usize,
    problem: &'static str,
}

impl fmt::Display for GridmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for GridmapError {}

/// The account of the first line that names exactly `identity`.
///
/// # Errors
/// If any line up to and including that one is not understood.
pub fn find<'a>(text: &'a [u8], identity: &str) -> Result<Option<&'a str>, GridmapError> {
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let fail = |problem| GridmapError {
            line: index + 1,
            problem,
        };
        let line = std::str::from_utf8(line)
            .map_err(|_| fail("it is not UTF-8 text"))?
            .trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = subject(line).ok_or_else(|| fail("the closing quote is missing"))?;
        let mut words = rest.split_ascii_whitespace();
        let accounts = words.next().ok_or_else(|| fail("there is no account"))?;
        if words.next().is_some() {
            return Err(fail("there is more than a name and accounts"));
        }
        let account = accounts.split(',').next().unwrap_or_default();
        if account.starts_with('.') {
            return Err(fail(
                "pool accounts (.prefix) are not supported; use dynamic_uids",
            ));
        }
        if !is_account_name(account) {
            return Err(fail("the account is not a plain account name"));
        }
        if name == identity {
            return Ok(Some(account));
        }
    }
    Ok(None)
}

/// Splits a line into the unescaped subject and what follows it.
fn subject(line: &str) -> Option<(String, &str)> {
    let Some(quoted) = line.strip_prefix('"') else {
        let (name, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        return Some((name.to_owned(), rest));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Some((name, quoted.get(place + 1..)?)),
            '\\' => match chars.next()? {
                (_, c @ ('"' | '\\')) => name.push(c),
                (_, c) => name.extend(['\\', c]),
            },
            c => name.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = r#"
# people
"/DC=org/CN=Alice Adams"   alice
"/DC=org/CN=Alice Adams"   mallory
"/DC=org/CN=Bob \"B\" Brown" bob,bob2
"/DC=org/CN=a\/b"          slash
/DC=org/CN=Carol           carol
"#;

    #[test]
    fn m2_the_first_exact_match_wins() {
        let find = |dn| find(MAP.as_bytes(), dn).expect("readable");
        assert_eq!(find("/DC=org/CN=Alice Adams"), Some("alice"));
        assert_eq!(find("/DC=org/CN=alice adams"), None);
        assert_eq!(find("/DC=org/CN=Alice"), None);
        assert_eq!(find("/DC=org/CN=Bob \"B\" Brown"), Some("bob"));
        assert_eq!(find("/DC=org/CN=a\\/b"), Some("slash"));
        assert_eq!(find("/DC=org/CN=Carol"), Some("carol"));
    }

    #[test]
    fn m2_a_line_that_is_not_understood_stops_the_search() {
        for bad in [
            "\"/CN=x alice",
            "\"/CN=x\"",
            "\"/CN=x\" 0",
            "\"/CN=x\" .pool",
            "\"/CN=x\" a b",
            "\"/CN=x\" -a",
            "\"/CN=x\" ,a",
        ] {
            let text = format!("{bad}\n\"/CN=y\" bob\n");
            let error = find(text.as_bytes(), "/CN=y").expect_err("must be refused");
            assert!(error.to_string().starts_with("line 1: "), "{bad}: {error}");
        }
    }
}
