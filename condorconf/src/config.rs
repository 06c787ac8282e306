//! A finished configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::error::Error;
use crate::expand::{Budget, Evaluator, Expander};
use crate::limits::Limits;
use crate::origin::{Origin, Place};
use crate::read::Reader;
use crate::table::{Entry, Scope, Table};

/// The effective knobs. Values are expanded when they are asked for.
pub struct Config {
    table: Table,
    scope: Scope,
    environment: BTreeMap<String, String>,
    evaluator: Option<Arc<dyn Evaluator>>,
    random: AtomicU64,
    limits: Limits,
    warnings: Vec<Warning>,
    sources: Vec<String>,
}

/// One knob: name as first written, value as written, origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob<'a> {
    /// The name, with its `SUBSYS.` or `LOCALNAME.` prefix if it has one.
    pub name: &'a str,
    /// The value, with references to other knobs unexpanded.
    pub raw: &'a str,
    /// Where it was set.
    pub origin: &'a Origin,
}

impl Config {
    pub(crate) fn new(reader: Reader<'_>) -> Self {
        Self {
            table: reader.table,
            scope: reader.scope,
            environment: reader.environment,
            evaluator: reader.evaluator,
            random: reader.random,
            limits: reader.limits,
            warnings: reader.warnings,
            sources: reader.sources,
        }
    }

    /// The expanded value of a knob, prefixes considered; `None` if it is not set or empty (HTCondor makes no
    /// difference between the two).
    ///
    /// # Errors
    /// [`Error`] names the knob and where it is set if the value cannot be expanded.
    pub fn get(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(entry) = self.entry(name) else {
            return Ok(None);
        };
        match self.expander().expand(&entry.raw) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(kind) => Err(Error::new(kind)
                .with_knob(name)
                .with_origin(Some(entry.origin.clone()))),
        }
    }

    /// The value of a knob as written, prefixes considered.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.entry(name).map(|entry| entry.raw.as_str())
    }

    /// Where the knob's value comes from.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.entry(name).map(|entry| &entry.origin)
    }

    /// The knob that counts for `name`: the one with a prefix, if there is one.
    #[must_use]
    pub fn knob(&self, name: &str) -> Option<Knob<'_>> {
        self.entry(name).map(as_knob)
    }

    /// All knobs, sorted by name in lower case; defaults where nothing is set.
    pub fn iter(&self) -> impl Iterator<Item = Knob<'_>> {
        self.table.iter().map(as_knob)
    }

    /// Expands the references in a text.
    ///
    /// # Errors
    /// [`Error`] without knob or origin if it cannot be expanded.
    pub fn expand(&self, text: &str) -> Result<String, Error> {
        self.expander().expand(text).map_err(Error::new)
    }

    /// What is legal but odd.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The files and commands read, in order.
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Whose configuration it is.
    #[must_use]
    pub fn subsys(&self) -> Option<&str> {
        self.scope.subsys.as_deref()
    }

    pub(crate) fn evaluator(&self) -> Option<&dyn Evaluator> {
        self.evaluator.as_deref()
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.table.lookup(name, &self.scope)
    }

    fn expander(&self) -> Expander<'_> {
        Expander {
            table: &self.table,
            scope: &self.scope,
            environment: &self.environment,
            evaluator: self.evaluator(),
            random: &self.random,
            limits: &self.limits,
            budget: Budget::default(),
            directory: None,
            used: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the environment: it may hold secrets.
        f.debug_struct("Config")
            .field("table", &self.table)
            .field("scope", &self.scope)
            .field("warnings", &self.warnings)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

fn as_knob(entry: &Entry) -> Knob<'_> {
    Knob {
        name: &entry.name,
        raw: &entry.raw,
        origin: &entry.origin,
    }
}

/// Something legal but odd.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A statement `warning : text`.
    Stated {
        /// Where.
        place: Place,
        /// The text.
        message: String,
    },
    /// `NAME : value` in place of `NAME = value`.
    ColonAssignment {
        /// Where.
        place: Place,
        /// The knob.
        name: String,
    },
    /// `NAME word = value`: HTCondor ignores the word.
    ExtraWords {
        /// Where.
        place: Place,
        /// The knob.
        name: String,
        /// What is ignored.
        words: String,
    },
    /// A directory of `LOCAL_CONFIG_DIR` that cannot be listed.
    NoDirectory {
        /// The directory.
        path: String,
        /// Why.
        kind: io::ErrorKind,
    },
    /// `LOCAL_CONFIG_FILE` or `LOCAL_CONFIG_DIR` set after the local files were read.
    TooLate {
        /// The knob.
        name: String,
        /// Where it was set.
        origin: Origin,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stated { place, message } => write!(f, "{place}: {message}"),
            Self::ColonAssignment { place, name } => {
                write!(f, "{place}: {name}: ':' in place of '=' is obsolete")
            }
            Self::ExtraWords { place, name, words } => {
                write!(
                    f,
                    "{place}: {name}: the words {words:?} before the operator have no effect"
                )
            }
            Self::NoDirectory { path, kind } => {
                write!(f, "LOCAL_CONFIG_DIR: cannot list {path}: {kind}")
            }
            Self::TooLate { name, origin } => {
                write!(
                    f,
                    "{origin}: {name}: has no effect here, the local files are read before"
                )
            }
        }
    }
}
