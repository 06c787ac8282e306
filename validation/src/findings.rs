//! Everything that was found: the node, the settings, each check with its outcome, and the verdict. Reports are made
//! from this alone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Status, Whose};

/// All findings of one validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the form; it grows when a reader of the old one would be misled.
    pub format: u32,
    /// Version of the program.
    pub version: String,
    /// Unix time of the start, seconds.
    pub started: i64,
    /// How long it all took.
    #[serde(with = "seconds")]
    pub elapsed: Duration,
    /// What follows.
    pub verdict: Verdict,
    /// Where it was.
    pub node: Node,
    /// The knobs that the checks used.
    pub settings: Vec<Setting>,
    /// The checks, in the order in which they were given.
    pub entries: Vec<Entry>,
}

/// The form that [`Report::format`] counts.
pub const FORMAT: u32 = 1;

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The check.
    pub check: Check,
    /// Its latest outcome.
    pub outcome: Outcome,
}

impl Entry {
    /// How grave a failure of it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.outcome.severity(&self.check)
    }
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub host: String,
    /// The account that the checks ran under.
    pub account: String,
    /// Its number.
    pub uid: u32,
    /// Operating system, as it calls itself.
    pub system: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Architecture, as the kernel names it.
    pub arch: String,
    /// More, by name.
    pub facts: Vec<Fact>,
}

/// One fact of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about, for people.
    pub name: String,
    /// What is so.
    pub value: String,
}

/// A knob and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The knob.
    pub knob: String,
    /// Its value, as text.
    pub value: String,
    /// The unit; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Whether it is the default.
    pub default: bool,
}

/// What follows from all outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing failed.
    Healthy,
    /// Something failed that does not keep jobs away.
    Degraded,
    /// No more jobs are to be taken.
    Draining,
    /// No jobs can be taken.
    Unfit {
        /// Whose it is, and whether it may pass.
        class: Class,
    },
}

/// The classes of failures that keep a pilot from starting; each has an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The site has to do something.
    Site,
    /// The site's, but it may pass.
    SiteTransient,
    /// The pool could not be reached, or would not have us.
    Pool,
    /// The factory has to do something.
    Factory,
    /// What the factory sends could not be had now.
    FactoryTransient,
    /// The frontend has to do something.
    Frontend,
    /// The frontend's, but it may pass.
    FrontendTransient,
    /// A mistake of ours.
    Pilot,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Site,
        Self::SiteTransient,
        Self::Pool,
        Self::Factory,
        Self::FactoryTransient,
        Self::Frontend,
        Self::FrontendTransient,
        Self::Pilot,
    ];

    /// The class of a failure.
    #[must_use]
    pub const fn of(failure: &Failure) -> Self {
        match (failure.whose, failure.transient) {
            (Whose::Site, false) => Self::Site,
            (Whose::Site, true) => Self::SiteTransient,
            (Whose::Pool, _) => Self::Pool,
            (Whose::Factory, false) => Self::Factory,
            (Whose::Factory, true) => Self::FactoryTransient,
            (Whose::Frontend, false) => Self::Frontend,
            (Whose::Frontend, true) => Self::FrontendTransient,
            (Whose::Pilot, _) => Self::Pilot,
        }
    }

    /// The exit status of the program: the first digit says whose it is, a last digit of 1 that it may pass.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Site => 10,
            Self::SiteTransient => 11,
            Self::Pool => 20,
            Self::Factory => 30,
            Self::FactoryTransient => 31,
            Self::Frontend => 40,
            Self::FrontendTransient => 41,
            Self::Pilot => 70,
        }
    }

    /// One word, as in reports and ads.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::SiteTransient => "site-transient",
            Self::Pool => "pool",
            Self::Factory => "factory",
            Self::FactoryTransient => "factory-transient",
            Self::Frontend => "frontend",
            Self::FrontendTransient => "frontend-transient",
            Self::Pilot => "pilot",
        }
    }
}

impl Verdict {
    /// What follows from these outcomes. Of several failures that keep jobs away, one that stays decides the class
    /// before one that may pass, then the first.
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = (&'a Check, &'a Outcome)>) -> Self {
        let (mut unfit, mut draining, mut degraded) = (None::<&Failure>, false, false);
        for (check, outcome) in entries {
            let Status::Failed(failure) = &outcome.status else {
                continue;
            };
            match outcome.severity(check) {
                Severity::Fail => {
                    if unfit.is_none_or(|known| known.transient && !failure.transient) {
                        unfit = Some(failure);
                    }
                }
                Severity::Drain => draining = true,
                Severity::Warn => degraded = true,
                Severity::AttributeOnly => {}
            }
        }
        match (unfit, draining, degraded) {
            (Some(failure), ..) => Self::Unfit {
                class: Class::of(failure),
            },
            (None, true, _) => Self::Draining,
            (None, false, true) => Self::Degraded,
            (None, false, false) => Self::Healthy,
        }
    }

    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Unfit { .. } => "unfit",
        }
    }
}

impl Report {
    /// The checks that failed, the gravest first, then in their order.
    #[must_use]
    pub fn failures(&self) -> Vec<(&Check, &Outcome, &Failure)> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| Some((&entry.check, &entry.outcome, entry.outcome.failure()?)))
            .collect();
        all.sort_by_key(|(check, outcome, _)| std::cmp::Reverse(outcome.severity(check)));
        all
    }
}

/// Durations as seconds, with a fraction.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    /// Reads it.
    ///
    /// # Errors
    /// The deserializer's, and numbers that are no durations.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}
