//! What a check is: its name, who answers for it, when it runs, and what its failure means.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest name of a check, bytes; it becomes part of attribute names and of metric labels.
const NAME_MAX: usize = 64;

/// The name of a check: small letters, digits and single dashes between them. It is a contract: people write it into
/// configurations and monitoring.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckName(String);

/// Text that cannot name a check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot name a check: use up to 64 small letters and digits, with single dashes between them, as in disk-space"
)]
pub struct BadName {
    text: String,
}

impl CheckName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadName`].
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let good = text.len() <= NAME_MAX
            && text.split('-').all(|part| {
                !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            });
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName {
                text: text.to_owned(),
            })
        }
    }

    /// The nearest name to any text, such as a script's file name: everything that cannot be in a name becomes a dash.
    #[must_use]
    pub fn from_words(text: &str) -> Self {
        let mut name = String::new();
        for c in text.chars().map(|c| c.to_ascii_lowercase()) {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                name.push(c);
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
            if name.len() == NAME_MAX {
                break;
            }
        }
        let name = name.trim_end_matches('-');
        Self(if name.is_empty() { "unnamed" } else { name }.to_owned())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a part of attribute names: `disk-space` is `DiskSpace`.
    #[must_use]
    pub fn camel(&self) -> String {
        let mut text = String::new();
        for part in self.0.split('-') {
            let mut chars = part.chars();
            text.extend(chars.next().map(|c| c.to_ascii_uppercase()));
            text.extend(chars);
        }
        text
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CheckName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        Self::parse(&text)
    }
}

impl From<CheckName> for String {
    fn from(name: CheckName) -> Self {
        name.0
    }
}

/// Who brought the check, and can change or remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The factory, which sends the pilots.
    Factory,
    /// The site, whose node it is.
    Site,
    /// The frontend (the VO), whose jobs will run.
    Frontend,
}

impl Owner {
    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Factory => "factory",
            Self::Site => "site",
            Self::Frontend => "frontend",
        }
    }
}

/// What a failure of the check means for the pilot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing but its attributes.
    AttributeOnly,
    /// It is said; jobs are taken all the same.
    Warn,
    /// The pilot takes no more jobs, lets the running ones end, and retires; it does not start if this is found first.
    Drain,
    /// The pilot does not start; while it lives, it takes no jobs for as long as the check fails.
    Fail,
}

impl Severity {
    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::AttributeOnly => "attribute-only",
            Self::Warn => "warn",
            Self::Drain => "drain",
            Self::Fail => "fail",
        }
    }
}

/// How often the check runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Period {
    /// Before the pilot joins, and never again.
    Once,
    /// Before the pilot joins, and then so long after the start of its last run.
    Every(#[serde(with = "crate::findings::seconds")] Duration),
}

/// Where the check comes from; reports put together what belongs together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Ours.
    BuiltIn,
    /// Ours, of the identity switch.
    IdentitySwitch,
    /// An executable that somebody brought.
    Custom {
        /// Its scope: `main`, `entry`, `client`, `client_group`, or the site's own word.
        scope: String,
        /// The file's name.
        file: String,
    },
}

/// Time limit of a check that says nothing else.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

/// A check, without the code that does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: CheckName,
    /// What it looks at, a few words for people: `space, quota and rights of the work folder`.
    pub about: String,
    /// Who brought it.
    pub owner: Owner,
    /// Where it comes from.
    pub origin: Origin,
    /// Checks that must have passed before; if one has not, this one is skipped.
    pub prerequisites: Vec<CheckName>,
    /// Checks that must have ended before, whatever came of them.
    pub after: Vec<CheckName>,
    /// Longest time of one run; then it is killed with everything it started, and has failed.
    #[serde(with = "crate::findings::seconds")]
    pub limit: Duration,
    /// What its failure means.
    pub severity: Severity,
    /// How often it runs.
    pub period: Period,
}

impl Check {
    /// A built-in check of the site that runs once, whose failure keeps the pilot from starting.
    ///
    /// # Panics
    /// Never: a `name` that cannot name a check is changed into the nearest that can (and a test finds it).
    #[must_use]
    pub fn new(name: &str, about: &str) -> Self {
        Self {
            name: CheckName::from_words(name),
            about: about.to_owned(),
            owner: Owner::Site,
            origin: Origin::BuiltIn,
            prerequisites: Vec::new(),
            after: Vec::new(),
            limit: DEFAULT_LIMIT,
            severity: Severity::Fail,
            period: Period::Once,
        }
    }

    /// With another owner.
    #[must_use]
    pub const fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// From elsewhere.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Only if `name` has passed.
    #[must_use]
    pub fn needs(mut self, name: &str) -> Self {
        self.prerequisites.push(CheckName::from_words(name));
        self
    }

    /// Not before `name` has ended, whatever came of it.
    #[must_use]
    pub fn after(mut self, name: &str) -> Self {
        self.after.push(CheckName::from_words(name));
        self
    }

    /// With another limit.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// With another severity.
    #[must_use]
    pub const fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Again and again.
    #[must_use]
    pub const fn every(mut self, period: Duration) -> Self {
        self.period = Period::Every(period);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case() {
        for good in ["disk", "disk-space", "x509-life", "3"] {
            assert_eq!(CheckName::parse(good).unwrap().as_str(), good);
            assert_eq!(CheckName::from_words(good).as_str(), good);
        }
        for bad in [
            "",
            "-",
            "Disk",
            "disk_space",
            "disk--space",
            "disk-",
            &"x".repeat(65),
        ] {
            assert!(CheckName::parse(bad).is_err(), "{bad}");
            assert!(CheckName::parse(CheckName::from_words(bad).as_str()).is_ok());
        }
        assert_eq!(
            CheckName::from_words("Client/Scratch_check.sh").as_str(),
            "client-scratch-check-sh"
        );
        assert_eq!(CheckName::from_words("disk-space").camel(), "DiskSpace");
    }
}
