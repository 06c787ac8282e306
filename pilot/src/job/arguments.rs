//! The four text forms in which a job ad carries its arguments and its environment (protocol page 03, section 6.1).
//!
//! "V1 raw" has no quoting. "V2 raw" separates tokens by blanks and groups with single quotes, inside which a doubled
//! quote stands for one. "V2 quoted" is V2 raw inside double quotes, as people write it in submit files and in
//! `STARTER_JOB_ENVIRONMENT`.

use thiserror::Error;

/// Why a text is not a list of arguments or variables.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyntaxError {
    /// A single quote that is never closed.
    #[error("a single quote opened at byte {at} is never closed")]
    UnclosedQuote {
        /// Offset of the opening quote.
        at: usize,
    },
    /// The double quotes around a V2 quoted text are not closed, or text follows them.
    #[error(
        "the double quotes around the text do not enclose all of it (double a quote to keep it: \"\")"
    )]
    Enclosure,
    /// An environment entry without `=`.
    #[error("entry number {index} has no '=' between a name and a value")]
    NoEquals {
        /// Counted from one.
        index: usize,
    },
    /// An environment entry that begins with `=`.
    #[error("entry number {index} has an empty name")]
    EmptyName {
        /// Counted from one.
        index: usize,
    },
    /// A NUL byte, which no program can be given.
    #[error("the text contains a NUL byte")]
    Nul,
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Splits V2 raw text (attributes `Arguments` and `Environment`).
///
/// # Errors
/// An unclosed quote, or a NUL byte.
pub fn split_v2(text: &str) -> Result<Vec<String>, SyntaxError> {
    no_nul(text)?;
    let mut tokens = Vec::new();
    let mut token: Option<String> = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if is_blank(c) {
            tokens.extend(token.take());
            continue;
        }
        let token = token.get_or_insert_default();
        if c != '\'' {
            token.push(c);
            continue;
        }
        loop {
            match chars.next() {
                None => return Err(SyntaxError::UnclosedQuote { at }),
                Some((_, '\'')) if chars.next_if(|(_, next)| *next == '\'').is_some() => {
                    token.push('\'')
                }
                Some((_, '\'')) => break,
                Some((_, other)) => token.push(other),
            }
        }
    }
    tokens.extend(token);
    Ok(tokens)
}

/// Joins tokens to V2 raw text; [`split_v2`] gives them back.
pub fn join_v2<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for (index, token) in tokens.into_iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        let token = token.as_ref();
        if token.is_empty() || token.contains(|c| is_blank(c) || c == '\'') {
            text.push('\'');
            text.push_str(&token.replace('\'', "''"));
            text.push('\'');
        } else {
            text.push_str(token);
        }
    }
    text
}

