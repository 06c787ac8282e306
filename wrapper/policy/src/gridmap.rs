//! The grid-mapfile: `"DN" account` or `"DN" .pool`, first match wins (requirement M2).

use std::collections::HashMap;

use crate::dn::{Likeness, Name, Rdn};
use crate::lines::{self, LineError};
use crate::pattern::{Pattern, has_wildcard};
use crate::target::{Hit, Target};

/// A map file, taken apart.
#[derive(Debug)]
pub(crate) struct Gridmap {
    entries: Vec<Entry>,
    /// First entry with this text.
    by_text: HashMap<String, usize>,
    /// First entry with these attributes.
    by_key: HashMap<Vec<Rdn>, usize>,
    /// Entries that must be tried one by one: pool lines with a pattern, names with two readings.
    odd: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    name: Name,
    pattern: Option<Pattern>,
    target: Target,
}

/// What a map file says of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding<'a> {
    Mapped(Hit<'a>),
    Nothing,
    /// The line with this number may or may not mean it.
    Unclear(usize),
}

impl Gridmap {
    /// Reads a whole file.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, LineError> {
        let mut map = Self {
            entries: Vec::new(),
            by_text: HashMap::new(),
            by_key: HashMap::new(),
            odd: Vec::new(),
        };
        for line in lines::lines(text) {
            let line = line?;
            let (subject, target) = lines::entry(&line)?;
            let target = Target::parse(target, &line)?;
            let is_pool = matches!(target, Target::Pool(_));
            let pattern = if is_pool && has_wildcard(&subject) {
                let pattern = Pattern::parse(&subject);
                Some(pattern.ok_or_else(|| line.fail("the pattern has a set without its end"))?)
            } else {
                None
            };
            let name = Name::new(&subject);
            let place = map.entries.len();
            map.by_text.entry(subject).or_insert(place);
            match name.key() {
                Some(key) => {
                    map.by_key.entry(key.clone()).or_insert(place);
                }
                None => map.odd.push(place),
            }
            if pattern.is_some() && map.odd.last() != Some(&place) {
                map.odd.push(place);
            }
            map.entries.push(Entry {
                line: line.number,
                name,
                pattern,
                target,
            });
        }
        Ok(map)
    }

    /// The first line that means `who`. Patterns count only if `patterns` says so.
    pub(crate) fn find(&self, who: &Name, patterns: bool) -> Finding<'_> {
        let exact = self.by_text.get(who.text());
        let read = who.key().and_then(|key| self.by_key.get(key));
        let first = [exact, read].into_iter().flatten().min().copied();
        let spellings = if patterns {
            who.spellings()
        } else {
            Vec::new()
        };
        for place in &self.odd {
            if first.is_some_and(|first| *place >= first) {
                break;
            }
            let Some(entry) = self.entries.get(*place) else {
                continue;
            };
            let hit = entry
                .pattern
                .as_ref()
                .is_some_and(|pattern| spellings.iter().any(|spelling| pattern.matches(spelling)));
            if hit {
                return Finding::Mapped(entry.hit());
            }
            if entry.name.likeness(who) == Likeness::Unclear {
                return Finding::Unclear(entry.line);
            }
        }
        match first.and_then(|first| self.entries.get(first)) {
            Some(entry) => Finding::Mapped(entry.hit()),
            None => Finding::Nothing,
        }
    }

    /// Every target and its line.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Hit<'_>> {
        self.entries.iter().map(Entry::hit)
    }

    /// Lines that an administrator should look at.
    pub(crate) fn doubts(&self, patterns: bool) -> Vec<(usize, &'static str)> {
        let mut doubts = Vec::new();
        for entry in &self.entries {
            if entry.name.text().starts_with('/')
                && !entry.name.is_clear()
                && entry.pattern.is_none()
            {
                doubts.push((
                    entry.line,
                    "this name counts only for exactly this spelling: it can be read in two ways",
                ));
            }
            if entry.pattern.is_some() && !patterns {
                doubts.push((
                    entry.line,
                    "* and ? have no meaning here: gridmap_patterns is not set",
                ));
            }
        }
        doubts
    }
}

impl Entry {
    fn hit(&self) -> Hit<'_> {
        Hit {
            target: &self.target,
            line: self.line,
        }
    }
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
"/DC=org/CN=host/wn.example" host
"/DC=org/CN=Dan/Email=d@x"  dan
"/DC=net/CN=*"             star
"/DC=net/*"                .net
"/DC=eu/x=y"               odd
"/DC=eu/*"                 .eu
"/atlas/Role=production"   .atlas
"#;

    fn find(dn: &str, patterns: bool) -> String {
        let map = Gridmap::parse(MAP.as_bytes()).expect("readable");
        match map.find(&Name::new(dn), patterns) {
            Finding::Mapped(Hit {
                target: Target::Account(name),
                ..
            }) => name.clone(),
            Finding::Mapped(Hit {
                target: Target::Pool(name),
                ..
            }) => format!(".{name}"),
            Finding::Nothing => "-".to_owned(),
            Finding::Unclear(line) => format!("?{line}"),
        }
    }

    #[test]
    fn m2_the_first_match_wins() {
        for (dn, wanted) in [
            ("/DC=org/CN=Alice Adams", "alice"),
            ("/DC=org/CN=alice adams", "-"),
            ("/DC=org/CN=Alice", "-"),
            ("/DC=org/CN=Bob \"B\" Brown", "bob"),
            ("/DC=org/CN=a\\/b", "slash"),
            ("/DC=org/CN=Carol", "carol"),
            ("/DC=org/CN=host\\/wn.example", "host"),
            ("/DC=org/CN=Dan/emailAddress=d@x", "dan"),
            // A star in a line that names one account is a star.
            ("/DC=net/CN=*", "star"),
            ("/DC=net/CN=x", "-"),
            ("/DC=eu\\/x=y", "?12"),
            ("/DC=eu/CN=x", "-"),
        ] {
            assert_eq!(find(dn, false), wanted, "{dn}");
        }
    }

    #[test]
    fn m2_patterns_count_in_pool_lines_and_only_when_enabled() {
        for (dn, wanted) in [
            ("/DC=net/CN=x", ".net"),
            ("/DC=net/CN=*", "star"),
            ("/DC=eu/CN=x", ".eu"),
            ("/DC=eu\\/x=y", "?12"),
            ("/DC=org/CN=Mallory", "-"),
        ] {
            assert_eq!(find(dn, true), wanted, "{dn}");
        }
    }

    #[test]
    fn m2_a_line_that_is_not_understood_spoils_the_file() {
        for bad in [
            "\"/CN=x alice",
            "\"/CN=x\"",
            "\"/CN=x\" 0",
            "\"/CN=x\" .",
            "\"/CN=x\" a b",
            "\"/CN=x\" -a",
            "\"/CN=x\" ,a",
            "\"/CN=[\" .a",
        ] {
            let text = format!("\"/CN=y\" bob\n{bad}\n");
            let error = Gridmap::parse(text.as_bytes()).expect_err("must be refused");
            assert!(error.to_string().starts_with("2: "), "{bad}: {error}");
        }
    }

    #[test]
    fn an_administrator_is_told_of_lines_that_do_not_do_what_they_seem_to() {
        let map = Gridmap::parse(MAP.as_bytes()).expect("readable");
        let lines: Vec<_> = map
            .doubts(false)
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        assert_eq!(lines, [11, 12, 13, 14]);
    }
}
