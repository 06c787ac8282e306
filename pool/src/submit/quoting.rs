//! The two ways to write arguments (`htcondor:src/condor_utils/condor_arglist.cpp`): the old one, words between blanks;
//! the new one in double quotes, with single quotes around blanks.

/// Whether the text is in the new syntax: it begins with a double quote.
pub(super) fn is_quoted(text: &str) -> bool {
    text.trim_start().starts_with('"')
}

/// The inside of a text in double quotes, in which two of them stand for one.
pub(super) fn unquote(text: &str) -> Result<String, String> {
    let Some(rest) = text.trim_start().strip_prefix('"') else {
        return Err("expected text in double quotes".to_owned());
    };
    let mut inside = String::new();
    let mut rest = rest;
    loop {
        let Some((head, tail)) = rest.split_once('"') else {
            return Err("the double quotes are not closed: expected \" at the end".to_owned());
        };
        inside.push_str(head);
        if let Some(more) = tail.strip_prefix('"') {
            inside.push('"');
            rest = more;
            continue;
        }
        if !tail.trim().is_empty() {
            return Err(format!(
                "unexpected {:?} behind the closing double quote; a double quote inside is written twice",
                tail.trim()
            ));
        }
        return Ok(inside);
    }
}

/// The words of the inside: blanks part them, single quotes keep blanks, two single quotes within such are one.
pub(super) fn split(raw: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = raw.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some((_, '\'')) if rest.next_if(|(_, c)| *c == '\'').is_some() => {
                            word.push('\'');
                        }
                        Some((_, '\'')) => break,
                        Some((_, c)) => word.push(c),
                        None => {
                            return Err(format!(
                                "a single quote is not closed: {}",
                                raw.get(at..).unwrap_or(raw)
                            ));
                        }
                    }
                }
            }
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The words as the attribute `Arguments` or `Environment` holds them: only blanks and single quotes are quoted.
pub(super) fn join<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let mut text = String::new();
    for (index, word) in words.enumerate() {
        if index > 0 {
            text.push(' ');
        }
        if word.is_empty() {
            text.push_str("''");
        }
        for c in word.chars() {
            if matches!(c, ' ' | '\t' | '\n' | '\r' | '\'') {
                // A quoted piece that was just closed is opened again.
                if text.ends_with('\'') {
                    text.pop();
                } else {
                    text.push('\'');
                }
                if c == '\'' {
                    text.push('\'');
                }
                text.push(c);
                text.push('\'');
            } else {
                text.push(c);
            }
        }
    }
    text
}

/// The inside of arguments in the old syntax: a double quote has a backslash before it.
pub(super) fn unescape_old(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        let (head, tail) = rest.split_at(at);
        let Some(head) = head.strip_suffix('\\') else {
            return Err(format!(
                "a double quote within arguments in the old syntax: {tail:?}; write \\\" or put the whole in double quotes"
            ));
        };
        plain.push_str(head);
        plain.push('"');
        rest = tail.get(1..).unwrap_or("");
    }
    plain.push_str(rest);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_syntax_is_read_and_written() {
        let raw = unquote(r#" "one 'two three' ""four"" 'it''s' '' x" "#).unwrap();
        let words = split(&raw).unwrap();
        assert_eq!(words, ["one", "two three", "\"four\"", "it's", "", "x"]);
        assert_eq!(
            join(words.iter().map(String::as_str)),
            r#"one two' 'three "four" it''''s '' x"#
        );
        assert_eq!(
            split(&join(words.iter().map(String::as_str))).unwrap(),
            words
        );
    }

    #[test]
    fn mistakes_are_told() {
        assert!(unquote("\"a").unwrap_err().contains("not closed"));
        assert!(unquote("\"a\" b").unwrap_err().contains("\"b\""));
        assert!(split("a 'b").unwrap_err().contains("'b"));
        assert!(unescape_old("a \"b").is_err());
        assert_eq!(unescape_old(r#"a \"b\" \c"#).unwrap(), r#"a "b" \c"#);
    }
}