/// Splits V1 raw arguments (attribute `Args`): at blanks, nothing else.
///
/// # Errors
/// A NUL byte.
pub fn split_v1(text: &str) -> Result<Vec<String>, SyntaxError> {
    no_nul(text)?;
    Ok(text
        .split(is_blank)
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Reads a V2 raw environment (attribute `Environment`).
///
/// # Errors
/// Bad quoting, or an entry that is not `NAME=VALUE`.
pub fn environment_v2(text: &str) -> Result<Vec<(String, String)>, SyntaxError> {
    entries(split_v2(text)?.iter().map(String::as_str))
}

/// Reads a V1 raw environment (attribute `Env`): entries separated by `delimiter` or a newline, no quoting, blanks
/// before an entry and empty entries skipped.
///
/// # Errors
/// An entry that is not `NAME=VALUE`.
pub fn environment_v1(text: &str, delimiter: char) -> Result<Vec<(String, String)>, SyntaxError> {
    no_nul(text)?;
    entries(
        text.split([delimiter, '\n'])
            .map(|entry| entry.trim_start_matches(is_blank))
            .filter(|entry| !entry.is_empty()),
    )
}

/// Reads an environment as people write it: V2 inside double quotes, otherwise V1 separated by `;`.
///
/// # Errors
/// Bad quoting, or an entry that is not `NAME=VALUE`.
pub fn environment_quoted(text: &str) -> Result<Vec<(String, String)>, SyntaxError> {
    let text = text.trim_matches(is_blank);
    let Some(inner) = text.strip_prefix('"') else {
        return environment_v1(text, ';');
    };
    let mut raw = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    loop {
        match chars.next() {
            Some('"') if chars.next_if_eq(&'"').is_some() => raw.push('"'),
            Some('"') if chars.peek().is_none() => return environment_v2(&raw),
            Some('"') | None => return Err(SyntaxError::Enclosure),
            Some(other) => raw.push(other),
        }
    }
}

fn entries<'t>(
    tokens: impl Iterator<Item = &'t str>,
) -> Result<Vec<(String, String)>, SyntaxError> {
    tokens
        .enumerate()
        .map(|(index, token)| match token.split_once('=') {
            None => Err(SyntaxError::NoEquals { index: index + 1 }),
            Some(("", _)) => Err(SyntaxError::EmptyName { index: index + 1 }),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        })
        .collect()
}

fn no_nul(text: &str) -> Result<(), SyntaxError> {
    if text.contains('\0') {
        Err(SyntaxError::Nul)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn v2_tokens_as_the_pool_sends_them() {
        assert_eq!(
            split_v2(r#"one two' 'words quoted ""dq"""#).unwrap(),
            ["one", "two words", "quoted", r#"""dq"""#]
        );
        assert_eq!(
            split_v2("-c id;' 'env;' 'pwd").unwrap(),
            ["-c", "id; env; pwd"]
        );
        assert_eq!(split_v2("").unwrap(), [""; 0]);
        assert_eq!(split_v2(" \t ").unwrap(), [""; 0]);
        assert_eq!(split_v2("a '' b").unwrap(), ["a", "", "b"]);
        assert_eq!(split_v2("''''").unwrap(), ["'"]);
        assert_eq!(split_v2("it''''s").unwrap(), ["it's"]);
        assert_eq!(split_v2("a\\b \"c\"").unwrap(), ["a\\b", "\"c\""]);
        assert_eq!(split_v2("x='a\nb'").unwrap(), ["x=a\nb"]);
        assert_eq!(
            split_v2("ok 'open"),
            Err(SyntaxError::UnclosedQuote { at: 3 })
        );
        assert_eq!(split_v2("'ab''"), Err(SyntaxError::UnclosedQuote { at: 0 }));
        assert_eq!(split_v2("a\0b"), Err(SyntaxError::Nul));
    }

    #[test]
    fn v1_knows_no_quotes() {
        assert_eq!(split_v1("5").unwrap(), ["5"]);
        assert_eq!(split_v1("  'a b'  \"c\" ").unwrap(), ["'a", "b'", "\"c\""]);
    }

    #[test]
    fn environments() {
        let v2 = environment_v2(r#"A=1 B=x' 'y C=it''''s D="q" E= F=a=b"#).unwrap();
        assert_eq!(
            v2,
            pairs(&[
                ("A", "1"),
                ("B", "x y"),
                ("C", "it's"),
                ("D", "\"q\""),
                ("E", ""),
                ("F", "a=b")
            ])
        );
        assert_eq!(
            environment_v1("A=1;B=x y; C=3;;", ';').unwrap(),
            pairs(&[("A", "1"), ("B", "x y"), ("C", "3")])
        );
        assert_eq!(
            environment_v1("A=1|B=x;y", '|').unwrap(),
            pairs(&[("A", "1"), ("B", "x;y")])
        );
        assert_eq!(
            environment_v2("A=1 B"),
            Err(SyntaxError::NoEquals { index: 2 })
        );
        assert_eq!(
            environment_v1("=1", ';'),
            Err(SyntaxError::EmptyName { index: 1 })
        );
    }

    #[test]
    fn the_form_people_write() {
        assert_eq!(
            environment_quoted(r#" "A=1 B='x y' C=""q""" "#).unwrap(),
            pairs(&[("A", "1"), ("B", "x y"), ("C", "\"q\"")])
        );
        assert_eq!(
            environment_quoted("A=1;B=2").unwrap(),
            pairs(&[("A", "1"), ("B", "2")])
        );
        assert_eq!(environment_quoted(r#""A=1"#), Err(SyntaxError::Enclosure));
        assert_eq!(
            environment_quoted(r#""A=1" x"#),
            Err(SyntaxError::Enclosure)
        );
        assert_eq!(environment_quoted("").unwrap(), []);
    }

    proptest! {
        #[test]
        fn what_is_joined_splits_to_the_same(tokens in prop::collection::vec("[^\0]{0,12}", 0..8)) {
            prop_assert_eq!(split_v2(&join_v2(&tokens)).unwrap(), tokens);
        }

        #[test]
        fn quoting_inside_a_token_may_start_anywhere(before in "[a-z]{0,3}", inside in "[^\0']{0,8}", after in "[a-z]{1,3}") {
            prop_assert_eq!(split_v2(&format!("{before}'{inside}'{after}")).unwrap(), [format!("{before}{inside}{after}")]);
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,64}") {
            let _ = split_v1(&text);
            let _ = environment_v2(&text);
            let _ = environment_v1(&text, ';');
            let _ = environment_quoted(&text);
        }
    }
}
