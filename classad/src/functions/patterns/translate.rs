//! Which PCRE2 patterns the `regex` crate understands alike, and the few spellings that must change.

use std::iter::Peekable;
use std::str::Chars;

/// A pattern for the `regex` crate.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) text: String,
    /// Has an anchor for the end of a line or text that PCRE2 lets match before a last line feed.
    pub(crate) dollar: bool,
    /// Has `^`.
    pub(crate) caret: bool,
    /// May match the empty string where a longer match exists too (alternatives, lazy quantifiers).
    pub(crate) may_prefer_empty: bool,
}

/// `None` for a pattern that means something else, or nothing, to the `regex` crate.
pub(crate) fn translate(pattern: &str) -> Option<Translated> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: Translated {
            text: String::with_capacity(pattern.len()),
            dollar: false,
            caret: false,
            may_prefer_empty: false,
        },
    };
    translator.run()?;
    Some(translator.out)
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: Translated,
}

impl Translator<'_> {
    fn run(&mut self) -> Option<()> {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape(false)?,
                '[' => self.class()?,
                '(' => self.group()?,
                '*' | '+' | '?' => {
                    self.out.text.push(c);
                    self.after_quantifier()?;
                }
                '{' => self.counted()?,
                '$' => {
                    self.out.dollar = true;
                    self.out.text.push('$');
                }
                '^' => {
                    self.out.caret = true;
                    self.out.text.push('^');
                }
                '|' => {
                    self.out.may_prefer_empty = true;
                    self.out.text.push('|');
                }
                // PCRE2 takes a lone closing brace literally
                '}' => self.out.text.push_str("\\}"),
                c if !c.is_ascii() => {
                    // a quantifier would repeat the last byte only
                    if matches!(self.rest.peek(), Some('*' | '+' | '?' | '{')) {
                        return None;
                    }
                    self.out.text.push(c);
                }
                c => self.out.text.push(c),
            }
        }
        Some(())
    }

    /// A second mark makes a quantifier lazy (`?`) or possessive (`+`).
    fn after_quantifier(&mut self) -> Option<()> {
        match self.rest.peek() {
            Some('?') => {
                self.rest.next();
                self.out.text.push('?');
                self.out.may_prefer_empty = true;
                // `a??+` and the like
                (!matches!(self.rest.peek(), Some('+' | '*' | '?'))).then_some(())
            }
            Some('+' | '*') => None,
            _ => Some(()),
        }
    }

    /// `{n}`, `{n,}` and `{n,m}`; anything else is literal for PCRE2.
    fn counted(&mut self) -> Option<()> {
        let ahead: String = self.rest.clone().take_while(|c| *c != '}').collect();
        let closed = self.rest.clone().any(|c| c == '}');
        let (least, most) = ahead
            .split_once(',')
            .map_or((ahead.as_str(), None), |(l, m)| (l, Some(m)));
        let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if closed && is_number(least) && most.is_none_or(|m| m.is_empty() || is_number(m)) {
            self.out.text.push('{');
            self.out.text.push_str(&ahead);
            self.out.text.push('}');
            for _ in 0..=ahead.chars().count() {
                self.rest.next();
            }
            return self.after_quantifier();
        }
        // newer PCRE2 reads {,m} as a quantifier
        if ahead.starts_with(',') || ahead.contains(' ') {
            return None;
        }
        self.out.text.push_str("\\{");
        Some(())
    }

    /// Plain, named and non-capturing groups, and options.
    fn group(&mut self) -> Option<()> {
        self.out.text.push('(');
        if self.rest.peek() == Some(&'*') {
            return None;
        }
        if self.rest.peek() != Some(&'?') {
            return Some(());
        }
        self.rest.next();
        self.out.text.push('?');
        match self.rest.next()? {
            ':' => self.out.text.push(':'),
            'P' if self.rest.peek() == Some(&'<') => self.out.text.push('P'),
            '<' if !matches!(self.rest.peek(), Some('=' | '!')) => self.out.text.push('<'),
            first => {
                let mut letter = first;
                loop {
                    match letter {
                        // `x` would change how blanks are read from here on, `m` and `$` what we watch for
                        'i' | 's' | '-' => self.out.text.push(letter),
                        ':' | ')' => {
                            self.out.text.push(letter);
                            break;
                        }
                        _ => return None,
                    }
                    letter = self.rest.next()?;
                }
            }
        }
        Some(())
    }

    fn escape(&mut self, in_class: bool) -> Option<()> {
        let c = self.rest.next()?;
        match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'n' | 'r' | 't' | 'f' | 'a' => {
                self.out.text.push('\\');
                self.out.text.push(c);
            }
            'e' => self.out.text.push_str("\\x1b"),
            'b' if in_class => self.out.text.push_str("\\x08"),
            'b' | 'B' | 'A' | 'z' if !in_class => {
                if self.rest.peek() == Some(&'{') {
                    return None;
                }
                self.out.text.push('\\');
                self.out.text.push(c);
            }
            'Z' if !in_class => {
                self.out.dollar = true;
                self.out.text.push_str("\\z");
            }
            'x' => self.hexadecimal()?,
            c if c.is_ascii_alphanumeric() || !c.is_ascii() => return None,
            // these mean word borders to the regex crate when escaped
            '<' | '>' => self.out.text.push(c),
            c => self.literal(c),
        }
        Some(())
    }

    /// `\xhh`.
    fn hexadecimal(&mut self) -> Option<()> {
        let digits: String = self.rest.by_ref().take(2).collect();
        if digits.len() != 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        self.out.text.push_str("\\x");
        self.out.text.push_str(&digits);
        Some(())
    }

    fn literal(&mut self, c: char) {
        let number = u32::from(c);
        if c.is_ascii_punctuation() {
            self.out.text.push('\\');
            self.out.text.push(c);
        } else {
            self.out.text.push_str(&format!("\\x{number:02x}"));
        }
    }

    /// `[...]`. Only PCRE2's meaning of the characters is kept: no nested classes and no set operations.
    fn class(&mut self) -> Option<()> {
        self.out.text.push('[');
        if self.rest.peek() == Some(&'^') {
            self.rest.next();
            self.out.text.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next()?;
            match c {
                ']' if !first => {
                    self.out.text.push(']');
                    return Some(());
                }
                '\\' => self.escape(true)?,
                '[' if matches!(self.rest.peek(), Some(':' | '.' | '=')) => self.posix_class()?,
                '-' => self.out.text.push('-'),
                '&' | '~' | '[' | ']' | '^' => self.literal(c),
                c if c.is_ascii_whitespace() || c == '#' => self.literal(c),
                c if !c.is_ascii() => return None,
                c => self.out.text.push(c),
            }
            // `--` would be a set difference to the regex crate
            if self.out.text.ends_with("--") && !self.out.text.ends_with("\\--") {
                return None;
            }
            first = false;
        }
    }

    /// `[:alpha:]` and its like.
    fn posix_class(&mut self) -> Option<()> {
        let name: String = self.rest.by_ref().take_while(|c| *c != ']').collect();
        let inner = name.strip_prefix(':')?.strip_suffix(':')?;
        let inner = inner.strip_prefix('^').unwrap_or(inner);
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        if !NAMES.contains(&inner) {
            return None;
        }
        self.out.text.push('[');
        self.out.text.push_str(&name);
        self.out.text.push(']');
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_else_is_refused() {
        for pattern in [
            r"a++", r"(?=a)", r"(?<!a)", r"(a)\1", r"\Qa\E", r"\h", r"(?>a)", r"a{,3}", r"[a--b]",
            r"(*UTF)a", r"\v",
        ] {
            assert!(translate(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn what_is_spelled_differently_is_translated() {
        let text = |pattern: &str| translate(pattern).map(|t| t.text);
        assert_eq!(text(r"[a[b]").as_deref(), Some(r"[a\[b]"));
        assert_eq!(text(r"\<a\>").as_deref(), Some("<a>"));
        assert_eq!(text(r"a{b}").as_deref(), Some(r"a\{b\}"));
        assert_eq!(
            text(r"^(\d+)\.(?:x|y){2,3}?$").as_deref(),
            Some(r"^(\d+)\.(?:x|y){2,3}?$")
        );
        assert_eq!(text(r"[[:alpha:]_]").as_deref(), Some("[[:alpha:]_]"));
    }
}
