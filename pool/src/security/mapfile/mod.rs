//! The unified map file: from the name a method proved to an identity of the pool (protocol page 01, section 5.9;
//! `htcondor:src/condor_utils/MapFile.cpp`).
//!
//! A line is `METHOD PRINCIPAL CANONICAL`. HTCondor passes over a line it does not understand; here it is a mistake,
//! because a map that silently lacks lines lets people be somebody else, or nobody.

mod error;
#[doc(hidden)]
pub mod fuzzing;
mod line;
mod read;

use std::collections::HashMap;

use cedar::security::{AuthMethod, IdentityMap};
use regex::{Captures, Regex};

pub use self::error::{MapError, MapErrors, MapProblem};

/// The lines of a map file, by method.
#[derive(Debug, Clone, Default)]
pub(crate) struct MapFile {
    /// By the method's name in lower case.
    methods: HashMap<String, Vec<Rule>>,
    uid_domain: String,
}

/// One line with a pattern, or neighbouring lines with literal names.
#[derive(Debug, Clone)]
enum Rule {
    Literals(HashMap<String, String>),
    Pattern { regex: Regex, canonical: String },
}

impl MapFile {
    /// The canonical name of the first line that fits; `None`: no line does.
    pub(crate) fn canonical(&self, method: &str, principal: &str) -> Option<String> {
        let rules = self.methods.get(&method.to_ascii_lowercase())?;
        rules.iter().find_map(|rule| match rule {
            Rule::Literals(names) => names
                .get(principal)
                .map(|canonical| substitute(canonical, 1, |_| principal)),
            Rule::Pattern { regex, canonical } => regex.captures(principal).map(|captures| {
                let group = |index| captures.get(index).map_or("", |group| group.as_str());
                substitute(canonical, known_groups(&captures), group)
            }),
        })
    }

    fn add_literal(&mut self, method: &str, principal: &str, canonical: &str) {
        let rules = self.rules(method);
        if !matches!(rules.last(), Some(Rule::Literals(_))) {
            rules.push(Rule::Literals(HashMap::new()));
        }
        if let Some(Rule::Literals(names)) = rules.last_mut() {
            // The first line for a name counts.
            names
                .entry(principal.to_owned())
                .or_insert_with(|| canonical.to_owned());
        }
    }

    fn add_pattern(&mut self, method: &str, regex: Regex, canonical: &str) {
        let canonical = canonical.to_owned();
        self.rules(method).push(Rule::Pattern { regex, canonical });
    }

    fn rules(&mut self, method: &str) -> &mut Vec<Rule> {
        self.methods.entry(method.to_ascii_lowercase()).or_default()
    }
}

impl IdentityMap for MapFile {
    fn map(&self, method: AuthMethod, name: &str) -> Option<String> {
        let canonical = self.canonical(method.name(), name)?;
        Some(match canonical.split_once('@') {
            Some(_) => canonical,
            None => format!("{canonical}@{}", self.uid_domain),
        })
    }
}

/// One more than the last group that took part in the match: what HTCondor's engine calls known.
fn known_groups(captures: &Captures<'_>) -> usize {
    let last = (0..captures.len())
        .rev()
        .find(|index| captures.get(*index).is_some());
    last.map_or(0, |last| last + 1)
}

/// Puts groups in the places of `\0` to `\9`. A backslash in front of anything else, or of a group that is not known,
/// stays.
fn substitute<'g>(canonical: &str, known: usize, group: impl Fn(usize) -> &'g str) -> String {
    let mut out = String::new();
    let mut rest = canonical.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match rest.next() {
            Some(digit) => {
                let index = digit.to_digit(10).map(|digit| digit as usize);
                match index.filter(|index| *index < known) {
                    Some(index) => out.push_str(group(index)),
                    None => {
                        out.push('\\');
                        out.push(digit);
                    }
                }
            }
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests;
