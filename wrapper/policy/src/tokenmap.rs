//! The map file of tokens: `"ISSUER,SUBJECT" account`, or `"ISSUER,/GROUP" .pool`; first match wins.
//!
//! Certificates and tokens have files of their own, so that no subject of a token can look like a
//! distinguished name (requirement T4). What follows the comma is a group if it begins with a slash,
//! a subject if it does not; a token whose subject begins with a slash is mapped by its groups only.

use crate::lines::{self, LineError};
use crate::pattern::{Pattern, has_wildcard};
use crate::target::{Hit, Target};

/// A map file, taken apart.
#[derive(Debug)]
pub(crate) struct Tokenmap(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    line: usize,
    text: String,
    pattern: Option<Pattern>,
    is_group: bool,
    target: Target,
}

/// Is what follows the comma the name of a group?
fn is_group(text: &str) -> bool {
    text.split_once(',')
        .is_some_and(|(_, name)| name.starts_with('/'))
}

/// An issuer that can be told from what follows, and something that follows.
fn is_sound(text: &str) -> bool {
    text.split_once(',').is_some_and(|(issuer, name)| {
        issuer.starts_with("https://") && !has_wildcard(issuer) && !name.is_empty()
    })
}

impl Tokenmap {
    /// Reads a whole file.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, LineError> {
        let mut entries = Vec::new();
        for line in lines::lines(text) {
            let line = line?;
            let (text, target) = lines::entry(&line)?;
            let target = Target::parse(target, &line)?;
            if !is_sound(&text) {
                return Err(line.fail(
                    "the name must be ISSUER,SUBJECT or ISSUER,/GROUP with an issuer https://...",
                ));
            }
            let pattern = match &target {
                Target::Pool(_) if has_wildcard(&text) => {
                    let pattern = Pattern::parse(&text);
                    Some(
                        pattern
                            .ok_or_else(|| line.fail("the pattern has a set without its end"))?,
                    )
                }
                _ => None,
            };
            entries.push(Entry {
                line: line.number,
                is_group: is_group(&text),
                text,
                pattern,
                target,
            });
        }
        Ok(Self(entries))
    }

    /// The first line that means this token.
    pub(crate) fn find(
        &self,
        identity: &str,
        groups: &[String],
        patterns: bool,
    ) -> Option<Hit<'_>> {
        let means = |entry: &&Entry| {
            let fits = |name: &str| {
                let pattern = entry.pattern.as_ref().filter(|_| patterns);
                is_group(name) == entry.is_group
                    && (entry.text == name || pattern.is_some_and(|pattern| pattern.matches(name)))
            };
            if entry.is_group {
                groups.iter().any(|group| fits(group))
            } else {
                fits(identity)
            }
        };
        self.0.iter().find(means).map(Entry::hit)
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = Hit<'_>> {
        self.0.iter().map(Entry::hit)
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
"https://a.example,alice"     alice
"https://a.example,/atlas/prod" atlasprd
"https://a.example,/atlas/*"  .atlas
"https://a.example,svc-*"     .svc
"https://b.example/,alice"    bob
"#;

    fn find(identity: &str, groups: &[&str], patterns: bool) -> String {
        let groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        let map = Tokenmap::parse(MAP.as_bytes()).expect("readable");
        match map.find(identity, &groups, patterns).map(|hit| hit.target) {
            Some(Target::Account(name)) => name.clone(),
            Some(Target::Pool(name)) => format!(".{name}"),
            None => "-".to_owned(),
        }
    }

    #[test]
    fn t4_issuer_and_subject_or_issuer_and_group() {
        let prod = "https://a.example,/atlas/prod";
        let other = "https://a.example,/atlas/x";
        for (identity, groups, patterns, wanted) in [
            ("https://a.example,alice", &[][..], false, "alice"),
            ("https://b.example/,alice", &[], false, "bob"),
            ("https://b.example,alice", &[], false, "-"),
            ("https://a.example,ALICE", &[], false, "-"),
            ("https://a.example,x", &[prod], false, "atlasprd"),
            ("https://a.example,x", &[other], true, ".atlas"),
            ("https://a.example,x", &[other], false, "-"),
            ("https://a.example,svc-1", &[], true, ".svc"),
            ("https://a.example,svc-*", &[], false, ".svc"),
            // A subject never passes for a group, nor a group for a subject.
            ("https://a.example,/atlas/prod", &[], true, "-"),
            (
                "https://a.example,x",
                &["https://a.example,alice"],
                true,
                "-",
            ),
        ] {
            assert_eq!(
                find(identity, groups, patterns),
                wanted,
                "{identity} {groups:?}"
            );
        }
    }

    #[test]
    fn t4_lines_for_names_of_certificates_have_no_place_here() {
        for bad in [
            "\"/CN=x\" a",
            "\"https://*,x\" .a",
            "\"https://a\" a",
            "\"https://a,\" a",
            "\"http://a,x\" a",
        ] {
            assert!(Tokenmap::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
