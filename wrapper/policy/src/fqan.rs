//! VOMS attributes and the patterns that files have for them (requirement M10).

use crate::lines::{Line, LineError};
use crate::pattern::{Pattern, has_wildcard};

/// The ways an attribute is spelled in map files: as it is, without its NULL parts, with both.
pub(crate) fn spellings(fqan: &str) -> Vec<String> {
    let (rest, capability) = part(fqan, "/Capability=");
    let (group, role) = part(rest, "/Role=");
    let said = |part: Option<&str>| part.filter(|word| *word != "NULL").map(str::to_owned);
    let (role, capability) = (said(role), said(capability));
    let mut short = group.to_owned();
    for (word, value) in [("Role", &role), ("Capability", &capability)] {
        if let Some(value) = value {
            short.push_str(&format!("/{word}={value}"));
        }
    }
    let full = format!(
        "{group}/Role={}/Capability={}",
        role.as_deref().unwrap_or("NULL"),
        capability.as_deref().unwrap_or("NULL")
    );
    let mut all = vec![fqan.to_owned(), short, full];
    all.dedup();
    all
}

/// Splits off `mark` and what follows it at the end of an attribute.
fn part<'a>(fqan: &'a str, mark: &str) -> (&'a str, Option<&'a str>) {
    match fqan.rsplit_once(mark) {
        Some((rest, value)) if !value.contains('/') => (rest, Some(value)),
        _ => (fqan, None),
    }
}

/// A pattern out of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FqanPattern {
    whole: Pattern,
    /// Of `/vo/group/*`: what stands before the last slash.
    bare: Option<Pattern>,
    names_vo: bool,
}

impl FqanPattern {
    pub(crate) fn parse(text: &str, line: &Line<'_>) -> Result<Self, LineError> {
        let pattern = |text| {
            Pattern::parse(text).ok_or_else(|| line.fail("the pattern has a set without its end"))
        };
        let vo = text
            .strip_prefix('/')
            .map(|rest| rest.split('/').next().unwrap_or(rest));
        Ok(Self {
            whole: pattern(text)?,
            bare: text.strip_suffix("/*").map(pattern).transpose()?,
            names_vo: vo.is_some_and(|vo| !vo.is_empty() && !has_wildcard(vo)),
        })
    }

    /// Is it of one VO only?
    pub(crate) fn names_vo(&self) -> bool {
        self.names_vo
    }

    /// Does it mean this attribute, given in all its spellings?
    pub(crate) fn matches(&self, spellings: &[String]) -> bool {
        spellings.iter().any(|fqan| {
            self.whole.matches(fqan) || self.bare.as_ref().is_some_and(|bare| bare.matches(fqan))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, fqan: &str) -> bool {
        let line = Line {
            number: 1,
            text: "",
        };
        FqanPattern::parse(pattern, &line)
            .expect("a pattern")
            .matches(&spellings(fqan))
    }

    #[test]
    fn m10_spellings_and_patterns() {
        let plain = [
            "/atlas",
            "/atlas/Role=NULL",
            "/atlas/Role=NULL/Capability=NULL",
        ];
        let role = ["/atlas/Role=prod", "/atlas/Role=prod/Capability=NULL"];
        for fqan in plain {
            for (pattern, wanted) in [
                ("/atlas", true),
                ("/atlas/Role=NULL/Capability=NULL", true),
                ("/atlas/*", true),
                ("/atlas/Role=*", true),
                ("/atlas/Role=NULL", fqan == "/atlas/Role=NULL"),
                ("/atlas/Role=prod", false),
                ("/ATLAS", false),
                ("/atlas/x/*", false),
                ("/atla", false),
            ] {
                assert_eq!(matches(pattern, fqan), wanted, "{pattern} {fqan}");
            }
        }
        for fqan in role {
            for (pattern, wanted) in [
                ("/atlas", false),
                ("/atlas/Role=prod", true),
                ("/atlas/Role=prod/Capability=NULL", true),
                ("/atlas/Role=prod/*", true),
                ("/atlas/*", true),
                ("/atlas/Role=NULL*", false),
                ("/atlas/*/Role=prod", false),
            ] {
                assert_eq!(matches(pattern, fqan), wanted, "{pattern} {fqan}");
            }
        }
        assert!(matches("/atlas/*/Role=prod", "/atlas/de/b/Role=prod"));
        assert!(matches("/atlas/*", "/atlas/de"));
        assert!(!matches("/atlas/*", "/atlasx/de"));
    }

    #[test]
    fn m10_a_null_inside_a_group_name_is_no_null_part() {
        assert_eq!(
            spellings("/vo/Role=NULL/x"),
            [
                "/vo/Role=NULL/x",
                "/vo/Role=NULL/x/Role=NULL/Capability=NULL"
            ]
        );
    }
}
