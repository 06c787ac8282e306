//! Shell-style patterns whose wildcards cross `/`: `*`, `?`, `[set]`, `[!set]`, `[a-z]`; a backslash
//! takes the next character literally.

/// A pattern, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(char),
    Any,
    Many,
    Set {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Does a pattern say more than its own characters?
pub(crate) fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

impl Pattern {
    /// `None`: a set without its end.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                '*' if parts.last() == Some(&Part::Many) => continue,
                '*' => Part::Many,
                '?' => Part::Any,
                '[' => set(&mut chars)?,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '[' | ']')) => Part::Literal(c),
                    // Anything else keeps its backslash, as names have it.
                    Some(c) => {
                        parts.push(Part::Literal('\\'));
                        Part::Literal(c)
                    }
                    None => Part::Literal('\\'),
                },
                c => Part::Literal(c),
            };
            parts.push(part);
        }
        Some(Self(parts))
    }

    /// Is the whole text what the pattern says? Takes at most `pattern * text` steps.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut part, mut place) = (0, 0);
        // Where the last `*` stands and how much it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while place < text.len() {
            match (self.0.get(part), text.get(place)) {
                (Some(Part::Many), _) => {
                    star = Some((part, place));
                    part += 1;
                }
                (Some(one), Some(c)) if one.admits(*c) => {
                    part += 1;
                    place += 1;
                }
                _ => match star {
                    Some((many, taken)) => {
                        star = Some((many, taken + 1));
                        part = many + 1;
                        place = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        let rest = self.0.get(part..).unwrap_or_default();
        rest.iter().all(|part| *part == Part::Many)
    }
}

impl Part {
    fn admits(&self, c: char) -> bool {
        match self {
            Self::Literal(own) => *own == c,
            Self::Any => true,
            Self::Many => false,
            Self::Set { not, ranges } => {
                *not != ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&c))
            }
        }
    }
}

/// The rest of a set behind its opening bracket.
fn set(chars: &mut std::str::Chars<'_>) -> Option<Part> {
    let rest = chars.as_str();
    let not = rest.starts_with(['!', '^']);
    if not {
        chars.next();
    }
    let mut members = Vec::new();
    loop {
        match chars.next()? {
            // A bracket right at the beginning is a member.
            ']' if !members.is_empty() => break,
            '\\' => members.push((chars.next()?, true)),
            c => members.push((c, false)),
        }
    }
    let mut ranges = Vec::new();
    let mut rest = members.as_slice();
    loop {
        rest = match rest {
            [] => break,
            [(first, _), ('-', false), (last, _), rest @ ..] => {
                ranges.push((*first, *last));
                rest
            }
            [(one, _), rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
        };
    }
    Some(Part::Set { not, ranges })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").matches(text)
    }

    #[test]
    fn m10_wildcards_cross_slashes_and_mind_case() {
        for (pattern, text, wanted) in [
            ("/atlas/*", "/atlas/a/b/Role=x", true),
            ("/atlas/*", "/atlas", false),
            ("/atlas/*", "/Atlas/x", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("/?n=[a-c]x", "/cn=bx", true),
            ("/?n=[!a-c]x", "/cn=bx", false),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\/b", "a\\/b", true),
            ("?", "é", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
        for bad in ["[", "[a", "[!", "x[]"] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        assert!(!matches(
            &"*a".repeat(200),
            &"a".repeat(5000).replace('a', "b")
        ));
    }

    proptest! {
        #[test]
        fn a_text_without_wildcards_matches_itself_only(one in "[a-z/=+. ]{0,12}", other in "[a-z/=+. ]{0,12}") {
            prop_assert!(matches(&one, &one));
            prop_assert_eq!(matches(&one, &other), one == other);
        }

        #[test]
        fn a_star_stands_for_anything(before in "[a-z/]{0,6}", middle in ".{0,9}", after in "[a-z/]{0,6}") {
            let pattern = format!("{before}*{after}");
            let text = format!("{before}{middle}{after}");
            prop_assert!(matches(&pattern, &text));
        }
    }
}
