//! The voms-mapfile and the groupmapfile: attribute patterns to accounts, or to groups.

use launch_protocol::is_account_name;
use launch_protocol::policy::Groups;

use crate::fqan::{FqanPattern, spellings};
use crate::lines::{self, Line, LineError};
use crate::target::{Hit, Target};

/// Attributes to accounts (requirement M10).
#[derive(Debug)]
pub(crate) struct Vomsmap(Rules<Target>);

/// Attributes to groups (requirement M8).
#[derive(Debug)]
pub(crate) struct Groupmap(Rules<String>);

#[derive(Debug)]
struct Rules<T>(Vec<Rule<T>>);

#[derive(Debug)]
struct Rule<T> {
    line: usize,
    pattern: FqanPattern,
    value: T,
}

/// What a voms-mapfile says of somebody's attributes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding<'a> {
    Mapped(Hit<'a>),
    /// Nothing; perhaps this line would have, were it of one VO only.
    Nothing(Option<usize>),
}

const OPEN_VO: &str =
    "a wildcard in the name of the VO admits other VOs; this line counts for nobody";

impl<T> Rules<T> {
    fn parse(
        text: &[u8],
        value: impl Fn(&str, &Line<'_>) -> Result<T, LineError>,
    ) -> Result<Self, LineError> {
        let rule = |line: Result<Line<'_>, LineError>| {
            let line = line?;
            let (subject, target) = lines::entry(&line)?;
            Ok(Rule {
                line: line.number,
                pattern: FqanPattern::parse(&subject, &line)?,
                value: value(target, &line)?,
            })
        };
        lines::lines(text)
            .map(rule)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The first rule that means one attribute.
    fn first(&self, fqan: &str) -> Option<&Rule<T>> {
        let spellings = spellings(fqan);
        self.0
            .iter()
            .find(|rule| rule.pattern.names_vo() && rule.pattern.matches(&spellings))
    }

    fn doubts(&self) -> Vec<(usize, &'static str)> {
        let open = self.0.iter().filter(|rule| !rule.pattern.names_vo());
        open.map(|rule| (rule.line, OPEN_VO)).collect()
    }
}

impl Vomsmap {
    /// Reads a whole file.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, LineError> {
        Rules::parse(text, Target::parse).map(Self)
    }

    /// For each attribute in its order the lines in theirs; the first that fits counts.
    pub(crate) fn find(&self, fqans: &[String]) -> Finding<'_> {
        if let Some(rule) = fqans.iter().find_map(|fqan| self.0.first(fqan)) {
            return Finding::Mapped(rule.hit());
        }
        let fits = |rule: &&Rule<Target>| {
            let any = |fqan: &String| rule.pattern.matches(&spellings(fqan));
            !rule.pattern.names_vo() && fqans.iter().any(any)
        };
        Finding::Nothing(self.0.0.iter().find(fits).map(|rule| rule.line))
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = Hit<'_>> {
        self.0.0.iter().map(Rule::hit)
    }

    /// Lines that an administrator should look at.
    pub(crate) fn doubts(&self) -> Vec<(usize, &'static str)> {
        self.0.doubts()
    }
}

impl Rule<Target> {
    fn hit(&self) -> Hit<'_> {
        Hit {
            target: &self.value,
            line: self.line,
        }
    }
}

impl Groupmap {
    /// Reads a whole file.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, LineError> {
        let group = |word: &str, line: &Line<'_>| match word {
            _ if is_account_name(word) => Ok(word.to_owned()),
            _ if word.starts_with('.') => {
                Err(line.fail("there are no pools of groups; name a group"))
            }
            _ => Err(line.fail("the group is not a plain group name")),
        };
        Rules::parse(text, group).map(Self)
    }

    /// The first attribute decides the primary group, the others add further ones.
    pub(crate) fn groups(&self, fqans: &[String]) -> Option<Groups> {
        let group = |fqan: &String| self.0.first(fqan).map(|rule| rule.value.clone());
        let (first, others) = fqans.split_first()?;
        let primary = group(first);
        let mut secondary: Vec<String> = Vec::new();
        for name in others.iter().filter_map(group) {
            if primary.as_ref() != Some(&name) && !secondary.contains(&name) {
                secondary.push(name);
            }
        }
        (primary.is_some() || !secondary.is_empty()).then_some(Groups { primary, secondary })
    }

    /// Lines that an administrator should look at.
    pub(crate) fn doubts(&self) -> Vec<(usize, &'static str)> {
        self.0.doubts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = r#"
"/vo*"                      eve
"/atlas/Role=production"    atlasprd
"/atlas/*"                  .atlas
"/cms/de/*"                 .cmsde
"/cms"                      cms,cms2
"/*/Role=pilot"             eve
"#;

    fn owned(fqans: &[&str]) -> Vec<String> {
        fqans.iter().map(|fqan| (*fqan).to_owned()).collect()
    }

    fn find(fqans: &[&str]) -> String {
        let map = Vomsmap::parse(MAP.as_bytes()).expect("readable");
        match map.find(&owned(fqans)) {
            Finding::Mapped(hit) => match hit.target {
                Target::Account(name) => name.clone(),
                Target::Pool(name) => format!(".{name}"),
            },
            Finding::Nothing(line) => format!("{line:?}"),
        }
    }

    #[test]
    fn m10_attributes_in_their_order_then_lines_in_theirs() {
        for (fqans, wanted) in [
            (&["/atlas/Role=production", "/atlas"][..], "atlasprd"),
            (&["/atlas", "/atlas/Role=production"], ".atlas"),
            (&["/cms/Role=NULL/Capability=NULL"], "cms"),
            (&["/cms/de/x"], ".cmsde"),
            (&["/cms/fr", "/cms"], "cms"),
            (&["/lhcb", "/atlas/de"], ".atlas"),
            (&["/cms/fr"], "None"),
            (&[], "None"),
        ] {
            assert_eq!(find(fqans), wanted, "{fqans:?}");
        }
    }

    #[test]
    fn m10_a_wildcard_in_the_name_of_the_vo_maps_nobody_and_is_told() {
        assert_eq!(find(&["/vo"]), "Some(2)");
        assert_eq!(find(&["/vouch/Role=pilot"]), "Some(2)");
        assert_eq!(find(&["/lhcb/Role=pilot"]), "Some(7)");
        let map = Vomsmap::parse(MAP.as_bytes()).expect("readable");
        let lines: Vec<_> = map.doubts().into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [2, 7]);
    }

    #[test]
    fn m8_the_first_attribute_decides_the_primary_group() {
        let text =
            "\"/atlas/Role=production\" atlasprd\n\"/atlas/de/*\" atlasde\n\"/atlas\" atlas\n";
        let map = Groupmap::parse(text.as_bytes()).expect("readable");
        let groups = |fqans: &[&str]| {
            map.groups(&owned(fqans))
                .map(|groups| (groups.primary, groups.secondary))
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            groups(&["/atlas/Role=production", "/atlas", "/atlas/de/x", "/atlas"]),
            Some((named("atlasprd"), owned(&["atlas", "atlasde"])))
        );
        assert_eq!(
            groups(&["/atlas", "/atlas"]),
            Some((named("atlas"), vec![]))
        );
        assert_eq!(groups(&["/x", "/atlas"]), Some((None, owned(&["atlas"]))));
        assert_eq!(groups(&["/x"]), None);
        assert_eq!(groups(&[]), None);
        for bad in ["\"/a\" .pool\n", "\"/a\" 5\n", "\"/a\"\n", "\"/[\" x\n"] {
            assert!(Groupmap::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
