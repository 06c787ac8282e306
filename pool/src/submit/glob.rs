//! Patterns of file names, as glob(7) has them: `*`, `?`, `[...]`, a backslash before a character that stands for itself.
//! A name that begins with a dot is matched only by a pattern that does.

use super::context::SubmitFiles;
use super::path::absolute;

/// Names that one pattern may match, and directories it may look into.
const MOST: usize = 1_000_000;

/// The names that `pattern` matches, sorted; directories end in `/`. What cannot be listed matches nothing.
pub(super) fn expand(pattern: &str, directory: &str, files: &dyn SubmitFiles) -> Vec<String> {
    let (mut found, relative) = match pattern.strip_prefix('/') {
        Some(rest) => (vec!["/".to_owned()], rest),
        None => (vec![String::new()], pattern),
    };
    let parts: Vec<&str> = relative
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let wants_directory = relative.ends_with('/');
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let mut next = Vec::new();
        for base in &found {
            if part.contains(['*', '?', '[', '\\']) {
                let Ok(entries) = files.list(&absolute(directory, base)) else {
                    continue;
                };
                for (name, is_dir) in entries {
                    if matches(part, &name) && (is_dir || last && !wants_directory) {
                        next.push(format!("{base}{name}{}", if is_dir { "/" } else { "" }));
                    }
                }
            } else if let Ok(stat) = files.stat(&absolute(directory, &format!("{base}{part}")))
                && (stat.is_dir || last && !wants_directory)
            {
                next.push(format!(
                    "{base}{part}{}",
                    if stat.is_dir { "/" } else { "" }
                ));
            }
            if next.len() > MOST {
                break;
            }
        }
        found = next;
    }
    if parts.is_empty() {
        found.clear();
    }
    // By name, without the slash that only says what it is.
    found.sort_by(|a, b| a.trim_end_matches('/').cmp(b.trim_end_matches('/')));
    found
}

/// Whether one component of a path matches.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where the last star was met: at that point one more character of the name may be skipped.
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(pos) {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, pos));
            at += 1;
        } else if let Some(length) = one(pattern.get(at..).unwrap_or_default(), c) {
            at += length;
            pos += 1;
        } else if let Some((star_at, star_pos)) = star {
            star = Some((star_at, star_pos + 1));
            at = star_at + 1;
            pos = star_pos + 1;
        } else {
            return false;
        }
    }
    pattern
        .get(at..)
        .is_some_and(|rest| rest.iter().all(|&c| c == '*'))
}

/// How much of the pattern matches one character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', escaped, ..] => (*escaped == c).then_some(2),
        ['[', set @ ..] => {
            let (negated, set) = match set {
                ['!' | '^', rest @ ..] => (true, rest),
                _ => (false, set),
            };
            // A bracket that comes first stands for itself.
            let end = set
                .iter()
                .skip(1)
                .position(|&c| c == ']')
                .map(|end| end + 1);
            let Some(end) = end else {
                return (c == '[').then_some(1);
            };
            let mut inside = false;
            let mut rest = set.get(..end)?;
            loop {
                match rest {
                    [low, '-', high, more @ ..] => {
                        inside |= (*low..=*high).contains(&c);
                        rest = more;
                    }
                    [single, more @ ..] => {
                        inside |= *single == c;
                        rest = more;
                    }
                    [] => break,
                }
            }
            (inside != negated).then_some(end + 2 + usize::from(negated))
        }
        [first, ..] => (*first == c).then_some(1),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_shell() {
        for (pattern, name, expected) in [
            ("*", "abc", true),
            ("*", ".abc", false),
            (".*", ".abc", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("*a*b*", "xxaybz", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]x", "dx", true),
            ("[]x]y", "]y", true),
            ("[x", "[x", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("", "", true),
            ("a**", "a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let name = "a".repeat(255);
        assert!(!matches(
            &"a*".repeat(100).replace("aa", "a"),
            &format!("{}b", &name[..50])
        ));
        assert!(!matches(&format!("{}b", "*a".repeat(60)), &name));
    }
}
