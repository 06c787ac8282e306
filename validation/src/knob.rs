//! Knobs: what can be set, and what is set.
//!
//! Each kind of checks has a table of its own ([`tables`]); the pilot puts them beside its own, reads and checks the
//! values, and hands them over as [`Knobs`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::findings::Setting;

/// What a knob's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Items between commas or blanks.
    List,
    /// An absolute path.
    Path,
    /// A whole number within the bounds.
    Integer(i64, i64),
    /// A ClassAd expression.
    Expression,
    /// `NAME=VALUE` items, quoted as in a submit file.
    Environment,
    /// `REQUIRED`, `PREFERRED`, `OPTIONAL` or `NEVER`.
    Wish,
    /// One of these words, in capital or small letters.
    Choice(&'static [&'static str]),
    /// True or false.
    Flag,
}

/// One knob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob {
    /// The names under which it is looked up; the first that is set counts.
    pub names: &'static [&'static str],
    /// What its value is.
    pub kind: Kind,
    /// Its value if nothing sets it, which may refer to other knobs; of the last name.
    pub default: Option<&'static str>,
    /// The unit of a number; empty where there is none.
    pub unit: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// A line of a table.
#[must_use]
pub const fn knob(
    names: &'static [&'static str],
    kind: Kind,
    default: Option<&'static str>,
    unit: &'static str,
    help: &'static str,
) -> Knob {
    Knob {
        names,
        kind,
        default,
        unit,
        help,
    }
}

/// All tables of the checks, in the order of the manual.
#[must_use]
pub fn tables() -> [&'static [Knob]; 7] {
    [
        crate::engine::KNOBS,
        crate::builtin::KNOBS,
        crate::site_command::KNOBS,
        crate::switching::KNOBS,
        crate::custom::KNOBS,
        crate::manifest::KNOBS,
        crate::fetch::KNOBS,
    ]
}

/// A value that suits its knob's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, a choice, an expression.
    Text(String),
    /// Items.
    List(Vec<String>),
    /// A path.
    Path(PathBuf),
    /// A number.
    Integer(i64),
    /// True or false.
    Flag(bool),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(", ")),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Flag(flag) => f.write_str(if *flag { "True" } else { "False" }),
        }
    }
}

/// The values of the checks' knobs, by the first name of each; those that are not set and have no default are not in
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knobs {
    values: BTreeMap<&'static str, Value>,
}

impl Knobs {
    /// What nothing sets.
    #[must_use]
    pub fn defaults() -> Self {
        let mut knobs = Self::default();
        for knob in tables().into_iter().flatten() {
            if let (Some(name), Some(text)) = (knob.names.first(), knob.default)
                && let Some(value) = read(knob.kind, text)
            {
                knobs.values.insert(name, value);
            }
        }
        knobs
    }

    /// With a value, as the pilot read it.
    pub fn set(&mut self, name: &'static str, value: Value) {
        self.values.insert(name, value);
    }

    /// With a value as text; for tests and for the site's suite.
    ///
    /// # Errors
    /// One sentence: no such knob, or no such value.
    pub fn with(mut self, name: &str, text: &str) -> Result<Self, String> {
        let knob = tables()
            .into_iter()
            .flatten()
            .find(|knob| knob.names.contains(&name))
            .ok_or_else(|| format!("{name} is no knob of the checks"))?;
        let value = read(knob.kind, text)
            .ok_or_else(|| format!("{name} cannot be {text:?}: it has to be {:?}", knob.kind))?;
        if let Some(first) = knob.names.first() {
            self.values.insert(first, value);
        }
        Ok(self)
    }

    /// All of them, in the order of the manual, for a report.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let set = |knob: &Knob| {
            let name = *knob.names.first()?;
            let value = self.get(name)?;
            Some(Setting {
                knob: name.to_owned(),
                value: value.to_string(),
                unit: knob.unit.to_owned(),
                default: knob.default.and_then(|text| read(knob.kind, text)).as_ref()
                    == Some(value),
            })
        };
        tables().into_iter().flatten().filter_map(set).collect()
    }

    /// A value; `name` is the first name of its knob.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A text, choice or expression.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list; empty if it is not set.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        match self.get(name) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// A path.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<&PathBuf> {
        match self.get(name)? {
            Value::Path(path) => Some(path),
            _ => None,
        }
    }

    /// A number.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// A number that is not negative; 0 if it is not set.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.integer(name)
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or(0)
    }

    /// Seconds; none if it is not set.
    #[must_use]
    pub fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.count(name))
    }

    /// True or false; false if it is not set.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Flag(true)))
    }
}

/// Reads a value that refers to nothing.
fn read(kind: Kind, text: &str) -> Option<Value> {
    let text = text.trim();
    Some(match kind {
        Kind::Text | Kind::Expression | Kind::Environment => Value::Text(text.to_owned()),
        Kind::Wish => choice(text, &["REQUIRED", "PREFERRED", "OPTIONAL", "NEVER"])?,
        Kind::Choice(words) => choice(text, words)?,
        Kind::List => Value::List(
            text.split([',', ' ', '\t', '\n'])
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
        Kind::Path => Value::Path(Some(PathBuf::from(text)).filter(|path| path.is_absolute())?),
        Kind::Integer(low, high) => Value::Integer(
            text.parse()
                .ok()
                .filter(|number| (low..=high).contains(number))?,
        ),
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Value::Flag(true),
            "false" | "no" | "0" => Value::Flag(false),
            _ => return None,
        },
    })
}

fn choice(text: &str, words: &[&str]) -> Option<Value> {
    words
        .iter()
        .find(|word| word.eq_ignore_ascii_case(text))
        .map(|word| Value::Text((*word).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_kind() {
        let mut names: Vec<&str> = Vec::new();
        for knob in tables().into_iter().flatten() {
            names.extend(knob.names);
            assert!(!knob.help.is_empty());
            if let Some(text) = knob.default {
                assert!(
                    text.contains("$(") || read(knob.kind, text).is_some(),
                    "{:?}",
                    knob.names
                );
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "two knobs of one name");
    }
}
